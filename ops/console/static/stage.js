/** Pictures side by side, fitted or at 100%: what is moved in one moves in all. */

import { h } from "./dom.js";

export class Stage {
  constructor() {
    this.element = h("div", { class: "stage" });
    this.zoomed = false;
    this.shown = "";
  }

  /** Show panes `{key, make(size), label}`; those that are there already stay. */
  show(panes) {
    const wanted = `${this.zoomed}|${panes.map((pane) => pane.key).join("|")}`;
    if (wanted === this.shown) return;
    this.shown = wanted;
    const several = panes.length > 1;
    this.element.dataset.panes = String(panes.length);
    // Where the window is narrow they stand in a row that is swiped or scrolled with the arrow keys.
    for (const [name, value] of [["tabindex", "0"], ["role", "region"], ["aria-label", "Side by side"]])
      if (several) this.element.setAttribute(name, value);
      else this.element.removeAttribute(name);
    this.element.replaceChildren(...panes.map((pane) => this.pane(pane, several)));
  }

  /** Bring one of several panes into sight, where they do not all fit. */
  bring(at) {
    const pane = this.element.children[at];
    if (this.element.scrollWidth > this.element.clientWidth && pane) this.element.scrollTo({ left: pane.offsetLeft - (this.element.clientWidth - pane.offsetWidth) / 2 });
  }

  pane({ make, label }, several) {
    const inside = h("div", { class: "inside", tabindex: this.zoomed ? "0" : null, role: this.zoomed ? "region" : null, "aria-label": this.zoomed ? label : null }, make(this.zoomed ? "original" : "large"));
    const pane = h("figure", { class: "pane" }, inside, several && h("figcaption", {}, label));
    if (this.zoomed) this.move(inside);
    return pane;
  }

  move(inside) {
    const share = (element, side, size) => element[`scroll${side}`] / Math.max(1, element[`scroll${size}`] - element[`client${size}`]);
    inside.addEventListener("scroll", () => {
      if (this.leader && this.leader !== inside) return;
      this.leader = inside;
      for (const other of this.element.querySelectorAll(".inside")) {
        if (other === inside) continue;
        other.scrollTo(share(inside, "Left", "Width") * (other.scrollWidth - other.clientWidth), share(inside, "Top", "Height") * (other.scrollHeight - other.clientHeight));
      }
      clearTimeout(this.timer);
      this.timer = setTimeout(() => (this.leader = null), 100);
    });
    let from = null;
    inside.addEventListener("pointerdown", (event) => {
      from = { x: event.clientX + inside.scrollLeft, y: event.clientY + inside.scrollTop };
      inside.setPointerCapture(event.pointerId);
    });
    inside.addEventListener("pointermove", (event) => from && inside.scrollTo(from.x - event.clientX, from.y - event.clientY));
    for (const name of ["pointerup", "pointercancel"]) inside.addEventListener(name, () => (from = null));
  }

  /** Fitted into the window, or a pixel of the picture for a pixel of the screen. */
  zoom(on) {
    this.zoomed = on;
    this.element.toggleAttribute("data-zoomed", on);
  }

  clear() {
    this.shown = "";
    this.element.replaceChildren();
  }
}
