/** One job large: its pictures, what happened to it, and what can be done with it. Results side by side. */

import { button, h, icon, say } from "./dom.js";
import { get, jobPath, json, picture } from "./api.js";
import { image, progress, stateMark } from "./card.js";
import { moreSeeds, retry } from "./confirm.js";
import { toast } from "./notices.js";
import { Stage } from "./stage.js";
import { ago, dateAndTime, span, timeOfDay, usd } from "./words.js";

const MOST_COMPARED = 4;
const SETTLED = 400; // milliseconds: browsers allow few changes of the history in a short time

let ui = null;
let current = null; // {id, what, n}, or {compared: [ids]}
let beside = false; // face and pose stand beside the result
let brought = ""; // which picture was brought into sight last: who scrolls on is not called back
let asked = 0;
let noting = 0; // timer
let source;

/**
 * Make the viewer. `cards(id)` has a card, `find(id)` asks the console for one that is not on the page, `order()` has the
 * ids as they are on the page, `variants(card)` its stack.
 */
export function build(host) {
  source = host;
  const stage = new Stage();
  const film = h("div", { class: "film", role: "group", "aria-label": "Pictures of this job" });
  const facts = h("div", { class: "facts" });
  const position = h("p", { class: "position", role: "status" });
  const side = button("Side by side", { sign: "beside", "aria-pressed": "false", "aria-keyshortcuts": "s", onclick: () => toggleBeside() });
  const zoom = button("100%", { sign: "zoom", "aria-pressed": "false", "aria-keyshortcuts": "z", onclick: () => toggleZoom() });
  const dialog = h(
    "dialog",
    { class: "viewer", "aria-label": "A job", onkeydown: keys },
    h("div", { class: "pictures" },
      h("div", { class: "bar" }, button("Close", { sign: "close", quiet: true, onclick: close }), side, zoom, position),
      button("Previous", { sign: "left", quiet: true, kind: "previous", onclick: () => step(-1) }),
      stage.element,
      button("Next", { sign: "right", quiet: true, kind: "next", onclick: () => step(1) }),
      film,
    ),
    h("div", { class: "side", tabindex: "0", role: "region", "aria-label": "Details" }, facts),
  );
  dialog.addEventListener("cancel", (event) => {
    if (event.target !== dialog) return;
    event.preventDefault();
    close();
  });
  dialog.addEventListener("close", () => {
    // The browser sends this event with the next frame. The viewer may be open again by then, or be about to open.
    if (!current || dialog.open) return;
    if (history.state?.viewer) history.back(); // the browser itself closed it: its entry goes with it
    hide();
  });
  document.body.append(dialog);
  ui = { dialog, stage, film, facts, position, side, zoom };
  follow(history.state);
}

/** Close it the way Back does: an entry of the history is what holds it open. */
function close() {
  if (history.state?.viewer) history.back();
  else hide();
}

/** Close the dialog, and give the focus back to the job that was shown. */
function hide() {
  ui.dialog.close();
  clearTimeout(noting);
  const id = current?.id ?? current?.compared?.[0];
  const place = id && document.querySelector(`[data-job="${CSS.escape(id)}"] button`);
  current = null;
  ui.stage.zoom(false);
  ui.stage.clear();
  place?.focus({ preventScroll: false });
}

/** Open the dialog, with an entry of its own in the history, or note there what is shown now. */
function present() {
  if (!ui.dialog.open) {
    if (!history.state?.viewer) history.pushState({ viewer: current }, "");
    ui.dialog.showModal();
  }
  clearTimeout(noting);
  noting = setTimeout(() => current && history.state?.viewer && history.replaceState({ viewer: current }, ""), SETTLED);
}

/** Show what an entry of the history says: Back closes the viewer, Forward and a reload open it again. */
export async function follow(entry) {
  const wanted = entry?.viewer;
  if (!wanted) {
    for (const question of document.querySelectorAll("dialog.ask[open]")) if (ui.dialog.open) question.close();
    if (current) hide();
    return;
  }
  const found = await Promise.all((wanted.compared ?? [wanted.id]).map(source.find)).catch(() => []);
  if (history.state?.viewer?.id !== wanted.id) return;
  if (!found.length) history.replaceState(null, ""); // the job is gone
  else if (wanted.compared) compare(found);
  else open(found[0], wanted.what, wanted.n);
}

