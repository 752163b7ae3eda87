// Lists of call trees, and how many there were over time: a drag over the bars selects a stretch.

import { ask, keep, link, query } from "./ask.js";
import { fill, make } from "./dom.js";
import { formatAge, formatCount, formatDuration, formatMoment, nameCall, plural } from "./format.js";
import { go, reopen } from "./page.js";
import { drawBars } from "./spark.js";
import { makeTable } from "./table.js";

const LIMIT = 100;
/** Fields of the search, which are parameters of the address. */
const FIELDS = ["find", "service", "method", "min", "max"];

/** @param {import("./page.js").View} view */
export async function showTraces({ main, signal }) {
  const kept = query();
  const [since, until, text, service, method, min, max] = ["since", "until", ...FIELDS].map((name) => kept.get(name) ?? "");
  const errors = kept.has("errors"), names = { since, until, service, method };
  const search = () => ask("find", { ...names, text, min, max, errors, limit: LIMIT }, signal);
  let isSearch = Boolean(text || min || max);
  let [services, found, histogram] = await Promise.all([
    ask("services", {}, signal),
    isSearch ? search() : ask("slow", { ...names, errors, limit: LIMIT }, signal),
    ask("histogram", isSearch ? { since, until } : names, signal),
  ]);
  if (method && !isSearch && !found.traces.length) {  // The method is no root: its calls are within other trees.
    isSearch = true;
    found = await search();
  }
  const read = (/** @type {HTMLFormElement} */ form) => {
    const values = new FormData(form);
    keep({ ...Object.fromEntries(FIELDS.map((name) => [name, String(values.get(name)).trim()])), errors: values.has("errors") ? "1" : null });
    reopen();
  };
  const change = { change: (/** @type {any} */ event) => read(event.target.form) };
  const field = (/** @type {string} */ title, /** @type {string} */ name, /** @type {string} */ value, size = 8, hint = "") =>
    label(title, make("input", { name, value, size, placeholder: hint, spellcheck: "false" }));
  main.className = "list";
  fill(main,
    make("form", { class: "filters", on: { submit: (/** @type {any} */ event) => { event.preventDefault(); read(event.currentTarget); } } },
      field("Text", "find", text, 26, "charge customer=Ada"),
      label("Service", make("select", { name: "service", on: change }, make("option", { value: "", text: "any" }),
        ...services.services.map((/** @type {string} */ name) => make("option", { value: name, text: name, selected: name === service })))),
      field("Method", "method", method, 14), field("From", "min", min, 6, "250ms"), field("To", "max", max, 6, "2s"),
      make("label", {}, make("input", { type: "checkbox", name: "errors", checked: errors, on: change }), " failed"),
      make("button", { text: "Search" }),
      kept.size ? make("a", { href: "/traces", text: "clear" }) : null),
    drawHistogram(histogram),
    ...(isSearch ? listCalls(found) : listTrees(found.traces)));
}

/** @param {any[]} traces */
const listTrees = (traces) => (traces.length ? [
  make("p", { class: "note", text: traces.length === LIMIT ? `the slowest ${LIMIT} trees, by their root` : `${plural(traces.length, "tree")}, the slowest first` }),
  makeTraces(traces),
] : [make("p", { class: "nothing", text: "no call trees: choose a longer time, or clear the filter" })]);

/** @param {any} found */
function listCalls(found) {
  const { spans, searched_since_ns: reached } = found;
  const rest = reached === null ? [] : [` since ${formatMoment(reached)}; two seconds were too short for more: `, make("a", { href: searchOn(reached), text: "search earlier trees" })];
  if (!spans.length) return [make("p", { class: "nothing" }, "no calls", ...(rest.length ? rest : [": choose a longer time, or other words"]))];
  return [
    make("p", { class: "note" }, spans.length === LIMIT ? `the newest ${LIMIT} calls` : `${plural(spans.length, "call")}, the newest first`, ...rest),
    makeTable("calls", spans, [
      { title: "Call", cell: (row) => make("span", { class: row.status === "error" ? "bad" : null, text: nameCall(row.service, row.name, row.kind) }) },
      { title: "Duration", isNumber: true, key: (row) => row.duration_ns ?? row.running_ns, cell: (row) => (row.duration_ns === null ? `${formatDuration(row.running_ns)} …` : formatDuration(row.duration_ns)) },
      { title: "Attributes", cell: (row) => make("span", { class: "soft", text: Object.entries(row.attributes).map(([key, value]) => `${key}=${typeof value === "string" ? value : JSON.stringify(value)}`).join("  ") }) },
      { title: "Started", key: (row) => row.start_ns, cell: (row) => make("span", { title: formatMoment(row.start_ns), text: formatAge(row.start_ns) }) },
    ], (row) => `/trace/${row.trace_id}?span=${row.span_id}`),
  ];
}

