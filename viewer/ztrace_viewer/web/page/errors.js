// Errors by their origin; and one of them, its way across processes as one traceback.

import { ask, keep, link, query } from "./ask.js";
import { copy, fill, make, say } from "./dom.js";
import { findLine } from "./editor.js";
import { formatAge, formatCount, formatMoment, nameCall, plural } from "./format.js";
import { reopen } from "./page.js";
import { drawBars } from "./spark.js";
import { makeTable } from "./table.js";

/** @param {import("./page.js").View} view */
export async function showErrors({ main, signal }) {
  const kept = query();
  const all = kept.has("all"), sort = kept.get("sort") ?? "newest", text = kept.get("text") ?? "";
  const { groups } = await ask("errors", {
    since: kept.get("since"), until: kept.get("until"), service: kept.get("service"), text, all, sort, limit: 200,
  }, signal);
  main.className = "list";
  fill(main,
    make("form", { class: "filters", on: { submit: (/** @type {Event} */ event) => { event.preventDefault(); read(/** @type {any} */ (event.currentTarget)); } } },
      make("label", {}, "Text ", make("input", { name: "text", value: text, size: 28, spellcheck: "false" })),
      make("label", {}, "Order ", make("select", { name: "sort", on: { change: (/** @type {any} */ event) => read(event.target.form) } },
        ...["newest", "frequent"].map((name) => make("option", { value: name, text: `${name} first`, selected: name === sort })))),
      make("label", {}, make("input", { type: "checkbox", name: "all", checked: all, on: { change: (/** @type {any} */ event) => read(event.target.form) } }), " resolved ones too"),
      make("button", { text: "Search" })),
    groups.length ? makeGroups(groups) : make("p", { class: "nothing", text: "no errors: choose a longer time, or include resolved ones" }),
  );

  /** @param {HTMLFormElement} form */
  function read(form) {
    const values = new FormData(form);
    keep({ text: String(values.get("text")).trim(), sort: values.get("sort") === "newest" ? null : String(values.get("sort")), all: values.has("all") ? "1" : null });
    reopen();
  }
}

/** @param {any[]} groups */
export const makeGroups = (groups) => makeTable("errors", groups, [
  { title: "Error", cell: (row) => make("span", { class: "error" }, make("b", { text: shorten(row.type) }), " ", make("span", { class: "message", text: row.template || row.message })) },
  { title: "Origin", cell: (row) => nameCall(row.service, row.name, row.kind) },
  { title: "Count", isNumber: true, key: (row) => row.count, cell: (row) => formatCount(row.count) },
  { title: "When", hint: "occurrences over time", cell: (row) => drawBars(`${row.count} occurrences`, row.when, [], 90, 16) },
  { title: "Last", key: (row) => row.last_ns, cell: (row) => make("span", { title: formatMoment(row.last_ns), text: formatAge(row.last_ns) }) },
  ...(groups.some((row) => row.state !== "open") ? [{ title: "State", cell: (/** @type {any} */ row) => (row.state === "open" ? "" : make("span", { class: "tag", text: row.state })) }] : []),
], (row) => link(`/error/${row.group}`));

/** Leave out the module of a type. @param {string} type */
const shorten = (type) => type.slice(type.lastIndexOf(".") + 1);

