// Where the time of many trees goes, by call path: an icicle, and a table with the same figures.

import { ask, keep, query } from "./ask.js";
import { makeCode } from "./code.js";
import { colour } from "./colours.js";
import { fill, make } from "./dom.js";
import { formatCount, formatDuration, formatShare, nameCall, plural } from "./format.js";
import { Icicle, placeBoxes } from "./icicle.js";
import { reopen } from "./page.js";
import { makeTable } from "./table.js";

/** What the width of a box can be. @type {[string, string, string][]} */
const MEASURES = [["critical", "critical path", "time in which the root waited for this call"], ["own", "own time", "more than the root's where calls run side by side"]];
/** Callers that are shown before a call. */
const CALLERS = 2;

/** @param {import("./page.js").View} view */
export async function showProfile({ main, signal }) {
  const kept = query();
  const root = kept.get("root") ?? "", measure = MEASURES.find(([name]) => name === kept.get("measure"))?.[0] ?? "critical";
  const profile = await ask("profile", { root, since: kept.get("since"), until: kept.get("until"), columns: true }, signal);
  main.className = "list";
  fill(main,
    make("form", { class: "filters", on: { submit: (/** @type {any} */ event) => {
      event.preventDefault();
      keep({ root: String(new FormData(event.currentTarget).get("root")).trim() });
      reopen();
    } } },
    make("label", {}, "Method ", make("input", { name: "root", value: root, placeholder: "all roots", size: 28, spellcheck: "false" })),
    make("label", {}, "Width ", make("select", { on: { change: (/** @type {any} */ event) => { keep({ measure: event.target.value }); reopen(); } } },
      ...MEASURES.map(([value, text, hint]) => make("option", { value, text, title: hint, selected: value === measure })))),
    make("button", { text: "Show" })));
  if (!profile.paths.length) {
    main.append(make("p", { class: "nothing", text: "no call trees: choose a longer time; a tree counts ten seconds after its last span" }));
    return;
  }
  const whole = sum(profile[measure]), critical = Math.max(1, sum(profile.critical));
  main.append(
    make("p", { class: "note", text: `${plural(profile.traces, "tree")} · p50 ${formatDuration(profile.p50_ns)} · p95 ${formatDuration(profile.p95_ns)} · ${formatDuration(whole)} in all`
      + (profile.unsettled_spans ? ` · ${plural(profile.unsettled_spans, "span")} not counted yet` : "") }),
    makeIcicle(profile, measure, whole),
    makeTable("call paths", profile.paths, [
      { title: "Call path", cell: (row) => namePath(row.path) },
      { title: "Critical", isNumber: true, key: (row) => row.critical_ns, cell: (row) => formatShare(row.critical_ns / critical) },
      ...(profile.paths.some((/** @type {any} */ row) => typeof row.run_share === "number") ? [{ title: "Runs", hint: "share of its own time in which it ran, as far as that is known", isNumber: true, key: (/** @type {any} */ row) => row.run_share ?? -1, cell: (/** @type {any} */ row) => formatShare(row.run_share) }] : []),
      { title: "Own", isNumber: true, key: (row) => row.self_ns, cell: (row) => formatDuration(row.self_ns) },
      { title: "Total", isNumber: true, key: (row) => row.total_ns, cell: (row) => formatDuration(row.total_ns) },
      { title: "Calls a tree", isNumber: true, key: (row) => row.calls / Math.max(1, row.root_calls), cell: (row) => (row.calls / Math.max(1, row.root_calls)).toFixed(2) },
      { title: "p50", isNumber: true, key: (row) => row.p50_ns ?? -1, cell: (row) => formatDuration(row.p50_ns) },
      { title: "p95", isNumber: true, key: (row) => row.p95_ns ?? -1, cell: (row) => formatDuration(row.p95_ns) },
      { title: "Errors", isNumber: true, key: (row) => row.errors, cell: (row) => (row.errors ? make("span", { class: "bad", text: formatCount(row.errors) }) : "") },
    ]));
  main.append(...makeCodes(profile.code));
}

/** Show the sampled code of methods. @param {any[]} code */
function makeCodes(code) {
  if (!code.length) return [];
  return [make("h2", { text: "Code of methods, over all paths" }), ...code.map(({ service, name, kind, stacks }) => {
    const whole = sum(stacks.map((/** @type {any} */ stack) => stack.ns));
    return make("details", {}, make("summary", { text: `${nameCall(service, name, kind)} ${formatDuration(whole)}` }), makeCode(stacks, whole));
  })];
}

/** @param {number[]} values */
function sum(values) {
  let all = 0;
  for (const value of values) all += value;
  return all;
}

/** Name a path by its last call, after its callers. @param {any[]} path */
function namePath(path) {
  const names = path.map((step) => nameCall(step.service, step.name, step.kind));
  const callers = names.slice(Math.max(0, names.length - 1 - CALLERS), -1).map((name) => `${name} › `);
  if (names.length - 1 > CALLERS) callers.unshift("… ");
  return make("span", { class: "path", title: names.join(" › ") }, make("span", { class: "soft", text: callers.join("") }), names[names.length - 1]);
}

/** @param {any} profile @param {string} measure @param {number} whole */
function makeIcicle(profile, measure, whole) {
  const { call, calls, services, caller } = profile, own = profile[measure];
  const boxes = placeBoxes(caller, own), colours = colour(services.slice(1));
  const fills = calls.map((/** @type {[number, string, string]} */ [service]) => colours.get(services[service]) ?? "#9aa4af");
  const names = calls.map((/** @type {[number, string, string]} */ [service, name, kind]) => (name ? nameCall(services[service], name, kind) : "all"));
  const icicle = new Icicle({
    ...boxes, whole: Math.max(1, whole),
    name: (box) => names[call[box]], fill: (box) => fills[call[box]],
  }, {
    label: "call paths by their time; the table below has the same figures",
    describe: (box) => `${names[call[box]]} · ${formatDuration(boxes.width[box])} (${formatShare(boxes.width[box] / whole)}) with what it calls · ${formatDuration(own[box])} its own`,
    pick: (box) => icicle.setTime(boxes.left[box], boxes.left[box] + boxes.width[box]),
  });
  return icicle.element;
}
