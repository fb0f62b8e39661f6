/** The page: views, filters, paging, and what comes in live. */

import { $, h, icon, say } from "./dom.js";
import { get, jobPath } from "./api.js";
import { cardElement, forget, forgetAll, headline, imagesAgain, situate, tick } from "./card.js";
import * as attend from "./attend.js";
import * as composer from "./new.js";
import { listen } from "./feed.js";
import { Gallery } from "./gallery.js";
import * as summary from "./summary.js";
import { notice, announce, toast } from "./notices.js";
import * as selection from "./selection.js";
import { pageSize } from "./sheets.js";
import * as tray from "./tray.js";
import * as viewer from "./viewer.js";
import { count, dateAndTime, hourAndMinute, many, naming } from "./words.js";

const PAGE = 60;
const TYPING = 250; // milliseconds
const COUNTING = 1000; // milliseconds
const PROBLEMS = 60_000; // milliseconds
const OFFERED = {
  all: "All",
  waiting: "Waiting",
  queued: "Queued",
  "submitting,running,delivering": "Running",
  failed: "Failed",
  done: "Done",
};

const cards = new Map(); // job id -> card, of the jobs that were loaded or changed
const shown = new Set(); // job ids on the page, in no order
const filters = { view: "jobs", character: "", state: "", hours: "", text: "" };
const changes = new Map(); // what came in live: job id -> card, or null if it is gone
const late = new Map(); // card changes that arrived while the first page was loading
const coming = new Map(); // what this page sent and the ledger does not have yet: job id -> card
let characters = [];
let first = ""; // what was asked for the first page
let cursor = null;
let loading = null;
let total = 0; // null: nobody has counted them
let cut = false; // there are more jobs than the console knows
let oldest = ""; // when the last job of the last page was made
let asks = false; // the next page is not loaded by itself
let counting = 0; // timer
let gone = 0; // timer: a short break is not worth a word
let since = null; // when the console was lost
let away = false; // the stack is
let seen = null; // the last event whose effects are in the list; null: there is no list yet
let greeting = null; // the event after which all others come to this page

const jobs = $("list");
const gallery = new Gallery(jobs, {
  open: viewer.open,
  only: (name) => choose({ character: name }),
  jobs: (name) => characters.find((character) => character.name === name)?.jobs ?? 0,
});

/** The jobs as they are on the page, those of a stack one after another. */
const order = () => [...jobs.querySelectorAll("[data-job]")].flatMap((element) => gallery.together(element.dataset.job));

/** All that was made of the same pose, as far as it was loaded, the newest first. */
const variants = (card) =>
  [...cards.values()].filter((other) => other.stack && other.stack === card.stack).sort((a, b) => (a.created_at < b.created_at ? 1 : -1));

/** A card that may not be on the page. */
async function find(id) {
  if (!cards.has(id)) cards.set(id, (await get(jobPath(id))).card);
  return cards.get(id);
}

// ---- which jobs -----------------------------------------------------------------------------------------------------

/** The state that is asked for; where none was chosen, the gallery shows what is done. */
const chosen = () => filters.state || (filters.view === "gallery" ? "done" : "all");

function query() {
  const { character, hours, text } = filters;
  const wanted = { character, state: chosen() === "all" ? "" : chosen(), hours, text };
  return new URLSearchParams(Object.entries(wanted).filter(([, value]) => value));
}

/** The same question that the server answers, for a card that comes in live. */
function fits(card) {
  const wanted = query();
  const text = (wanted.get("text") ?? "").toLowerCase();
  const state = wanted.get("state");
  return (
    (!wanted.has("character") || card.character === wanted.get("character")) &&
    (!state || state.split(",").includes(card.state === "sending" ? "queued" : card.state)) &&
    (!wanted.has("hours") || Date.now() - Date.parse(card.updated_at) <= Number(wanted.get("hours")) * 3.6e6) &&
    (!text || [card.job_id, card.character, card.pose, card.prompt, card.error?.type, card.error?.message].some((part) => part?.toLowerCase().includes(text)))
  );
}

