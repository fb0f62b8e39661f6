/** A job as a strip of three frames: the face, the pose, and what comes of them. */

import { button, h, icon, say, svg } from "./dom.js";
import { picture } from "./api.js";
import { retry } from "./confirm.js";
import { box } from "./selection.js";
import { ago, dateAndTime, span, until } from "./words.js";

const elements = new Map(); // job id -> its card on the page
const lacking = new Map(); // frame without its picture -> what asks for it again
let summary = { typical_seconds: 30, late_seconds: 90, pause: null }; // what moves all cards at once
const RADIUS = 19;
const ROUND = 2 * Math.PI * RADIUS;

/** The card of a job, new or brought up to date. `open(card, what)` shows it large. */
export function cardElement(card, open) {
  const known = elements.get(card.job_id);
  if (known?.card.version === card.version) return known.element;
  const entry = known ?? { element: h("article", { class: "card", "data-job": card.job_id }) };
  const before = entry.card?.state;
  entry.card = card;
  elements.set(card.job_id, entry);
  const focused = entry.element.contains(document.activeElement) ? document.activeElement.dataset.does : null;
  draw(entry, open);
  if (before && before !== card.state) entry.element.dataset.changed = "";
  if (focused) (entry.element.querySelector(`[data-does="${focused}"]`) ?? entry.element.querySelector("button")).focus();
  return entry.element;
}

/** What moves all cards at once: how long jobs take, and a pause. */
export function situate(now) {
  summary = now;
  tick();
}

/** Forget a card that left the page. */
export function forget(id) {
  elements.get(id)?.element.remove();
  elements.delete(id);
}

export function forgetAll() {
  elements.clear();
  lacking.clear();
}

function draw(entry, open) {
  const { card, element } = entry;
  element.dataset.state = card.state;
  entry.ring = card.state === "running" ? ring(card) : null;
  entry.mark = stateMark(card);
  entry.left = h("span", { class: "left" });
  entry.when = h("time", { datetime: card.updated_at, title: dateAndTime(card.updated_at) });
  const name = h(
    "button",
    { type: "button", class: "open", "data-does": "open", onclick: () => open(card) },
    h("span", { class: "pose" }, card.pose || "no pose yet"),
    h("span", { class: "who" }, card.character),
  );
  // The card itself says which job it is.
  const why = ["failed", "waiting", "queued"].includes(card.state) ? card.sentence : null;
  const parts = [
    h(
      "div",
      { class: "strip" },
      frame(card, "face"),
      frame(card, "pose"),
      h("div", { class: "frame result" }, result(entry)),
    ),
    card.local ? null : box(card, `${card.pose} of ${card.character}`),
    h("h3", {}, name),
    h("p", { class: "line" }, entry.mark, entry.left, entry.when),
    why && h("p", { class: "why", title: why }, why),
  ];
  element.replaceChildren(...parts.filter(Boolean));
  tickOne(entry);
}

/** The state as a dot and words. */
export function stateMark(card) {
  return h("span", { class: "state", "data-state": card.state }, headline(card));
}

/** The state in words, as a sentence begins. */
export function headline(card) {
  let words = card.headline || card.state;
  if (card.state === "queued" && summary.pause && !card.sentence) words = "paused"; // one that is refused alone says so
  // What fetches a result and stores it leaves no trace until it is done.
  if (card.state === "running" && progress(card).past && !progress(card).late) words = "finishing or being delivered";
  return words[0].toUpperCase() + words.slice(1);
}

/** A picture that turns into a quiet frame if there is none. */
export function image(card, what, options = {}, properties = {}) {
  const { alt = "", ...rest } = properties;
  const onerror = ({ target }) => {
    const none = h("span", { class: "none" }, icon(what === "face" ? "face" : "pose"));
    lacking.set(none, () => none.replaceWith(image(card, what, options, properties)));
    target.replaceWith(none);
  };
  return h("img", { src: picture(card, what, options), alt, loading: "lazy", decoding: "async", draggable: "false", onerror, ...rest });
}

