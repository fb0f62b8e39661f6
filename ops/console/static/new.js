/** New: a face and poses, or whole folders; what they would become and cost is shown before anything is sent. */

import { button, h, icon, say } from "./dom.js";
import { Problem, post } from "./api.js";
import { chosen, dropped, forgetFiles, onKept } from "./files.js";
import { Parameters } from "./form.js";
import { Group, pictureOf } from "./group.js";
import { toast } from "./notices.js";
import { count, many, usd } from "./words.js";

const PAUSE = 450; // milliseconds without a change, after which the plan is asked for
const FEW = 3; // so many characters are shown open
const COUNTING = 250; // milliseconds: to draw the page for every file would take longer than the file

let ui = null;
let built;
const ready = new Promise((resolve) => (built = resolve)); // the stack is known, and with it the parameters
let groups = [];
let leftOut = []; // {path, why}
let sideFiles = 0;
let planned = null;
let timer = 0;
let asking = null;
let sending = null; // a promise, as long as an upload is being announced: the composer is not empty yet
let reading = false;
let counting = 0; // timer

/** Make the composer. `characters()` are the names that are known, `sent(jobs, local)` and `unsent(ids)` the cards. */
export function build(stack, { characters, sent, unsent, uploaded }) {
  const known = h("datalist", { id: "known-characters" });
  const parameters = new Parameters(stack.schema, { defaultPrompt: stack.default_prompt, changed: () => plan() });
  const list = h("div", { class: "groups" });
  const left = h("details", { class: "left-out", hidden: true });
  const also = h("ul", { class: "refusals", "aria-label": "Besides" });
  const summary = h("p", { class: "in-words", role: "status" });
  const bar = h("progress", { "aria-label": "Files that the console has read", hidden: true });
  const go = h("button", { type: "submit", class: "button primary" }, "Send");
  const folder = h("input", { type: "file", webkitdirectory: true, multiple: true, class: "unseen", tabindex: "-1", "aria-label": "Folder", onchange: () => { take(chosen(folder)); folder.value = ""; } });
  const form = h(
    "form",
    {
      novalidate: true,
      onsubmit: (event) => { event.preventDefault(); submit(); },
      onkeydown: (event) => event.key === "Enter" && (event.ctrlKey || event.metaKey) && submit(),
    },
    h("header", {},
      h("h2", { id: "new-title" }, "New"),
      h("p", { class: "hint" }, "Drop pictures or folders anywhere here. A folder is a character."),
      folder,
      button("Choose a folder", { sign: "folder", onclick: () => folder.click() }),
      button("Close", { sign: "close", quiet: true, onclick: () => dialog.close() })),
    h(
      "div",
      { class: "columns", tabindex: "-1" },
      h("section", { "aria-label": "Pictures" }, known, list, left, also),
      h("section", { "aria-label": "Parameters" }, parameters.element),
    ),
    h("footer", {}, bar, summary, button("Cancel", { onclick: () => dialog.close() }), go),
  );
  const dialog = h("dialog", { class: "composer", "aria-labelledby": "new-title" }, form);
  dialog.addEventListener("dragover", (event) => event.preventDefault());
  dialog.addEventListener("drop", async (event) => {
    event.preventDefault();
    take(await dropped(event.dataTransfer));
  });
  document.body.append(dialog);
  ui = { stack, characters, sent, unsent, uploaded, known, parameters, list, left, also, summary, bar, go, dialog };
  onKept(() => (counting ||= setTimeout(() => ((counting = 0), showReading()), COUNTING)));
  reset();
  built();
}

const host = {
  known: "known-characters",
  get limit() {
    return ui.stack.file_bytes;
  },
  changed: () => plan(),
  removed: (group) => {
    groups = groups.filter((other) => other !== group);
    group.element.remove();
    if (!groups.length) add(new Group(host));
    arranged();
  },
};

function add(group) {
  groups.push(group);
  ui.list.append(group.element);
}

/** Open the composer, with files that were dropped somewhere on the page, once it can take them. */
export async function open(files = []) {
  await ready;
  await sending;
  ui.known.replaceChildren(...ui.characters().map(({ name }) => h("option", { value: name })));
  if (!ui.dialog.open) ui.dialog.showModal();
  if (files.length) take(files);
  else groups[0].input.focus();
}

