// What changed between two times, two versions, or two kinds of trees of one root, with what is sure.

import { ask, keep, query } from "./ask.js";
import { fill, make } from "./dom.js";
import { formatChange, formatCount, formatDuration, nameCall, plural } from "./format.js";
import { makeMessage, reopen } from "./page.js";
import { makeTable } from "./table.js";

/**
 * Kinds of comparison: its name, how the address has it, and the fields that it takes, each with a title and a hint.
 * @type {{name: string, by: string | null, slow: string | null, fields: [string, string, string][], help: string}[]}
 */
const KINDS = [
  { name: "two times", by: null, slow: null, fields: [["root", "Method", "any"], ["before", "Before", "2h..1h"], ["after", "After", "1h.."]], help: "Give two stretches of time: 14:00..14:20 and 15:00..15:20, or 2h..1h and 1h.." },
  { name: "two versions", by: "service.version", slow: null, fields: [["root", "Method", "any"], ["before", "Version", "the one before"], ["after", "with", "the last one"]], help: "" },
  { name: "slow with the rest", by: null, slow: "1", fields: [["root", "Method", "front.checkout"]], help: "Give the method of a root: the slowest 5% of its trees are compared with the rest." },
  { name: "an attribute", by: "", slow: null, fields: [["root", "Method", "front.checkout"], ["by", "Attribute", "card"], ["before", "Value", "any other"], ["after", "with", "visa"]], help: "Give the method of a root, an attribute and a value of it." },
];

/** @param {import("./page.js").View} view */
export async function showCompare({ main, signal }) {
  const kept = query(), text = (/** @type {string} */ name) => kept.get(name) ?? "";
  const kind = KINDS.find(({ by, slow }) => slow === kept.get("slow") && by === kept.get("by")) ?? (kept.has("by") ? KINDS[3] : KINDS[0]);
  const result = make("div");
  main.className = "list";
  fill(main,
    make("form", { class: "filters", on: { submit: (/** @type {any} */ event) => {
      event.preventDefault();
      const values = new FormData(event.currentTarget);
      keep(Object.fromEntries(kind.fields.map(([name]) => [name, String(values.get(name)).trim()])));
      reopen();
    } } },
    make("label", {}, "Compare ", make("select", { on: { change: (/** @type {any} */ event) => {
      const { by, slow } = KINDS[event.target.selectedIndex];
      keep({ slow, before: null, after: null });
      choose(by);
      reopen();
    } } }, ...KINDS.map((each) => make("option", { text: each.name, selected: each === kind })))),
    ...kind.fields.map(([name, title, hint]) => make("label", {}, `${title} `, make("input", { name, value: text(name), placeholder: hint, size: 18, spellcheck: "false" }))),
    make("button", { text: "Compare" })),
    result);
  if (!isComplete(kind, text)) {
    result.append(make("p", { class: "nothing", text: kind.help }));
    return;
  }
  try {
    const time = kind === KINDS[0] ? {} : { since: kept.get("since"), until: kept.get("until") };
    const diff = await ask("diff", { root: text("root"), before: text("before"), after: text("after"), by: kept.get("by"), slow: kept.get("slow"), ...time, limit: 200 }, signal);
    result.append(...makeChanges(diff));
  } catch (error) {
    if (signal.aborted) throw error;
    result.append(makeMessage(/** @type {Error} */ (error)));
  }
}

/** Put a key into the address; unlike others, an empty one is kept. @param {string | null} by */
function choose(by) {
  const kept = query();
  kept.delete("by");
  if (by !== null) kept.set("by", by);
  history.replaceState(null, "", location.pathname + (kept.size ? `?${kept}` : ""));
}

/** Whether all is given that a comparison needs. @param {typeof KINDS[number]} kind @param {(name: string) => string} text */
function isComplete(kind, text) {
  if (kind === KINDS[0]) return Boolean(text("before") && text("after"));
  if (kind === KINDS[1]) return true;
  return Boolean(text("root") && (kind.slow || (text("by") && (text("before") || text("after")))));
}

/** @param {any} diff */
function makeChanges(diff) {
  const { before, after, unit_s: seconds, sampled_of: among, smallest_seen_ns: smallest } = diff;
  if (!before.traces || !after.traces) return [make("p", { class: "nothing", text: `there are no call trees ${after.traces ? "before" : "after"}` })];
  const unit = seconds === null ? "tree" : seconds === 60 ? "minute" : "hour";
  const counted = seconds === null
    ? `${plural(before.traces, "tree")} compared with ${plural(after.traces, "tree")}${before.traces + after.traces < (among ?? 0) ? `, of ${formatCount(among)}` : ""}`
    : `${plural(before.traces, "tree")} in ${plural(before.minutes, unit)} before, ${plural(after.traces, "tree")} in ${plural(after.minutes, unit)} after`;
  const sure = smallest === null ? `nothing can be sure: each side needs six ${unit}s${seconds === null ? "" : " with trees"}` : `the smallest change that could be seen is ±${formatDuration(smallest)}`;
  return [
    make("h1", { text: `${formatChange(diff.total_change_ns)} a tree` }),
    make("p", { class: "note", text: `${counted} · ${sure}` }),
    makeTable("changes", diff.paths, [
      { title: "Change", isNumber: true, key: (row) => row.change_ns, cell: (row) => make("span", { class: row.sure && row.change_ns > 0 ? "bad" : null, text: formatChange(row.change_ns) }) },
      { title: "Sure", key: (row) => row.p, cell: (row) => (row.sure ? make("b", { title: `p ${row.p.toPrecision(2)}`, text: "sure" }) : make("span", { class: "soft", title: `p ${row.p.toPrecision(2)}`, text: "not sure" })) },
      { title: "Call path", cell: (row) => namePath(row.path) },
      { title: "Cause", cell: (row) => row.cause },
      { title: "Own time a call", cell: (row) => `${formatDuration(row.each_before_ns)} → ${formatDuration(row.each_after_ns)}` },
      { title: "Calls a tree", cell: (row) => `${row.calls_before.toFixed(2)} → ${row.calls_after.toFixed(2)}` },
    ]),
  ];
}

/** Name a path by its last two calls, with the whole as hint. @param {any[]} path */
export function namePath(path) {
  const names = path.map((step) => nameCall(step.service, step.name, step.kind));
  const shown = names.slice(-2).join(" › ");
  return make("span", { title: names.join(" › "), text: names.length > 2 ? `… ${shown}` : shown });
}