/** Ask once more for the pictures that did not come: the stack was away. */
export function imagesAgain() {
  const again = [...lacking];
  lacking.clear();
  for (const [none, ask] of again) if (none.isConnected) ask();
}

function frame(card, what) {
  const missing = card.missing.includes(what) || (what === "pose" && !card.pose);
  if (!missing) return h("div", { class: "frame" }, image(card, what));
  return h("div", { class: "frame lacks" }, icon(what), h("span", {}, `no ${what}`));
}

function result(entry) {
  const { card } = entry;
  switch (card.state) {
    case "done":
      return [
        image(card, "output", {}, { alt: `${card.pose} of ${card.character}` }),
        card.outputs > 1 && h("span", { class: "number" }, `${card.outputs}`),
      ];
    case "running":
      return entry.ring.element;
    case "failed":
      return [
        h("span", { class: "sign failed" }, icon("alert")),
        card.can_retry && button("Retry", { sign: "again", kind: "small", "data-does": "retry", onclick: () => retry(card) }),
      ];
    case "sending":
      if (card.stopped) return h("span", { class: "sign failed" }, icon("alert"));
      return h("span", { class: "sign busy" }, h("span", { class: "pulse" }));
    case "waiting":
      return h("span", { class: "sign" }, icon("plus"), h("span", {}, card.missing.length ? `needs a ${card.missing.join(", a ")}` : "waits"));
    case "queued":
      entry.sendTime = h("span", {});
      return h("span", { class: "sign" }, icon("clock"), entry.sendTime);
    default:
      return h("span", { class: "sign busy" }, h("span", { class: "pulse" }));
  }
}

function ring(card) {
  const arc = svg("circle", { cx: 22, cy: 22, r: RADIUS, class: "arc", "stroke-dasharray": ROUND });
  const inside = svg("text", { x: 22, y: 22, "text-anchor": "middle", "dominant-baseline": "central" });
  const drawing = svg("svg", { viewBox: "0 0 44 44", "aria-hidden": "true" }, svg("circle", { cx: 22, cy: 22, r: RADIUS, class: "track" }), arc, inside);
  const label = `Progress of ${card.pose} of ${card.character}`;
  const bar = { role: "progressbar", "aria-label": label, "aria-valuemin": 0, "aria-valuemax": 100 };
  return { element: h("span", { class: "ring", ...bar }, drawing), arc, inside };
}

/** How far a job in the model is, 0 to 1, the seconds that are probably left, and whether it is past that, or late. */
export function progress(card) {
  const { typical_seconds: typical, late_seconds: late } = summary;
  const age = -until(card.submitted_at ?? card.updated_at);
  return { part: Math.min(1, Math.max(0.02, age / typical)), left: typical - age, past: age >= typical, late: age >= late };
}

/** Bring what depends on the time up to date. */
export function tick() {
  for (const entry of elements.values()) if (entry.element.isConnected) tickOne(entry);
}

function tickOne(entry) {
  const { card } = entry;
  say(entry.when, ago(card.updated_at));
  switch (card.state) {
    case "running": {
      const { part, left, past, late } = progress(card);
      entry.ring.arc.setAttribute("stroke-dashoffset", ROUND * (1 - part));
      entry.ring.element.setAttribute("aria-valuenow", Math.round(part * 100));
      entry.element.toggleAttribute("data-past", past);
      say(entry.ring.inside, past ? "" : String(Math.ceil(left)));
      say(entry.left, late ? "longer than usual" : past ? "" : `about ${span(Math.ceil(left))} left`);
      say(entry.mark, headline(card));
      break;
    }
    case "queued": {
      const left = card.eta ? until(card.eta) : null;
      say(entry.sendTime, summary.pause ? "paused" : left === null ? "in line" : left > 5 ? `in about ${span(left)}` : "next");
      say(entry.mark, headline(card));
      break;
    }
    default:
  }
}
