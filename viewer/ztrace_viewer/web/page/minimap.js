// The whole trace in a strip, drawn once; two veils leave free what is shown below, and a drag selects it.

import { failed } from "./colours.js";
import { make } from "./dom.js";

const LEVELS = 14;

export class Minimap {
  /**
   * @param {import("./tree.js").Tree} tree
   * @param {Map<string, string>} colours by service
   * @param {(from: number, to: number) => void} zoom
   */
  constructor(tree, colours, zoom) {
    this.tree = tree;
    this.fills = tree.columns.calls.map((/** @type {[string, string, string]} */ call) => colours.get(call[0]) ?? "#888");
    this.canvas = make("canvas", { role: "img", "aria-label": "the whole trace; drag to zoom in" });
    this.veils = [make("div", { class: "veil" }), make("div", { class: "veil" })];
    this.element = make("div", { class: "minimap" }, this.canvas, ...this.veils);
    new ResizeObserver(() => this.draw()).observe(this.element);
    this.element.addEventListener("dblclick", () => zoom(0, tree.length));
    this.element.addEventListener("pointerdown", (/** @type {PointerEvent} */ event) => {
      const start = this.find(event);
      const ended = new AbortController();
      this.element.setPointerCapture(event.pointerId);
      const move = (/** @type {PointerEvent} */ each) => {
        const end = this.find(each);
        if (Math.abs(end - start) > tree.length / 400) zoom(Math.min(start, end), Math.max(start, end));
      };
      this.element.addEventListener("pointermove", move, { signal: ended.signal });
      this.element.addEventListener("pointerup", () => ended.abort(), { once: true });
      this.element.addEventListener("pointercancel", () => ended.abort(), { once: true });
    });
  }

  /** Return the time under the pointer. @param {PointerEvent} event */
  find(event) {
    const edge = this.element.getBoundingClientRect();
    return this.tree.length * Math.min(1, Math.max(0, (event.clientX - edge.left) / edge.width));
  }

  draw() {
    const { begin, call, depth } = this.tree.columns;
    const width = this.canvas.width = Math.round(this.element.clientWidth * devicePixelRatio);
    const height = this.canvas.height = Math.round(this.element.clientHeight * devicePixelRatio);
    const ink = this.canvas.getContext("2d"), per = width / this.tree.length, level = height / LEVELS, bad = failed();
    // By pixel columns: of the rows of a level that end in the same column, the first is drawn, and the first that failed.
    const filled = new Int32Array(LEVELS).fill(-1), failures = new Int32Array(LEVELS).fill(-1);
    for (let row = 0; row < this.tree.count; row++) {
      const at = depth[row];
      if (at >= LEVELS) continue;
      const left = begin[row] * per, right = Math.ceil(Math.max(left + 1, this.tree.end(row) * per));
      const isBad = this.tree.isOrigin(row), drawn = isBad ? failures : filled;
      if (right <= drawn[at]) continue;
      drawn[at] = right;
      ink.fillStyle = isBad ? bad : this.fills[call[row]];
      ink.fillRect(left, at * level, right - left, Math.max(1, level - 1));
    }
  }

  /** Leave free a stretch of time. @param {number} from @param {number} to */
  veil(from, to) {
    this.veils[0].style.width = `${100 * from / this.tree.length}%`;
    this.veils[1].style.width = `${100 - 100 * to / this.tree.length}%`;
  }
}
