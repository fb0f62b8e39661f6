/** What the operator must know: banners that stay, toasts that pass, and words for a screen reader. */

import { $, button, h } from "./dom.js";

const PASSES = 5000; // milliseconds
const shown = new Map();

/** Show, change or (text null) take away a banner. `actions` are its buttons: words, and what they do. */
export function notice(name, text, { step = null, tone = "calm", actions = [] } = {}) {
  const old = shown.get(name);
  if (text === null) {
    old?.remove();
    shown.delete(name);
    return;
  }
  const signature = `${tone}|${text}|${step}`;
  if (old?.dataset.says === signature) return;
  const banner = h(
    "div",
    { class: "notice", "data-tone": tone, "data-says": signature, role: "status" },
    h("strong", {}, text),
    step && h("span", {}, step),
    actions.length > 0 && h("p", { class: "actions" }, actions.map(([words, act]) => button(words, { kind: "small", onclick: act }))),
  );
  if (old) old.replaceWith(banner);
  else $("notices").append(banner);
  shown.set(name, banner);
}

/** A sentence that goes by itself; a problem stays until it is closed. */
export function toast(text, problem = false) {
  const note = h("div", { class: "toast", role: problem ? "alert" : "status" }, h("span", {}));
  note.append(button("Close", { sign: "close", quiet: true, onclick: () => note.remove() }));
  place().append(note);
  // A screen reader says what changes in a place that it knows.
  setTimeout(() => (note.firstChild.textContent = text), 50);
  if (!problem) setTimeout(() => note.remove(), PASSES);
}

/** Where toasts are: in the dialog on top, since all behind it is inert. */
function place() {
  const root = [...document.querySelectorAll("dialog[open]")].at(-1) ?? document.body;
  return root.querySelector(":scope > .toasts") ?? root.appendChild(h("div", { class: "toasts", "aria-live": "polite" }));
}

// What is said in a dialog outlives it.
addEventListener("close", ({ target }) => {
  const notes = target.querySelectorAll?.(":scope > .toasts > .toast") ?? [];
  if (notes.length) setTimeout(() => place().append(...notes));
}, true);

let heard = [];
let timer = 0;

/** Say it to a screen reader, gathering what comes in quick succession. */
export function announce(sentence) {
  heard.push(sentence);
  timer ||= setTimeout(() => {
    $("says").textContent = heard.length > 3 ? `${heard.length} jobs changed.` : heard.join(" ");
    heard = [];
    timer = 0;
  }, 1500);
}
