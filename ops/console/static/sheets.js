/** Contact sheets: one opens at once; where the pictures fill several, each has a link. */

import { button, h } from "./dom.js";
import { many } from "./words.js";

let most = 30; // pictures on a sheet

export const pageSize = (pictures) => (most = pictures);

/** Whether so many pictures fill more than one sheet. */
export const several = (pictures) => pictures > most;

/** Show a link to each sheet of so many pictures. */
export function choose(address, pictures) {
  const pages = Array.from({ length: Math.ceil(pictures / most) }, (_, at) => at + 1);
  const link = (page) => h("li", {}, h("a", { class: "button", href: `${address}?page=${page}`, target: "_blank", rel: "noopener" }, `Pictures ${(page - 1) * most + 1} to ${Math.min(page * most, pictures)}`));
  const dialog = h("dialog", { class: "ask", "aria-labelledby": "sheets-title", onclose: () => dialog.remove() },
    h("h2", { id: "sheets-title" }, "Contact sheets"),
    h("p", {}, `${many(pictures, "picture")}, at most ${most} on a sheet.`),
    h("ul", { class: "sheets" }, pages.map(link)),
    h("div", { class: "actions" }, button("Close", { onclick: () => dialog.close() })));
  document.body.append(dialog);
  dialog.showModal();
}
