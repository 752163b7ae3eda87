// Boxes under boxes: a flame graph that hangs down. One idea: boxes of a level are sorted by their left edge, so a view
// finds its first one by halves and stops at its last; boxes that are too narrow to tell apart are one stroke.

import { isDark, make } from "./dom.js";

const LEVEL = 20, NARROW = 1.5, LETTER = 6.4;

/**
 * Boxes as columns: left edge, width, level and name of each, and its colour; an order in which those of each level go
 * from left to right, if one is known.
 * @typedef {{left: ArrayLike<number>, width: ArrayLike<number>, level: ArrayLike<number>, order?: ArrayLike<number>, name: (box: number) => string, fill: (box: number) => string, whole: number}} Boxes
 */

export class Icicle {
  /**
   * @param {Boxes} boxes
   * @param {{label: string, describe: (box: number) => string, pick: (box: number) => void, zoomed?: (from: number, to: number) => void}} told
   */
  constructor(boxes, told) {
    this.boxes = boxes;
    this.told = told;
    this.from = 0;
    this.to = boxes.whole;
    this.width = this.height = 0;
    /** Boxes of each level from left to right, with their edges side by side. @type {{boxes: Int32Array, left: Float64Array, right: Float64Array}[]} */
    this.levels = [];
    /** @type {number[][]} */
    const levels = [];
    for (let place = 0; place < boxes.left.length; place++) {
      const box = boxes.order?.[place] ?? place;
      if (boxes.width[box] > 0) (levels[boxes.level[box]] ??= []).push(box);
    }
    for (const level of levels) {
      if (!boxes.order) level?.sort((one, other) => boxes.left[one] - boxes.left[other]);
      const placed = Int32Array.from(level ?? []), left = new Float64Array(placed.length), right = new Float64Array(placed.length);
      for (let place = 0; place < placed.length; place++) {
        left[place] = boxes.left[placed[place]];
        right[place] = left[place] + boxes.width[placed[place]];
      }
      this.levels.push({ boxes: placed, left, right });
    }
    this.canvas = make("canvas", { role: "img", "aria-label": told.label });
    this.tip = make("div", { class: "tip", hidden: true });
    this.holder = make("div", { class: "icicle", style: { height: `${this.levels.length * LEVEL + 4}px` } }, this.canvas);
    this.element = make("div", { class: "flame" }, this.holder, this.tip);
    new ResizeObserver(() => this.measure()).observe(this.holder);
    this.canvas.addEventListener("wheel", (/** @type {WheelEvent} */ event) => this.turn(event), { passive: false });
    this.canvas.addEventListener("pointermove", (/** @type {PointerEvent} */ event) => this.point(event));
    this.canvas.addEventListener("pointerleave", () => { this.tip.hidden = true; });
    this.canvas.addEventListener("click", (/** @type {MouseEvent} */ event) => {
      const box = this.at(event.offsetX, event.offsetY);
      if (box >= 0) told.pick(box);
    });
    this.canvas.addEventListener("dblclick", () => this.setTime(0, boxes.whole));
  }

  /** Show a stretch. @param {number} from @param {number} to */
  setTime(from, to) {
    const span = Math.min(this.boxes.whole, Math.max(to - from, this.boxes.whole / 1e7));
    this.from = Math.min(Math.max(0, from), this.boxes.whole - span);
    this.to = this.from + span;
    this.told.zoomed?.(this.from, this.to);
    if (this.isWaiting) return;
    this.isWaiting = true;
    requestAnimationFrame(() => {
      this.isWaiting = false;
      this.draw();
    });
  }

  measure() {
    this.width = this.holder.clientWidth;
    this.height = this.holder.clientHeight;
    this.canvas.width = Math.round(this.width * devicePixelRatio);
    this.canvas.height = Math.round(this.height * devicePixelRatio);
    this.draw();
  }

  /** Return the place of the first box that ends after a moment, of a level's right edges. @param {Float64Array} right @param {number} moment */
  first(right, moment) {
    let low = 0, high = right.length;
    while (low < high) {
      const half = (low + high) >> 1;
      if (right[half] <= moment) low = half + 1;
      else high = half;
    }
    return low;
  }

