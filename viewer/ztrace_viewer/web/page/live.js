// Call trees and errors as they arrive.

import { fill, make } from "./dom.js";
import { formatDuration, formatMoment, plural } from "./format.js";

const KEPT = 300;

/** @param {import("./page.js").View} view */
export async function showLive({ main, signal }) {
  const list = make("ol", { class: "live", "aria-label": "call trees and errors as they arrive" });
  const state = make("p", { class: "note", text: "connecting…" });
  const pause = make("button", { text: "Pause", on: { click: () => { isPaused = !isPaused; pause.textContent = isPaused ? "Go on" : "Pause"; if (!isPaused) flush(); } } });
  let isPaused = false;
  /** @type {any[]} */
  let waiting = [];
  let isDrawn = true;
  main.className = "list";
  fill(main, make("p", { class: "actions" }, pause, state), list);

  const source = new EventSource("/data/tail");
  signal.addEventListener("abort", () => source.close());
  source.onopen = () => { state.textContent = "waiting for calls"; };
  source.onerror = () => { state.textContent = "ztrace does not answer; trying again"; };
  source.onmessage = (message) => {
    waiting.push(JSON.parse(message.data));
    if (waiting.length > KEPT) waiting.shift();
    if (isPaused) state.textContent = `${plural(waiting.length, "row")} waiting`;
    else if (isDrawn) {
      isDrawn = false;
      requestAnimationFrame(flush);
    }
  };

  function flush() {
    isDrawn = true;
    list.prepend(...waiting.reverse().map(makeEvent));
    waiting = [];
    while (list.childElementCount > KEPT) list.lastElementChild?.remove();
    state.textContent = "";
  }
}

/** @param {any} event */
function makeEvent(event) {
  if (event.event === "error") {
    return make("li", { class: "bad" }, make("time", { text: formatMoment(event.at_ns).slice(11) }), " ",
      make("a", { class: "row", href: event.group ? `/error/${event.group}` : `/trace/${event.trace_id}?span=${event.span_id}`, text: `${event.service}.${event.name}` }),
      ` ${event.type}: ${event.message}`);
  }
  return make("li", {}, make("time", { text: formatMoment(event.start_ns).slice(11) }), " ",
    make("a", { class: "row", href: `/trace/${event.trace_id}`, text: `${event.service}.${event.name}` }),
    ` ${formatDuration(event.duration_ns)} · ${plural(event.span_count, "span")}`,
    event.error_count ? make("span", { class: "bad", text: ` · ${event.error_count} failed` }) : null);
}
