// Boxes under boxes: a flame graph that hangs down. One idea: boxes of a level are sorted by their left edge, so a view
// finds its first one by halves and stops at its last; what is narrower than a pixel is one stroke.

import { isDark, make } from "./dom.js";

const LEVEL = 20, NARROW = 0.7, LETTER = 6.4;

/**
 * Boxes as columns: left edge, width, level and name of each, and its colour.
 * @typedef {{left: ArrayLike<number>, width: ArrayLike<number>, level: ArrayLike<number>, name: (box: number) => string, fill: (box: number) => string, whole: number}} Boxes
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
    /** @type {number[][]} */
    this.levels = [];
    for (let box = 0; box < boxes.left.length; box++) if (boxes.width[box] > 0) (this.levels[boxes.level[box]] ??= []).push(box);
    for (const level of this.levels) level?.sort((one, other) => boxes.left[one] - boxes.left[other]);
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

  /** Return the place of the first box of a level that ends after a moment. @param {number[]} level @param {number} moment */
  first(level, moment) {
    const { left, width } = this.boxes;
    let low = 0, high = level.length;
    while (low < high) {
      const half = (low + high) >> 1;
      if (left[level[half]] + width[level[half]] <= moment) low = half + 1;
      else high = half;
    }
    return low;
  }

  draw() {
    if (!this.width) return;
    const { left, width, name, fill } = this.boxes;
    const ink = this.canvas.getContext("2d");
    const per = this.width / (this.to - this.from);
    const narrow = isDark() ? "#596270" : "#b6bec8";
    ink.setTransform(devicePixelRatio, 0, 0, devicePixelRatio, 0, 0);
    ink.clearRect(0, 0, this.width, this.height);
    ink.font = "12px system-ui, sans-serif";
    ink.textBaseline = "middle";
    this.levels.forEach((level, depth) => {
      const y = depth * LEVEL;
      let filled = -1;
      for (let place = this.first(level, this.from); place < level.length; place++) {
        const box = level[place];
        if (left[box] >= this.to) break;
        const start = (left[box] - this.from) * per, end = start + width[box] * per;
        if (end - start < NARROW) {
          if (end <= filled) continue;
          filled = Math.floor(start) + 1;
          ink.fillStyle = narrow;
          ink.fillRect(Math.floor(start), y, 1, LEVEL - 1);
          continue;
        }
        const from = Math.max(start, 0), to = Math.min(end, this.width);
        ink.fillStyle = fill(box);
        ink.fillRect(from, y, Math.max(to - from - 0.5, 0.5), LEVEL - 1);
        if (to - from < 30) continue;
        const room = Math.floor((to - from - 6) / LETTER), text = name(box);
        ink.fillStyle = "#000";
        ink.fillText(text.length > room ? `${text.slice(0, Math.max(0, room - 1))}…` : text, from + 3, y + LEVEL / 2);
      }
    });
  }

  /** Return the box at a point, -1 for none. @param {number} x @param {number} y */
  at(x, y) {
    const level = this.levels[Math.floor(y / LEVEL)];
    if (!level) return -1;
    const moment = this.from + x * (this.to - this.from) / this.width;
    const box = level[this.first(level, moment)];
    return box !== undefined && this.boxes.left[box] <= moment ? box : -1;
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
