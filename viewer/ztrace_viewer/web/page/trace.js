// One call tree: its facts, the whole in a strip, rows on one time scale or as flame graph, and one call in full.

import { ask, keep, query } from "./ask.js";
import { colour, failed } from "./colours.js";
import { copy, fill, make, say } from "./dom.js";
import { formatAge, formatChange, formatCount, formatDuration, formatMoment, plural } from "./format.js";
import { Icicle } from "./icicle.js";
import { Minimap } from "./minimap.js";
import { reopen } from "./page.js";
import { makeSpan } from "./span.js";
import { Tree } from "./tree.js";
import { Waterfall } from "./waterfall.js";

/** Shortest stretch to zoom to, in nanoseconds. */
const LEAST = 100;
const KEEP_MS = 200;
/** Hosts whose clocks are told. */
const CLOCKS = 3;

/** @param {import("./page.js").View} view */
export async function showTrace(view) {
  const columns = await ask(`trace/${view.found[0]}`, { clocks: query().get("clocks") }, view.signal);
  const shown = new TraceView(view, new Tree(columns));
  view.press = (event) => shown.press(event);
  view.find = (text) => shown.search(text);
  shown.start();
}

class TraceView {
  /** @param {import("./page.js").View} view @param {Tree} tree */
  constructor(view, tree) {
    this.main = view.main;
    this.signal = view.signal;
    this.tree = tree;
    this.colours = colour(tree.columns.services);
    this.waterfall = new Waterfall(tree, this.colours, { pick: (row) => this.pick(row, true), fold: (entry) => this.fold(entry), zoom: (from, to) => this.zoom(from, to) });
    this.minimap = new Minimap(tree, this.colours, (from, to) => this.zoom(from, to));
    /** @type {Icicle | null} */
    this.flame = null;
    this.isPathAlone = false;
    /** @type {number[]} */
    this.hits = [];
    this.aside = make("div", { class: "beside", hidden: true });
    this.count = make("span", { class: "soft" });
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.timer = undefined;
  }

  start() {
    const kept = query(), { tree, waterfall } = this;
    document.title = `${tree.name(0)} ${formatDuration(tree.columns.duration_ns)} · ztrace`;
    this.main.className = "trace";
    fill(this.main, this.makeFacts(), this.minimap.element, waterfall.element, this.aside);
    for (const id of (kept.get("fold") ?? "").split(",")) {
      const row = tree.find(id);
      if (row >= 0) waterfall.closed.add(row);
    }
    const [from, to] = (kept.get("time") ?? "").split("-").map(Number);
    if (Number.isFinite(from) && Number.isFinite(to) && to > from) this.zoom(from, to);
    else this.minimap.veil(0, tree.length);
    const row = tree.find(kept.get("span"));
    if (row >= 0) {
      tree.reveal(row, waterfall.closed, waterfall.opened);
      waterfall.picked = row;
    } else if (kept.get("span")) say("there is no such call in this trace");
    this.refill();
    if (row >= 0) this.pick(row, true);
    if (kept.get("find")) this.search(kept.get("find") ?? "");
    if (kept.get("view") === "flame") this.toggleFlame();
    if (document.activeElement === document.body) this.waterfall.rows.focus({ preventScroll: true });
  }