/** Load the first page again. What is on the page stays until the response is there. */
async function load() {
  loading?.abort();
  const mine = (loading = new AbortController());
  const asked = query();
  asked.set("limit", PAGE);
  first = asked.toString();
  seen = null;
  late.clear();
  $("main").setAttribute("aria-busy", "true");
  try {
    const page = await get(`/api/jobs?${asked}`, { signal: mine.signal });
    if (mine !== loading) return;
    const focused = document.activeElement.closest("[data-job]")?.dataset.job;
    shown.clear();
    forgetAll();
    gallery.clear();
    jobs.replaceChildren();
    jobs.className = filters.view;
    take(page);
    seen = page.event;
    if (focused) focusOn(focused);
    for (const [id, card] of [...coming, ...late]) change(id, card);
    notice("jobs", null);
  } catch (problem) {
    if (problem.name !== "AbortError") notice("jobs", problem.message, { tone: "warn" });
  } finally {
    if (mine === loading) {
      loading = null;
      $("main").removeAttribute("aria-busy");
      lookAhead();
      catchUp();
    }
  }
}

/** What changed between the first page and the first event was missed: then the page is loaded once more. */
function catchUp() {
  if (seen === null || greeting === null) return;
  const missed = seen < greeting;
  greeting = null;
  if (missed) load();
}

/** Give the focus back to a job whose card was made again; to the list, if the job is no longer on it. */
const focusOn = (id) => (jobs.querySelector(`[data-job="${CSS.escape(id)}"] button`) ?? jobs).focus({ preventScroll: true });

async function more() {
  if (loading || !cursor || asks) return;
  const mine = (loading = new AbortController());
  const asked = query();
  asked.set("limit", PAGE);
  asked.set("cursor", cursor);
  try {
    const page = await get(`/api/jobs?${asked}`, { signal: mine.signal });
    if (mine === loading) take(page);
  } catch (problem) {
    if (problem.name !== "AbortError") toast(problem.message, true);
  } finally {
    if (mine === loading) {
      loading = null;
      lookAhead();
    }
  }
}

function take(page) {
  cursor = page.next;
  total = page.total;
  cut = page.cut;
  oldest = page.jobs.at(-1)?.created_at ?? page.back_to ?? oldest;
  asks = Boolean(cursor && !page.jobs.length); // whatever fits may be far back, or nowhere
  const rows = [];
  for (const found of page.jobs) {
    const known = cards.get(found.job_id);
    // What came in live may be newer than the answer.
    const card = known && !known.local && known.updated_at > found.updated_at ? known : found;
    coming.delete(found.job_id);
    cards.set(card.job_id, card);
    if (shown.has(card.job_id) || !fits(card)) continue;
    shown.add(card.job_id);
    if (filters.view === "gallery") gallery.put(card, false);
    else rows.push(cardElement(card, viewer.open));
  }
  // A page is a grid of its own: the browser lays out and paints only those that are near.
  if (rows.length) jobs.append(h("div", { class: "cards" }, rows));
  $("more").hidden = !cursor;
  $("more").replaceChildren(
    asks ? h("button", { type: "button", class: "button", onclick: () => ((asks = false), more()) }, `Nothing since ${dateAndTime(oldest)}: look further back`) : "Loading more",
  );
  showCharacters(page.characters);
  showTotal();
  selection.show();
  viewer.placed();
}

const ahead = new IntersectionObserver((entries) => entries.some((entry) => entry.isIntersecting) && more(), { rootMargin: "1200px" });

/** Ask for the next page if its place is already in sight: an observer only reports changes. */
function lookAhead() {
  ahead.unobserve($("more"));
  ahead.observe($("more"));
}

function showTotal() {
  const filtered = filters.character || filters.text || filters.hours || filters.state;
  const what = filters.view === "gallery" && chosen() === "done" ? "finished job" : "job";
  const more = total === null && cursor ? " and more" : "";
  say($("total"), shown.size || filtered ? `${many(Math.max(total ?? 0, shown.size), what)}${more}${filtered ? " found" : ""}` : "");
  const empty = !shown.size && !cursor;
  $("main").toggleAttribute("data-empty", empty);
  document.body.toggleAttribute("data-new", empty && !filtered && !characters.length);
  const old = $("empty");
  if (!empty) old?.remove();
  else {
    const note = emptiness(filtered);
    if (old) old.replaceWith(note);
    else jobs.after(note);
  }
}

