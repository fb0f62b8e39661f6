/** Summary: numbers, the use of the limit, what failed, and how long jobs took lately. */

import { $, h, say, svg } from "./dom.js";
import { count, hourAndMinute, many, span, usd } from "./words.js";
import { costs, resume } from "./attend.js";
import { notice } from "./notices.js";

const KINDS = 3; // types of failures that are shown by name
const cells = {};
let pausedUntil = 0;

function cell(name, label, ...extra) {
  const value = h("dd", { class: "value" }, "–");
  const note = h("dd", { class: "note" });
  cells[name] = { value, note };
  return h("div", { class: `cell ${name}` }, h("dt", {}, label), value, note, ...extra);
}

/** Draw the empty strip. */
export function build() {
  cells.meter = h("span", { class: "meter" }, h("span", { class: "fill" }));
  cells.plot = svg("svg", { class: "plot", role: "img", "aria-label": "No durations yet", preserveAspectRatio: "none" });
  cells.kinds = h("dd", { class: "kinds" });
  cells.scale = h("dd", { class: "note" });
  $("summary").append(
    h(
      "dl",
      {},
      cell("backlog", "Queued"),
      cell("running", "Running"),
      cell("use", "Plan's limit", h("dd", { class: "bar" }, cells.meter)),
      cell("spend", h("button", { type: "button", class: "words-button", onclick: costs, title: "Costs by character and month" }, "Spent today")),
      cell("done", "Done"),
      cell("failed", "Failed", cells.kinds),
      h("div", { class: "cell times" }, h("dt", {}, "Upload to result"), h("dd", {}, cells.plot), cells.scale),
    ),
  );
}

/** Show a summary. */
export function show(summary) {
  const arriving = summary.arriving && "uploads are being read"; // messages are no jobs: they are not counted
  const refused = summary.refused && `${count(summary.refused)} refused for now`;
  put("backlog", count(summary.backlog), refused || arriving || (summary.oldest_seconds ? `oldest ${span(summary.oldest_seconds)}` : "none behind the limit"));
  put("running", count(summary.running), summary.waiting ? `${count(summary.waiting)} incomplete` : "none incomplete");
  const { taken, limit, percent } = summary.use;
  put("use", `${Math.round(percent)}%`, `${count(taken)} of ${count(limit)} a minute`);
  cells.meter.style.setProperty("--part", Math.min(1, percent / 100));
  cells.meter.toggleAttribute("data-full", percent >= 95);
  const left = summary.credits && `${usd(summary.credits.usd)} left, for ${many(summary.credits.jobs, "job")}`;
  put("spend", usd(summary.spend_today_usd), [`${usd(summary.spend_month_usd)} this month`, left].filter(Boolean).join(", "));
  const ended = summary.done + summary.failed;
  put("done", count(summary.done), ended ? `${Math.floor((summary.done / ended) * 100)}% of ended` : "nothing yet");
  put("failed", count(summary.failed), summary.failed ? "" : "none");
  failures(summary.failures);
  cells.failed.value.parentElement.toggleAttribute("data-some", summary.failed > 0);
  plot(summary.durations);
  pause(summary.pause);
  leftOut(summary);
}

/** What the page does not show, so that nobody looks for it in vain. */
function leftOut({ cut, unreadable }) {
  notice("cut", cut === null ? null : `There are more jobs than the ${count(cut)} that were read.`, {
    step: "Done and failed are counted among those. The list reaches to the oldest.",
  });
  notice("unreadable", unreadable.length ? `${many(unreadable.length, "record")} cannot be read by this version.` : null, {
    step: unreadable.slice(0, 3).join(", "),
    tone: "warn",
  });
}

/** The most frequent types; the others as one. */
function failures(found) {
  const rest = found.slice(KINDS).reduce((sum, kind) => sum + kind.count, 0);
  const kinds = [...found.slice(0, KINDS), ...(rest ? [{ type: "others", count: rest }] : [])];
  cells.kinds.replaceChildren(...kinds.map((kind) => h("span", {}, h("b", {}, count(kind.count)), ` ${kind.type}`)));
  cells.kinds.title = found.map((kind) => `${kind.type}: ${kind.count}`).join("\n");
}

function put(name, value, note) {
  say(cells[name].value, value);
  say(cells[name].note, note);
}

function pause(found) {
  if (!found) {
    pausedUntil = 0;
    notice("pause", null);
    return;
  }
  // A few seconds more or less are no news.
  const at = Date.now() + found.seconds * 1000;
  if (Math.abs(at - pausedUntil) > 5000) pausedUntil = at;
  const whom = found.account ? " for the whole account" : "";
  const how = found.seconds > 0 ? `is paused${whom} until ${hourAndMinute(pausedUntil)}` : "resumes with one request, the probe";
  const actions = found.account && found.seconds > 0 ? [["Resume now", resume]] : [];
  notice("pause", `Submitting ${how}: ${found.reason}.`, { step: found.step, tone: "warn", actions });
}

/** A bar for each job, the newest on the right, and a line at the median. */
function plot(seconds) {
  if (!seconds.length) {
    cells.plot.replaceChildren();
    cells.plot.setAttribute("aria-label", "No durations yet");
    say(cells.scale, "no result yet");
    return;
  }
  const sorted = seconds.toSorted((a, b) => a - b);
  const median = sorted[Math.floor(sorted.length / 2)];
  const slowest = sorted.at(-1);
  const top = Math.max(median * 1.4, Math.min(slowest, median * 2)); // one slow job must not flatten all others
  const wide = Math.max(40, seconds.length);
  cells.plot.setAttribute("viewBox", `0 0 ${wide * 4} 100`);
  const bars = seconds.map((each, at) => {
    const height = Math.max(3, (Math.min(each, top) / top) * 100);
    const x = (wide - seconds.length + at) * 4;
    return svg("rect", { x, y: 100 - height, width: 2.6, height, class: each > median * 2 ? "slow" : "" });
  });
  const y = 100 - (median / top) * 100;
  cells.plot.replaceChildren(...bars, svg("line", { x1: 0, x2: wide * 4, y1: y, y2: y }));
  const words = `median ${span(median)}, slowest ${span(slowest)}`;
  cells.plot.setAttribute("aria-label", `Upload to result of the newest ${many(seconds.length, "job")}: ${words}`);
  say(cells.scale, words);
}
