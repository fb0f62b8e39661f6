/** Elements without markup: what others wrote only ever becomes text nodes and attributes. */

const SVG = "http://www.w3.org/2000/svg";

/** An element. `on…` are listeners, booleans switch attributes, null and false children are left out. */
export function h(tag, properties = {}, ...children) {
  return fill(document.createElement(tag), properties, children);
}

/** The same for SVG. */
export function svg(tag, properties = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), properties, children);
}

function fill(element, properties, children) {
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name.startsWith("--")) element.style.setProperty(name, value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== false && child !== undefined));
  return element;
}

export const $ = (id) => document.getElementById(id);

/** Set a text only if it changed: an unchanged one must not be read out again. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

const PATHS = {
  close: "M4 4l8 8M12 4l-8 8",
  left: "M10 3L5 8l5 5",
  right: "M6 3l5 5-5 5",
  plus: "M8 3v10M3 8h10",
  copy: "M5.5 5.5v-3h8v8h-3M2.5 5.5h8v8h-8z",
  download: "M8 2v8M4.5 7L8 10.5 11.5 7M3 13.5h10",
  again: "M13 8a5 5 0 1 1-1.5-3.6M13 2v3h-3",
  dice: "M4.5 2.500h7a2 2 0 0 1 2 2v7a2 2 0 0 1-2 2h-7a2 2 0 0 1-2-2v-7a2 2 0 0 1 2-2M5.6 5a.6.6 0 1 1 0 1.2.6.6 0 0 1 0-1.2M8 7.4a.6.6 0 1 1 0 1.2.6.6 0 0 1 0-1.2M10.4 9.8a.6.6 0 1 1 0 1.2.6.6 0 0 1 0-1.2",
  sheet: "M2.5 3h11v10h-11zM6 3v10M10 3v10M2.5 8h11",
  clock: "M8 2.5a5.5 5.5 0 1 1 0 11 5.5 5.5 0 0 1 0-11M8 5v3.2l2 1.3",
  alert: "M8 2.5l6 10.5H2zM8 6.5v3M8 11.4h.01",
  face: "M8 3a2.6 2.6 0 1 1 0 5.2A2.6 2.6 0 0 1 8 3M3 13.5c.6-2.6 2.5-3.8 5-3.800s4.4 1.2 5 3.8",
  pose: "M8 2.200a1.2 1.2 0 1 1 0 2.4 1.2 1.2 0 0 1 0-2.400M3.5 6.500L8 6l4.5.500M8 6v4l-2.5 4M8 10l2.5 4",
  folder: "M2 4.500h4.500l1.500 1.500h6v7h-12z",
  beside: "M2.500 3h5v10h-5zM8.500 3h5v10h-5z",
  zoom: "M7 2.500a4.500 4.500 0 1 1 0 9a4.500 4.500 0 0 1 0-9M10.300 10.300L14 14M5 7h4M7 5v4",
  edit: "M3 13l.6-2.800L11 2.800l2.200 2.200-7.400 7.400z",
  check: "M3.5 8.500l3 3 6-7",
};

/** A small drawing beside a text that says the same. */
export function icon(name) {
  const path = svg("path", { d: PATHS[name], fill: "none", stroke: "currentColor" });
  return svg("svg", { viewBox: "0 0 16 16", width: 16, height: 16, class: "icon", "aria-hidden": "true" }, path);
}

/** A button with an icon; `quiet` ones have their words as a label only. */
export function button(words, { sign, kind = "", quiet = false, ...properties } = {}) {
  const label = quiet ? { "aria-label": words, title: words } : {};
  const shape = `button ${kind} ${quiet ? "round" : ""}`.trim();
  return h("button", { type: "button", class: shape, ...label, ...properties }, sign && icon(sign), quiet ? null : words);
}
