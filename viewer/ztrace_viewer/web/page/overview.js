// The overview: what is slow, failing and lost now.

import { ask, link, query } from "./ask.js";
import { fill, make } from "./dom.js";
import { makeGroups } from "./errors.js";
import { formatBytes, formatCount, formatDuration, nameCall, plural } from "./format.js";
import { drawHistogram, makeTraces } from "./traces.js";
import { makeTrends } from "./spark.js";
import { makeTable } from "./table.js";

const ROWS = 8;

/** Time after which the overview is read again, in milliseconds. */
const AGAIN_MS = 10_000;

/** @param {import("./page.js").View} view */
export async function showOverview({ main, signal }) {
  main.className = "overview";
  const read = async () => fill(main, ...await readOverview(signal));
  await read();
  if (query().get("until")) return;  // That time is over.
  const timer = setInterval(() => {
    // What has the focus, or is being selected, is not taken away.
    const isFocused = document.activeElement !== main && main.contains(document.activeElement);
    const isSelecting = getSelection()?.isCollapsed === false || main.querySelector(".chosen:not([hidden])");
    if (!document.hidden && !isFocused && !isSelecting) read().catch(() => {});
  }, AGAIN_MS);
  signal.addEventListener("abort", () => clearInterval(timer));
}

/** @param {AbortSignal} signal @returns {Promise<(Node | null)[]>} */
async function readOverview(signal) {
  const since = query().get("since"), until = query().get("until"), stretch = { since, until };
  const [slow, failing, stats, status, histogram] = await Promise.all([
    ask("slow", { ...stretch, limit: ROWS }, signal), ask("errors", { ...stretch, limit: ROWS }, signal),
    ask("stats", { ...stretch, limit: ROWS }, signal), ask("status", { limit: 1 }, signal), ask("histogram", stretch, signal),
  ]);
  return [
    make("h1", { class: "unseen", text: "Overview" }),
    makeFacts(status),
    drawHistogram(histogram),
    panel("Slowest", link("/traces"), slow.traces.length ? makeTraces(slow.traces) : nothing("no call trees yet")),
    panel("Failing", link("/errors"), failing.groups.length ? makeGroups(failing.groups) : nothing("no errors")),
    panel("Most time", link("/stats"), stats.methods.length ? makeMethods(stats) : nothing("no calls yet")),
  ];
}

/** @param {string} title @param {string} address @param {Node} content */
const panel = (title, address, content) =>
  make("section", {}, make("h2", {}, make("a", { href: address, text: title })), content);

/** @param {string} text */
const nothing = (text) => make("p", { class: "nothing", text });

/** @param {any} status */
function makeFacts(status) {
  const live = status.services.reduce((/** @type {number} */ sum, /** @type {any} */ each) => sum + each.live, 0);
  const rejected = Object.values(status.rejected).reduce((sum, count) => sum + count, 0);
  const fact = (/** @type {string} */ text, /** @type {string} */ name, isBad = false) =>
    make("li", { class: isBad ? "bad" : null }, make("b", { text }), ` ${name}`);
  return make("ul", { class: "facts", "aria-label": "what is stored" },
    fact(formatCount(status.traces_stored), "traces"), fact(formatCount(status.spans_stored), "spans"),
    fact(formatCount(live), live === 1 ? "live process" : "live processes"),
    fact(formatCount(status.unfinished), "unfinished"),
    make("li", { class: status.spans_lost ? "bad" : null }, make("a", { href: link("/status") }, make("b", { text: formatCount(status.spans_lost) }), " lost")),
    rejected ? fact(plural(rejected, "message"), "refused", true) : null,
    fact(formatBytes(status.database_bytes), "on disk"));
}

/** @param {any} stats */
const makeMethods = (stats) => makeTable("methods with the most time", stats.methods, [
  { title: "Method", cell: (row) => nameCall(row.service, row.name, row.kind) },
  { title: "Calls", isNumber: true, cell: (row) => formatCount(row.calls) },
  { title: "Errors", isNumber: true, cell: (row) => (row.errors ? make("span", { class: "bad", text: formatCount(row.errors) }) : "") },
  { title: "p95", isNumber: true, cell: (row) => formatDuration(row.p95_ns) },
  { title: "Total", isNumber: true, cell: (row) => formatDuration(row.total_ns) },
  ...makeTrends(stats),
], (row) => link("/traces", { service: row.service, method: row.name }));
