// A colour for each service. One idea: colours go by the place in the sorted list, so that no two are alike.

import { isDark } from "./dom.js";

/** Hues near red are for what has failed; the golden section of the others keeps neighbours apart. */
const FIRST = 65, HUES = 275, STEP = HUES * 0.381966;

/** Return the colours of names. @param {readonly string[]} names @returns {Map<string, string>} */
export function colour(names) {
  const [lightness, chroma] = isDark() ? [0.68, 0.12] : [0.62, 0.13];
  return new Map([...new Set(names)].sort().map((name, place) => [
    name, `oklch(${lightness} ${chroma} ${Math.round(FIRST + (185 + place * STEP) % HUES)})`,
  ]));
}

/** Return the colour of what has failed. */
export const failed = () => (isDark() ? "#ff6b6b" : "#d92d20");
