// Rows of a call tree on one time scale. One idea: only what is in sight has elements, text as rows that can be
// selected and read aloud, bars as one canvas.

import { failed } from "./colours.js";
import { isDark, make } from "./dom.js";
import { formatDuration } from "./format.js";

export const ROW = 22;
const SPARE = 6;
/** Children whose gaps are drawn; beyond, a bar is one block. */
const GAPS = 2000;
const INDENT = 12, DEEPEST = 24;

export class Waterfall {
  /**
   * @param {import("./tree.js").Tree} tree
   * @param {Map<string, string>} colours by service
   * @param {{pick: (row: number) => void, fold: (entry: number) => void, zoom: (from: number, to: number) => void}} told
   */
  constructor(tree, colours, told) {
    this.tree = tree;
    this.told = told;
    this.fills = tree.columns.calls.map((/** @type {[string, string, string]} */ call) => colours.get(call[0]) ?? "#888");
    this.from = 0;
    this.to = tree.length;
    /** @type {Int32Array} */
    this.entries = new Int32Array();
    this.picked = 0;
    /** @type {Set<number>} */
    this.closed = new Set();
    /** @type {Set<number>} */
    this.opened = new Set();
    /** @type {Set<number>} */
    this.hits = new Set();
    this.version = 0;
    /** @type {any[]} */
    this.pool = [];
    this.height = this.width = 0;
    this.bars = make("canvas", { class: "bars" });
    this.paper = make("div", { class: "paper" });
    this.axis = make("div", { class: "axis", "aria-hidden": "true" });
    this.rows = make("div", { class: "rows", tabindex: "0", role: "treegrid", "aria-label": "calls", "aria-colcount": "3" }, make("div", { class: "sheet", role: "presentation" }, this.bars), this.paper);
    this.paper.setAttribute("role", "rowgroup");
    this.element = make("div", { class: "waterfall" }, this.axis, this.rows);
    this.rows.addEventListener("scroll", () => this.later(), { passive: true });
    this.rows.addEventListener("click", (/** @type {MouseEvent} */ event) => this.click(event));
    this.rows.addEventListener("wheel", (/** @type {WheelEvent} */ event) => this.turn(event), { passive: false });
    new ResizeObserver(() => this.measure()).observe(this.rows);
  }

  /** Show other entries. @param {Int32Array} entries */
  show(entries) {
    this.entries = entries;
    this.version += 1;
    this.paper.style.height = `${entries.length * ROW}px`;
    this.rows.setAttribute("aria-rowcount", String(entries.length));
    this.draw();
  }

  /** Show another stretch of time. @param {number} from @param {number} to */
  setTime(from, to) {
    this.from = from;
    this.to = to;
    this.later();
  }

  /** Bring an entry into sight. @param {number} place */
  scrollTo(place) {
    const top = place * ROW;
    if (top < this.rows.scrollTop) this.rows.scrollTop = top;
    else if (top + 2 * ROW > this.rows.scrollTop + this.height) this.rows.scrollTop = top + 2 * ROW - this.height;
    this.draw();
  }

  measure() {
    this.height = this.rows.clientHeight;
    this.width = Math.max(50, this.rows.clientWidth - this.bars.offsetLeft - 12);
    this.bars.width = Math.round(this.width * devicePixelRatio);
    this.bars.height = Math.round(this.height * devicePixelRatio);
    this.bars.style.width = `${this.width}px`;
    this.bars.style.height = `${this.height}px`;
    this.draw();
  }

  later() {
    if (this.isWaiting) return;
    this.isWaiting = true;
    requestAnimationFrame(() => {
      this.isWaiting = false;
      this.draw();
    });
  }

  draw() {
    if (!this.height) return;
    const first = Math.max(0, Math.floor(this.rows.scrollTop / ROW) - SPARE);
    const last = Math.min(this.entries.length, Math.ceil((this.rows.scrollTop + this.height) / ROW) + SPARE);
    for (let place = first; place < last; place++) this.place(place);
    for (const element of this.pool) if (element && (element.place < first || element.place >= last)) element.hidden = true;
    this.drawBars(first, last);
    this.drawAxis();
  }