  draw() {
    if (!this.width) return;
    const { name, fill } = this.boxes, { from: begin, to: stop } = this;
    const ink = this.canvas.getContext("2d");
    const per = this.width / (this.to - this.from);
    const narrow = isDark() ? "#596270" : "#b6bec8";
    ink.setTransform(devicePixelRatio, 0, 0, devicePixelRatio, 0, 0);
    ink.clearRect(0, 0, this.width, this.height);
    ink.font = "12px system-ui, sans-serif";
    ink.textBaseline = "middle";
    this.levels.forEach(({ boxes, left, right }, depth) => {
      const y = depth * LEVEL;
      // Narrow boxes that follow each other are one stroke.
      let begun = 0, filled = -1;
      const stroke = () => {
        if (filled < 0) return;
        ink.fillStyle = narrow;
        ink.fillRect(begun, y, filled - begun, LEVEL - 1);
        filled = -1;
      };
      for (let place = this.first(right, begin); place < boxes.length && left[place] < stop; place++) {
        const start = (left[place] - begin) * per, end = (right[place] - begin) * per;
        if (end - start < NARROW) {
          if (end <= filled) continue;
          const at = Math.floor(start);
          if (at > filled) {
            stroke();
            begun = at;
          }
          filled = Math.max(at + 1, Math.floor(end));
          continue;
        }
        const from = Math.max(start, 0), to = Math.min(end, this.width);
        const box = boxes[place];
        ink.fillStyle = fill(box);
        ink.fillRect(from, y, Math.max(to - from - 0.5, 0.5), LEVEL - 1);
        if (to - from < 30) continue;
        const room = Math.floor((to - from - 6) / LETTER), text = name(box);
        ink.fillStyle = "#000";
        ink.fillText(text.length > room ? `${text.slice(0, Math.max(0, room - 1))}…` : text, from + 3, y + LEVEL / 2);
      }
      stroke();
    });
  }

  /** Return the box at a point, -1 for none. @param {number} x @param {number} y */
  at(x, y) {
    const level = this.levels[Math.floor(y / LEVEL)];
    if (!level) return -1;
    const moment = this.from + x * (this.to - this.from) / this.width, place = this.first(level.right, moment);
    return level.left[place] <= moment ? level.boxes[place] : -1;
  }

  /** @param {PointerEvent} event */
  point(event) {
    const box = this.at(event.offsetX, event.offsetY);
    this.tip.hidden = box < 0;
    if (box < 0) return;
    this.tip.textContent = this.told.describe(box);
    this.tip.style.left = `${Math.min(event.clientX + 14, innerWidth - this.tip.offsetWidth - 8)}px`;
    this.tip.style.top = `${Math.min(event.clientY + 14, innerHeight - this.tip.offsetHeight - 8)}px`;
  }

  /** @param {WheelEvent} event */
  turn(event) {
    if (!event.ctrlKey && !event.shiftKey) return;
    event.preventDefault();
    const span = this.to - this.from;
    if (event.shiftKey) {
      const move = (event.deltaX || event.deltaY) * span / this.width;
      this.setTime(this.from + move, this.to + move);
    } else {
      const at = this.from + span * event.offsetX / this.width, factor = event.deltaY > 0 ? 1.25 : 0.8;
      this.setTime(at - (at - this.from) * factor, at + (this.to - at) * factor);
    }
  }
}

/**
 * Place a box for each path below that of its caller, the widest first. Callers come before what they call, so sums go
 * backwards and places forwards.
 * @param {number[]} caller @param {number[]} own
 */
export function placeBoxes(caller, own) {
  const count = own.length, width = Float64Array.from(own), left = new Float64Array(count), level = new Int32Array(count);
  for (let box = count - 1; box > 0; box--) width[caller[box]] += width[box];
  // The calls below each path stand together, from its place in `first` to that of the next path.
  const first = new Int32Array(count + 1), below = new Int32Array(count);
  for (let box = 1; box < count; box++) first[caller[box] + 1] += 1;
  for (let box = 0; box < count; box++) first[box + 1] += first[box];
  const free = first.slice();
  for (let box = 1; box < count; box++) below[free[caller[box]]++] = box;
  const order = new Int32Array(count);
  for (let place = 0, end = 1; place < count; place++) {
    const box = order[place], children = below.subarray(first[box], first[box + 1]);
    if (children.length > 1) children.sort((one, other) => width[other] - width[one]);
    let at = left[box];
    for (const child of children) {
      left[child] = at;
      level[child] = level[box] + 1;
      at += width[child];
      order[end++] = child;
    }
  }
  return { left, width, level, order };
}
