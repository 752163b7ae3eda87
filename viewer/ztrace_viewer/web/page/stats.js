// Figures by method.

import { ask, link, query } from "./ask.js";
import { fill, make } from "./dom.js";
import { formatCount, formatDuration, formatShare } from "./format.js";
import { makeTrends } from "./spark.js";
import { makeTable } from "./table.js";

/** @param {import("./page.js").View} view */
export async function showStats({ main, signal }) {
  const kept = query();
  const document = await ask("stats", { since: kept.get("since"), until: kept.get("until"), service: kept.get("service"), method: kept.get("method") }, signal), { methods } = document;
  const time = (/** @type {string} */ title, /** @type {string} */ name, hint = "") => ({
    title, hint, isNumber: true, key: (/** @type {any} */ row) => row[name] ?? -1, cell: (/** @type {any} */ row) => formatDuration(row[name]),
  });
  main.className = "list";
  fill(main, methods.length ? makeTable("methods", methods, [
    { title: "Method", key: (row) => `${row.service}.${row.name}`, cell: (row) => `${row.service}.${row.name}` },
    { title: "Kind", key: (row) => row.kind, cell: (row) => make("span", { class: "soft", text: row.kind }) },
    { title: "Calls", isNumber: true, key: (row) => row.calls, cell: (row) => formatCount(row.calls) },
    { title: "Errors", isNumber: true, key: (row) => row.errors, cell: (row) => (row.errors ? make("span", { class: "bad", title: formatShare(row.errors / row.calls), text: formatCount(row.errors) }) : "") },
    time("p50", "p50_ns"), time("p95", "p95_ns"), time("p99", "p99_ns"),
    time("Total", "total_ns", "time of all calls"), time("Own", "self_ns", "time of all calls without waits for other calls"),
    ...makeTrends(document),
  ], (row) => link("/traces", { service: row.service, method: row.name })) : make("p", { class: "nothing", text: "no calls: choose a longer time" }));
}