  makeFacts() {
    const { columns } = this.tree;
    const button = (/** @type {string} */ text, /** @type {string} */ hint, /** @type {() => void} */ click) => make("button", { type: "button", text, title: hint, on: { click } });
    return make("div", { class: "about" },
      make("h1", {}, this.tree.name(0), " ", make("span", { text: columns.duration_ns === null ? "unfinished" : formatDuration(columns.duration_ns) })),
      make("p", { class: "note" },
        `${[...new Set([formatMoment(columns.start_ns), formatAge(Number(columns.start_ns))])].join(", ")} · ${plural(columns.span_count, "span")} · `,
        make("span", { class: columns.error_count ? "bad" : null, text: plural(columns.error_count, "failed call") }), " · ", make("code", { text: columns.trace_id }), " ", this.count),
      make("ul", { class: "legend", "aria-label": "services" }, ...columns.services.map((/** @type {string} */ name) =>
        make("li", {}, make("i", { style: { background: this.colours.get(name) } }), name))),
      this.makeClocks(),
      this.makeMissing(),
      make("p", { class: "actions" }, button("Flame", "flame view (f)", () => this.toggleFlame()), button("Critical path", "calls on the critical path alone (p)", () => this.togglePath()),
        button("Next failure", "e", () => this.jump(this.failures(), 1)), button("Copy as Markdown", "c", () => this.copyText())));
  }

  /** Tell by how much clocks are off, and let them be taken as they are. */
  makeClocks() {
    const clocks = this.tree.columns.clocks.filter((/** @type {any} */ each) => each.low_ns > 0 || each.high_ns < 0);
    if (query().get("clocks") === "raw") {
      return make("p", { class: "note" }, "clocks as stored, not corrected ", make("button", { type: "button", text: "Measured clocks", on: { click: () => this.setClocks(null) } }));
    }
    if (!clocks.length) return null;
    const told = clocks.slice(0, CLOCKS).map((/** @type {any} */ each) =>
      `${each.services.join(", ")} ${formatChange(each.offset_ns)} ±${formatDuration(Math.max(each.high_ns - each.offset_ns, each.offset_ns - each.low_ns))}, measured by ${plural(each.calls, "call")}`);
    return make("p", { class: "note", title: clocks.map((/** @type {any} */ each) => each.host).join(", ") },
      `clocks corrected: ${told.join("; ")}${clocks.length > CLOCKS ? `; ${plural(clocks.length - CLOCKS, "more host")}` : ""} `,
      make("button", { type: "button", text: "Raw clocks", on: { click: () => this.setClocks("raw") } }));
  }

  /** @param {string | null} clocks */
  setClocks(clocks) {
    keep({ clocks });
    reopen();
  }

  makeMissing() {
    const { missing } = this.tree.columns;
    if (!missing.length) return null;
    /** @type {Map<string, any[]>} */
    const byReason = new Map();
    for (const each of missing) byReason.set(each.reason, [...(byReason.get(each.reason) ?? []), each]);
    return make("ul", { class: "missing" }, ...[...byReason].map(([reason, entries]) => {
      const row = this.tree.find(entries[0].span_id);
      return make("li", {}, make("b", { text: "incomplete" }), ` ${reason.replaceAll("_", " ")} (${formatCount(entries.length)}) `,
        row < 0 ? null : make("button", { type: "button", text: "where", on: { click: () => this.pick(row, false) } }));
    }));
  }

  refill() {
    const { tree, waterfall } = this;
    const wanted = this.isPathAlone ? tree.mark((row) => tree.columns.critical[row] > 0) : null;
    waterfall.show(tree.list(waterfall.closed, waterfall.opened, wanted));
  }

  /** @param {number} entry */
  fold(entry) {
    const { closed, opened } = this.waterfall;
    const [set, row] = entry < 0 ? [opened, -entry - 1] : [closed, entry];
    if (!set.delete(row)) set.add(row);
    this.refill();
    this.keepSoon();
  }

  /** Choose a row, and show all of it where that is asked for. @param {number} row @param {boolean} isInFull */
  pick(row, isInFull) {
    const { tree, waterfall } = this;
    let place = waterfall.entries.indexOf(row);
    if (place < 0 && row >= 0) {
      tree.reveal(row, waterfall.closed, waterfall.opened);
      this.isPathAlone = false;
      this.refill();
      place = waterfall.entries.indexOf(row);
    }
    waterfall.picked = row;
    waterfall.scrollTo(place);
    if (row >= 0 && (isInFull || !this.aside.hidden)) this.showSpan(row);
    this.keepSoon();
  }