function emptiness(filtered) {
  if (filtered) {
    const all = h("button", { type: "button", class: "button", onclick: () => choose({ character: "", state: "", hours: "", text: "" }) }, "Show all");
    return h("div", { id: "empty", class: "empty" }, h("h2", {}, "Nothing fits"), h("p", {}, "No job has all that was asked for."), all);
  }
  const begin = h("button", { type: "button", class: "button primary", onclick: () => composer.open() }, "Choose pictures");
  if (filters.view === "gallery" && characters.length)
    return h("div", { id: "empty", class: "empty" }, h("h2", {}, "No results yet"), h("p", {}, "They appear here by themselves."));
  return h(
    "div",
    { id: "empty", class: "empty first" },
    h("div", { class: "example", "aria-hidden": "true" }, h("span", {}, icon("face")), h("i", {}, "+"), h("span", {}, icon("pose")), h("i", {}, "="), h("span", { class: "made" }, icon("check"))),
    h("h2", {}, "Drop a face and a pose here"),
    h("p", {}, "Or whole folders: one for each character. You see what it costs before anything is sent."),
    begin,
  );
}

// ---- filters --------------------------------------------------------------------------------------------------------

function showCharacters(found) {
  if (JSON.stringify(found) === JSON.stringify(characters)) return;
  characters = found;
  gallery.recount();
  const options = characters.map(({ name, jobs: n }) => h("option", { value: name }, `${name} (${count(n)}${cut ? "+" : ""})`));
  $("character").replaceChildren(h("option", { value: "" }, "All characters"), ...options);
  if (filters.character && !characters.some(({ name }) => name === filters.character))
    $("character").append(h("option", { value: filters.character }, filters.character));
  $("character").value = filters.character;
}

function readHash() {
  const [view, rest = ""] = location.hash.slice(1).split("?");
  const set = new URLSearchParams(rest);
  filters.view = view === "gallery" ? "gallery" : "jobs";
  for (const name of ["character", "state", "hours", "text"]) filters[name] = set.get(name) ?? "";
}

/** Change filters: the address has them, so that back and reload keep them. */
function choose(changes, keep = false) {
  Object.assign(filters, changes);
  const set = new URLSearchParams(["character", "state", "hours", "text"].map((name) => [name, filters[name]]).filter(([, value]) => value));
  const address = `#${filters.view}${set.size ? `?${set}` : ""}`;
  if (address !== location.hash) history[keep ? "replaceState" : "pushState"](null, "", address);
  apply();
}

function apply() {
  for (const view of ["jobs", "gallery"]) {
    const link = $(`view-${view}`);
    if (view === filters.view) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  for (const chip of $("states").children) {
    const pressed = chip.value === chosen();
    chip.setAttribute("aria-pressed", String(pressed));
    if (pressed) $("states").scrollLeft = chip.offsetLeft - $("states").offsetLeft - 48; // a narrow page has not all in sight
  }
  for (const name of ["character", "hours"]) $(name).value = filters[name];
  if ($("text").value.trim() !== filters.text) $("text").value = filters.text;
  load();
}

function buildFilters() {
  $("states").append(
    ...Object.entries(OFFERED).map(([state, words]) =>
      h("button", { type: "button", class: "chip", value: state, "data-state": state.split(",").at(-1), onclick: () => choose({ state }) }, words)),
  );
  for (const name of ["character", "hours"]) $(name).addEventListener("change", (event) => choose({ [name]: event.target.value }));
  let timer = 0;
  $("text").addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(() => choose({ text: $("text").value.trim() }, true), TYPING);
  });
  for (const view of ["jobs", "gallery"]) {
    $(`view-${view}`).addEventListener("click", (event) => {
      event.preventDefault();
      scrollTo(0, 0);
      choose({ view, state: "" });
    });
  }
  document.querySelector(".skip").addEventListener("click", (event) => {
    event.preventDefault(); // the address has the filters
    jobs.focus();
  });
  addEventListener("popstate", ({ state }) => {
    const before = JSON.stringify(filters);
    readHash();
    if (JSON.stringify(filters) !== before) apply();
    viewer.follow(state);
  });
  addEventListener("keydown", (event) => {
    if (event.target.matches("input, textarea, select") || document.querySelector("dialog[open]")) return;
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "/") $("text").focus();
    else if (event.key === "n") composer.open();
    else return;
    event.preventDefault();
  });
}

