// The daemon's API without a daemon: dist/ and a host of N VMs that move a little. start({vms, port}) → {url, down(), up(), close()}.
import { createServer } from "node:http";
import { readFile } from "node:fs/promises";
import { extname } from "node:path";

const MB = 2 ** 20;
const GB = 2 ** 30;
const TYPES = { ".html": "text/html; charset=utf-8", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml" };
// As server_requests.cc sends it: what the page may not do there it must not do here.
const POLICY = "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'";
const NAMES = ["web", "db", "build", "mail", "cache", "desk", "ci", "proxy"];

// The same numbers in every run.
function random(seed) {
  let state = seed + 1;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

function makeVm(i, time, few) {
  const dice = random(i * 7919);
  const configured = [1, 2, 4, 8][Math.floor(dice() * 4)] * GB;
  const wave = 0.5 + 0.5 * Math.sin(time / 900 + i);
  const pressed = few ? i % 3 === 1 : i % 17 === 3;
  const resident = configured * (0.28 + 0.2 * dice() + 0.08 * wave);
  const shared = configured * 0.12 * dice();
  const compressed = pressed ? configured * 0.14 : configured * 0.02 * dice();
  const swapped = pressed ? configured * 0.11 : 0;
  const balloon = configured * (pressed ? 0.16 : 0.03 * dice());
  const name = `${NAMES[i % NAMES.length]}${1 + Math.floor(i / NAMES.length)}`;
  const consumed = resident + shared * 0.3 + compressed * 0.4 + configured * 0.005;
  return Object.fromEntries(Object.entries({
    name, uuid: `00000000-0000-4000-8000-${String(i).padStart(12, "0")}`, configured_bytes: configured, pid: 1000 + i,
    state: few && i === 4 ? "paused" : "running", target_bytes: consumed * (pressed ? 0.93 : 1.1), consumed_bytes: consumed,
    resident_bytes: resident, arena_bytes: compressed * 0.4, overhead_bytes: configured * 0.005, compressed_bytes: compressed,
    swapped_bytes: swapped, zero_bytes: configured * 0.04, ballooned_bytes: balloon, shared_bytes: shared, share_part_bytes: shared * 0.3,
    share_group: "salt:web", lost_pages: few && i === 4 ? 1 : 0, blocked: false, active_bytes: configured * (0.12 + 0.1 * wave),
    active_error_bytes: configured * 0.03, samples: i % 29 === 5 ? 0 : 40, balloon_state: pressed && i % 2 ? "stuck" : "idle",
    balloon_bytes: balloon, waits: pressed ? Math.floor(time * 3) : 0, swap_ins: pressed ? Math.floor(time * 80) : 0, swap_outs: 0,
    zips: 100, unzips: 100, faults: Math.floor(time * 50), fault_p99_ns: Math.floor(2e4 + 4e5 * dice()),
  }).map(([key, value]) => [key, key.endsWith("_bytes") ? Math.floor(value) : value]));
}

function makeHost(count, time) {
  const vms = Array.from({ length: count }, (_, i) => makeVm(i, time, count < 20));
  const consumed = vms.reduce((sum, vm) => sum + vm.consumed_bytes, 0) + 40 * MB;
  const most = makeBudget(count);
  const free = most - consumed;
  const state = free < most * 0.02 ? "hard" : free < most * 0.05 ? "soft" : free < most * 0.08 ? "clear" : "high";
  return { budget_bytes: most, consumed_bytes: consumed, free_bytes: free, promised_bytes: vms.reduce((sum, vm) => sum + vm.configured_bytes, 0),
    soft_bytes: Math.floor(most * 0.05), state, state_ns: 754e9, uptime_ns: 187654e9, vms };
}

const budgets = new Map();
function makeBudget(count) {
  if (!budgets.has(count)) {
    budgets.set(count, 0);
    const most = Math.max(...[0, 1, 2, 3, 4, 5, 6, 7].map((k) => makeHost(count, k * 700).consumed_bytes));
    budgets.set(count, Math.ceil((most * 1.035) / (256 * MB)) * 256 * MB);
  }
  return budgets.get(count);
}

function makeHistory(count, query, now) {
  const ago = Number((query.get("since") ?? "-3600").slice(1));
  const step = Number(query.get("step") ?? 30);
  const answer = { ok: true, step, times: [], host: {}, vms: {} };
  const put = (into, key, value) => (into[key] ??= []).push(value);
  for (let time = now - ago; time < now; time += step) {
    const host = makeHost(count, time);
    const sum = (key) => host.vms.reduce((total, vm) => total + vm[key], 0);
    answer.times.push(time);
    for (const key of ["budget_bytes", "consumed_bytes", "free_bytes", "state"]) put(answer.host, key, host[key]);
    for (const key of ["resident_bytes", "share_part_bytes", "arena_bytes"]) put(answer.host, key, sum(key));
    for (const vm of host.vms) put((answer.vms[vm.name] ??= {}), "consumed_bytes", vm.consumed_bytes);
  }
  // The step that has just begun has no sample yet.
  answer.times.push(now);
  for (const column of [...Object.values(answer.host), ...Object.values(answer.vms).map((vm) => vm.consumed_bytes)]) column.push(null);
  return answer;
}

const WORDS = [["info", "web1", "admitted: 4 GB, min 1 GB, shares normal"], ["info", "", "state high: 3.1 GB free"],
  ["warning", "db1", "balloon stuck: the guest does not do what it was asked for; paging takes the rest"],
  ["info", "build1", "min 1 GB, limit none, shares high, balloon up to the host's maximum"],
  ["error", "cache1", "page 1234 cannot be read back: its slot fails its checksum; the VM is paused"]];

const WHY = `web1 consumes 1.4 GB; its target is 1.5 GB, of 4 GB configured.
Its shares decide that: 12 % of all shares buy it so much of the 11.2 GB that are divided among the VMs; it could use 2.1 GB.
It may grow by 96 MB before it reaches its target.
  shares        40960 (normal: 10 for each MB of its memory), 12 % of all 341333
  active        690 MB +- 122 MB (slow 640 MB, fast 690 MB, now 512 MB), from 42 periods
  tax           75 %, variable: an idle page costs up to 4.0 times what an active one costs; 51 % of what it has is idle
  balloon       64 MB of at most 2.6 GB, asked for 64 MB; idle
  swapped       0 B; none since the daemon began to serve it
Its last events
2026-11-21 20:14:03 info    web1: admitted: 4 GB, min 1 GB, shares normal
`;

export async function start({ vms = 7, dist = new URL("../dist/", import.meta.url) } = {}) {
  let isUp = true;
  const streams = new Set();
  const json = (response, body) => {
    response.writeHead(200, { "Content-Type": "application/json" });
    response.end(JSON.stringify(body));
  };
  const server = createServer(async (request, response) => {
    if (!isUp) return request.socket.destroy();
    const url = new URL(request.url, "http://localhost");
    const now = Math.floor(Date.now() / 1000);
    if (url.pathname === "/api/v1/host") {
      return json(response, { ok: true, unix_ms: Date.now(), version: "0.1.0", host: makeHost(vms, now) });
    }
    if (url.pathname === "/api/v1/history") return json(response, makeHistory(vms, url.searchParams, now));
    if (url.pathname.endsWith("/why")) return json(response, { ok: true, vm: "web1", text: WHY });
    if (url.pathname === "/api/v1/events/stream") {
      response.writeHead(200, { "Content-Type": "text/event-stream" });
      WORDS.forEach(([severity, vm, message], i) => response.write(
        `id: ${i + 1}\ndata: ${JSON.stringify({ sequence: i + 1, unix_ms: Date.now() - 60000 * (5 - i), severity, vm, kind: "x.y", message })}\n\n`));
      streams.add(response);
      return undefined;
    }
    try {
      const name = url.pathname === "/" ? "index.html" : url.pathname.slice(1);
      const content = await readFile(new URL(name, dist));
      response.writeHead(200, { "Content-Type": TYPES[extname(name)], "Content-Security-Policy": POLICY });
      response.end(content);
    } catch {
      response.writeHead(404);
      response.end();
    }
    return undefined;
  });
  await new Promise((ready) => server.listen(0, "127.0.0.1", ready));
  return {
    url: `http://127.0.0.1:${server.address().port}/`,
    down() {
      isUp = false;
      server.closeAllConnections();
    },
    up() {
      isUp = true;
    },
    close() {
      server.closeAllConnections();
      return new Promise((closed) => server.close(closed));
    },
  };
}
