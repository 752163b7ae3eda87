// Small charts: a row of bars for numbers over time, drawn as SVG.

const NS = "http://www.w3.org/2000/svg";

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
