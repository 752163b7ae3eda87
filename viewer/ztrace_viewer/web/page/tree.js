// A call tree in columns, and which of its rows are in sight. One idea: rows stay numbers; a fold of equal siblings is
// the negative number of its first row.

import { nameCall } from "./format.js";

/** Equal siblings in a row from which on they are folded. */
const EQUAL = 5;
/** Bytes of an id, and letters of its beginning from which on a search takes a text for it. */
const BYTES = 8, LEAST = 4;

export class Tree {
  /** @param {any} columns from /data/trace/ID */
  constructor(columns) {
    /** @type {any} */
    this.columns = columns;
    /** Ids as they are sent, a letter for each of their bytes. */
    this.ids = atob(columns.ids);
    this.count = columns.call.length;
    spread(columns);
    this.names = columns.calls.map((/** @type {[string, string, string]} */ call) => nameCall(...call));
    this.parent = new Int32Array(this.count).fill(-1);
    /** Rows of each fold, by the first of them. @type {Map<number, number[]>} */
    this.folds = new Map();
    /** First row of the fold that a row is in, -1 for none. */
    this.foldOf = new Int32Array(this.count).fill(-1);
    this.length = Math.max(1, columns.duration_ns ?? 0);
    this.connect();
  }

  connect() {
    const { depth, begin, time, call, size, state } = this.columns;
    const way = [];
    for (let row = 0; row < this.count; row++) {
      way.length = depth[row];
      this.parent[row] = way.length ? way[way.length - 1] : -1;
      way.push(row);
      this.length = Math.max(this.length, begin[row] + Math.max(time[row], 0));
    }
    for (let row = 0; row < this.count; row++) {
      const end = row + size[row];
      /** @type {number[]} */
      let run = [];
      for (let child = row + 1; child < end; child += size[child]) {
        const first = run[0];
        const isEqual = run.length && call[child] === call[first] && size[child] === size[first] && state[child] === state[first];
        if (!isEqual) {
          this.fold(run);
          run = [];
        }
        run.push(child);
      }
      this.fold(run);
    }
  }

  /** @param {number[]} run */
  fold(run) {
    if (run.length < EQUAL) return;
    this.folds.set(run[0], run);
    for (const row of run) this.foldOf[row] = run[0];
  }

  /** Return a row's id. @param {number} row */
  id(row) {
    let text = "";
    for (let at = row * BYTES; at < (row + 1) * BYTES; at++) text += this.ids.charCodeAt(at).toString(16).padStart(2, "0");
    return text;
  }

  /** Return the row with an id, -1 for none. @param {string | null} id */
  find(id) {
    if (!id || !/^[0-9a-f]{16}$/.test(id)) return -1;
    const bytes = id.replace(/../g, (each) => String.fromCharCode(parseInt(each, 16)));
    let at = this.ids.indexOf(bytes);
    while (at >= 0 && at % BYTES) at = this.ids.indexOf(bytes, at + 1);
    return at < 0 ? -1 : at / BYTES;
  }

  /** Name a row. @param {number} row */
  name(row) {
    return this.names[this.columns.call[row]];
  }

  /** Whether a row failed by itself, and not by what it called. @param {number} row */
  isOrigin(row) {
    const raised = this.columns.exceptions[row];
    return this.columns.state[row] === 1 && (raised === undefined || raised.origin);
  }

  /** End of a row's bar; an open one goes to the end of the tree. @param {number} row */
  end(row) {
    const { begin, time } = this.columns;
    return time[row] < 0 ? this.length : begin[row] + time[row];
  }

  /**
   * List what is in sight, in the order of drawing.
   * @param {Set<number>} closed rows whose calls are hidden
   * @param {Set<number>} opened first rows of folds that are shown in full
   * @param {Uint8Array | null} wanted rows to show; null for all
   */
  list(closed, opened, wanted) {
    const { size } = this.columns;
    const entries = [];
    for (let row = 0; row < this.count;) {
      if (wanted && !wanted[row]) {
        row += 1;
        continue;
      }
      const run = wanted ? undefined : this.folds.get(row);
      if (run) {
        entries.push(-row - 1);
        if (!opened.has(row)) {
          const last = run[run.length - 1];
          row = last + size[last];
          continue;
        }
      }
      entries.push(row);
      row += closed.has(row) ? size[row] : 1;
    }
    return Int32Array.from(entries);
  }

  /** Unfold all that hides a row. @param {number} row @param {Set<number>} closed @param {Set<number>} opened */
  reveal(row, closed, opened) {
    for (let each = row; each >= 0; each = this.parent[each]) {
      if (this.foldOf[each] >= 0) opened.add(this.foldOf[each]);
      if (each !== row) closed.delete(each);
    }
  }

  /** Rows whose name, error or id has a text. @param {string} text */
  search(text) {
    const wanted = text.trim().toLowerCase();
    if (!wanted) return [];
    const { call, calls, exceptions } = this.columns, isId = wanted.length >= LEAST && /^[0-9a-f]+$/.test(wanted);
    const fitting = this.names.map((/** @type {string} */ name, /** @type {number} */ place) =>
      name.toLowerCase().includes(wanted) || `${calls[place][0]}.${calls[place][1]}`.toLowerCase().includes(wanted));
    const found = [];
    for (let row = 0; row < this.count; row++) {
      const raised = exceptions[row];
      if (fitting[call[row]] || (isId && this.id(row).startsWith(wanted)) || (raised && `${raised.type} ${raised.message}`.toLowerCase().includes(wanted))) found.push(row);
    }
    return found;
  }

  /** Mark rows and all above them. @param {(row: number) => boolean} isWanted */
  mark(isWanted) {
    const marks = new Uint8Array(this.count);
    for (let row = 0; row < this.count; row++) {
      if (!isWanted(row)) continue;
      for (let each = row; each >= 0 && !marks[each]; each = this.parent[each]) marks[each] = 1;
    }
    return marks;
  }
}

/** Compute what need not be sent: begins from the start, states of all rows, and the rows of each subtree. @param {any} columns */
function spread(columns) {
  const { depth, begin, states, services } = columns, count = depth.length;
  columns.calls = columns.calls.map((/** @type {[number, string, string]} */ [service, name, kind]) => [services[service], name, kind]);
  let at = 0;
  columns.begin = Float64Array.from(begin, (/** @type {number} */ step) => (at += step));
  columns.state = new Uint8Array(count);
  for (const [row, state] of Object.entries(states)) columns.state[Number(row)] = state;
  columns.size = new Int32Array(count);
  /** @type {number[]} */
  const way = [];
  for (let row = 0; row <= count; row++) {
    const level = row < count ? depth[row] : 0;
    while (way.length > level) {
      const above = /** @type {number} */ (way.pop());
      columns.size[above] = row - above;
    }
    way.push(row);
  }
}
