// The lines of the picture: history and what came since, by means or by VM. Pure.

export const MEANS = [
  { key: "resident", label: "Resident", colour: "--resident" },
  { key: "shared", label: "Shared frames", colour: "--shared" },
  { key: "compressed", label: "Compression cache", colour: "--compressed" },
  { key: "overhead", label: "Overhead", colour: "--overhead" },
  { key: "free", label: "Free", colour: "--free" },
];

const VMS_SHOWN = 8;
const sum = (vms, key) => vms.reduce((total, vm) => total + vm[key], 0);

function meansOf(resident, shared, compressed, consumed, free) {
  if (consumed === null || consumed === undefined) return [null, null, null, null, null];
  const overhead = Math.max(0, consumed - resident - shared - compressed);
  return [resident, shared, compressed, overhead, free];
}

// The history without its end, whose step has just begun and has no sample yet.
function known(live) {
  const { times = [], host = {}, vms = {}, step = 2 } = live.history ?? {};
  let end = times.length;
  while (end > 0 && host.consumed_bytes[end - 1] === null) --end;
  return { times: times.slice(0, end), host, vms, step };
}

// Moments after the history's last point, and all of them when there is no history.
function sinceHistory(live) {
  const { times, step } = known(live);
  const last = times.length ? times[times.length - 1] : 0;
  const thinned = [];
  for (const moment of live.recent) {
    const before = thinned.length ? thinned[thinned.length - 1].time : last + step / 2;
    if (moment.time > last + step / 2 && moment.time - before >= Math.min(step / 4, 30)) thinned.push(moment);
  }
  return thinned;
}

// {times, states, lines: [{label, colour, values}]}, the lowest of the stack first.
export function byMeans(live) {
  const { times, host } = known(live);
  const moments = sinceHistory(live);
  const rows = times.map((_, i) => meansOf(host.resident_bytes[i], host.share_part_bytes[i], host.arena_bytes[i],
    host.consumed_bytes[i], host.free_bytes[i]));
  for (const { host: now } of moments) {
    rows.push(meansOf(sum(now.vms, "resident_bytes"), sum(now.vms, "share_part_bytes"), sum(now.vms, "arena_bytes"),
      now.consumed_bytes, now.free_bytes));
  }
  return {
    times: [...times, ...moments.map((moment) => moment.time)],
    states: [...times.map((_, i) => host.state[i]), ...moments.map((moment) => moment.host.state)],
    lines: MEANS.map((means, i) => ({ ...means, values: rows.map((row) => row[i]) })),
  };
}

// The largest VMs one by one, the others together.
export function byVm(live) {
  const { times, host, vms } = known(live);
  const moments = sinceHistory(live);
  const now = live.host?.vms ?? [];
  const names = now.map((vm) => vm.name);
  const largest = [...now].sort((a, b) => b.consumed_bytes - a.consumed_bytes).slice(0, VMS_SHOWN).map((vm) => vm.name);
  largest.sort((a, b) => names.indexOf(a) - names.indexOf(b));
  const lines = largest.map((name, i) => ({
    key: name, label: name, colour: `--vm${i}`,
    values: [...times.map((_, t) => vms[name]?.consumed_bytes[t] ?? (host.consumed_bytes[t] === null ? null : 0)),
      ...moments.map((moment) => moment.host.vms.find((vm) => vm.name === name)?.consumed_bytes ?? 0)],
  }));
  const all = [...times.map((_, i) => host.consumed_bytes[i]), ...moments.map((moment) => moment.host.consumed_bytes)];
  const rest = all.map((consumed, t) => (consumed === null ? null
    : Math.max(0, consumed - lines.reduce((total, line) => total + (line.values[t] ?? 0), 0))));
  const others = now.length - largest.length;
  lines.push({ key: "rest", label: others > 0 ? `${others} others, daemon` : "Daemon", colour: "--overhead", values: rest });
  lines.push({ key: "free", label: "Free", colour: "--free",
    values: [...times.map((_, i) => host.free_bytes[i]), ...moments.map((moment) => moment.host.free_bytes)] });
  return {
    times: [...times, ...moments.map((moment) => moment.time)],
    states: [...times.map((_, i) => host.state[i]), ...moments.map((moment) => moment.host.state)],
    lines,
  };
}

// What one VM consumed lately, for its card.
export function lately(live, name) {
  const kept = (live.history?.vms?.[name]?.consumed_bytes ?? []).filter((value) => value !== null);
  const moments = sinceHistory(live).map((moment) => moment.host.vms.find((vm) => vm.name === name)?.consumed_bytes);
  return [...kept, ...moments.filter((value) => value !== undefined)].slice(-90);
}
