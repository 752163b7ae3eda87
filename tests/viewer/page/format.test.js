// Figures as people read them.

import assert from "node:assert/strict";
import { test } from "node:test";

import { formatBytes, formatChange, formatDuration, formatRate, formatShare, nameCall, plural } from "../../../viewer/ztrace_viewer/web/page/format.js";

test("durations have three digits and a unit", () => {
  const wanted = { 0: "0ns", 999: "999ns", 1500: "1.50µs", 12345678: "12.3ms", 754e6: "754ms", 3.2e9: "3.20s", 9e10: "1.50m", 7.2e12: "2.00h" };
  for (const [ns, text] of Object.entries(wanted)) assert.equal(formatDuration(Number(ns)), text);
  assert.equal(formatDuration(null), "–");
  assert.equal(formatChange(2e6), "+2.00ms");
  assert.equal(formatChange(-2e6), "−2.00ms");
});

test("shares, bytes and counts", () => {
  assert.deepEqual([formatShare(0.5), formatShare(0.0123), formatShare(null)], ["50%", "1.2%", "–"]);
  assert.deepEqual([formatBytes(12), formatBytes(2048), formatBytes(3 << 20)], ["12 B", "2.0 kB", "3.1 MB"]);
  assert.deepEqual([plural(1, "span"), plural(1234, "span"), plural(2, "loss")], ["1 span", "1,234 spans", "2 losses"]);
});

test("rates are of the unit with at least one", () => {
  const wanted = [[0, 5, "0/h"], [1, 60, "1.0/h"], [60, 60, "1.0/min"], [218, 2, "1.8/s"], [50, 2, "25/min"], [120000000, 60, "33,333/s"], [7, 0, "–"]];
  for (const [count, minutes, text] of wanted) assert.equal(formatRate(Number(count), Number(minutes)), text);
});

test("calls are named as in the terminal", () => {
  assert.deepEqual(["server", "internal", "client", "producer", "consumer"].map((kind) => nameCall("a", "b", kind)),
    ["a.b", "a.b", "a → b", "a ⇢ b", "a ⇠ b"]);
});
