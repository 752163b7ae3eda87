// Links from frames to the editor, if the server was started with ZTRACE_EDITOR.

import { ask } from "./ask.js";

/** URL of a line, where {file} and {line} stand for them. @type {string | null} */
let template = null;
/** @type {Promise<void> | null} */
let asked = null;

/** Read the editor's URL, once. */
export const readEditor = () => (asked ??= ask("editor").then((found) => { template = found.template; }).catch(() => {}));

/** Return the URL of a line in the editor, null if none is known. @param {string} file @param {number} line @param {string | null} url */
export function findLine(file, line, url = template) {
  if (!url || !file.startsWith("/")) return null;
  const path = file.split("/").map(encodeURIComponent).join("/");
  return url.replaceAll("{file}", () => path).replaceAll("{line}", String(line));
}
