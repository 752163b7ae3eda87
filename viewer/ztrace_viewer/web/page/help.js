// The keys, which '?' shows.

import { make } from "./dom.js";

/** Letters after g, and where they lead. @type {[string, string, string][]} */
export const KEYS = [
  ["o", "/", "overview"], ["t", "/traces", "traces"], ["e", "/errors", "errors"], ["s", "/stats", "stats"],
  ["p", "/profile", "profile"], ["c", "/compare", "compare"], ["m", "/map", "map"], ["l", "/live", "live"], ["u", "/status", "status"],
];
/** @type {[string, string][]} */
const EVERYWHERE = [["/", "find"], ["j k", "next and previous row"], ["Enter", "open the row"], ["r", "read again"], ["?", "these keys"]];
/** @type {[string, string][]} */
const TRACE = [
  ["j k ↓ ↑", "next and previous call"], ["→ ←", "unfold and fold"], ["Enter", "all of a call"], ["e E", "next and previous failure"],
  ["n N", "next and previous match"], ["z", "zoom to the call"], ["Esc", "whole trace"], ["+ −", "zoom in and out"],
  ["f", "flame view"], ["p", "critical path alone"], ["c", "copy as Markdown"], ["y", "copy a link to the call"],
];

export function showHelp() {
  const list = (/** @type {[string, string][]} */ keys) => make("dl", { class: "keys" },
    ...keys.flatMap(([key, text]) => [make("dt", {}, ...key.split(" ").map((each) => make("kbd", { text: each }))), make("dd", { text })]));
  const dialog = make("dialog", { "aria-label": "keyboard shortcuts", on: { close: () => dialog.remove() } },
    make("h2", { text: "Everywhere" }), list(EVERYWHERE),
    make("h2", { text: "Go to" }), list(KEYS.map(([letter, , name]) => [`g ${letter}`, name])),
    make("h2", { text: "In a trace" }), list(TRACE),
    make("form", { method: "dialog" }, make("button", { text: "Close", autofocus: true })));
  document.body.append(dialog);
  dialog.showModal();
}
