// Tables of links. One idea: each row is one link, so that the keyboard, the mouse and a new tab work as everywhere.

import { make } from "./dom.js";

/**
 * A column: its title, the text or node of a row, and whether it has figures.
 * @typedef {{title: string, cell: (row: any) => Node | string, isNumber?: boolean, hint?: string, key?: (row: any) => number | string}} Column
 */

/**
 * Make a table; a click on a title with a key sorts by it.
 * @param {string} label
 * @param {readonly any[]} rows
 * @param {readonly Column[]} columns
 * @param {((row: any) => string) | null} address of a row
 */
export function makeTable(label, rows, columns, address = null) {
  const body = make("tbody");
  let sorted = -1, isUp = false;
  const heads = columns.map((column, place) => {
    const head = make("th", { scope: "col", class: column.isNumber ? "number" : null, title: column.hint });
    if (!column.key) head.textContent = column.title;
    else head.append(make("button", { type: "button", text: column.title, on: { click: () => sort(place) } }));
    return head;
  });

  /** @param {number} place */
  function sort(place) {
    isUp = sorted === place ? !isUp : !columns[place].isNumber;
    sorted = place;
    heads.forEach((head, each) => {
      if (each === place) head.ariaSort = isUp ? "ascending" : "descending";
      else head.removeAttribute("aria-sort");
    });
    const key = columns[place].key ?? (() => 0);
    const order = [...rows].sort((one, other) => {
      const [a, b] = [key(one), key(other)];
      return (a < b ? -1 : a > b ? 1 : 0) * (isUp ? 1 : -1);
    });
    fill(order);
  }

  /** @param {readonly any[]} order */
  function fill(order) {
    body.replaceChildren(...order.map((row) => {
      const cells = columns.map((column, place) => {
        const content = column.cell(row);
        const cell = make("td", { class: column.isNumber ? "number" : null });
        if (place === 0 && address) cell.append(make("a", { href: address(row), class: "row" }, content));
        else cell.append(content);
        return cell;
      });
      return make("tr", {}, ...cells);
    }));
  }

  fill(rows);
  return make("table", { "aria-label": label }, make("thead", {}, make("tr", {}, ...heads)), body);
}

/** Move the focus between the links of rows. @param {Element} root @param {number} step */
export function moveFocus(root, step) {
  const links = /** @type {HTMLElement[]} */ ([...root.querySelectorAll("a.row")]);
  if (!links.length) return;
  const at = links.findIndex((each) => each === document.activeElement);
  const to = at < 0 ? (step > 0 ? 0 : links.length - 1) : Math.min(links.length - 1, Math.max(0, at + step));
  links[to].focus();
}