  /** Put an element of the pool at an entry. @param {number} place */
  place(place) {
    const slot = place % (Math.ceil(this.height / ROW) + 2 * SPARE + 2);
    const element = this.pool[slot] ?? (this.pool[slot] = this.add());
    const entry = this.entries[place];
    const isPicked = entry === this.picked;
    if (element.place === place && element.version === this.version && element.isPicked === isPicked && !element.hidden) return;
    Object.assign(element, { place, entry, version: this.version, isPicked, hidden: false });
    const { columns, folds } = this.tree;
    const isFold = entry < 0, row = isFold ? -entry - 1 : entry;
    const [name, time, own] = element.children;
    const run = isFold ? folds.get(row) ?? [] : [];
    const hasMore = isFold || columns.size[row] > 1;
    const isOpen = isFold ? this.opened.has(row) : !this.closed.has(row);
    element.style.transform = `translateY(${place * ROW}px)`;
    element.id = `row-${entry}`;
    element.ariaRowIndex = String(place + 1);
    element.ariaLevel = String(columns.depth[row] + 1);
    element.ariaSelected = String(isPicked);
    if (hasMore) element.ariaExpanded = String(isOpen);
    else element.removeAttribute("aria-expanded");
    name.style.paddingLeft = `${Math.min(columns.depth[row], DEEPEST) * INDENT}px`;
    name.dataset.fold = hasMore ? (isOpen ? "▾" : "▸") : "";
    const deep = columns.depth[row] > DEEPEST ? `${columns.depth[row]}↳ ` : "";
    const raised = columns.exceptions[row];
    name.textContent = deep + (isFold ? `${this.tree.name(row)} ×${run.length}` : this.tree.name(row))
      + (raised?.origin && !isFold ? `  ${raised.type.slice(raised.type.lastIndexOf(".") + 1)}: ${raised.message}` : "");
    time.textContent = isFold ? formatDuration(sum(run, columns.time)) : columns.time[row] < 0 ? "unfinished" : formatDuration(columns.time[row]);
    own.textContent = isFold ? formatDuration(sum(run, columns.own)) : formatDuration(columns.own[row]);
    element.className = ["row", columns.state[row] === 1 ? "bad" : "", isFold ? "fold" : "", this.hits.has(row) && !isFold ? "hit" : "", columns.critical[row] > 0 ? "critical" : ""].filter(Boolean).join(" ");
    if (isPicked) this.rows.setAttribute("aria-activedescendant", element.id);
  }

  add() {
    const element = make("div", { class: "row", role: "row" }, ...["name", "time", "own"].map((part) => make("span", { class: part, role: "gridcell" })));
    this.paper.append(element);
    return element;
  }

  /** @param {number} first @param {number} last */
  drawBars(first, last) {
    const { columns, folds } = this.tree;
    const ink = /** @type {CanvasRenderingContext2D} */ (this.bars.getContext("2d"));
    ink.setTransform(devicePixelRatio, 0, 0, devicePixelRatio, 0, 0);
    ink.clearRect(0, 0, this.width, this.height);
    const bad = failed(), path = isDark() ? "#fff" : "#111", picked = isDark() ? "#ffffff14" : "#0000000d";
    for (let place = first; place < last; place++) {
      const entry = this.entries[place], row = entry < 0 ? -entry - 1 : entry;
      const y = place * ROW - this.rows.scrollTop;
      if (entry === this.picked) {
        ink.fillStyle = picked;
        ink.fillRect(0, y, this.width, ROW);
      }
      ink.fillStyle = this.tree.isOrigin(row) ? bad : this.fills[columns.call[row]];
      for (const each of entry < 0 ? folds.get(row) ?? [] : [row]) this.drawBar(ink, each, y);
      if (entry >= 0 && columns.critical[row] > 0) {
        ink.fillStyle = path;
        this.fill(ink, columns.begin[row], this.tree.end(row), y + ROW - 3, 1);
      }
    }
  }