/** Open the composer with jobs that were sent before, as the console describes them. */
export async function edit(ids) {
  try {
    const found = await post("/api/edit", { jobs: ids });
    await ready;
    await sending;
    reset();
    groups = [];
    ui.list.replaceChildren();
    for (const named of found.characters) {
      const kept = ({ file, pose = "", ...rest }) => pictureOf({ path: file, name: pose, ...rest });
      add(new Group(host, { name: named.character, face: named.face && kept(named.face), poses: named.poses.map(kept) }));
    }
    await open();
    ui.parameters.set(found.parameters);
    arranged();
    for (const note of found.notes) toast(`${note[0].toUpperCase()}${note.slice(1)}.`, true);
    ui.parameters.focus();
  } catch (problem) {
    toast(problem.message, true);
  }
}

/** Files without a place: their names say which character they are of, and what. */
async function take(entries) {
  if (!entries.length) return;
  const byPath = new Map(entries.map((entry) => [entry.path, entry]));
  let found;
  try {
    found = await post("/api/arrange", { paths: [...byPath.keys()] });
  } catch (problem) {
    showSummary(problem.message);
    return;
  }
  // Without a folder they belong to the one character that is open, whatever their endings.
  const loose = !entries.some(({ path }) => path.includes("/"));
  if (loose && groups.length === 1) {
    const [named] = found.characters;
    const face = named?.face && byPath.get(named.face);
    if (face) groups[0].setFace(face);
    groups[0].addPoses(entries.filter((entry) => entry !== face).map((entry) => ({ ...entry, name: named?.poses.find(({ path }) => path === entry.path)?.name })));
  } else {
    if (groups.length === 1 && !groups[0].pictures.length) groups.pop().element.remove(); // the empty one makes room
    for (const named of found.characters) merge(named, byPath);
    leftOut.push(...found.left_out);
    sideFiles += found.side_files;
  }
  if (!groups.length) add(new Group(host));
  arranged();
  (groups.length === 1 && !groups[0].name ? groups[0].input : ui.parameters).focus();
}

function merge(named, byPath) {
  const own = (path) => (path === undefined ? null : byPath.get(path).file);
  const poses = named.poses.map(({ path, name }) => pictureOf({ ...byPath.get(path), name, parameters: own(named.parameters[name]) }));
  const there = groups.find((group) => group.name === named.name);
  if (there) {
    if (named.face) there.setFace(byPath.get(named.face));
    there.addPoses(poses);
    return;
  }
  const face = named.face && pictureOf(byPath.get(named.face));
  add(new Group(host, { name: named.name, face, poses, jobFile: own(named.parameters[""]) }));
}

/** After characters came or went. */
function arranged() {
  ui.list.toggleAttribute("data-one", groups.length === 1);
  for (const group of groups) group.element.open = group.element.open || groups.length <= FEW;
  ui.left.hidden = !leftOut.length && !sideFiles;
  const side = sideFiles ? `${many(sideFiles, "side file")} ignored` : "";
  ui.left.replaceChildren(
    h("summary", {}, [leftOut.length && `${many(leftOut.length, "file")} left out`, side].filter(Boolean).join(", ")),
    h("ul", {}, leftOut.slice(0, 200).map(({ path, why }) => h("li", {}, h("strong", {}, path), `: ${why}`))),
  );
  plan();
}

// ---- the plan -------------------------------------------------------------------------------------------------------

/** Ask the console; files that it does not have any more are sent again, once. */
async function request(path, more = {}, options = {}) {
  for (let again = true; ; again = false) {
    const parameters = ui.parameters.read();
    if (!parameters) throw new Problem("A parameter is not right.");
    reading = true;
    showReading();
    const characters = await Promise.all(groups.map((group) => group.described()));
    reading = false;
    showReading();
    try {
      return await post(path, { characters, parameters, ...more }, options);
    } catch (problem) {
      if (!again || !problem.lost) throw problem;
      forgetFiles();
      for (const picture of groups.flatMap((group) => group.pictures)) if (picture.file) picture.sha256 = "";
    }
  }
}

const pictures = () => groups.flatMap((group) => group.pictures);

/** How many of the files the console has read. */
function showReading() {
  const all = pictures();
  const done = all.filter((picture) => picture.sha256 || picture.problem).length;
  const busy = reading && done < all.length;
  ui.bar.hidden = !busy;
  ui.bar.max = all.length || 1;
  ui.bar.value = done;
  if (busy && !planned) say(ui.summary, `Reading ${count(done)} of ${many(all.length, "file")}.`);
}

