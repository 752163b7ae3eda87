// Who calls whom. One idea: services stand in columns by their distance from those that nobody calls, so calls go right.

import { ask, link, query } from "./ask.js";
import { fill, make } from "./dom.js";
import { formatCount, formatDuration, formatRate, formatShare, plural } from "./format.js";
import { makeTable } from "./table.js";

const NS = "http://www.w3.org/2000/svg";
const WIDTH = 190, HEIGHT = 46, ACROSS = 255, DOWN = 70, EDGE = 12;

/** @param {import("./page.js").View} view */
export async function showMap({ main, signal }) {
  const kept = query();
  const map = await ask("map", { since: kept.get("since"), until: kept.get("until"), service: kept.get("service") }, signal);
  main.className = "list";
  if (!map.services.length) {
    fill(main, make("p", { class: "nothing", text: "no call trees: choose a longer time; a tree counts ten seconds after its last span" }));
    return;
  }
  const columns = [
    { title: "Calls", isNumber: true, key: (/** @type {any} */ row) => row.calls, cell: (/** @type {any} */ row) => formatCount(row.calls) },
    { title: "Rate", isNumber: true, key: (/** @type {any} */ row) => row.calls, cell: (/** @type {any} */ row) => formatRate(row.calls, map.minutes) },
    { title: "Errors", isNumber: true, key: (/** @type {any} */ row) => row.errors, cell: (/** @type {any} */ row) => (row.errors ? make("span", { class: "bad", title: formatShare(row.errors / row.calls), text: formatCount(row.errors) }) : "") },
    { title: "p95", isNumber: true, key: (/** @type {any} */ row) => row.p95_ns ?? -1, cell: (/** @type {any} */ row) => formatDuration(row.p95_ns) },
  ];
  fill(main,
    make("div", { class: "map" }, drawMap(map)),
    make("h2", { text: "Calls" }),
    makeTable("calls between services", map.calls, [{ title: "From", cell: (row) => `${row.from} → ${row.to}` }, ...columns], (row) => link("/map", { service: row.to })),
    make("h2", { text: "Services" }),
    makeTable("services", map.services, [{ title: "Service", cell: (row) => row.service }, ...columns], (row) => link("/stats", { service: row.service })));
}

/** @param {any} map */
function drawMap(map) {
  const places = placeServices(map);
  const deepest = Math.max(...[...places.values()].map((each) => each.column)), most = Math.max(...[...places.values()].map((each) => each.row));
  const svg = draw("svg", { width: deepest * ACROSS + WIDTH + 2 * EDGE, height: (most + 1) * DOWN + EDGE, role: "group", "aria-label": "map of services; the tables below have the same figures" });
  const busiest = Math.max(1, ...map.calls.map((/** @type {any} */ each) => each.calls));
  for (const each of map.calls) {
    const from = places.get(each.from), to = places.get(each.to);
    if (!from || !to || each.from === each.to) continue;
    const [x0, y0, x1, y1] = [from.column * ACROSS + EDGE + WIDTH, from.row * DOWN + EDGE + HEIGHT / 2, to.column * ACROSS + EDGE, to.row * DOWN + EDGE + HEIGHT / 2];
    const bend = Math.max(40, Math.abs(x1 - x0) / 2);
    const path = draw("path", { d: `M${x0} ${y0}C${x0 + bend} ${y0} ${x1 - bend} ${y1} ${x1} ${y1}`, "stroke-width": 1 + 5 * Math.sqrt(each.calls / busiest), class: each.errors ? "bad" : "", opacity: 0.8 });
    path.append(draw("title", {}, `${each.from} → ${each.to}: ${plural(each.calls, "call")}, ${formatRate(each.calls, map.minutes)}, ${formatCount(each.errors)} failed, p95 ${formatDuration(each.p95_ns)}`));
    svg.append(path);
  }
  for (const each of map.services) {
    const place = places.get(each.service);
    if (!place) continue;
    const [x, y] = [place.column * ACROSS + EDGE, place.row * DOWN + EDGE];
    const box = draw("a", { href: link("/stats", { service: each.service }) });
    const shown = each.service.length > 22 ? `${each.service.slice(0, 21)}…` : each.service;
    box.append(draw("title", {}, each.service), draw("rect", { x, y, width: WIDTH, height: HEIGHT, rx: 6 }),
      draw("text", { x: x + 10, y: y + 19 }, shown),
      draw("text", { x: x + 10, y: y + 36, class: "soft" }, `${formatRate(each.calls, map.minutes)} · p95 ${formatDuration(each.p95_ns)}${each.errors ? ` · ${formatShare(each.errors / each.calls)} failed` : ""}`));
    svg.append(box);
  }
  return svg;
}

/** Place services: columns by the longest way from a first one, circles cut; rows by the place of their callers. @param {any} map */
function placeServices(map) {
  /** @type {Map<string, string[]>} */
  const callees = new Map(map.services.map((/** @type {any} */ each) => [each.service, []]));
  const called = new Set();
  for (const { from, to } of map.calls) {
    if (from === to || !callees.has(from) || !callees.has(to)) continue;
    callees.get(from)?.push(to);
    called.add(to);
  }
  /** @type {Map<string, number>} */
  const columns = new Map();
  const first = [...callees.keys()].filter((name) => !called.has(name));
  const pending = (first.length ? first : [...callees.keys()].slice(0, 1)).map((name) => ({ name, way: [name] }));
  // A service may be reached in several ways: the longest counts, and no more steps are taken than there could be.
  for (let steps = 0; pending.length && steps < 20000; steps++) {
    const { name, way } = /** @type {{name: string, way: string[]}} */ (pending.shift());
    if ((columns.get(name) ?? -1) >= way.length - 1) continue;
    columns.set(name, way.length - 1);
    for (const to of callees.get(name) ?? []) if (!way.includes(to)) pending.push({ name: to, way: [...way, to] });
  }
  for (const name of callees.keys()) if (!columns.has(name)) columns.set(name, 0);
  /** @type {Map<string, {column: number, row: number}>} */
  const places = new Map();
  for (let column = 0; column <= Math.max(...columns.values()); column++) {
    const names = [...columns].filter(([, each]) => each === column).map(([name]) => name);
    const height = (/** @type {string} */ name) => {
      const callers = map.calls.filter((/** @type {any} */ each) => each.to === name && places.has(each.from));
      return callers.length ? callers.reduce((/** @type {number} */ sum, /** @type {any} */ each) => sum + (places.get(each.from)?.row ?? 0), 0) / callers.length : 0;
    };
    names.sort((one, other) => height(one) - height(other) || (one < other ? -1 : 1));
    names.forEach((name, row) => places.set(name, { column, row }));
  }
  return places;
}

/** Make an element of SVG. @param {string} tag @param {Record<string, string | number>} attributes @param {string} text */
function draw(tag, attributes, text = "") {
  const element = document.createElementNS(NS, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, String(value));
  if (text) element.textContent = text;
  return element;
}
