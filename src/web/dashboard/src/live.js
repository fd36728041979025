// What is known of the host: asked every two seconds, with the rates between two answers; events as they come;
// the history, as often as its points change. Tells its listener whenever something is new.

const PERIOD_MS = 2000;
const PATIENCE_MS = 5000;
const EVENTS_KEPT = 300;
const POINTS = 120; // of one line of the history
const COUNTERS = ["waits", "swap_ins", "swap_outs", "zips", "unzips", "faults"];

async function get(path) {
  const reply = await fetch(path, { cache: "no-store", signal: AbortSignal.timeout(PATIENCE_MS) });
  const answer = await reply.json();
  if (!answer.ok) throw Object.assign(new Error(answer.error), { status: reply.status });
  return answer;
}

export async function why(name) {
  return (await get(`/api/v1/vms/${encodeURIComponent(name)}/why`)).text;
}

// Adds vm.rates: per second since the answer before; null for a VM that is new, or counts anew.
function addRates(host, before, seconds) {
  const earlier = new Map((before?.vms ?? []).map((vm) => [vm.name, vm]));
  for (const vm of host.vms) {
    const last = earlier.get(vm.name);
    vm.rates = null;
    if (!last || last.pid !== vm.pid || seconds <= 0 || COUNTERS.some((key) => vm[key] < last[key])) continue;
    vm.rates = Object.fromEntries(COUNTERS.map((key) => [key, (vm[key] - last[key]) / seconds]));
  }
}

export class Live {
  constructor(changed) {
    this.changed = changed;
    this.host = null;
    this.version = "";
    this.unixMs = 0;
    this.problem = null; // why there is no answer now
    this.events = [];
    this.history = null;
    this.historyProblem = null;
    this.span = 3600;
    this.recent = []; // [{time, host}], for the time since the history's last point
  }

  start() {
    this.poll();
    this.listen();
    this.loadHistory();
    document.addEventListener("visibilitychange", () => {
      if (!document.hidden) this.poll();
    });
  }

  async poll() {
    clearTimeout(this.pollTimer);
    try {
      const answer = await get("/api/v1/host");
      if (answer.unix_ms !== this.unixMs) {
        addRates(answer.host, this.host, (answer.unix_ms - this.unixMs) / 1000);
        this.recent.push({ time: answer.unix_ms / 1000, host: answer.host });
        if (this.recent.length > 400) this.recent.shift();
      }
      const cameBack = this.problem !== null;
      [this.host, this.version, this.unixMs, this.problem] = [answer.host, answer.version, answer.unix_ms, null];
      if (cameBack) this.loadHistory();
    } catch (problem) {
      this.problem = problem.status ? problem.message : "ballastd does not answer";
    }
    this.changed();
    // A page that nobody sees asks for nothing.
    if (!document.hidden) this.pollTimer = setTimeout(() => this.poll(), PERIOD_MS);
  }

  listen() {
    const source = new EventSource("/api/v1/events/stream");
    source.onmessage = (message) => {
      const event = JSON.parse(message.data);
      // A daemon that was restarted counts from the start.
      if (this.events.length > 0 && event.sequence <= this.events[0].sequence) this.events = [];
      this.events.unshift(event);
      this.events.length = Math.min(this.events.length, EVENTS_KEPT);
      clearTimeout(this.eventsTimer);
      this.eventsTimer = setTimeout(this.changed, 50);
    };
    source.onerror = () => {
      // The browser tries again by itself, except after a refusal.
      if (source.readyState !== EventSource.CLOSED) return;
      setTimeout(() => this.listen(), 5000);
    };
  }

  show(span) {
    this.span = span;
    this.loadHistory();
  }

  async loadHistory() {
    clearTimeout(this.historyTimer);
    const span = this.span;
    const step = Math.max(10, Math.ceil(span / POINTS / 10) * 10);
    try {
      const history = await get(`/api/v1/history?since=-${span}&step=${step}&vms=all`);
      if (span !== this.span) return;
      [this.history, this.historyProblem] = [history, null];
    } catch (problem) {
      if (span !== this.span) return;
      this.historyProblem = problem.status ? problem.message : "the history cannot be read";
    }
    this.changed();
    this.historyTimer = setTimeout(() => this.loadHistory(), Math.min(Math.max(step, 10), 300) * 1000);
  }
}