/** Show a job's picture: "face", "pose", either "-sent" as it was sent, or "output" number n. */
export function open(card, what = card.state === "done" ? "output" : "pose", n = 1) {
  current = { id: card.job_id, what, n };
  present();
  ui.facts.replaceChildren();
  show(card);
  load(card);
}

/** Show results side by side, and in what they differ. */
export function compare(cards) {
  if (cards.length < 2) return;
  current = { compared: cards.slice(0, MOST_COMPARED).map((card) => card.job_id) };
  present();
  showCompared();
}

/** The jobs on the page are others now: those before and after the one that is open, too. */
export function placed() {
  const card = current?.id && source.cards(current.id);
  if (card) show(card);
}

/** A card changed: show it again if it is one that is open. */
export function changed(card) {
  if (current?.compared?.includes(card.job_id)) showCompared();
  if (current?.id !== card.job_id) return;
  if (card.state === "done" && current.what === "pose" && current.state !== "done") current.what = "output";
  show(card);
  load(card);
}

function keys(event) {
  if (event.target.matches("input, textarea") || event.altKey || event.ctrlKey || event.metaKey) return;
  if (event.key === "s") toggleBeside();
  else if (event.key === "z") toggleZoom();
  else if (["ArrowLeft", "ArrowRight"].includes(event.key) && !scrolls(event.target)) step(event.key === "ArrowLeft" ? -1 : 1);
  else return;
  event.preventDefault();
}

/** Whether the arrow keys scroll what has the focus. */
function scrolls(target) {
  const place = target.closest(".stage, .stage .inside[tabindex]");
  return place && place.scrollWidth > place.clientWidth;
}

function toggleBeside() {
  beside = !beside;
  if (current.id) show(source.cards(current.id));
}

function toggleZoom() {
  ui.stage.zoom(!ui.stage.zoomed);
  if (current.compared) showCompared();
  else show(source.cards(current.id));
}

/** The next picture: the job's other outputs first, then the next job as it is on the page. */
function step(by) {
  if (current.compared) return;
  const card = source.cards(current.id);
  const order = source.order();
  if (card && current.what === "output" && current.n + by >= 1 && current.n + by <= card.outputs) {
    open(card, "output", current.n + by);
    return;
  }
  const next = source.cards(order[order.indexOf(current.id) + by]);
  if (!next) return;
  if (next.state !== "done") open(next);
  else open(next, "output", by < 0 ? Math.max(1, next.outputs) : 1);
}

/** One pane of the stage. A face or pose may be of a type that no browser shows: it is never shown as it was uploaded. */
function pane(card, what, n, text = label(card, what, n)) {
  const alt = what === "output" ? `${card.pose} of ${card.character}` : label(card, what);
  const missing = card.missing.includes(what) || (what === "pose" && !card.pose);
  const sizeOf = (size) => (what === "output" || size !== "original" ? size : "large");
  return {
    key: `${picture(card, what, { n, size: "large" })}${missing}`,
    label: text,
    make: (size) => (missing ? h("p", { class: "none" }, `There is no ${what} yet.`) : image(card, what, { n, size: sizeOf(size) }, { alt, loading: "eager" })),
  };
}

function show(card) {
  current.state = card.state;
  const { what, n } = current;
  const done = card.state === "done";
  const panes = beside ? [["face", 1], ["pose", 1], ...(done ? [["output", what === "output" ? n : 1]] : [])] : [[what, n]];
  ui.stage.show(panes.map(([each, at]) => pane(card, each, at)));
  const shown = `${card.job_id} ${what} ${n} ${panes.length}`;
  if (shown !== brought) ui.stage.bring(panes.findIndex(([each]) => each === what.split("-")[0]));
  brought = shown;
  const order = source.order();
  const at = order.indexOf(card.job_id);
  say(ui.position, at >= 0 ? `${at + 1} of ${order.length}` : "");
  showButtons();
  ui.dialog.querySelector(".previous").disabled = at <= 0 && (what !== "output" || n <= 1);
  ui.dialog.querySelector(".next").disabled = (at < 0 || at >= order.length - 1) && (what !== "output" || n >= card.outputs);
  drawFilm(card);
  if (!ui.facts.firstChild) drawFacts(card, null);
  keepFocus();
}

/** Keep the focus in the dialog: the button that was pressed may be gone. */
function keepFocus() {
  if (!ui.dialog.contains(document.activeElement)) ui.zoom.focus();
}

