// One span in full.

import { makeCode } from "./code.js";
import { copy, make } from "./dom.js";
import { makeException } from "./errors.js";
import { formatChange, formatDuration, formatMoment, nameCall, plural } from "./format.js";

/**
 * Show a span.
 * @param {any} span from /data/trace/ID/SPAN
 * @param {string} traceId
 * @param {{close: () => void, zoom: () => void}} told
 */
export function makeSpan(span, traceId, told) {
  const address = `${location.origin}/trace/${traceId}?span=${span.span_id}`;
  // As a program's log lines have them by ztrace.logging_filter() and the format of the tutorial.
  const logged = `trace=${traceId} span=${span.span_id}`;
  /** @type {[string, string | null][]} */
  const facts = [
    ["kind", span.kind], ["status", span.status_message ? `${span.status}: ${span.status_message}` : span.status],
    ["duration", formatDuration(span.duration_ns)], ["own time", formatDuration(span.self_ns)],
    ["critical path", span.critical_ns === null ? null : formatDuration(span.critical_ns)],
    ["CPU", span.cpu_ns === null ? null : formatDuration(span.cpu_ns)],
    ["started", `${formatMoment(span.start_ns)}.${String(Math.floor(span.start_ns / 1e6) % 1000).padStart(3, "0")}`],
    ["process", `${span.instance.host ?? ""} ${span.instance.pid || ""}`.trim() || null],
    ["clock", span.instance.clock ? `${formatChange(span.instance.clock.offset_ns)} ±${formatDuration((span.instance.clock.high_ns - span.instance.clock.low_ns) / 2)}, measured by ${plural(span.instance.clock.calls, "call")}` : null],
    ["unfinished", span.unfinished ? `${span.unfinished.state}, last seen ${formatMoment(span.unfinished.last_seen_ns)}` : null],
    ["span id", span.span_id], ["trace id", traceId], ["instrumentation", span.scope ? `${span.scope.name} ${span.scope.version}`.trim() : null],
    ["trace state", span.trace_state || null],
  ];
  return make("aside", { class: "span", "aria-label": "the call" },
    make("header", {}, make("h2", { text: nameCall(span.service, span.name, span.kind) }),
      make("button", { type: "button", "aria-label": "close", text: "×", on: { click: told.close } })),
    make("p", { class: "actions" },
      make("button", { text: "Zoom", on: { click: told.zoom } }),
      make("button", { text: "Copy link", on: { click: () => copy(address, "link") } }),
      make("button", { text: "Copy for logs", title: logged, on: { click: () => copy(logged, "ids") } })),
    makeList("facts", facts),
    span.stacks?.length ? make("h3", { text: "Code" }) : null,
    span.stacks?.length ? makeCode(span.stacks, span.duration_ns ?? 1) : null,
    span.exception ? makeException(span.exception) : null,
    span.exception?.group ? make("p", {}, make("a", { href: `/error/${span.exception.group}`, text: "all like it" })) : null,
    ...makeSection("Attributes", span.attributes),
    ...(span.events.length ? [make("h3", { text: "Events" }), make("ol", { class: "events" }, ...span.events.map((/** @type {any} */ event) =>
      make("li", {}, make("b", { text: event.name }), ` at ${formatDuration(event.time_ns - span.start_ns)}`, makeList("", Object.entries(event.attributes)))))] : []),
    ...(span.links.length ? [make("h3", { text: "Links" }), make("ul", {}, ...span.links.map((/** @type {any} */ each) =>
      make("li", {}, make("a", { href: `/trace/${each.trace_id}?span=${each.span_id}`, text: `${each.trace_id.slice(0, 16)}… ${each.span_id}` }))))] : []),
    ...makeSection("Resource", span.resource));
}

/** @param {string} title @param {Record<string, unknown>} values */
const makeSection = (title, values) => (Object.keys(values).length ? [make("h3", { text: title }), makeList("values", Object.entries(values))] : []);

/** @param {string} name @param {[string, unknown][]} pairs */
const makeList = (name, pairs) => make("dl", { class: name || null }, ...pairs.filter(([, value]) => value !== null).flatMap(([key, value]) => [
  make("dt", { text: key }), make("dd", { text: typeof value === "string" ? value : JSON.stringify(value) }),
]));
