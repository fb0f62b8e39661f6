/** The gallery: a contact sheet of each character, its face once, every pose beside its outputs. */

import { h, icon, say } from "./dom.js";
import { get, sheet } from "./api.js";
import { toast } from "./notices.js";
import { choose, several } from "./sheets.js";
import { box } from "./selection.js";
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
    this.cards = new Map();
    this.stacks = new Map();
    this.root.replaceChildren();
  }

  /** Add a job's tile or bring it up to date; `first`: it is newer than all that are there. Variants share one tile. */
  put(card, first) {
    this.cards.set(card.job_id, card);
    const stack = this.stacks.get(card.stack) ?? { ids: [], tile: null };
    this.stacks.set(card.stack, stack);
    if (!stack.ids.includes(card.job_id)) stack.ids[first ? "unshift" : "push"](card.job_id);
    this.draw(stack, card, first);
  }

  draw(stack, card, first) {
    const tile = this.tile(this.cards.get(stack.ids[0]), stack.ids.length);
    if (stack.tile) stack.tile.replaceWith(tile);
    else this.section(card, first).tiles[first ? "prepend" : "append"](tile);
    stack.tile = tile;
    this.count(this.section(card, first));
  }

  remove(id) {
    const card = this.cards.get(id);
    const stack = card && this.stacks.get(card.stack);
    this.cards.delete(id);
    if (!stack) return;
    stack.ids = stack.ids.filter((other) => other !== id);
    if (stack.ids.length) return this.draw(stack, card, false);
    stack.tile.remove();
    this.stacks.delete(card.stack);
    const section = this.sections.get(card.character);
    this.count(section);
    if (section.tiles.children.length) return;
    section.element.remove();
    this.sections.delete(card.character);
  }

  /** The jobs that lie in one stack with this one, the newest first. */
  together(id) {
    return this.stacks.get(this.cards.get(id)?.stack)?.ids ?? [id];
  }

  /** How many jobs the character has; only those that were asked for and came so far are shown. */
  count(section) {
    const here = [...this.cards.values()].filter((card) => card.character === section.name).length;
    const all = this.jobs(section.name);
    say(section.number, all > here ? `${count(here)} of ${many(all, "job")} here` : many(here, "job"));
  }

  /** Open a character's contact sheet, or offer its sheets: a job has up to four pictures. */
  async sheets(event, name) {
    if (!several(4 * this.jobs(name))) return; // the link does it
    event.preventDefault();
    try {
      const { pictures } = await get(`${sheet(name)}.json`);
      if (several(pictures) || !open(`${sheet(name)}.png`)) choose(`${sheet(name)}.png`, pictures);
    } catch (problem) {
      toast(problem.message, true);
    }
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
          h("a", { class: "button small", href: `${sheet(name)}.png`, target: "_blank", rel: "noopener", onclick: (event) => this.sheets(event, name) }, icon("sheet"), "Contact sheet"),
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

  tile(card, variants) {
    const ratio = card.width && card.height ? Math.min(2, Math.max(0.5, card.width / card.height)) : 1;
    const outputs = Array.from({ length: Math.max(1, card.outputs) }, (_, at) => at + 1);
    const alt = `${card.pose} of ${card.character}`;
    return h(
      "figure",
      { class: "tile", "data-job": card.job_id, "--ratio": ratio, "data-variants": variants > 1 ? variants : null },
      card.local ? null : box(card, variants > 1 ? `all ${variants} of ${alt}` : alt),
      h(
        "div",
        { class: "strip" },
        h("div", { class: "inputs" }, ["face", "pose"].map((what) =>
          h("button", { type: "button", class: "frame", "aria-label": `The ${what} of ${alt}`, onclick: () => this.open(card, what) }, image(card, what)))),
        h("div", { class: "outputs", "data-number": outputs.length }, outputs.map((n) => this.output(card, n, outputs.length > 1 ? `${alt}, picture ${n}` : alt))),
      ),
      h("figcaption", {},
        h("span", { class: "name" }, card.pose),
        variants > 1 && h("span", { class: "variants" }, `${variants} variants`),
        h("time", { datetime: card.updated_at, title: dateAndTime(card.updated_at) }, ago(card.completed_at ?? card.updated_at)),
      ),
    );
  }
}
