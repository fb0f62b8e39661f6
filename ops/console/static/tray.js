/** Uploads to S3: one line each, with the files that failed and a button to resume. */

import { $, button, h, say } from "./dom.js";
import { get, post } from "./api.js";
import { announce, toast } from "./notices.js";
import { bytes, count, many } from "./words.js";

const STAYS = 4000; // milliseconds that a finished upload is still shown
const rows = new Map(); // upload -> its row

/** Show the uploads that were begun before this page was opened. */
export async function load() {
  try {
    for (const upload of await get("/api/uploads")) moved(upload);
  } catch {
    // The next event shows them.
  }
}

/** An event of an upload. */
export function moved(upload) {
  const row = rows.get(upload.upload) ?? begin(upload);
  row.bar.max = Math.max(1, upload.bytes);
  row.bar.value = upload.sent;
  const { state } = upload;
  const titles = { running: "Uploading", done: "Uploaded", stopped: "Not all was uploaded", discarded: "Discarded" };
  say(row.title, `${titles[state]}: ${count(upload.done)} of ${many(upload.files, "file")}`);
  say(row.note, state === "running" ? upload.note || `${bytes(upload.sent)} of ${bytes(upload.bytes)}` : "");
  row.bar.hidden = state !== "running";
  row.actions.hidden = state !== "stopped";
  row.errors.replaceChildren(...upload.errors.slice(0, 5).map(({ file, error }) => h("li", {}, h("strong", {}, file), `: ${error}`)));
  row.element.toggleAttribute("data-error", upload.errors.length > 0);
  if (row.state === state) return;
  row.state = state;
  if (state === "done") announce(`${many(upload.files, "file")} uploaded.`);
  if (state === "stopped") announce(`${many(upload.errors.length, "file")} could not be uploaded.`);
  if (state === "done" || state === "discarded") setTimeout(() => end(upload.upload), STAYS);
}

function begin({ upload }) {
  const act = async (what) => {
    try {
      await post(`/api/uploads/${upload}/${what}`, {});
    } catch (problem) {
      toast(problem.message, true);
    }
  };
  const title = h("h2", {});
  const note = h("p", { class: "note" });
  const bar = h("progress", { max: 1, value: 0, "aria-label": "Upload" });
  const errors = h("ul", { class: "errors" });
  const actions = h(
    "p",
    { class: "actions", hidden: true },
    button("Resume", { kind: "small primary", onclick: () => act("resume") }),
    button("Discard", { kind: "small", onclick: () => act("discard") }),
  );
  const element = h("div", { class: "upload" }, title, note, bar, h("div", { class: "wrong", role: "alert" }, errors), actions);
  const row = { element, title, note, bar, errors, actions, state: "" };
  rows.set(upload, row);
  $("tray").append(element);
  return row;
}

function end(upload) {
  rows.get(upload)?.element.remove();
  rows.delete(upload);
}
