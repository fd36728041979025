// Numbers as operators read them.

const UNITS = ["B", "KB", "MB", "GB", "TB", "PB"];

function unitOf(bytes) {
  let unit = 0;
  while (bytes / 1024 ** unit >= 1000 && unit < UNITS.length - 1) ++unit;
  return unit;
}

function inUnit(bytes, unit) {
  const value = bytes / 1024 ** unit;
  const digits = unit < 2 || Number.isInteger(value) || value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2;
  return value.toFixed(digits);
}

// "1.50 GB", "256 MB": powers of 1024, three digits.
export function size(bytes) {
  if (bytes === null || bytes === undefined) return "–";
  const unit = unitOf(bytes);
  return `${inUnit(bytes, unit)} ${UNITS[unit]}`;
}

// "382 ± 61 MB".
export function sizeWithError(bytes, error) {
  const unit = unitOf(Math.max(bytes, error));
  const digits = unit < 3 ? 0 : 1;
  const text = (value) => (value / 1024 ** unit).toFixed(digits);
  return `${text(bytes)} ± ${text(error)} ${UNITS[unit]}`;
}

// "12 µs", "3.4 ms".
export function duration(ns) {
  if (!ns) return "–";
  if (ns < 1e3) return `${ns} ns`;
  if (ns < 1e6) return `${(ns / 1e3).toFixed(ns < 1e4 ? 1 : 0)} µs`;
  if (ns < 1e9) return `${(ns / 1e6).toFixed(ns < 1e7 ? 1 : 0)} ms`;
  return `${(ns / 1e9).toFixed(1)} s`;
}

// "42 s", "3 min", "2 h 10 min", "5 d 3 h".
export function age(seconds) {
  const s = Math.floor(seconds);
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`;
}

export function percent(part, whole) {
  return whole > 0 ? `${Math.round((100 * part) / whole)} %` : "–";
}

// "0", "0.3", "12", "45k".
export function rate(perSecond) {
  if (perSecond === null || perSecond === undefined) return "–";
  if (perSecond === 0) return "0";
  if (perSecond < 10) return perSecond.toFixed(1);
  return perSecond < 10000 ? String(Math.round(perSecond)) : `${Math.round(perSecond / 1000)}k`;
}

export function clock(unixMs, withSeconds = true) {
  return new Date(unixMs).toLocaleTimeString([], {
    hour: "2-digit", minute: "2-digit", second: withSeconds ? "2-digit" : undefined, hour12: false,
  });
}