// ---- live -----------------------------------------------------------------------------------------------------------

function change(id, card) {
  if (loading) late.set(id, card);
  if (!changes.size) setTimeout(flush, 50);
  changes.set(id, card);
}

function flush() {
  const fresh = [];
  for (const [id, card] of changes) {
    const before = cards.get(id);
    if (!card) {
      if (shown.has(id)) hide(id);
      cards.delete(id);
      selection.gone(id);
      continue;
    }
    if (before && !before.local && before.updated_at > card.updated_at) continue;
    if (!card.local) coming.delete(id);
    cards.set(id, card);
    if (before && before.state !== card.state) announce(`${card.pose} of ${card.character}: ${headline(card)}.`);
    if (!fits(card)) {
      if (shown.has(id)) hide(id);
    } else if (!shown.has(id) && isFurtherDown(card)) {
      // It comes with its page.
    } else if (filters.view === "gallery") {
      if (before?.version !== card.version || !shown.has(id)) gallery.put(card, true);
      shown.add(id);
    } else if (shown.has(id)) cardElement(card, viewer.open);
    else {
      shown.add(id);
      fresh.unshift(cardElement(card, viewer.open));
    }
    viewer.changed(card);
    selection.changed(card);
  }
  changes.clear();
  for (const element of fresh) element.dataset.fresh = "";
  if (fresh.length) (jobs.querySelector(".cards") ?? jobs.appendChild(h("div", { class: "cards" }))).prepend(...fresh);
  showTotal();
  counting ||= setTimeout(recount, COUNTING);
}

// ---- what was sent just now -----------------------------------------------------------------------------------------

/** Show what was sent at once: as cards of this page, until the ledger has the jobs. */
function sent(jobs, localOf) {
  const now = new Date().toISOString();
  for (const job of jobs) {
    const { job_id: id, character, pose, parameters } = job;
    if (cards.has(id) && !cards.get(id).local) continue;
    const { prompt = null, seed = null } = parameters;
    const times = { created_at: now, updated_at: now, submitted_at: null, completed_at: null, eta: null };
    const nothing = { missing: [], outputs: 0, error: null, metrics: null, cost_usd: null, can_retry: false, sentence: null, step: null };
    const card = { job_id: id, attempt: 1, character, pose, state: "sending", headline: "being uploaded", prompt, seed, ...times, ...nothing, version: "sending", local: localOf(job) };
    coming.set(id, card);
    change(id, card);
  }
  scrollTo(0, 0);
}

/** Take the cards of what was not sent away. */
function unsent(ids) {
  for (const id of ids) if (coming.delete(id)) change(id, null);
}

const uploads = new Map(); // upload -> the ids of its jobs, and how it stands; either may come first
const ofUpload = (upload) => uploads.get(upload) ?? uploads.set(upload, { ids: [], standing: null }).get(upload);

function uploaded(upload, ids) {
  const known = ofUpload(upload);
  known.ids = ids;
  if (known.standing) showStanding(known);
}

function uploadMoved(standing) {
  tray.moved(standing);
  const known = ofUpload(standing.upload);
  known.standing = standing;
  showStanding(known);
}

function showStanding({ ids, standing }) {
  if (standing.state === "discarded") unsent(ids);
  const headline = { done: "uploaded, being read", stopped: "not uploaded", running: "being uploaded" }[standing.state];
  for (const id of ids) {
    const card = coming.get(id);
    if (!card || !headline || card.headline === headline) continue;
    coming.set(id, { ...card, headline, version: headline, stopped: standing.state === "stopped" });
    change(id, coming.get(id));
  }
}

/** Whether a card belongs to a page that was not loaded yet. */
const isFurtherDown = (card) =>
  !card.local && cursor !== null && (cursor.includes("/") ? card.updated_at < cursor.slice(0, cursor.indexOf("/")) : card.created_at < oldest);

/** How many there are, and of whom: the server knows those too that were not loaded. */
async function recount() {
  counting = 0;
  const asked = query();
  asked.set("limit", 1);
  try {
    const page = await get(`/api/jobs?${asked}`);
    asked.set("limit", PAGE);
    if (loading || asked.toString() !== first) return;
    total = page.total;
    showCharacters(page.characters);
    showTotal();
  } catch {
    // The next change asks again.
  }
}

