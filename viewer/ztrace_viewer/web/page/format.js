// Figures and moments as people read them: three digits and a unit, and how long ago.

/** @type {[number, string][]} */
const UNITS = [[3.6e12, "h"], [6e10, "m"], [1e9, "s"], [1e6, "ms"], [1e3, "µs"]];

/** Format a duration in nanoseconds; unknown is a dash. @param {number | null | undefined} ns @returns {string} */
export function formatDuration(ns) {
  if (ns === null || ns === undefined || ns === -1) return "–";
  if (ns < 0) return "-" + formatDuration(-ns);
  for (const [size, unit] of UNITS) {
    if (ns < size) continue;
    const count = ns / size;
    return (count >= 100 ? count.toFixed(0) : count >= 10 ? count.toFixed(1) : count.toFixed(2)) + unit;
  }
  return Math.round(ns) + "ns";
}

/** @param {number} ns @returns {string} */
export const formatChange = (ns) => (ns > 0 ? "+" : ns < 0 ? "−" : "") + formatDuration(Math.abs(ns));

/** @param {number} count @returns {string} */
export const formatCount = (count) => String(Math.round(count)).replace(/\B(?=(\d{3})+$)/g, ",");

/** Format a count as rate over some minutes, a second, minute or hour. @param {number} count @param {number} minutes @returns {string} */
export function formatRate(count, minutes) {
  if (!minutes) return "–";
  const rates = /** @type {[number, string][]} */ ([[count / minutes / 60, "/s"], [count / minutes, "/min"], [(count / minutes) * 60, "/h"]]);
  const [rate, unit] = rates.find(([each]) => each >= 1) ?? rates[2];
  return (rate > 0 && rate < 10 ? rate.toFixed(1) : formatCount(rate)) + unit;
}

/** Format a share of one. @param {number | null} share @returns {string} */
export function formatShare(share) {
  if (share === null || !Number.isFinite(share)) return "–";
  const percent = 100 * share;
  return (percent >= 10 || percent === 0 ? percent.toFixed(0) : percent.toFixed(1)) + "%";
}

/** Format a size by decimal units, as the terminal does. @param {number} bytes @returns {string} */
export function formatBytes(bytes) {
  for (const [size, unit] of /** @type {[number, string][]} */ ([[1e9, "GB"], [1e6, "MB"], [1e3, "kB"]])) {
    if (bytes >= size) return (bytes / size).toFixed(1) + " " + unit;
  }
  return bytes + " B";
}

/** Format a moment as its age for the last day, otherwise as date and time. @param {number} ns @returns {string} */
export function formatAge(ns) {
  const seconds = Math.max(0, Date.now() / 1000 - ns / 1e9);
  if (seconds < 1) return "just now";
  if (seconds < 60) return `${Math.floor(seconds)}s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)}m ago`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)}h ago`;
  return formatMoment(ns);
}

/** Format a moment in local time. @param {number | string} ns @returns {string} */
export function formatMoment(ns) {
  const moment = new Date(Number(ns) / 1e6);
  if (Number.isNaN(moment.getTime())) return "?";
  const two = (/** @type {number} */ number) => String(number).padStart(2, "0");
  return `${moment.getFullYear()}-${two(moment.getMonth() + 1)}-${two(moment.getDate())} `
    + `${two(moment.getHours())}:${two(moment.getMinutes())}:${two(moment.getSeconds())}`;
}

/** Name a call as its displays do: an arrow marks it as its caller saw it. @param {string} service @param {string} name @param {string} kind */
export function nameCall(service, name, kind) {
  if (kind === "client") return `${service} → ${name}`;
  if (kind === "producer") return `${service} ⇢ ${name}`;
  if (kind === "consumer") return `${service} ⇠ ${name}`;
  return `${service}.${name}`;
}

/** Count with a noun. @param {number} count @param {string} noun */
export const plural = (count, noun) => `${formatCount(count)} ${noun}${count === 1 ? "" : noun.endsWith("s") ? "es" : "s"}`;
