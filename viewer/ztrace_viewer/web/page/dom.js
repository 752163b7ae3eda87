// Elements of the page. One idea: text is only ever set as text, so names from elsewhere are never markup.

/**
 * Make an element.
 * @param {string} tag
 * @param {Record<string, any>} properties attributes; `class`, `text`, `on` (listeners) and `style` as objects
 * @param {(Node | string | null | undefined)[]} children
 * @returns {any}
 */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "class") element.className = value;
    else if (name === "text") element.textContent = value;
    else if (name === "on") for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
    else if (name === "style") for (const [property, text] of Object.entries(value)) element.style.setProperty(property, text);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...keepContent(children));
  return element;
}

/** Put other content into an element; what is null is left out. @param {Element} element @param {(Node | string | null | undefined)[]} children */
export function fill(element, ...children) {
  element.replaceChildren(...keepContent(children));
}

/** Leave out what is null or empty. @param {(Node | string | null | undefined)[]} children */
const keepContent = (children) => children.flatMap((child) => (child === null || child === undefined || child === "" ? [] : [child]));

/** Say something to people who do not see the page, and for a moment at its foot. @param {string} text */
export function say(text) {
  const said = document.getElementById("said");
  if (!said) return;
  said.textContent = text;
  clearTimeout(Number(said.dataset.timer));
  said.dataset.timer = String(setTimeout(() => { said.textContent = ""; }, 3000));
}

/** Copy a text. @param {string} text @param {string} what */
export async function copy(text, what) {
  try {
    await navigator.clipboard.writeText(text);
    say(`${what} copied`);
  } catch {
    say("the browser does not allow copying here");
  }
}

/** @returns {boolean} */
export const isDark = () => matchMedia("(prefers-color-scheme: dark)").matches;