function showButtons() {
  ui.side.hidden = Boolean(current.compared);
  ui.side.setAttribute("aria-pressed", String(beside));
  ui.zoom.setAttribute("aria-pressed", String(ui.stage.zoomed));
  ui.dialog.toggleAttribute("data-comparing", Boolean(current.compared));
}

function showCompared() {
  const cards = current.compared.map((id) => source.cards(id)).filter(Boolean);
  const name = (card) => (new Set(cards.map((each) => each.pose)).size < cards.length ? `${card.pose}, seed ${card.seed}` : card.pose);
  ui.stage.show(cards.map((card) => pane(card, "output", 1, name(card))));
  say(ui.position, `${cards.length} results`);
  showButtons();
  for (const which of [".previous", ".next"]) ui.dialog.querySelector(which).disabled = true;
  ui.film.replaceChildren();
  const rows = [["Character", "character"], ["Pose", "pose"], ["Seed", "seed"], ["Prompt", "prompt"]].filter(([, field]) => new Set(cards.map((card) => String(card[field]))).size > 1);
  ui.facts.replaceChildren(
    h("h2", {}, "Side by side"),
    h("p", { class: "who" }, rows.length ? "What they differ in" : "They differ in nothing that is shown here"),
    ...cards.map((card) =>
      h("section", { class: "compared", "aria-label": name(card) },
        h("h3", {}, name(card)),
        h("dl", { class: "numbers" }, rows.map(([words, field]) => h("div", {}, h("dt", {}, words), h("dd", {}, String(card[field] ?? "none"))))),
        h("div", { class: "actions" },
          button("Show alone", { kind: "small", onclick: () => open(card) }),
          h("a", { class: "button small", href: picture(card, "output", { size: "original", download: true }), download: "" }, icon("download"), "Download"),
          button("Edit and send again", { sign: "edit", kind: "small", onclick: () => edit(card) })))),
  );
  keepFocus();
}

function edit(card) {
  close();
  source.edit([card.job_id]);
}

function label(card, what, n) {
  if (what === "output") return `Output ${n}`;
  const [name, sent] = what.split("-");
  const begin = name === "face" ? "Face" : "Pose";
  if (sent) return `${begin} as it was sent: ${card.prepared[name]?.join(", ")}`;
  return card.prepared?.[name] ? `${begin} as it was uploaded` : begin;
}

/** The uploads, each followed by what was sent in its place if that was another picture. */
function uploads(card) {
  return ["face", "pose"].flatMap((name) => (card.prepared?.[name] ? [[name, 1], [`${name}-sent`, 1]] : [[name, 1]]));
}

function drawFilm(card) {
  const outputs = card.state === "done" ? Array.from({ length: Math.max(1, card.outputs) }, (_, at) => ["output", at + 1]) : [];
  const pictures = [...uploads(card), ...outputs];
  const variants = source.variants(card).filter((other) => other.job_id !== card.job_id && other.state === "done");
  const focused = document.activeElement?.dataset.film;
  ui.film.replaceChildren(
    ...pictures.map(([what, n]) => {
      const name = label(card, what, n);
      const pressed = current.what === what && current.n === n;
      const inside = card.missing.includes(what) ? h("span", { class: "none" }, icon(what)) : image(card, what, { n }, { loading: "eager" });
      return h("button", { type: "button", "aria-pressed": String(pressed), "aria-label": name, title: name, "data-film": `${what}${n}`, onclick: () => open(card, what, n) }, inside);
    }),
    ...(variants.length ? [h("span", { class: "words" }, "Variants")] : []),
    ...variants.map((other) => {
      const name = `Variant ${other.pose}, seed ${other.seed}`;
      return h("button", { type: "button", "aria-pressed": "false", "aria-label": name, title: name, "data-film": other.job_id, onclick: () => open(other) }, image(other, "output"));
    }),
  );
  if (focused) ui.film.querySelector(`[data-film="${CSS.escape(focused)}"]`)?.focus();
}

async function load(card) {
  const mine = ++asked;
  if (card.local) return; // the ledger does not have it yet
  try {
    const found = await get(jobPath(card.job_id));
    if (mine === asked && current?.id === card.job_id) drawFacts(found.card, found);
  } catch (problem) {
    if (mine === asked && current) drawFacts(card, null, problem.message);
  }
}

function copy(text, what) {
  navigator.clipboard.writeText(text).then(
    () => toast(`${what} copied.`),
    () => toast("The browser did not let it be copied.", true),
  );
}

