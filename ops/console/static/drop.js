/** Drop: a face, poses and parameters; what they would become and cost is shown before anything is sent. */

import { button, h, icon, say } from "./dom.js";
import { Problem, post, send } from "./api.js";
import { Parameters } from "./form.js";
import { toast } from "./notices.js";
import { bytes, many, usd } from "./words.js";

const PAUSE = 450; // milliseconds without a change, after which the plan is asked for
const IMAGES = "image/*,.heic,.heif,.hif,.avif,.tif,.tiff,.jfif";
const OUTCOMES = { new: "New", known: "There already", waiting: "Will wait", refused: "Refused" };

let ui = null;
let early = null; // files that were dropped, or [] if the composer was asked for, before the stack was known
let face = null; // {file, url}
let poses = []; // {file, url, name, row, …}
let planned = null;
let timer = 0;
let asking = null;
let sending = false;
let named = ""; // the character as the face's file named it
const kept = new Map(); // file -> the promise of its hash: each is sent once, however often it is planned
let sent = Promise.resolve(); // one after another, so that the page's other requests find a connection

/** Make the composer of a stack. `characters()` are the names that are known. */
export function build(stack, characters) {
  const character = h("input", { type: "text", id: "new-character", list: "known-characters", autocomplete: "off", spellcheck: "false", placeholder: "hero, or client-a/hero", oninput: () => plan() });
  const known = h("datalist", { id: "known-characters" });
  const parameters = new Parameters(stack.schema, { defaultPrompt: stack.default_prompt, changed: () => plan() });
  const faceWell = well("face", "Face", "One picture", false, (files) => setFace(files[0]));
  const poseWell = well("pose", "Poses", "Any number; a job each", true, (files) => addPoses(files));
  const list = h("ul", { class: "pairs", "aria-label": "What will become of them" });
  const summary = h("p", { class: "summary", role: "status" });
  const refused = h("ul", { class: "refusals", "aria-label": "Besides" });
  const go = h("button", { type: "submit", class: "button primary" }, "Send");
  const title = h("h2", { id: "drop-title" }, "Drop pictures");
  const form = h(
    "form",
    { novalidate: true, onsubmit: (event) => { event.preventDefault(); submit(); } },
    h("header", {}, title, button("Close", { sign: "close", quiet: true, onclick: () => dialog.close() })),
    h(
      "div",
      { class: "columns", tabindex: "-1" },
      h(
        "section",
        { "aria-label": "Pictures" },
        h("div", { class: "field" }, h("label", { for: "new-character" }, "Character"), character, known),
        h("div", { class: "wells" }, faceWell.element, poseWell.element),
        list,
        refused,
      ),
      h("section", { "aria-label": "Parameters" }, parameters.element),
    ),
    h("footer", {}, summary, button("Cancel", { onclick: () => dialog.close() }), go),
  );
  const dialog = h("dialog", { class: "composer", "aria-labelledby": "drop-title" }, form);
  dialog.addEventListener("dragover", (event) => event.preventDefault());
  dialog.addEventListener("drop", (event) => {
    event.preventDefault();
    take([...event.dataTransfer.files]);
  });
  document.body.append(dialog);
  ui = { stack, characters, character, known, parameters, faceWell, poseWell, list, summary, refused, go, dialog };
  showSummary();
  if (early) open(early);
}

/** Open the composer, with files that were dropped somewhere on the page. */
export function open(files = []) {
  if (!ui) {
    early = [...(early ?? []), ...files];
    return;
  }
  ui.known.replaceChildren(...ui.characters().map(({ name }) => h("option", { value: name })));
  if (!ui.dialog.open) ui.dialog.showModal();
  if (files.length) take(files);
  else ui.character.focus();
}

/** Files without a place: the one that is called a face is the face, all others are poses. */
function take(files) {
  const named = files.find((file) => /(^|[-_. ])face([-_. ]|$)/i.test(file.name));
  if (named) setFace(named);
  addPoses(files.filter((file) => file !== named));
}

function well(what, title, hint, several, chosen) {
  const input = h("input", { type: "file", accept: IMAGES, multiple: several, class: "unseen", "aria-label": title, onchange: () => { chosen([...input.files]); input.value = ""; } });
  const inside = h("span", { class: "inside" });
  const element = h("label", { class: `well ${what}` }, input, inside);
  const empty = () => inside.replaceChildren(icon(what), h("strong", {}, title), h("span", {}, hint));
  const over = (on) => element.toggleAttribute("data-over", on);
  element.addEventListener("dragover", (event) => { event.preventDefault(); over(true); });
  element.addEventListener("dragleave", () => over(false));
  element.addEventListener("drop", (event) => {
    event.preventDefault();
    event.stopPropagation();
    over(false);
    chosen([...event.dataTransfer.files]);
  });
  empty();
  return { element, inside, empty };
}

