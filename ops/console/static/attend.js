/** What is asked of a person, with its buttons: dead letters, undelivered events, pauses. And what was paid. */

import { button, h, say } from "./dom.js";
import { get, post } from "./api.js";
import { ask } from "./confirm.js";
import { toast } from "./notices.js";
import { many, usd } from "./words.js";

/** The buttons beside a problem; `after` is called when something was done. */
export function actionsOf(action, after) {
  if (action === "dead-letters") return [["Show and decide", () => letters(after)]];
  if (action === "events") return [["Deliver them now", () => events(after)]];
  return [];
}

async function events(after) {
  try {
    const done = await post("/api/undelivered/redrive", {});
    toast(`${many(done.events, "event")} delivered.`);
    after();
  } catch (problem) {
    toast(problem.message, true);
  }
}

/** End a pause before its time, once it is confirmed. */
export async function resume() {
  const text = "The next job is sent at once, to try whether the provider accepts requests again. If it does not, a longer pause begins.";
  if (!(await ask({ title: "Resume submitting now?", text, yes: "Resume" }))) return;
  try {
    await post("/api/resume", {});
    toast("Submitting is resumed: the next job is the probe.");
  } catch (problem) {
    toast(problem.message, true);
  }
}

/** Show the dead letters; each is sent again or discarded. */
async function letters(after) {
  let found;
  try {
    found = await get("/api/dead-letters");
  } catch (problem) {
    toast(problem.message, true);
    return;
  }
  const rows = new Map();
  const title = h("h2", { id: "letters-title" });
  const act = async (action, some) => {
    try {
      const done = await post(`/api/dead-letters/${action}`, { ids: some.map((letter) => letter.message_id) });
      toast(action === "discard" ? `${many(done.messages, "message")} discarded.` : `${many(done.messages, "message")} sent again.`);
      if (done.messages < some.length) toast("Not all of them could be reached: close this, and look again in a minute.", true);
      for (const letter of some) rows.get(letter)?.remove();
      found = found.filter((letter) => !some.includes(letter));
      count();
      after();
      if (!found.length) dialog.close();
      else dialog.querySelector("li button")?.focus();
    } catch (problem) {
      toast(problem.message, true);
    }
  };
  const count = () => say(title, many(found.length, "dead letter"));
  const row = (letter) =>
    h("li", {},
      h("p", {}, h("strong", {}, `${letter.what}.`)),
      letter.reason && h("p", { class: "hint" }, letter.reason),
      h("details", {}, h("summary", {}, "Message"), h("code", {}, letter.body)),
      h("p", { class: "actions" },
        letter.helps && button("Send again", { kind: "small", onclick: () => act("redrive", [letter]) }),
        button("Discard", { kind: "small", onclick: () => act("discard", [letter]) })));
  for (const letter of found) rows.set(letter, row(letter));
  const helps = () => found.filter((letter) => letter.helps);
  const discardAll = async () => {
    const text = "They are deleted for good. A job that one of them stands for is not made, unless its files are uploaded again.";
    if (await ask({ title: `Discard ${many(found.length, "message")}?`, text, yes: "Discard all" })) act("discard", found);
  };
  const dialog = h("dialog", { class: "ask wide", "aria-labelledby": "letters-title", onclose: () => dialog.remove() },
    title,
    h("p", {}, "Messages that could not be handled after several attempts. Nothing of them is lost until it is discarded."),
    h("ul", { class: "letters" }, [...rows.values()]),
    h("div", { class: "actions" },
      button("Close", { onclick: () => dialog.close() }),
      button("Discard all", { onclick: discardAll }),
      helps().length > 0 && button("Send all again that it may help", { kind: "primary", onclick: () => act("redrive", helps()) })));
  count();
  document.body.append(dialog);
  dialog.showModal();
}

/** Show what was paid, by character and by month. */
export async function costs() {
  let found;
  try {
    found = await get("/api/costs");
  } catch (problem) {
    toast(problem.message, true);
    return;
  }
  const row = ({ name, jobs, known_usd: known, estimated_usd: estimated }) =>
    h("tr", {}, h("th", { scope: "row" }, name), h("td", {}, String(jobs)), h("td", {}, usd(known + estimated)), h("td", {}, estimated ? usd(estimated) : "none"));
  const table = (title, groups) =>
    h("table", {},
      h("caption", {}, title),
      h("thead", {}, h("tr", {}, ["Name", "Jobs", "Paid", "Of it estimated"].map((words) => h("th", { scope: "col" }, words)))),
      h("tbody", {}, groups.map(row)));
  const { total, cut } = found;
  const whole = cut === null ? "" : " It counts the jobs that the page knows, not all: python -m ops costs counts all.";
  const dialog = h("dialog", { class: "ask wide", "aria-labelledby": "costs-title", onclose: () => dialog.remove() },
    h("h2", { id: "costs-title" }, "Costs"),
    h("p", {}, `${usd(total.known_usd + total.estimated_usd)} for ${many(total.jobs, "job")}.${whole}`),
    total.jobs > 0 && h("div", { class: "tables", tabindex: "0", role: "region", "aria-label": "Costs in tables" }, table("By month (UTC)", found.month), table("By character", found.character)),
    h("div", { class: "actions" }, button("Close", { onclick: () => dialog.close() })));
  document.body.append(dialog);
  dialog.showModal();
}
