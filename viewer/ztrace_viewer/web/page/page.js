// The page: which view an address has. One idea: the address is the state, so each view can be linked to and reloaded.

import { keep, link, query } from "./ask.js";
import { showCompare } from "./compare.js";
import { fill, make, say } from "./dom.js";
import { readEditor } from "./editor.js";
import { showError, showErrors } from "./errors.js";
import { KEYS, showHelp } from "./help.js";
import { showMap } from "./map.js";
import { showLive } from "./live.js";
import { showOverview } from "./overview.js";
import { showProfile } from "./profile.js";
import { showStats } from "./stats.js";
import { showStatus } from "./status.js";
import { moveFocus } from "./table.js";
import { showTrace } from "./trace.js";
import { showTraces } from "./traces.js";

/**
 * What a view is shown in, and the signal that ends it.
 * @typedef {{main: HTMLElement, found: string[], signal: AbortSignal, press: (event: KeyboardEvent) => boolean, find: ((text: string) => void) | null}} View
 */

/** @type {[RegExp, string, (view: View) => Promise<void>][]} */
const VIEWS = [
  [/^\/$/, "Overview", showOverview],
  [/^\/traces$/, "Traces", showTraces],
  [/^\/trace\/([0-9a-f]+)$/, "Trace", showTrace],
  [/^\/errors$/, "Errors", showErrors],
  [/^\/error\/([0-9a-f]+)$/, "Error", showError],
  [/^\/stats$/, "Stats", showStats],
  [/^\/profile$/, "Profile", showProfile],
  [/^\/compare$/, "Compare", showCompare],
  [/^\/map$/, "Map", showMap],
  [/^\/live$/, "Live", showLive],
  [/^\/status$/, "Status", showStatus],
];
/** Stretches of time to choose from. @type {[string, string][]} */
const STRETCHES = [["", "all time"], ["15m", "last 15 minutes"], ["1h", "last hour"], ["6h", "last 6 hours"], ["1d", "last day"], ["7d", "last 7 days"]];

const main = /** @type {HTMLElement} */ (document.getElementById("main"));
const find = /** @type {HTMLInputElement} */ (document.getElementById("find"));
const since = /** @type {HTMLSelectElement} */ (document.getElementById("since"));
let current = new AbortController();
/** @type {View | null} */
let view = null;
let isLetterAwaited = false;

async function open() {
  current.abort();
  current = new AbortController();
  const { signal } = current;
  fillHeader();
  main.dataset.state = "loading";
  main.className = "";
  for (const [path, title, show] of VIEWS) {
    const found = path.exec(location.pathname);
    if (!found) continue;
    document.title = `${title} · ztrace`;
    view = { main, found: found.slice(1), signal, press: () => false, find: null };
    try {
      await readEditor();
      await show(view);
    } catch (error) {
      if (signal.aborted) return;
      explain(/** @type {Error} */ (error));
    }
    if (signal.aborted) return;
    if (!main.querySelector("h1")) main.prepend(make("h1", { class: "unseen", text: title }));
    main.dataset.state = "ready";
    return;
  }
  explain(new Error("There is no such page."));
  main.dataset.state = "ready";
}

/** Show an error in place of a view. @param {Error} error */
const explain = (error) => fill(main, makeMessage(error));

/** Make a message of an error: what is wrong, what to do, and where to go on. @param {Error} error */
export function makeMessage(error) {
  const [what, ...hints] = error.message.split("; ");
  return make("div", { class: "message" },
    make("h1", { text: what }),
    hints.length ? make("p", { text: hints.join("; ") }) : null,
    make("p", {}, make("a", { href: link("/"), text: "Overview" }), " · ", make("a", { href: link("/status"), text: "Status" }),
      " says what is stored, lost and deleted, and why."));
}

function fillHeader() {
  for (const each of document.querySelectorAll("nav a")) {
    const path = /** @type {HTMLAnchorElement} */ (each).pathname;
    each.setAttribute("href", link(path));
    const isHere = path === "/" ? location.pathname === "/" : location.pathname.startsWith(path) || location.pathname.startsWith(path.replace(/s$/, "/"));
    if (isHere) each.setAttribute("aria-current", "page");
    else each.removeAttribute("aria-current");
  }
  const kept = query();
  find.value = kept.get("find") ?? "";
  find.placeholder = location.pathname.startsWith("/trace/") ? "in this trace" : "calls, errors, a trace id";
  const chosen = kept.get("since") ?? "";
  const options = [...STRETCHES];
  if (kept.get("until") || !STRETCHES.some(([value]) => value === chosen)) options.push([chosen, "a stretch of time"]);
  since.replaceChildren(...options.map(([value, text]) => make("option", { value, text })));
  since.selectedIndex = kept.get("until") ? options.length - 1 : options.findIndex(([value]) => value === chosen);
}

/** Go to another address. @param {string} address */
export function go(address) {
  history.pushState(null, "", address);
  scrollTo(0, 0);
  return open().then(() => main.focus({ preventScroll: true }));
}

/** Show the present address again, as after a change of it. */
export const reopen = () => open();

document.addEventListener("click", (event) => {
  const target = event.target instanceof Element ? event.target.closest("a") : null;
  if (!target || event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
  if (target.origin !== location.origin || target.target || target.getAttribute("href")?.startsWith("#") || target.pathname.endsWith(".md")) return;
  event.preventDefault();
  go(target.pathname + target.search);
});
addEventListener("popstate", () => open());

since.addEventListener("change", () => {
  keep({ since: since.value, until: null });
  open();
});
find.addEventListener("input", () => view?.find?.(find.value));
find.addEventListener("keydown", (event) => {
  if (event.key === "Escape") {
    find.blur();
    main.focus();
  } else if (event.key === "Enter" && !view?.find) {
    const text = find.value.trim();
    go(/^[0-9a-f]{16,32}$/.test(text) ? `/trace/${text}` : link("/traces", text ? { find: text } : {}));
  } else if (event.key === "Enter") {
    view?.press(new KeyboardEvent("keydown", { key: "n" }));
  }
});
document.getElementById("help")?.addEventListener("click", showHelp);

document.addEventListener("keydown", (event) => {
  const isTyping = event.target instanceof Element && event.target.matches("input, select, textarea, dialog *");
  if (isTyping || event.ctrlKey || event.metaKey || event.altKey) return;
  if (isLetterAwaited) {
    isLetterAwaited = false;
    const place = KEYS.find(([letter]) => letter === event.key);
    if (place) {
      event.preventDefault();
      go(link(place[1]));
    }
    return;
  }
  if (view?.press(event)) event.preventDefault();
  else if (event.key === "?") showHelp();
  else if (event.key === "g") isLetterAwaited = true;
  else if (event.key === "/") {
    event.preventDefault();
    find.focus();
    find.select();
  } else if (event.key === "j" || event.key === "k") moveFocus(main, event.key === "j" ? 1 : -1);
  else if (event.key === "r") {
    open();
    say("read again");
  }
});

open();