/** Return the address of the same search over earlier trees. @param {number} reached_ns */
function searchOn(reached_ns) {
  const kept = query();
  kept.set("until", new Date(Math.ceil(reached_ns / 1e6)).toISOString());
  return `${location.pathname}?${kept}`;
}

/** @param {string} text @param {Node} field */
const label = (text, field) => make("label", {}, `${text} `, field);

/** @param {any[]} traces */
export function makeTraces(traces) {
  const longest = Math.max(1, ...traces.map((each) => each.duration_ns ?? each.running_ns ?? 0));
  return makeTable("call trees", traces, [
    { title: "Call", cell: (row) => `${row.service}.${row.name}` },
    { title: "Duration", isNumber: true, key: (row) => row.duration_ns ?? row.running_ns, cell: (row) => make("span", { class: "measure" },
      make("i", { style: { width: `${(100 * (row.duration_ns ?? row.running_ns ?? 0)) / longest}%` } }),
      make("span", { text: row.duration_ns === null ? `${formatDuration(row.running_ns)} …` : formatDuration(row.duration_ns) })) },
    { title: "Spans", isNumber: true, key: (row) => row.span_count, cell: (row) => formatCount(row.span_count) },
    { title: "Errors", isNumber: true, key: (row) => row.error_count, cell: (row) => (row.error_count ? make("span", { class: "bad", text: formatCount(row.error_count) }) : "") },
    { title: "Services", isNumber: true, hint: "services that took part", key: (row) => row.services.length, cell: (row) => make("span", { title: row.services.join(", "), text: String(row.services.length) }) },
    { title: "Started", key: (row) => row.start_ns, cell: (row) => make("span", { title: formatMoment(row.start_ns), text: formatAge(row.start_ns) }) },
    ...(traces.some((row) => row.state !== "finished" || !row.complete) ? [{ title: "State", cell: (/** @type {any} */ row) => (row.state !== "finished" ? make("span", { class: "tag", text: row.state }) : row.complete ? "" : make("span", { class: "tag", title: "spans are missing", text: "incomplete" })) }] : []),
  ], (row) => `/trace/${row.trace_id}`);
}

/** Draw trees over time; a drag selects a stretch. @param {any} histogram */
export function drawHistogram(histogram) {
  const { since_ns, until_ns, traces, errors } = histogram;
  const count = traces.reduce((/** @type {number} */ sum, /** @type {number} */ each) => sum + each, 0);
  const failed = errors.reduce((/** @type {number} */ sum, /** @type {number} */ each) => sum + each, 0);
  if (!count) return null;
  const bars = drawBars(`${plural(count, "tree")} from ${formatMoment(since_ns)} to ${formatMoment(until_ns)}, ${failed} failed`, traces, errors, 100, 48);
  const veil = make("div", { class: "chosen", hidden: true });
  const box = make("div", { class: "histogram" }, bars, veil,
    make("div", { class: "ends" }, make("span", { text: formatMoment(since_ns) }), make("span", { text: `${plural(count, "tree")}, ${formatCount(failed)} failed; drag to select a time` }), make("span", { text: formatMoment(until_ns) })));
  /** @type {number | null} */
  let begin = null;
  const place = (/** @type {PointerEvent} */ event) => {
    const edge = bars.getBoundingClientRect();
    return Math.min(1, Math.max(0, (event.clientX - edge.left) / edge.width));
  };
  bars.addEventListener("pointerdown", (event) => {
    begin = place(event);
    bars.setPointerCapture(event.pointerId);
  });
  bars.addEventListener("pointermove", (event) => {
    if (begin === null) return;
    const [from, to] = [begin, place(event)].sort((one, other) => one - other);
    veil.hidden = false;
    veil.style.left = `${100 * from}%`;
    veil.style.width = `${100 * (to - from)}%`;
  });
  bars.addEventListener("pointerup", (event) => {
    if (begin === null) return;
    const [from, to] = [begin, place(event)].sort((one, other) => one - other);
    begin = null;
    veil.hidden = true;
    if (to - from < 0.005) return;
    const moment = (/** @type {number} */ share) => new Date((since_ns + share * (until_ns - since_ns)) / 1e6).toISOString();
    const kept = query();
    kept.set("since", moment(from));
    kept.set("until", moment(to));
    go(`${location.pathname === "/" ? "/traces" : location.pathname}?${kept}`);
  });
  return box;
}
