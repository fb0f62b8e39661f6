/** Uploads on their way to S3, a bar for each file. */

import { button, h, say } from "./dom.js";
import { tell } from "./notices.js";
import { bytes, many } from "./words.js";

const STAYS = 4000; // milliseconds that a finished upload is still shown
const uploads = new Map();
let tray;

/** All files of an upload that begins, of whichever page. */
export function begun({ upload, files }) {
  for (const { key, bytes: size } of files) row(upload, key, size);
  say(tray.querySelector("h2"), "Uploading");
}

/** An event of an upload. */
export function moved({ upload, key, sent, bytes: size, done, error }) {
  const file = row(upload, key, size);
  file.bar.max = Math.max(1, size);
  file.bar.value = sent;
  if (error) {
    file.error = true;
    file.element.dataset.error = "";
    say(file.note, error);
    file.note.setAttribute("role", "alert");
  } else say(file.note, done ? "uploaded" : `${bytes(sent)} of ${bytes(size)}`);
  if (done) file.done = true;
  settle(upload);
}

function row(upload, key, size) {
  if (!uploads.has(upload)) uploads.set(upload, new Map());
  const files = uploads.get(upload);
  if (files.has(key)) return files.get(key);
  tray ??= document.body.appendChild(h("section", { class: "tray", "aria-label": "Uploads" }));
  if (!tray.children.length) {
    const close = button("Close", { sign: "close", quiet: true, onclick: () => tray.replaceChildren() });
    tray.append(h("header", {}, h("h2", {}, "Uploading"), close), h("ul", {}));
  }
  const name = key.replace(/^incoming\//, "");
  const bar = h("progress", { max: Math.max(1, size), value: 0, "aria-label": name });
  const note = h("span", { class: "note" }, bytes(size));
  const element = h("li", {}, h("span", { class: "name", title: key }, name), note, bar);
  tray.querySelector("ul").append(element);
  const file = { element, bar, note, done: false, error: false };
  files.set(key, file);
  return file;
}

function settle(upload) {
  const files = [...uploads.get(upload).values()];
  if (!files.every((file) => file.done || file.error)) return;
  const failed = files.filter((file) => file.error).length;
  tell(failed ? `${many(failed, "file")} could not be uploaded.` : `${many(files.length, "file")} uploaded.`);
  const title = tray?.querySelector("h2");
  if (title) say(title, failed ? "Not all was uploaded" : "Uploaded");
  if (failed) return;
  uploads.delete(upload);
  setTimeout(() => {
    for (const file of files) file.element.remove();
    if (!tray.querySelector("li")) tray.replaceChildren();
    else say(tray.querySelector("h2"), "Uploading");
  }, STAYS);
}
