/** The gallery: a contact sheet of each character, its face once, every pose beside its outputs. */

import { h, icon, say } from "./dom.js";
import { sheet } from "./api.js";
import { headline, image, stateMark } from "./card.js";
import { ago, count, dateAndTime, many } from "./words.js";

/** Draws jobs into `root`. `open(card, what, n)` shows one large, `only(character)` filters, `jobs(character)` counts. */
export class Gallery {
  constructor(root, { open, only, jobs }) {
    Object.assign(this, { root, open, only, jobs });
    this.clear();
  }

  clear() {
    this.sections = new Map();
    this.tiles = new Map();
    this.root.replaceChildren();
  }

  /** Add a job's tile or bring it up to date; `first`: it is newer than all that are there. */
  put(card, first) {
    const old = this.tiles.get(card.job_id);
    const tile = this.tile(card);
    this.tiles.set(card.job_id, tile);
    if (old) {
      old.replaceWith(tile);
      return;
    }
    const section = this.section(card, first);
    section.tiles[first ? "prepend" : "append"](tile);
    this.count(section);
  }

  remove(id) {
    const tile = this.tiles.get(id);
    if (!tile) return;
    this.tiles.delete(id);
    tile.remove();
    for (const [character, section] of this.sections) {
      this.count(section);
      if (!section.tiles.children.length) {
        section.element.remove();
        this.sections.delete(character);
      }
    }
  }

  /** How many jobs the character has; only those that were asked for and came so far are shown. */
  count(section) {
    const here = section.tiles.children.length;
    const all = this.jobs(section.name);
    say(section.number, all > here ? `${count(here)} of ${many(all, "job")} here` : many(here, "job"));
  }

  recount() {
    for (const section of this.sections.values()) this.count(section);
  }

  section(card, first) {
    const known = this.sections.get(card.character);
    if (known) return known;
    const number = h("span", { class: "number" });
    const tiles = h("div", { class: "tiles" });
    const name = card.character;
    const element = h(
      "section",
      { class: "character", "aria-label": name },
      h(
        "header",
        {},
        h("button", { type: "button", class: "face", "aria-label": `The face of ${name}`, onclick: () => this.open(card, "face") }, image(card, "face")),
        h("div", { class: "title" }, h("h2", {}, name), number),
        h("p", { class: "links" },
          h("button", { type: "button", class: "button small", onclick: () => this.only(name) }, "Only this one"),
          h("a", { class: "button small", href: sheet(name), target: "_blank", rel: "noopener" }, icon("sheet"), "Contact sheet"),
        ),
      ),
      tiles,
    );
    this.root[first ? "prepend" : "append"](element);
    const section = { name, element, tiles, number };
    this.sections.set(name, section);
    return section;
  }

  output(card, n, alt) {
    if (card.state === "done")
      return h("button", { type: "button", class: "frame output", "aria-label": alt, onclick: () => this.open(card, "output", n) }, image(card, "output", { n }));
    return h("button", { type: "button", class: "frame output none", "aria-label": `${alt}: ${headline(card)}`, onclick: () => this.open(card) }, stateMark(card));
  }

  tile(card) {
    const ratio = card.width && card.height ? Math.min(2, Math.max(0.5, card.width / card.height)) : 1;
    const outputs = Array.from({ length: Math.max(1, card.outputs) }, (_, at) => at + 1);
    const alt = `${card.pose} of ${card.character}`;
    return h(
      "figure",
      { class: "tile", "data-job": card.job_id, "--ratio": ratio },
      h(
        "div",
        { class: "strip" },
        h("div", { class: "inputs" }, ["face", "pose"].map((what) =>
          h("button", { type: "button", class: "frame", "aria-label": `The ${what} of ${alt}`, onclick: () => this.open(card, what) }, image(card, what)))),
        h("div", { class: "outputs", "data-number": outputs.length }, outputs.map((n) => this.output(card, n, outputs.length > 1 ? `${alt}, picture ${n}` : alt))),
      ),
      h("figcaption", {},
        h("span", { class: "name" }, card.pose),
        h("time", { datetime: card.updated_at, title: dateAndTime(card.updated_at) }, ago(card.completed_at ?? card.updated_at)),
      ),
    );
  }
}