  /** @param {number} row */
  async showSpan(row) {
    const { columns } = this.tree;
    try {
      const span = await ask(`trace/${columns.trace_id}/${this.tree.id(row)}`, { clocks: query().get("clocks") }, this.signal);
      if (this.waterfall.picked !== row) return;
      this.aside.replaceChildren(makeSpan(span, columns.trace_id, {
        close: () => this.closeSpan(), zoom: () => this.zoom(columns.begin[row], this.tree.end(row)),
      }));
      this.aside.hidden = false;
      this.main.classList.add("with-span");
    } catch (error) {
      if (!this.signal.aborted) say(/** @type {Error} */ (error).message);
    }
  }

  closeSpan() {
    this.aside.hidden = true;
    this.main.classList.remove("with-span");
    this.waterfall.rows.focus({ preventScroll: true });
  }

  /** @param {number} from @param {number} to */
  zoom(from, to) {
    const { length } = this.tree;
    const span = Math.min(length, Math.max(to - from, LEAST));
    const start = Math.min(Math.max(0, from), length - span);
    this.waterfall.setTime(start, start + span);
    this.minimap.veil(start, start + span);
    if (this.flame && this.flame.from !== start) this.flame.setTime(start, start + span);
    this.keepSoon();
  }

  /** @param {string} text */
  search(text) {
    this.hits = this.tree.search(text);
    this.waterfall.hits = new Set(this.hits);
    this.waterfall.version += 1;
    this.count.textContent = text.trim() ? ` · ${plural(this.hits.length, "match").replace("matchs", "matches")}` : "";
    if (this.hits.length) this.pick(this.hits[0], false);
    else this.waterfall.draw();
    keep({ find: text.trim() || null });
  }

  failures() {
    const { state } = this.tree.columns;
    return [...state.keys()].filter((row) => state[row] === 1);
  }

  /** Go to the next or the previous of some rows. @param {number[]} rows @param {number} step */
  jump(rows, step) {
    if (!rows.length) {
      say("there is none");
      return;
    }
    const at = this.waterfall.picked < 0 ? -this.waterfall.picked - 1 : this.waterfall.picked;
    const next = step > 0 ? rows.find((row) => row > at) ?? rows[0] : rows.findLast((row) => row < at) ?? rows[rows.length - 1];
    this.pick(next, false);
  }

  togglePath() {
    this.isPathAlone = !this.isPathAlone;
    say(this.isPathAlone ? "the critical path alone" : "all calls");
    this.refill();
  }

  toggleFlame() {
    if (this.flame) {
      this.flame.element.replaceWith(this.waterfall.element);
      this.flame = null;
    } else {
      this.flame = this.makeFlame();
      this.waterfall.element.replaceWith(this.flame.element);
      this.flame.setTime(this.waterfall.from, this.waterfall.to);
    }
    this.keepSoon();
  }

  makeFlame() {
    const { tree } = this, { columns } = tree, bad = failed();
    const width = Float64Array.from({ length: tree.count }, (_, row) => tree.end(row) - columns.begin[row]);
    return new Icicle({
      left: columns.begin, width, level: findLevels(tree), whole: tree.length,
      name: (row) => tree.name(row), fill: (row) => (tree.isOrigin(row) ? bad : this.waterfall.fills[columns.call[row]]),
    }, {
      label: "flame graph of the trace; the rows have the same figures",
      describe: (row) => `${tree.name(row)} · ${formatDuration(columns.time[row])} · own ${formatDuration(columns.own[row])}`,
      pick: (row) => this.pick(row, true),
      zoomed: (from, to) => {
        this.minimap.veil(from, to);
        this.waterfall.from = from;
        this.waterfall.to = to;
        this.keepSoon();
      },
    });
  }

  async copyText() {
    const answer = await fetch(`/trace/${this.tree.columns.trace_id}.md`, { signal: this.signal });
    await copy(await answer.text(), "tree");
  }

