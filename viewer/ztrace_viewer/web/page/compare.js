// What changed between two stretches of time, with what is sure.

import { ask, keep, query } from "./ask.js";
import { fill, make } from "./dom.js";
import { formatChange, formatDuration, plural } from "./format.js";
import { reopen } from "./page.js";
import { makeTable } from "./table.js";

/** @param {import("./page.js").View} view */
export async function showCompare({ main, signal }) {
  const kept = query();
  const root = kept.get("root") ?? "", before = kept.get("before") ?? "", after = kept.get("after") ?? "";
  const field = (/** @type {string} */ title, /** @type {string} */ name, /** @type {string} */ value, hint = "") =>
    make("label", {}, `${title} `, make("input", { name, value, placeholder: hint, size: 20, spellcheck: "false" }));
  const result = make("div");
  main.className = "list";
  fill(main,
    make("form", { class: "filters", on: { submit: (/** @type {any} */ event) => {
      event.preventDefault();
      const values = new FormData(event.currentTarget);
      keep(Object.fromEntries(["root", "before", "after"].map((name) => [name, String(values.get(name)).trim()])));
      reopen();
    } } },
    field("Method", "root", root, "any"), field("Before", "before", before, "2h..1h"), field("After", "after", after, "1h.."), make("button", { text: "Compare" })),
    result);
  if (!before || !after) {
    result.append(make("p", { class: "nothing", text: "Give two stretches of time: 14:00..14:20 and 15:00..15:20, or 2h..1h and 1h.." }));
    return;
  }
  const diff = await ask("diff", { root, before, after, limit: 200 }, signal);
  if (!diff.before.traces || !diff.after.traces) {
    result.append(make("p", { class: "nothing", text: `there are no call trees ${diff.after.traces ? "before" : "after"}` }));
    return;
  }
  const unit = diff.unit_s === 60 ? "minute" : "hour";
  result.append(
    make("h1", { text: `${formatChange(diff.total_change_ns)} a tree` }),
    make("p", { class: "note", text: `${plural(diff.before.traces, "tree")} in ${plural(diff.before.minutes, unit)} before, ${plural(diff.after.traces, "tree")} in ${plural(diff.after.minutes, unit)} after · `
      + (diff.smallest_seen_ns === null ? `nothing can be sure: each side needs six ${unit}s with trees` : `the smallest change that could be seen is ±${formatDuration(diff.smallest_seen_ns)}`) }),
    makeTable("changes", diff.paths, [
      { title: "Change", isNumber: true, key: (row) => row.change_ns, cell: (row) => make("span", { class: row.sure && row.change_ns > 0 ? "bad" : null, text: formatChange(row.change_ns) }) },
      { title: "Sure", key: (row) => row.p, cell: (row) => (row.sure ? make("b", { title: `p ${row.p.toPrecision(2)}`, text: "sure" }) : make("span", { class: "soft", title: `p ${row.p.toPrecision(2)}`, text: "not sure" })) },
      { title: "Call path", cell: (row) => namePath(row.path) },
      { title: "Cause", cell: (row) => row.cause },
      { title: "Own time a call", cell: (row) => `${formatDuration(row.each_before_ns)} → ${formatDuration(row.each_after_ns)}` },
      { title: "Calls a tree", cell: (row) => `${row.calls_before.toFixed(2)} → ${row.calls_after.toFixed(2)}` },
    ]));
}

/** Name a path by its last two calls, with the whole as hint. @param {any[]} path */
export function namePath(path) {
  const names = path.map((step) => `${step.service}.${step.name}`);
  const shown = names.slice(-2).join(" › ");
  return make("span", { title: names.join(" › "), text: names.length > 2 ? `… ${shown}` : shown });
}
