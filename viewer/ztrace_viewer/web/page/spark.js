// Small charts: a row of bars for numbers over time, drawn as SVG.

import { formatCount, formatDuration, formatMoment } from "./format.js";

const NS = "http://www.w3.org/2000/svg";
/** Width of a trend in a table. */
const WIDTH = 96;

/**
 * Draw bars of one or two series; the second one is the part of the first that failed.
 * @param {string} label what the bars say, for people who do not see them
 * @param {readonly number[]} counts
 * @param {readonly number[]} failures
 * @param {number} width
 * @param {number} height
 */
export function drawBars(label, counts, failures = [], width = 120, height = 18) {
  const svg = document.createElementNS(NS, "svg");
  svg.setAttribute("viewBox", `0 0 ${counts.length} ${height}`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("width", String(width));
  svg.setAttribute("height", String(height));
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", label);
  svg.setAttribute("class", "bars");
  const most = Math.max(1, ...counts);
  const scale = (/** @type {number} */ count) => (count ? Math.max(1, (height - 1) * count / most) : 0);
  for (const [series, name] of /** @type {[readonly number[], string][]} */ ([[counts, "all"], [failures, "bad"]])) {
    let path = "";
    series.forEach((count, place) => {
      if (count) path += `M${place} ${height}h.8v${-scale(count)}h-.8z`;
    });
    if (!path) continue;
    const bars = document.createElementNS(NS, "path");
    bars.setAttribute("d", path);
    bars.setAttribute("class", name);
    svg.append(bars);
  }
  return svg;
}

/** Words for the length of a part. @param {number} seconds */
const nameStretch = (seconds) => (seconds % 86400 === 0 ? `${seconds / 86400}d` : seconds % 3600 === 0 ? `${seconds / 3600}h` : `${seconds / 60}m`);

/**
 * Add the trend of each row, and return the columns that draw it; none where the time is too short for trends.
 * @param {any} document from /data/stats
 * @returns {import("./table.js").Column[]}
 */
export function makeTrends({ methods, trends }) {
  if (!trends) return [];
  const places = new Map(methods.map((/** @type {any} */ row, /** @type {number} */ place) => [row, place]));
  const trend = (/** @type {any} */ row) => trends.methods[places.get(row)];
  const part = nameStretch(trends.part_s), since = formatMoment(trends.since_ns);
  return [
    { title: "Rate", hint: `calls and failed calls in each ${part} since ${since}`, cell: (row) => {
      const found = trend(row);
      return found ? drawBars(`calls over time, at most ${formatCount(Math.max(...found.calls))} in ${part}`, found.calls, found.errors, WIDTH) : "";
    } },
    { title: "p95 over time", hint: `p95 in each ${part} since ${since}`, cell: (row) => {
      const found = trend(row), times = found?.p95_ns.map((/** @type {number | null} */ time) => time ?? 0);
      return found ? drawBars(`p95 over time, at most ${formatDuration(Math.max(...times))}`, times, [], WIDTH) : "";
    } },
  ];
}
