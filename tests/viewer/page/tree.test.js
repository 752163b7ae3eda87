// Rows of a tree that are in sight: folds of equal siblings, closed rows, searches.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Tree } from "../../../viewer/ztrace_viewer/web/page/tree.js";

/** First bytes of each id. */
const IDS = [0xfe, 0xdc, 0, 0, 0, 0, 1];

/** Make a tree from depths; each row is a call of its letter. @param {[number, string][]} rows */
function grow(rows) {
  const names = [...new Set(rows.map(([, name]) => name))];
  return new Tree({
    services: ["shop"], calls: names.map((name) => [0, name, "server"]), call: rows.map(([, name]) => names.indexOf(name)),
    depth: rows.map(([depth]) => depth), begin: rows.map((_, row) => Math.min(row, 1)), time: rows.map(() => 10), own: rows.map(() => 1),
    critical: rows.map(() => 0), states: {}, ids: btoa(rows.map((_, row) => String.fromCharCode(...IDS, row)).join("")), exceptions: {}, duration_ns: 100,
  });
}

const NONE = new Set();
const SHOP = /** @type {[number, string][]} */ ([[0, "a"], [1, "b"], [2, "c"], [1, "d"], [1, "e"], [1, "e"], [1, "e"], [1, "e"], [1, "e"], [1, "f"]]);

test("rows are in the order of the tree, and five equal siblings are one fold", () => {
  const tree = grow(SHOP);
  assert.deepEqual([...tree.list(NONE, NONE, null)], [0, 1, 2, 3, -5, 9]);
  assert.deepEqual([...tree.parent], [-1, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
});

test("an open fold has its rows below it, and a closed row hides those below it", () => {
  const tree = grow(SHOP);
  assert.deepEqual([...tree.list(NONE, new Set([4]), null)], [0, 1, 2, 3, -5, 4, 5, 6, 7, 8, 9]);
  assert.deepEqual([...tree.list(new Set([1]), NONE, null)], [0, 1, 3, -5, 9]);
  assert.deepEqual([...tree.list(new Set([0]), NONE, null)], [0]);
});

test("four equal siblings are no fold, nor are those of different subtrees", () => {
  assert.deepEqual([...grow([[0, "a"], [1, "b"], [1, "b"], [1, "b"], [1, "b"]]).list(NONE, NONE, null)], [0, 1, 2, 3, 4]);
  const mixed = grow([[0, "a"], [1, "b"], [1, "b"], [2, "c"], [1, "b"], [1, "b"], [1, "b"]]);
  assert.deepEqual([...mixed.list(NONE, NONE, null)], [0, 1, 2, 3, 4, 5, 6]);
});

test("a row is revealed in its fold and below its callers", () => {
  const tree = grow(SHOP), closed = new Set([0, 3]), opened = new Set();
  tree.reveal(6, closed, opened);
  assert.deepEqual([[...closed], [...opened]], [[3], [4]]);
  assert.ok([...tree.list(closed, opened, null)].includes(6));
});

test("a search finds names, ids and errors, and marks lead to them", () => {
  const tree = grow(SHOP);
  tree.columns.exceptions = { 2: { type: "shop.Declined", message: "No Money" } };
  assert.deepEqual(tree.search("SHOP.E"), [4, 5, 6, 7, 8]);
  assert.deepEqual(tree.search("money"), [2]);
  assert.deepEqual(tree.search("fedc000000000109"), [9]);
  assert.deepEqual(tree.search("fed"), []);
  assert.deepEqual(tree.search("  "), []);
  const marks = tree.mark((row) => row === 2);
  assert.deepEqual([...tree.list(NONE, NONE, marks)], [0, 1, 2]);
});

test("what is not sent is computed", () => {
  const tree = grow(SHOP);
  assert.deepEqual([...tree.columns.size], [10, 2, 1, 1, 1, 1, 1, 1, 1, 1]);
  assert.deepEqual([...tree.columns.begin], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
  assert.deepEqual([...grow([[0, "a"], [1, "b"], [2, "c"], [0, "d"], [1, "e"]]).columns.size], [3, 2, 1, 2, 1]);
});

test("a row has its id, and an id its row", () => {
  const tree = grow(SHOP);
  assert.equal(tree.id(9), "fedc000000000109");
  for (let row = 0; row < tree.count; row++) assert.equal(tree.find(tree.id(row)), row);
  // The end of one id and the begin of the next are none.
  for (const id of ["0109fedc00000000", "00fedc0000000001", "fedc0000000001ff", "fedc", "", null]) assert.equal(tree.find(id), -1);
});

test("an open call lasts to the end of the tree", () => {
  const tree = grow([[0, "a"], [1, "b"]]);
  tree.columns.time[1] = -1;
  assert.equal(tree.end(1), tree.length);
});
