// Links from frames to the editor.

import assert from "node:assert/strict";
import { test } from "node:test";

import { findLine } from "../../../viewer/ztrace_viewer/web/page/editor.js";

test("a line has the editor's URL, and names from elsewhere are encoded", () => {
  const url = "vscode://file/{file}:{line}";
  assert.equal(findLine("/srv/a b/shop.py", 7, url), "vscode://file//srv/a%20b/shop.py:7");
  assert.equal(findLine("/srv/{line}$&?#", 7, url), "vscode://file//srv/%7Bline%7D%24%26%3F%23:7");
});

test("without an editor, and without the whole path, there is no link", () => {
  assert.equal(findLine("/srv/shop.py", 7, null), null);
  assert.equal(findLine("<string>", 7, "code:{file}"), null);
});