function lacks() {
  if (!pictures().length) return "A face and at least one pose make a picture.";
  const names = groups.map((group) => group.name);
  const lacking = groups.find((group) => group.lacks());
  if (lacking) return groups.length === 1 ? lacking.lacks() : `${lacking.name || "One character"}: ${lacking.lacks()}`;
  if (new Set(names).size < names.length) return "Two characters have the same name.";
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

/** What the plan says, on every pose, every character and below. */
function showSummary(problem = null) {
  const missing = lacks();
  const refusals = planned?.refused ?? [];
  const jobs = planned?.jobs ?? [];
  for (const group of groups) {
    const mine = planned && { jobs: jobs.filter((job) => job.character === group.name), refused: refusals.filter((each) => each.character === group.name) };
    group.show(mine);
  }
  const asked = new Set(groups.flatMap((group) => group.poses.map((pose) => JSON.stringify([group.name, pose.name]))));
  const rest = refusals.filter((refusal) => !asked.has(JSON.stringify([refusal.character, refusal.pose])));
  // What is there already and would be made again, since it shares the face or the parameters.
  const shared = jobs.filter((job) => job.outcome === "new" && !asked.has(JSON.stringify([job.character, job.pose])));
  ui.also.replaceChildren(
    ...rest.map(({ file, why }) => h("li", { class: "bad" }, h("strong", {}, file), `: ${why}`)),
    ...shared.map((job) => h("li", {}, h("strong", {}, job.pose), `: is there and would be made again, for ${usd(job.usd)}`)),
  );
  const fresh = jobs.filter((job) => job.outcome === "new").length;
  const waiting = jobs.filter((job) => job.outcome === "waiting").length;
  const faces = groups.some((group) => group.face && !group.poses.length);
  const usable = Boolean(planned) && (fresh + waiting > 0 || (faces && !refusals.length));
  ui.go.disabled = Boolean(missing) || Boolean(problem) || !usable;
  const cost = planned?.usd ? ` for about ${usd(planned.usd)}` : "";
  say(ui.go, fresh ? `Send ${many(fresh, "job")}${cost}` : waiting ? "Upload, nothing is paid yet" : "Send");
  ui.summary.toggleAttribute("data-problem", Boolean(problem));
  say(ui.summary, problem ?? missing ?? (planned ? inWords(jobs, fresh, waiting) : "Reading what this would become."));
}

function inWords(jobs, fresh, waiting) {
  const known = jobs.filter((job) => job.outcome === "known").length;
  const refused = jobs.filter((job) => job.outcome === "refused").length + planned.refused.length;
  const prices = new Set(jobs.filter((job) => job.outcome === "new").map((job) => job.usd));
  const price = prices.size === 1 ? ` at ${usd([...prices][0])} each` : "";
  const parts = [
    groups.length > 1 && many(groups.length, "character"),
    fresh && `${many(fresh, "new job")}${price}`,
    known && `${known} there already, free`,
    waiting && `${waiting} will wait`,
    refused && `${refused} refused`,
  ];
  return parts.filter(Boolean).join(", ") || "Nothing of this would make a job yet.";
}

// ---- away with them -------------------------------------------------------------------------------------------------

function submit() {
  if (planned && !sending && !ui.go.disabled) sending = announce().finally(() => (sending = null));
}

/** Send what was planned. Its cards appear at once; if it is refused, the composer opens again. */
async function announce() {
  const { usd: agreed, jobs } = planned;
  const coming = jobs.filter((job) => job.job_id && ["new", "waiting"].includes(job.outcome));
  ui.dialog.close();
  ui.sent(coming, localPictures());
  try {
    const begun = await request("/api/uploads", { usd: agreed });
    ui.uploaded(begun.upload, coming.map((job) => job.job_id));
    reset();
  } catch (problem) {
    ui.unsent(coming.map((job) => job.job_id));
    ui.dialog.showModal();
    showSummary(problem.message);
    if (problem.status !== 409) return;
    // It is not what it was: what it is now has to be seen first.
    toast(problem.message, true);
    plan();
  }
}

/** Where the face and the pose of a job are until the bucket has them. */
function localPictures() {
  const found = new Map();
  const address = (picture) => picture?.sha256 && `/api/files/${picture.sha256}`;
  for (const group of groups)
    for (const pose of group.poses) found.set(JSON.stringify([group.name, pose.name]), { face: address(group.face), pose: address(pose) });
  return (job) => found.get(JSON.stringify([job.character, job.pose])) ?? {};
}

function reset() {
  groups = [];
  leftOut = [];
  sideFiles = 0;
  planned = null;
  forgetFiles();
  ui.list.replaceChildren();
  ui.parameters.reset();
  ui.parameters.show([]);
  add(new Group(host));
  arranged();
}

/** Files that are dragged over the page anywhere open the composer when they are let go. */
export function watchPage() {
  const veil = h("div", { class: "veil", hidden: true }, h("p", {}, icon("plus"), "Drop pictures or folders"));
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
  addEventListener("drop", async (event) => {
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    depth = 0;
    veil.hidden = true;
    if (!ui?.dialog.open) open(await dropped(event.dataTransfer));
  });
}