function drawFacts(card, found, problem = null) {
  const sentence = card.sentence ?? (card.state === "done" ? null : found?.explanation?.sentence);
  const nextStep = card.step ?? (card.state === "done" ? null : found?.explanation?.step);
  const focused = ui.facts.contains(document.activeElement) ? document.activeElement.dataset.does : null;
  const { n } = current;
  const download = (what, words) =>
    h("a", { class: "button", href: picture(card, what, { n, size: "original", download: true }), download: "" }, icon("download"), words);
  const left = card.state === "running" ? progress(card).left : 0;
  const variants = source.variants(card).filter((other) => other.state === "done");
  ui.facts.replaceChildren(
    ...[
      h("p", { class: "line" }, stateMark(card), left > 0 && h("span", { class: "left" }, `about ${span(left)} left`), h("time", { datetime: card.updated_at, title: dateAndTime(card.updated_at) }, ago(card.updated_at))),
      h("h2", {}, card.pose || "No pose yet"),
      h("p", { class: "who" }, card.character),
      problem && h("p", { class: "error" }, problem),
      sentence && h("div", { class: "explains", "data-state": card.state }, h("p", {}, sentence), nextStep && h("p", { class: "step" }, nextStep)),
      h(
        "div",
        { class: "actions" },
        card.state === "done" && download("output", "Download"),
        card.can_retry && button("Retry", { sign: "again", kind: "primary", "data-does": "retry", onclick: () => retry(card) }),
        !card.local && button("Edit and send again", { sign: "edit", "data-does": "edit", onclick: () => edit(card) }),
        ["done", "failed"].includes(card.state) && button("More seeds", { sign: "dice", "data-does": "again", onclick: () => moreSeeds(card) }),
        card.state === "done" && variants.length > 1 && button("Compare variants", { sign: "beside", "data-does": "compare", onclick: () => compare(variants) }),
      ),
      card.prompt && h("blockquote", {}, card.prompt),
      numbers(card),
      found && Object.keys(found.parameters ?? {}).length > 0 && parameters(found),
      found && happened(found.events ?? []),
      h("p", { class: "id" }, h("code", {}, card.job_id), button("Copy the job's id", { sign: "copy", quiet: true, kind: "small", onclick: () => copy(card.job_id, "Job id") })),
    ].filter(Boolean),
  );
  if (focused) ui.facts.querySelector(`[data-does="${focused}"]`)?.focus();
}

function numbers(card) {
  const rows = [];
  if (card.seed !== null && card.seed !== undefined)
    rows.push(["Seed", h("code", {}, String(card.seed)), button("Copy the seed", { sign: "copy", quiet: true, kind: "small", "data-does": "copy-seed", onclick: () => copy(String(card.seed), "Seed") })]);
  if (card.width && card.height) rows.push(["Size", `${card.width} × ${card.height}`]);
  if (card.metrics?.inference_seconds) rows.push(["In the model", span(card.metrics.inference_seconds)]);
  if (card.seconds !== null && card.seconds !== undefined) rows.push(["Upload to result", span(card.seconds)]);
  if (["done", "failed"].includes(card.state)) rows.push(["Cost", card.cost_usd === null ? "not known" : usd(card.cost_usd)]);
  if (card.metrics?.rescued) rows.push(["Result", "fetched later, by way of the provider's history"]);
  if (card.attempt > 1) rows.push(["Attempt", String(card.attempt)]);
  return rows.length ? h("dl", { class: "numbers" }, rows.map(([name, ...values]) => h("div", {}, h("dt", {}, name), h("dd", {}, values)))) : null;
}

function parameters(found) {
  const text = json(found.parameters);
  const rows = Object.entries(found.parameters).filter(([name]) => name !== "prompt");
  return h("details", { class: "more-facts" },
    h("summary", {}, "Parameters"),
    h("dl", { class: "numbers" }, rows.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, h("code", {}, typeof value === "object" ? json(value) : String(value)))))),
    button("Copy as JSON", { sign: "copy", kind: "small", onclick: () => copy(text, "Parameters") }));
}

function happened(events) {
  return h("section", { class: "history", "aria-label": "What happened" },
    h("h3", {}, "What happened"),
    h("ol", {}, events.map(({ at, what, detail }) =>
      h("li", {}, h("time", { datetime: at, title: at ? dateAndTime(at) : "" }, at ? timeOfDay(at) : ""), h("div", {}, h("span", {}, what), detail && h("small", {}, String(detail)))))));
}
