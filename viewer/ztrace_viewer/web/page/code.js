// Sampled code: which lines ran, which waited, and behind whom.

import { make } from "./dom.js";
import { formatDuration, plural } from "./format.js";

/** Words for the states of code. @type {Record<string, string>} */
const STATES = { run: "runs", wait: "waits", wait_busy: "waits, thread busy" };
const MOST = 30;

/**
 * Show stacks, the longest first, each by its innermost line; the others unfold.
 * @param {any[]} stacks
 * @param {number} whole time that is all of it
 */
export function makeCode(stacks, whole) {
  const sorted = [...stacks].sort((one, other) => other.ns - one.ns);
  return make("ol", { class: "code" }, ...sorted.slice(0, MOST).map((stack) => {
    const inner = stack.frames[stack.frames.length - 1];
    const place = inner ? `${inner.function} ${shorten(inner.file)}:${inner.line}` : "unknown code";
    const behind = (stack.behind ?? []).map((/** @type {any} */ each) => `${each.service}.${each.name} ${formatDuration(each.ns)}`).join(", ");
    return make("li", {}, make("details", {},
      make("summary", {}, make("span", { class: `state ${stack.state}`, text: STATES[stack.state] ?? stack.state }), ` ${formatDuration(stack.ns)} `,
        make("code", { text: place }), behind ? make("span", { class: "soft", text: ` behind ${behind}` }) : null,
        make("i", { class: stack.state, style: { width: `${Math.min(100, 100 * stack.ns / Math.max(1, whole))}%` } })),
      make("ol", {}, ...stack.frames.map((/** @type {any} */ frame) => make("li", {}, make("code", { text: `${frame.file}:${frame.line}` }), make("span", { class: "soft", text: ` in ${frame.function}` }))))));
  }), sorted.length > MOST ? make("li", { class: "soft", text: `${plural(sorted.length - MOST, "more stack")}` }) : null);
}

/** Keep the last two parts of a path. @param {string} file */
const shorten = (file) => file.split("/").slice(-2).join("/");
