/** One character of what is about to be sent: its face, its poses, and what would become of each. */

import { button, h, icon, say } from "./dom.js";
import { bytes, many, usd } from "./words.js";
import { chosen, dropped, keep } from "./files.js";

const IMAGES = "image/*,.heic,.heif,.hif,.avif,.tif,.tiff,.jfif";
const OUTCOMES = { new: "New", known: "Existing", waiting: "Will wait", refused: "Refused" };
const CHANGES = { turned: "turned upright", converted: "as JPEG or PNG", reduced: "smaller", cleaned: "without metadata" };
let made = 0;

export const stemOf = (path) => path.replace(/^.*\//, "").replace(/\.[^.]*$/, "");
const baseName = (path) => path.replace(/^.*\//, "");

/** A picture of this machine, or one that the console has (`sha256`). */
export function pictureOf({ file = null, path, sha256 = "", size = file?.size ?? null, name = "", parameters = null }) {
  return { file, path, sha256, size, name, parameters, problem: "" };
}

/** The hash of a picture, "" of one that is too large to be sent. */
async function hashOf(picture, limit) {
  if (picture.sha256) return picture.sha256;
  if (picture.file.size > limit) return "";
  return (picture.sha256 = await keep(picture.file));
}

/** A small picture as it will be sent: upright, and of whichever type. */
function thumb(picture, sign) {
  const image = () => {
    const shown = h("img", { src: `/api/files/${picture.sha256}`, alt: "", loading: "lazy", decoding: "async", onerror: () => shown.replaceWith(icon("alert")) });
    return shown;
  };
  const frame = h("span", { class: "thumb" }, picture?.sha256 ? image() : icon(sign));
  if (picture && !picture.sha256) (picture.thumbs ??= []).push(() => frame.replaceChildren(image()));
  return frame;
}

export class Group {
  /** `host` has `limit` (bytes of a file), `changed()`, `removed(group)` and `known` (the id of a list of names). */
  constructor(host, { name = "", face = null, poses = [], jobFile = null } = {}) {
    Object.assign(this, { host, face, poses: [], jobFile, named: "", built: false });
    const id = `character-${(made += 1)}`;
    this.input = h("input", { type: "text", id, list: host.known, autocomplete: "off", spellcheck: "false", placeholder: "hero, or client-a/hero", oninput: () => this.renamed() });
    this.input.value = name;
    this.title = h("strong", {}, name);
    this.counts = h("span", { class: "counts" });
    this.wrong = h("span", { class: "wrong" });
    this.small = h("span", { class: "small-face" });
    this.faceWell = well("face", "Face", "One picture", false, (files) => this.setFace(files[0]));
    this.poseWell = well("pose", "Poses", "Any number; a job each", true, (files) => this.addPoses(files));
    this.list = h("ul", { class: "pairs", "aria-label": "What will become of them" });
    this.remove = button("Leave this character out", { kind: "small leave", onclick: () => host.removed(this) });
    this.element = h(
      "details",
      { class: "group", ontoggle: () => this.element.open && this.build() },
      h("summary", {}, this.small, this.title, this.wrong, this.counts),
      h("div", { class: "field" }, h("label", { for: id }, "Character"), this.input),
      h("div", { class: "wells" }, this.faceWell.element, this.poseWell.element),
      this.list,
      this.remove,
    );
    for (const pose of poses) this.poses.push(pose);
    this.drawFace();
  }

  get name() {
    return this.input.value.trim();
  }

  /** All pictures, the face first. */
  get pictures() {
    return [...(this.face ? [this.face] : []), ...this.poses];
  }

  renamed() {
    say(this.title, this.name || "no name yet");
    this.host.changed();
  }

  /** Draw the rows once somebody sees them: a drop may have thousands. */
  build() {
    if (this.built) return;
    this.built = true;
    this.list.replaceChildren(...this.poses.map((pose) => this.row(pose)));
    if (this.plan) this.show(this.plan);
  }

  setFace(entry) {
    if (!entry) return;
    this.face = pictureOf(entry);
    // Only a name that somebody typed outlives a new face.
    if (this.input.value === this.named) this.input.value = this.named = stemOf(entry.path).replace(/^face[-_. ]*|[-_. ]+face$/gi, "");
    this.drawFace();
    this.renamed();
  }

  drawFace() {
    this.small.replaceChildren(thumb(this.face, "face"));
    this.faceWell.fill(this.face && [thumb(this.face, "face"), h("span", { class: "caption" }, baseName(this.face.path))]);
    say(this.title, this.name || "no name yet");
  }

  addPoses(entries) {
    for (const { name, ...entry } of entries) {
      const wanted = name || stemOf(entry.path).replace(/^pose[-_. ]+/i, "") || stemOf(entry.path);
      const pose = pictureOf({ ...entry, name: this.free(wanted) });
      this.poses.push(pose);
      if (this.built) this.list.append(this.row(pose));
    }
    this.host.changed();
  }

  free(name) {
    let found = name;
    for (let at = 2; this.poses.some((pose) => pose.name === found); at++) found = `${name}-${at}`;
    return found;
  }

  /** Any picture can be the face: what was it becomes a pose. */
  makeFace(pose) {
    const before = this.face;
    this.face = pose;
    pose.row?.remove();
    this.poses = this.poses.filter((other) => other !== pose);
    pose.thumbs = null;
    this.drawFace();
    if (before) this.addPoses([{ ...before, name: stemOf(before.path) }]);
    this.host.changed();
    this.faceWell.element.querySelector("input").focus();
  }

  drop(pose) {
    pose.row?.remove();
    this.poses = this.poses.filter((other) => other !== pose);
    this.poseWell.element.querySelector("input").focus();
    this.host.changed();
  }

  row(pose) {
    const input = h("input", { type: "text", class: "bare", "aria-label": "Name of the pose", spellcheck: "false", autocomplete: "off", oninput: () => { pose.name = input.value.trim(); this.host.changed(); } });
    input.value = pose.name;
    pose.outcome = h("span", { class: "outcome" });
    pose.how = h("span", { class: "how" });
    pose.why = h("p", { class: "why" });
    const size = pose.size === null ? "" : bytes(pose.size);
    pose.row = h(
      "li",
      {},
      thumb(pose, "pose"),
      h("div", { class: "text" }, input, h("span", { class: "size" }, size, pose.how), pose.why),
      pose.outcome,
      button(`Make ${pose.name} the face`, { sign: "face", quiet: true, onclick: () => this.makeFace(pose) }),
      button(`Remove ${pose.name}`, { sign: "close", quiet: true, onclick: () => this.drop(pose) }),
    );
    return pose.row;
  }

  /** Why nothing can be said yet; null if nothing is missing. */
  lacks() {
    if (!this.face && !this.poses.length) return "A face and at least one pose make a picture.";
    if (!this.name) return "Give the character a name.";
    if (this.poses.some((pose) => !pose.name)) return "Every pose needs a name.";
    if (new Set(this.poses.map((pose) => pose.name)).size < this.poses.length) return "Two poses have the same name.";
    return null;
  }

  /** The character as the console needs it, once all its files are there. */
  async described() {
    const arranged = async (picture) => {
      const sha256 = await hashOf(picture, this.host.limit).catch((problem) => ((picture.problem = problem.message), ""));
      for (const draw of picture.thumbs ?? []) if (sha256) draw();
      picture.thumbs = null;
      const parameters = picture.parameters instanceof File ? await keep(picture.parameters) : (picture.parameters ?? "");
      return { file: baseName(picture.path), pose: picture.name, sha256, parameters };
    };
    const [face, poses, jobFile] = await Promise.all([
      this.face && arranged(this.face),
      Promise.all(this.poses.map(arranged)),
      this.jobFile ? keep(this.jobFile) : "",
    ]);
    return { character: this.name, face: face && { ...face, pose: "", parameters: "" }, poses, job_file: jobFile };
  }

  /** Show what the plan says of this character; null: it is not known yet. */
  show(plan) {
    this.plan = plan;
    const jobs = plan?.jobs ?? [];
    const refused = plan?.refused ?? [];
    const byPose = new Map(jobs.map((job) => [job.pose, job]));
    for (const pose of this.poses) {
      const job = byPose.get(pose.name);
      const refusal = refused.find((each) => each.pose === pose.name && each.file === baseName(pose.path));
      pose.result = job?.outcome ?? (refusal ? "refused" : "");
      pose.reason = pose.problem || (refusal?.why ?? job?.why ?? "");
      if (!pose.row) continue;
      pose.row.dataset.outcome = pose.result;
      say(pose.outcome, pose.result ? (OUTCOMES[pose.result] ?? pose.result) + (job?.usd ? ` · ${usd(job.usd)}` : "") : "");
      say(pose.why, pose.reason);
      const changes = (job?.changes?.pose ?? []).map((change) => CHANGES[change] ?? change);
      say(pose.how, changes.length ? `, sent ${changes.join(", ")}` : "");
    }
    this.count(jobs, refused);
  }

  count(jobs, refused) {
    const of = (outcome) => jobs.filter((job) => job.outcome === outcome && job.asked).length;
    const cost = jobs.reduce((sum, job) => sum + job.usd, 0);
    const parts = [
      of("new") && `${many(of("new"), "job")}, ${usd(cost)}`,
      of("known") && `${of("known")} there already`,
      of("waiting") && `${of("waiting")} will wait`,
    ];
    if (this.face && !this.poses.length) parts.push("the face alone");
    say(this.counts, this.plan ? parts.filter(Boolean).join(" · ") : many(this.poses.length, "pose"));
    const wrong = of("refused") + refused.length;
    const first = this.poses.find((pose) => pose.result === "refused");
    const lacks = !this.face && of("waiting") ? "No face: choose which picture it is" : "";
    say(this.wrong, wrong ? `${wrong} refused${first ? `: ${first.name}: ${first.reason}` : ""}` : this.lacks() ?? lacks);
  }
}

function well(what, title, hint, several, take) {
  const input = h("input", { type: "file", accept: IMAGES, multiple: several, class: "unseen", "aria-label": title, onchange: () => { take(chosen(input)); input.value = ""; } });
  const inside = h("span", { class: "inside" });
  const element = h("label", { class: `well ${what}` }, input, inside);
  const over = (on) => element.toggleAttribute("data-over", on);
  element.addEventListener("dragover", (event) => { event.preventDefault(); over(true); });
  element.addEventListener("dragleave", () => over(false));
  element.addEventListener("drop", async (event) => {
    event.preventDefault();
    event.stopPropagation();
    over(false);
    take(await dropped(event.dataTransfer));
  });
  const fill = (children) => {
    if (children) element.dataset.full = "";
    else delete element.dataset.full;
    inside.replaceChildren(...(children ?? [icon(what), h("strong", {}, title), h("span", {}, hint)]));
  };
  fill(null);
  return { element, fill };
}
