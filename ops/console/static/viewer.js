/** One job large: its pictures, what happened to it, and what can be done with it. */

import { button, h, icon, say } from "./dom.js";
import { get, jobPath, json, picture } from "./api.js";
import { image, progress, stateMark } from "./card.js";
import { again, retry } from "./confirm.js";
import { toast } from "./notices.js";
import { ago, dateAndTime, span, timeOfDay, usd } from "./words.js";

let ui = null;
let current = null; // {id, what, n}
let asked = 0;
let source;

/** Make the viewer. `cards(id)` finds a card, `order()` has the ids as they are on the page. */
export function build({ cards, order, price }) {
  source = { cards, order, price };
  const stage = h("div", { class: "stage" });
  const film = h("div", { class: "film", role: "group", "aria-label": "Pictures of this job" });
  const facts = h("div", { class: "facts" });
  const position = h("p", { class: "position", role: "status" });
  const dialog = h(
    "dialog",
    { class: "viewer", "aria-label": "A job", onkeydown: keys },
    h("div", { class: "pictures" },
      h("div", { class: "bar" }, button("Close", { sign: "close", quiet: true, onclick: () => dialog.close() }), position),
      button("Previous", { sign: "left", quiet: true, kind: "previous", onclick: () => step(-1) }),
      stage,
      button("Next", { sign: "right", quiet: true, kind: "next", onclick: () => step(1) }),
      film,
    ),
    h("div", { class: "side", tabindex: "0", role: "region", "aria-label": "Details" }, facts),
  );
  dialog.addEventListener("close", () => {
    const place = current && document.querySelector(`[data-job="${CSS.escape(current.id)}"] button`);
    current = null;
    stage.replaceChildren();
    place?.focus({ preventScroll: false });
  });
  document.body.append(dialog);
  ui = { dialog, stage, film, facts, position };
}

/** Show a job's picture: "face", "pose", either "-sent" as it was sent, or "output" number n. */
export function open(card, what = card.state === "done" ? "output" : "pose", n = 1) {
  if (!ui) return;
  current = { id: card.job_id, what, n };
  if (!ui.dialog.open) ui.dialog.showModal();
  ui.facts.replaceChildren();
  show(card);
  load(card);
}

/** A card changed: show it anew if it is the one that is open. */
export function changed(card) {
  if (current?.id !== card.job_id) return;
  if (card.state === "done" && current.what === "pose" && current.state !== "done") current.what = "output";
  show(card);
  load(card);
}

function keys(event) {
  if (event.target.matches("input, textarea")) return;
  const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (!by || event.altKey || event.ctrlKey || event.metaKey) return;
  event.preventDefault();
  step(by);
}

/** The next picture: the job's other outputs first, then the next job as it is on the page. */
function step(by) {
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

function show(card) {
  current.state = card.state;
  const { what, n } = current;
  const missing = card.missing.includes(what) || (what === "pose" && !card.pose);
  const alt = what === "output" ? `${card.pose} of ${card.character}` : label(card, what);
  const shown = ui.stage.querySelector("img");
  const address = picture(card, what, { n, size: "large" });
  if (missing) ui.stage.replaceChildren(h("p", { class: "none" }, `There is no ${what} yet.`));
  else if (shown?.getAttribute("src") !== address) ui.stage.replaceChildren(image(card, what, { n, size: "large" }, { alt, loading: "eager" }));
  const order = source.order();
  const at = order.indexOf(card.job_id);
  say(ui.position, at >= 0 ? `${at + 1} of ${order.length}` : "");
  ui.dialog.querySelector(".previous").disabled = at <= 0 && (what !== "output" || n <= 1);
  ui.dialog.querySelector(".next").disabled = (at < 0 || at >= order.length - 1) && (what !== "output" || n >= card.outputs);
  drawFilm(card);
  if (!ui.facts.firstChild) drawFacts(card, null);
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
  const focused = document.activeElement?.dataset.film;
  ui.film.replaceChildren(
    ...pictures.map(([what, n]) => {
      const name = label(card, what, n);
      const pressed = current.what === what && current.n === n;
      const inside = card.missing.includes(what) ? h("span", { class: "none" }, icon(what)) : image(card, what, { n }, { loading: "eager" });
      return h("button", { type: "button", "aria-pressed": String(pressed), "aria-label": name, title: name, "data-film": `${what}${n}`, onclick: () => open(card, what, n) }, inside);
    }),
  );
  if (focused) ui.film.querySelector(`[data-film="${focused}"]`)?.focus();
}

async function load(card) {
  const mine = ++asked;
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
        card.state === "done" && button("Another seed", { sign: "dice", "data-does": "again", title: `A new job of the same face and pose, about ${usd(source.price)}; it asks first`, onclick: () => again(card) }),
      ),
      card.prompt && h("blockquote", {}, card.prompt),
      numbers(card),
      found && Object.keys(found.parameters ?? {}).length > 0 && parameters(found),
      found && history(found.moments ?? []),
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
  if (card.metrics?.total_seconds) rows.push(["From queue to result", span(card.metrics.total_seconds)]);
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

function history(moments) {
  return h("section", { class: "history", "aria-label": "What happened" },
    h("h3", {}, "What happened"),
    h("ol", {}, moments.map(({ at, what, detail }) =>
      h("li", {}, h("time", { datetime: at, title: at ? dateAndTime(at) : "" }, at ? timeOfDay(at) : ""), h("div", {}, h("span", {}, what), detail && h("small", {}, String(detail)))))));
}