  /** Draw a bar: own time high, waits for the calls below it low. @param {CanvasRenderingContext2D} ink @param {number} row @param {number} y */
  drawBar(ink, row, y) {
    const { begin, size, time } = this.tree.columns;
    const start = begin[row], end = this.tree.end(row);
    if (end < this.from || start > this.to) return;
    ink.globalAlpha = time[row] < 0 ? 0.25 : 0.45;
    this.fill(ink, start, end, y + 9, 4);
    ink.globalAlpha = time[row] < 0 ? 0.5 : 1;
    let from = start, left = GAPS;
    const last = row + size[row];
    for (let child = row + 1; child < last && left; child += size[child], left--) {
      if (begin[child] > from) this.fill(ink, from, Math.min(begin[child], end), y + 4, ROW - 8);
      from = Math.max(from, this.tree.end(child));
    }
    if (from < end || last === row + 1) this.fill(ink, from, end, y + 4, ROW - 8);
    ink.globalAlpha = 1;
  }

  /** Fill a stretch of time. @param {CanvasRenderingContext2D} ink @param {number} from @param {number} to @param {number} y @param {number} height */
  fill(ink, from, to, y, height) {
    const per = this.width / (this.to - this.from);
    const left = Math.max(0, (from - this.from) * per), right = Math.min(this.width, (to - this.from) * per);
    if (right >= 0 && left <= this.width) ink.fillRect(left, y, Math.max(right - left, 1), height);
  }

  drawAxis() {
    const step = findStep((this.to - this.from) * 90 / this.width);
    const marks = [];
    for (let at = Math.ceil(this.from / step) * step; at <= this.to && marks.length < 50; at += step) {
      marks.push(make("span", { text: at ? formatDuration(at) : "0", style: { left: `${(at - this.from) * this.width / (this.to - this.from)}px` } }));
    }
    this.axis.replaceChildren(...marks);
  }

  /** @param {MouseEvent} event */
  click(event) {
    const element = event.target instanceof Element ? /** @type {any} */ (event.target.closest(".row")) : null;
    if (!element) return;
    const row = element.entry < 0 ? -element.entry - 1 : element.entry;
    const mark = (Math.min(this.tree.columns.depth[row], DEEPEST) + 1) * INDENT + 24;
    if (element.entry < 0 || (element.ariaExpanded && event.clientX - element.getBoundingClientRect().left < mark)) this.told.fold(element.entry);
    else this.told.pick(row);
  }

  /** Zoom by the wheel and Ctrl; shift and the wheel move. @param {WheelEvent} event */
  turn(event) {
    const span = this.to - this.from;
    if (event.ctrlKey) {
      event.preventDefault();
      const edge = this.bars.getBoundingClientRect();
      const at = this.from + span * Math.min(1, Math.max(0, (event.clientX - edge.left) / edge.width));
      const factor = event.deltaY > 0 ? 1.25 : 0.8;
      this.told.zoom(at - (at - this.from) * factor, at + (this.to - at) * factor);
    } else if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
      event.preventDefault();
      const move = (event.deltaX || event.deltaY) * span / this.width;
      this.told.zoom(this.from + move, this.to + move);
    }
  }
}

/** @param {number[]} rows @param {number[]} values */
const sum = (rows, values) => rows.reduce((all, row) => all + Math.max(0, values[row]), 0);

/** Return the next step of 1, 2, 5, 10… that is at least as long. @param {number} least */
function findStep(least) {
  const power = 10 ** Math.floor(Math.log10(Math.max(1, least)));
  return [1, 2, 5, 10].map((each) => each * power).find((each) => each >= least) ?? 10 * power;
}