function hide(id) {
  shown.delete(id);
  forget(id);
  gallery.remove(id);
}

/** The connection to the console: there, lost, or refused to this page. */
function link(up, refusal = null) {
  if (up) {
    clearTimeout(gone);
    $("link").dataset.link = "live";
    say($("link"), "Live");
    if (since) notice("console", null);
    since = null;
    return;
  }
  if (refusal) {
    clearTimeout(gone);
    lost("This page belongs to an earlier start of the console.", refusal);
  }
  if (since) return;
  since = new Date();
  $("link").dataset.link = "joining";
  say($("link"), "Reconnecting");
  gone = setTimeout(() => {
    const text = `The console does not answer. The page shows what was known at ${hourAndMinute(since)}.`;
    lost(text, "If it has ended, start python -m ops console again and open the address that it prints.");
  }, 2500);
}

function lost(text, advice) {
  $("link").dataset.link = "away";
  say($("link"), "Not connected");
  notice("console", text, { step: advice });
}

function stackState({ connected, error }) {
  if (connected) {
    notice("stack", null);
    if (away) {
      imagesAgain();
      toast("The stack is back; everything is up to date.");
    }
  } else if (!away) {
    const text = `The stack cannot be reached. The page shows what was known at ${hourAndMinute(new Date())}.`;
    notice("stack", text, { step: `${error ?? ""} The page retries by itself.`.trim() });
  }
  if (away !== !connected) {
    away = !connected;
    document.body.toggleAttribute("data-away", away);
  }
}

function showSummary(found) {
  summary.show(found);
  situate(found);
}

async function loadSummary() {
  try {
    showSummary(await get("/api/summary"));
  } catch {
    // The feed brings the next one.
  }
}

async function loadStack() {
  try {
    const stack = await get("/api/stack");
    notice("about", null);
    $("stack").textContent = `${stack.stack} · ${stack.local ? "local" : stack.region}`;
    document.title = `${stack.stack} · posedrop`;
    naming(stack.command);
    pageSize(stack.sheet_pictures);
    composer.build(stack, { characters: () => characters, sent, unsent, uploaded });
  } catch (problem) {
    notice("about", problem.message);
    setTimeout(loadStack, 3000);
  }
}

let problems = []; // what was said last

/** Show what needs a person; a notice is removed once its problem is solved. */
async function loadProblems() {
  let found;
  try {
    found = await get("/api/problems");
  } catch {
    return; // The feed says that the stack is away.
  }
  for (const { what } of problems) if (!found.some((problem) => problem.what === what)) notice(`problem ${what}`, null);
  for (const { what, step: command, action } of found) {
    const actions = attend.actionsOf(action, loadProblems);
    notice(`problem ${what}`, `${what}.`, { step: actions.length ? null : command, tone: "warn", actions }); // a button says what to do
  }
  problems = found;
}

// ---- begin ----------------------------------------------------------------------------------------------------------

const above = document.querySelector(".above");
new ResizeObserver(() => document.documentElement.style.setProperty("--above", `${above.offsetHeight}px`)).observe(above);
buildFilters();
summary.build();
viewer.build({ cards: (id) => cards.get(id), find, order, variants, edit: composer.edit });
selection.build({ card: (id) => cards.get(id), order, together: (id) => gallery.together(id), query, edit: composer.edit, compare: viewer.compare });
readHash();
apply();
loadSummary();
loadStack().then(loadProblems);
composer.watchPage();
$("new").addEventListener("click", () => composer.open());
tray.load();
listen({
  link,
  hello: ({ id }) => {
    greeting = id;
    catchUp();
  },
  job: (card) => change(card.job_id, card),
  gone: ({ job_id: id }) => change(id, null),
  summary: showSummary,
  upload: uploadMoved,
  state: stackState,
  reset: () => {
    load();
    loadSummary();
  },
});
setInterval(() => document.hidden || tick(), 1000);
setInterval(() => document.hidden || loadProblems(), PROBLEMS);
addEventListener("visibilitychange", () => document.hidden || loadProblems(), true);
