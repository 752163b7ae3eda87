// Places of the boxes of a profile: below their callers, the widest first, side by side.

import assert from "node:assert/strict";
import { test } from "node:test";

import { placeBoxes } from "../../../viewer/ztrace_viewer/web/page/icicle.js";

test("boxes are as wide as all below them, and the widest comes first", () => {
  // Two roots below the whole: 1 with 3 and 4 below it, and 2, which is wider.
  const { width, left, level, order } = placeBoxes([0, 0, 0, 1, 1], [0, 5, 30, 1, 9]);
  assert.deepEqual([...width], [45, 15, 30, 1, 9]);
  assert.deepEqual([...left], [0, 30, 0, 39, 30]);
  assert.deepEqual([...level], [0, 1, 1, 2, 2]);
  assert.deepEqual([...order], [0, 2, 1, 4, 3]);
});

test("boxes of a level do not overlap, and are ordered from left to right", () => {
  const caller = [0], own = [0];
  for (let box = 1; box < 500; box++) {
    caller.push(Math.floor(box * ((box * 7919) % 97) / 97));
    own.push((box * 31) % 17);
  }
  const { width, left, level, order } = placeBoxes(caller, own);
  /** @type {number[]} */
  const ends = [];
  for (const box of order) {
    assert.ok(left[box] >= (ends[level[box]] ?? 0));
    ends[level[box]] = left[box] + width[box];
    if (box) assert.ok(left[box] >= left[caller[box]] && ends[level[box]] <= left[caller[box]] + width[caller[box]]);
  }
  assert.deepEqual([...order].sort((one, other) => one - other), caller.map((_, box) => box));
});

test("nothing has the whole alone", () => {
  assert.deepEqual([...placeBoxes([0], [0]).order], [0]);
});