function setFace(file) {
  if (!file) return;
  if (face) URL.revokeObjectURL(face.url);
  face = { file, url: URL.createObjectURL(file) };
  const image = h("img", { src: face.url, alt: "The face", onerror: () => image.replaceWith(icon("alert")) });
  ui.faceWell.inside.replaceChildren(image, h("span", { class: "caption" }, file.name));
  ui.faceWell.element.dataset.full = "";
  // Only a name that somebody typed outlives a new face.
  if (ui.character.value === named) ui.character.value = named = stemOf(file.name).replace(/^face[-_. ]*/i, "");
  for (const pose of poses) pose.faceImage.replaceChildren(faceThumb());
  plan();
}

/** The hash under which the server keeps a file; none for one that is too large. */
function keep(file) {
  if (file.size > ui.stack.file_bytes) return Promise.resolve("");
  if (!kept.has(file)) {
    const hash = sent.then(() => send("/api/files", file)).then(({ sha256 }) => sha256);
    kept.set(file, hash);
    sent = hash.catch(() => kept.delete(file));
  }
  return kept.get(file);
}

const stemOf = (name) => name.replace(/\.[^.]*$/, "");
const faceThumb = () => (face ? h("img", { src: face.url, alt: "" }) : icon("face"));

function addPoses(files) {
  for (const file of files) {
    let name = stemOf(file.name).replace(/^pose[-_. ]+/i, "");
    for (let at = 2; poses.some((pose) => pose.name === name); at++) name = `${stemOf(file.name)}-${at}`;
    const pose = { file, name, url: URL.createObjectURL(file) };
    pose.row = row(pose);
    poses.push(pose);
    ui.list.append(pose.row);
  }
  plan();
}

function row(pose) {
  const input = h("input", { type: "text", class: "bare", "aria-label": "Name of the pose", spellcheck: "false", autocomplete: "off", oninput: () => { pose.name = input.value.trim(); plan(); } });
  input.value = pose.name;
  pose.faceImage = h("span", { class: "thumb" }, faceThumb());
  const image = h("img", { src: pose.url, alt: "", onerror: () => image.replaceWith(icon("alert")) });
  pose.outcome = h("span", { class: "outcome" });
  pose.why = h("p", { class: "why" });
  return h(
    "li",
    {},
    pose.faceImage,
    h("span", { class: "thumb" }, image),
    h("div", { class: "text" }, input, h("span", { class: "size" }, bytes(pose.file.size)), pose.why),
    pose.outcome,
    button(`Remove ${pose.name}`, { sign: "close", quiet: true, onclick: () => remove(pose) }),
  );
}

function remove(pose) {
  URL.revokeObjectURL(pose.url);
  poses = poses.filter((other) => other !== pose);
  pose.row.remove();
  ui.poseWell.element.querySelector("input").focus();
  plan();
}

// ---- the plan -------------------------------------------------------------------------------------------------------

/** What is asked for; null if a parameter is not right. */
async function contents() {
  const parameters = ui.parameters.read();
  if (!parameters) return null;
  const described = async ({ file, name = "" }) => ({ file: file.name, pose: name, sha256: await keep(file) });
  const [mine, ...theirs] = await Promise.all([face && described(face), ...poses.map(described)]);
  return { character: ui.character.value.trim(), face: mine, poses: theirs, parameters };
}

/** Ask the server; files that it does not have any more are sent again, once. */
async function request(path, more = {}, options = {}) {
  for (let again = true; ; again = false) {
    const body = await contents();
    if (!body) throw new Problem("A parameter is not right.");
    try {
      return await post(path, { ...body, ...more }, options);
    } catch (problem) {
      if (!again || !problem.lost) throw problem;
      kept.clear();
    }
  }
}

function lacks() {
  if (!face && !poses.length) return "A face and at least one pose make a picture.";
  if (!ui.character.value.trim()) return "Give the character a name.";
  if (poses.some((pose) => !pose.name)) return "Every pose needs a name.";
  if (new Set(poses.map((pose) => pose.name)).size < poses.length) return "Two poses have the same name.";
  return null;
}

function plan() {
  planned = null;
  clearTimeout(timer);
  asking?.abort();
  showSummary();
  if (!lacks()) timer = setTimeout(ask, PAUSE);
}

async function ask() {
  const mine = (asking = new AbortController());
  try {
    const found = await request("/api/plan", {}, { signal: mine.signal });
    if (mine !== asking || mine.signal.aborted) return;
    planned = found;
    ui.parameters.show(planned.jobs.filter((job) => job.asked).map((job) => job.parameters));
    showSummary();
  } catch (problem) {
    if (problem.name !== "AbortError" && mine === asking) showSummary(problem.message);
  }
}

