// Where the time of many trees goes, by call path: an icicle, and a table with the same figures.

import { ask, keep, query } from "./ask.js";
import { makeCode } from "./code.js";
import { colour } from "./colours.js";
import { fill, make } from "./dom.js";
import { formatCount, formatDuration, formatShare, plural } from "./format.js";
import { Icicle } from "./icicle.js";
import { reopen } from "./page.js";
import { makeTable } from "./table.js";

/** What the width of a box can be. @type {[string, string, string][]} */
const MEASURES = [["critical_ns", "critical path", "time in which the root waited for this call"], ["self_ns", "own time", "more than the root's where calls run side by side"]];
const ROWS = 300;
/** Callers that are shown before a call. */
const CALLERS = 2;

/** @param {import("./page.js").View} view */
export async function showProfile({ main, signal }) {
  const kept = query();
  const root = kept.get("root") ?? "", measure = MEASURES.find(([name]) => name === kept.get("measure"))?.[0] ?? "critical_ns";
  const profile = await ask("profile", { root, since: kept.get("since"), until: kept.get("until") }, signal);
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
  const whole = profile.paths.reduce((/** @type {number} */ sum, /** @type {any} */ each) => sum + each[measure], 0);
  main.append(
    make("p", { class: "note", text: `${plural(profile.traces, "tree")} · p50 ${formatDuration(profile.p50_ns)} · p95 ${formatDuration(profile.p95_ns)} · ${formatDuration(whole)} in all`
      + (profile.unsettled_spans ? ` · ${plural(profile.unsettled_spans, "span")} not counted yet` : "") }),
    makeIcicle(profile.paths, measure, whole),
    makeTable("call paths", profile.paths.slice(0, ROWS), [
      { title: "Call path", cell: (row) => namePath(row.path) },
      { title: "Critical", isNumber: true, key: (row) => row.critical_ns, cell: (row) => formatShare(row.critical_ns / Math.max(1, sum(profile.paths, "critical_ns"))) },
      ...(profile.paths.some((/** @type {any} */ row) => typeof row.run_share === "number") ? [{ title: "Runs", hint: "share of its own time in which it ran, as far as that is known", isNumber: true, key: (/** @type {any} */ row) => row.run_share ?? -1, cell: (/** @type {any} */ row) => formatShare(row.run_share) }] : []),
      { title: "Own", isNumber: true, key: (row) => row.self_ns, cell: (row) => formatDuration(row.self_ns) },
      { title: "Total", isNumber: true, key: (row) => row.total_ns, cell: (row) => formatDuration(row.total_ns) },
      { title: "Calls a tree", isNumber: true, key: (row) => row.calls / Math.max(1, row.root_calls), cell: (row) => (row.calls / Math.max(1, row.root_calls)).toFixed(2) },
      { title: "p50", isNumber: true, key: (row) => row.p50_ns ?? -1, cell: (row) => formatDuration(row.p50_ns) },
      { title: "p95", isNumber: true, key: (row) => row.p95_ns ?? -1, cell: (row) => formatDuration(row.p95_ns) },
      { title: "Errors", isNumber: true, key: (row) => row.errors, cell: (row) => (row.errors ? make("span", { class: "bad", text: formatCount(row.errors) }) : "") },
    ]));
  main.append(...makeCodes(profile.paths));
}

/** Show the sampled code of methods, once for each, since samples know the method alone. @param {any[]} paths */
function makeCodes(paths) {
  /** @type {Map<string, any[]>} */
  const methods = new Map();
  for (const each of paths) {
    const step = each.path[each.path.length - 1], name = `${step.service}.${step.name}`;
    if (each.stacks.length && !methods.has(name)) methods.set(name, each.stacks);
  }
  if (!methods.size) return [];
  return [make("h2", { text: "Code of methods, over all paths" }), ...[...methods].map(([name, stacks]) =>
    make("details", {}, make("summary", { text: `${name} ${formatDuration(sum(stacks, "ns"))}` }), makeCode(stacks, sum(stacks, "ns"))))];
}

/** @param {any[]} rows @param {string} name */
const sum = (rows, name) => rows.reduce((all, row) => all + row[name], 0);

/** Name a path by its last call, after its callers. @param {any[]} path */
function namePath(path) {
  const names = path.map((step) => `${step.service}.${step.name}`);
  const callers = names.slice(Math.max(0, names.length - 1 - CALLERS), -1).map((name) => `${name} › `);
  if (names.length - 1 > CALLERS) callers.unshift("… ");
  return make("span", { class: "path", title: names.join(" › ") }, make("span", { class: "soft", text: callers.join("") }), names[names.length - 1]);
}

/** @param {any[]} paths @param {string} measure @param {number} whole */
function makeIcicle(paths, measure, whole) {
  const boxes = placeBoxes(paths, measure);
  const colours = colour(paths.map((each) => each.path[each.path.length - 1].service));
  const label = (/** @type {number} */ box) => (box ? `${boxes.steps[box].service}.${boxes.steps[box].name}` : "all");
  const icicle = new Icicle({
    left: boxes.left, width: boxes.width, level: boxes.level, whole: Math.max(1, whole), name: label,
    fill: (box) => (box ? colours.get(boxes.steps[box].service) ?? "#888" : "#9aa4af"),
  }, {
    label: "call paths by their time; the table below has the same figures",
    describe: (box) => `${label(box)} · ${formatDuration(boxes.width[box])} (${formatShare(boxes.width[box] / whole)}) with what it calls · ${formatDuration(boxes.own[box])} its own`,
    pick: (box) => icicle.setTime(boxes.left[box], boxes.left[box] + boxes.width[box]),
  });
  return icicle.element;
}

/** Place a box for each path below that of its caller. @param {any[]} paths @param {string} measure */
function placeBoxes(paths, measure) {
  /** @type {Map<string, number>} */
  const places = new Map([["", 0]]);
  /** @type {any[]} */
  const steps = [null];
  /** @type {number[][]} */
  const children = [[]];
  const own = [0];
  for (const each of paths) {
    let key = "", above = 0;
    for (const step of each.path) {
      key += `\u0001${step.service}\u0000${step.name}\u0000${step.kind}`;
      let place = places.get(key);
      if (place === undefined) {
        place = steps.length;
        places.set(key, place);
        steps.push(step);
        children.push([]);
        own.push(0);
        children[above].push(place);
      }
      above = place;
    }
    own[above] += each[measure];
  }
  // Callers come before what they call, so sums go backwards and places forwards.
  const width = Float64Array.from(own), left = new Float64Array(own.length), level = new Int32Array(own.length);
  for (let box = own.length - 1; box >= 0; box--) for (const child of children[box]) width[box] += width[child];
  for (let box = 0; box < own.length; box++) {
    let at = left[box];
    for (const child of children[box].sort((one, other) => width[other] - width[one])) {
      left[child] = at;
      level[child] = level[box] + 1;
      at += width[child];
    }
  }
  return { left, width, level, steps, own };
}
