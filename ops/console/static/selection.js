/** The jobs that are selected, and what can be done with all of them. */

import { button, h, say } from "./dom.js";
import { get, post } from "./api.js";
import { retryAll } from "./confirm.js";
import { toast } from "./notices.js";
import { choose, several } from "./sheets.js";

const MOST_COMPARED = 4;
const chosen = new Map(); // job id -> card
let last = null; // the id that was chosen last: a range begins there
let ui = null;
let page = null;

/** Make the bar. `order()` are the ids on the page, `card(id)`, `together(id)` those of one stack, `edit(ids)`, `compare(cards)`. */
export function build(host) {
  page = host;
  const words = h("strong", { role: "status" });
  const all = button("Select all", { kind: "small", onclick: selectAll });
  const actions = {
    retry: button("Retry", { sign: "again", kind: "small", onclick: () => retryAll([...chosen.keys()]) }),
    edit: button("Edit and send again", { sign: "edit", kind: "small", onclick: () => page.edit([...chosen.keys()]) }),
    zip: button("Download ZIP", { sign: "download", kind: "small", onclick: () => file("zip") }),
    sheet: button("Contact sheet", { sign: "sheet", kind: "small", onclick: () => file("png") }),
    compare: button("Compare", { sign: "beside", kind: "small", onclick: () => page.compare([...chosen.values()].filter((card) => card.state === "done")) }),
  };
  const clear = button("Clear the selection", { sign: "close", quiet: true, kind: "small", onclick: () => set([]) });
  const bar = h("section", { class: "selection", "aria-label": "Selection", hidden: true }, words, clear, all, Object.values(actions));
  document.body.append(bar);
  ui = { bar, words, all, actions };
  addEventListener("keydown", keys);
}

/** The box on a card or a tile with which it is selected. */
export function box(card, words) {
  const input = h("input", {
    type: "checkbox",
    class: "pick",
    "aria-label": `Select ${words}`,
    "data-does": "pick",
    onclick: (event) => pick(card.job_id, input.checked, event.shiftKey),
  });
  input.checked = chosen.has(card.job_id);
  return input;
}

function pick(id, on, range) {
  const order = page.order();
  const [from, to] = [order.indexOf(last), order.indexOf(id)].toSorted((a, b) => a - b);
  const ids = range && from >= 0 ? order.slice(from, to + 1) : page.together(id);
  for (const each of ids) {
    if (on && page.card(each)) chosen.set(each, page.card(each));
    else chosen.delete(each);
  }
  last = id;
  show();
}

function set(cards) {
  chosen.clear();
  for (const card of cards) chosen.set(card.job_id, card);
  show();
}

/** A card changed: what is selected is what it is now. */
export function changed(card) {
  if (!chosen.has(card.job_id)) return;
  chosen.set(card.job_id, card);
  show();
}

export function gone(id) {
  if (chosen.delete(id)) show();
}

async function selectAll() {
  try {
    const found = await get(`/api/ids?${page.query()}`);
    set(found);
    if (found.length >= 1000) toast("The newest 1,000 are selected.");
  } catch (problem) {
    toast(problem.message, true);
  }
}

async function file(kind) {
  const pictures = [...chosen.values()].reduce((sum, card) => sum + (card.state === "done" ? card.outputs : 0), 0);
  const sheets = kind === "png" && several(pictures);
  const sheet = kind === "png" && !sheets ? open("about:blank") : null; // a window is only opened by the press itself
  try {
    const { selection } = await post("/api/selection", { jobs: [...chosen.keys()] });
    const address = `/api/selection/${selection}.${kind}`;
    if (sheets) choose(address, pictures);
    else if (sheet) sheet.location = address;
    else h("a", { href: address, download: "" }).click();
  } catch (problem) {
    sheet?.close();
    toast(problem.message, true);
  }
}

function keys(event) {
  if (event.target.matches("input:not(.pick), textarea, select") || document.querySelector("dialog[open]")) return;
  const at = event.target.closest?.("[data-job]")?.dataset.job;
  if ((event.ctrlKey || event.metaKey) && event.key === "a") selectAll();
  else if (event.ctrlKey || event.metaKey || event.altKey) return;
  else if (event.key === "Escape" && chosen.size) set([]);
  else if (event.key.toLowerCase() === "x" && at) pick(at, !chosen.has(at), event.shiftKey);
  else if (["ArrowLeft", "ArrowRight"].includes(event.key) && at) step(at, event.key === "ArrowLeft" ? -1 : 1, event.shiftKey);
  else return;
  event.preventDefault();
}

/** Go to the next card; with shift what is passed is selected. */
function step(id, by, range) {
  const places = [...document.querySelectorAll("#list [data-job]")];
  const next = places[places.findIndex((place) => place.dataset.job === id) + by];
  if (!next) return;
  next.querySelector("button").focus();
  if (!range) return;
  if (!chosen.has(id)) pick(id, true, false);
  pick(next.dataset.job, true, false);
}

/** Bring the bar and the boxes up to date. */
export function show() {
  const cards = [...chosen.values()];
  const failed = cards.filter((card) => card.can_retry).length;
  const done = cards.filter((card) => card.state === "done").length;
  ui.bar.hidden = !cards.length;
  document.body.toggleAttribute("data-selecting", cards.length > 0);
  say(ui.words, `${cards.length} selected`);
  ui.actions.retry.hidden = !failed;
  say(ui.actions.retry.lastChild, `Retry ${failed}`);
  ui.actions.zip.hidden = ui.actions.sheet.hidden = !done;
  ui.actions.compare.hidden = done < 2 || done > MOST_COMPARED;
  for (const place of document.querySelectorAll("#list [data-job]")) {
    const on = chosen.has(place.dataset.job);
    place.toggleAttribute("data-picked", on);
    const input = place.querySelector(".pick");
    if (input) input.checked = on;
  }
}