/** What the plan says, on every pair and below. */
function showSummary(problem = null) {
  const missing = lacks();
  const refusals = planned?.refused ?? [];
  const ofFile = (pose) => refusals.find((refusal) => refusal.pose === pose.name && refusal.file === pose.file.name);
  for (const pose of poses) {
    const job = planned?.jobs.find((found) => found.pose === pose.name);
    const refusal = ofFile(pose);
    const outcome = job?.outcome ?? (refusal ? "refused" : null);
    pose.row.dataset.outcome = outcome ?? "";
    say(pose.outcome, outcome ? (OUTCOMES[outcome] ?? outcome) + (job?.usd ? ` · ${usd(job.usd)}` : "") : "");
    say(pose.why, refusal?.why ?? job?.why ?? "");
  }
  const jobs = planned?.jobs ?? [];
  const rest = refusals.filter((refusal) => !poses.some((pose) => ofFile(pose) === refusal));
  // What is there already and would be made anew, since it shares the face or the parameters.
  const shared = jobs.filter((job) => !poses.some((pose) => pose.name === job.pose) && job.outcome === "new");
  ui.refused.replaceChildren(
    ...rest.map(({ file, why }) => h("li", { class: "bad" }, h("strong", {}, file), `: ${why}`)),
    ...shared.map((job) => h("li", {}, h("strong", {}, job.pose), `: is there and would be made anew, for ${usd(job.usd)}`)),
  );
  const fresh = jobs.filter((job) => job.outcome === "new").length;
  const waiting = jobs.filter((job) => job.outcome === "waiting").length;
  const usable = Boolean(planned) && (fresh + waiting > 0 || (face && !poses.length && !refusals.length));
  ui.go.disabled = sending || Boolean(missing) || Boolean(problem) || !usable;
  const cost = planned?.usd ? ` for about ${usd(planned.usd)}` : "";
  say(ui.go, sending ? "Sending" : fresh ? `Send ${many(fresh, "job")}${cost}` : waiting ? "Upload, nothing is paid yet" : "Send");
  ui.summary.toggleAttribute("data-problem", Boolean(problem));
  say(ui.summary, problem ?? missing ?? (planned ? inWords(jobs, fresh, waiting) : "Looking at what this would become."));
}

function inWords(jobs, fresh, waiting) {
  const known = jobs.filter((job) => job.outcome === "known").length;
  const refused = jobs.filter((job) => job.outcome === "refused").length + planned.refused.length;
  const prices = new Set(jobs.filter((job) => job.outcome === "new").map((job) => job.usd));
  const price = prices.size === 1 ? ` at ${usd([...prices][0])} each` : "";
  const parts = [
    fresh && `${many(fresh, "new job")}${price}`,
    known && `${known} there already, free`,
    waiting && `${waiting} will wait`,
    refused && `${refused} refused`,
  ];
  return parts.filter(Boolean).join(", ") || "Nothing of this would make a job yet.";
}

// ---- away with them -------------------------------------------------------------------------------------------------

async function submit() {
  if (!planned || ui.go.disabled) return;
  const { usd: agreed } = planned;
  sending = true;
  showSummary();
  try {
    const taken = await request("/api/uploads", { usd: agreed });
    clear();
    ui.dialog.close();
    toast(`${many(taken.files, "file")} on the way to the bucket.`);
  } catch (problem) {
    sending = false;
    if (problem.status !== 409) return showSummary(problem.message);
    // It is not what it was: what it is now has to be seen first.
    toast(problem.message, true);
    plan();
  }
  sending = false;
}

function clear() {
  for (const pose of poses) {
    URL.revokeObjectURL(pose.url);
    pose.row.remove();
  }
  if (face) URL.revokeObjectURL(face.url);
  face = null;
  poses = [];
  planned = null;
  sending = false;
  kept.clear();
  ui.parameters.show([]);
  ui.character.value = named = "";
  delete ui.faceWell.element.dataset.full;
  ui.faceWell.empty();
  showSummary();
}

/** Files that are dragged over the page anywhere open the composer when they are let go. */
export function watchPage() {
  const veil = h("div", { class: "veil", hidden: true }, h("p", {}, icon("plus"), "Drop a face and poses"));
  document.body.append(veil);
  let depth = 0;
  const files = (event) => event.dataTransfer?.types.includes("Files") && !ui?.dialog.open;
  addEventListener("dragenter", (event) => {
    if (!files(event)) return;
    depth += 1;
    veil.hidden = false;
  });
  addEventListener("dragleave", (event) => {
    if (!files(event)) return;
    depth -= 1;
    veil.hidden = depth <= 0;
  });
  addEventListener("dragover", (event) => event.dataTransfer?.types.includes("Files") && event.preventDefault());
  addEventListener("drop", (event) => {
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    depth = 0;
    veil.hidden = true;
    if (!ui?.dialog.open) open([...event.dataTransfer.files]);
  });
}