/** @param {import("./page.js").View} view */
export async function showError({ main, found, signal }) {
  const document = await ask(`error/${found[0]}`, { sample: query().get("sample") }, signal);
  const { group, shown, hops } = document;
  const isResolved = group.state === "resolved";
  const change = async () => {
    await ask(`error/${group.group}/${isResolved ? "open" : "resolved"}`, {}, signal, "POST");
    say(isResolved ? "open again" : "resolved; it is listed as regressed if it occurs again");
    reopen();
  };
  const facts = [
    nameCall(group.service, group.name, group.kind), `${plural(group.count, "time")}, ${formatCount(group.uncaught_count)} uncaught`,
    `first ${formatAge(group.first_ns)}`, `last ${formatAge(group.last_ns)}`, ...(group.state === "open" ? [] : [group.state]),
  ];
  main.className = "detail";
  fill(main,
    make("h1", { class: "error" }, make("b", { text: group.type }), " ", make("span", { text: group.message })),
    make("p", { class: "note", text: facts.join(" · ") }),
    drawBars(`${group.count} occurrences`, group.when, [], 360, 32),
    make("p", { class: "actions" },
      make("button", { text: isResolved ? "Open again" : "Resolve", on: { click: change } }),
      make("button", { text: "Copy as Markdown", on: { click: async () => copy(await (await fetch(`/error/${group.group}.md`)).text(), "error") } }),
      make("a", { href: `/trace/${shown.trace_id}?span=${shown.origin_span_id}`, text: "its call tree", class: "row" })),
    make("h2", { text: "Way from the caller to the origin" }),
    document.missing ? make("p", { class: "note", text: `the calls above are missing: ${document.missing.reason}` }) : null,
    make("ol", { class: "way" }, ...hops.map((/** @type {any} */ hop) => makeHop(hop, shown.trace_id))),
    document.callee ? make("p", { class: "note" }, "the other side of the call: ", make("a", { href: `/trace/${shown.trace_id}?span=${document.callee.span_id}`, text: nameCall(document.callee.service, document.callee.name, document.callee.kind) })) : null,
    document.exception ? makeException(document.exception) : null,
    document.remote_traceback ? make("pre", { text: document.remote_traceback }) : null,
    make("h2", { text: "Samples" }),
    make("ul", { class: "samples" }, ...group.samples.map((/** @type {any} */ sample) => make("li", {},
      make("a", { class: "row", href: `/error/${group.group}?sample=${sample.trace_id}`, "aria-current": sample.trace_id === shown.trace_id ? "true" : null, text: formatMoment(sample.at_ns) }),
      " ", make("a", { href: `/trace/${sample.trace_id}?span=${sample.origin_span_id}`, text: "call tree" })))),
  );
}

/** @param {any} hop @param {string} traceId */
function makeHop(hop, traceId) {
  return make("li", {},
    make("p", {}, make("a", { class: "row", href: `/trace/${traceId}?span=${hop.span_id}`, text: nameCall(hop.service, hop.name, hop.kind) }),
      make("span", { class: "soft", text: ` ${hop.instance.host ?? ""} ${hop.instance.pid || ""}` }),
      hop.how && hop.how !== "passed" ? make("span", { class: "tag", text: hop.how }) : null,
      hop.type ? make("span", { class: "bad", text: ` ${shorten(hop.type)}: ${hop.message ?? ""}` }) : null),
    makeFrames(hop.frames),
    ...hop.notes.map((/** @type {string} */ note) => make("p", { class: "note", text: note })));
}

/** Show an exception with its frames and causes. @param {any} exception @param {string} title @returns {HTMLElement} */
export function makeException(exception, title = "Exception") {
  return make("section", { class: "exception" },
    make("h3", { text: title }),
    make("p", { class: "bad" }, make("b", { text: exception.type }), " ", exception.message),
    makeFrames(exception.frames),
    exception.stack ? make("pre", { text: exception.stack }) : null,
    ...exception.notes.map((/** @type {string} */ note) => make("p", { class: "note", text: note })),
    ...exception.causes.map((/** @type {any} */ cause) => makeException(cause, "Cause")),
    ...exception.members.map((/** @type {any} */ member) => makeException(member, "In the group")));
}

/** @param {any} frame */
function makePlace({ file, line }) {
  const text = `${file}:${line}`, href = findLine(file, line);
  return href ? make("a", { href, text }) : make("span", { text });
}

/** @param {any[]} frames */
export function makeFrames(frames) {
  if (!frames.length) return null;
  return make("ol", { class: "frames" }, ...frames.map((frame) => make("li", { class: frame.in_app ? "app" : "library" },
    frame.omitted ? make("p", { class: "soft", text: `… ${plural(frame.omitted, "frame")} left out` }) : null,
    make("p", { class: "place" }, makePlace(frame), make("span", { class: "soft", text: ` in ${frame.function}` }),
      frame.repeats ? make("span", { class: "soft", text: ` ×${frame.repeats + 1}` }) : null),
    frame.code ? make("pre", { text: frame.code }) : null)));
}