  /** Write the state to the address, once it has not changed for a moment. */
  keepSoon() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      if (this.signal.aborted) return;
      const { waterfall, tree } = this;
      const isWhole = waterfall.from <= 0 && waterfall.to >= tree.length;
      keep({
        span: waterfall.picked > 0 || !this.aside.hidden ? tree.id(Math.max(0, waterfall.picked)) : null,
        time: isWhole ? null : `${Math.round(waterfall.from)}-${Math.round(waterfall.to)}`,
        fold: [...waterfall.closed].slice(0, 50).map((row) => tree.id(row)).join(",") || null,
        view: this.flame ? "flame" : null,
      });
    }, KEEP_MS);
  }

  /** @param {KeyboardEvent} event */
  press(event) {
    const { waterfall, tree } = this, { entries, picked } = waterfall;
    const at = entries.indexOf(picked), last = entries.length - 1;
    const page = Math.max(1, Math.floor(waterfall.height / 22) - 2);
    /** @type {Record<string, number>} */
    const moves = { ArrowDown: at + 1, j: at + 1, ArrowUp: at - 1, k: at - 1, Home: 0, End: last, PageDown: at + page, PageUp: at - page };
    if (event.key in moves) this.pick(entries[Math.min(last, Math.max(0, moves[event.key]))], false);
    else if (event.key === "ArrowRight" || event.key === "ArrowLeft") this.turn(picked, event.key === "ArrowRight");
    else if (event.key === "Enter" && picked < 0) this.fold(picked);
    else if (event.key === "Enter") this.pick(picked, true);
    else if (event.key === "e" || event.key === "E") this.jump(this.failures(), event.key === "e" ? 1 : -1);
    else if (event.key === "n" || event.key === "N") this.jump(this.hits, event.key === "n" ? 1 : -1);
    else if (event.key === "z" && picked >= 0) this.zoom(tree.columns.begin[picked], tree.end(picked));
    else if (event.key === "+" || event.key === "-") this.scale(event.key === "+" ? 0.7 : 1 / 0.7);
    else if (event.key === "f") this.toggleFlame();
    else if (event.key === "p") this.togglePath();
    else if (event.key === "c") this.copyText();
    else if (event.key === "y") copy(`${location.origin}/trace/${tree.columns.trace_id}?span=${tree.id(Math.max(0, picked))}`, "link");
    else if (event.key === "Escape") this.escape();
    else return false;
    return true;
  }

  /** Unfold or fold a row, or go to the one above it. @param {number} entry @param {boolean} isOpen */
  turn(entry, isOpen) {
    const { closed, opened } = this.waterfall;
    const isFold = entry < 0, row = isFold ? -entry - 1 : entry;
    const isNow = isFold ? opened.has(row) : this.tree.columns.size[row] > 1 && !closed.has(row);
    if (isNow !== isOpen && (isFold || this.tree.columns.size[row] > 1)) this.fold(entry);
    else if (!isOpen && this.tree.parent[row] >= 0) this.pick(this.tree.parent[row], false);
  }

  /** @param {number} factor */
  scale(factor) {
    const { from, to } = this.waterfall, middle = (from + to) / 2, half = (to - from) / 2 * factor;
    this.zoom(middle - half, middle + half);
  }

  escape() {
    if (!this.aside.hidden) this.closeSpan();
    else this.zoom(0, this.tree.length);
    this.keepSoon();
  }
}

/** Return a level for each row, so that calls at the same time are below each other. @param {Tree} tree */
function findLevels(tree) {
  const levels = new Int32Array(tree.count);
  /** @type {number[]} */
  const ends = [];
  for (let row = 0; row < tree.count; row++) {
    let level = tree.parent[row] < 0 ? 0 : levels[tree.parent[row]] + 1;
    while ((ends[level] ?? -1) > tree.columns.begin[row]) level += 1;
    levels[row] = level;
    ends[level] = tree.end(row);
  }
  return levels;
}

