/** Questions before anything is paid, and short answers after. */

import { button, h } from "./dom.js";
import { post, jobPath } from "./api.js";
import { usd } from "./words.js";
import { toast } from "./notices.js";

/** Ask. The promise says whether the answer is yes; `field` is shown below the text. */
export function ask({ title, text, yes, field = null }) {
  return new Promise((answer) => {
    const form = h(
      "form",
      {
        onsubmit: (event) => {
          event.preventDefault();
          dialog.close("yes");
        },
      },
      h("h2", { id: "ask-title" }, title),
      h("p", { id: "ask-text" }, text),
      field,
      h(
        "div",
        { class: "actions" },
        button("Cancel", { onclick: () => dialog.close("no") }),
        h("button", { type: "submit", class: "button primary" }, yes),
      ),
    );
    const dialog = h("dialog", { class: "ask", "aria-labelledby": "ask-title", "aria-describedby": "ask-text" }, form);
    dialog.addEventListener("close", () => {
      dialog.remove();
      answer(dialog.returnValue === "yes");
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}

/** A new attempt of a job, once the price is agreed to. */
export async function retry(card) {
  try {
    const path = `${jobPath(card.job_id)}/retry`;
    const asked = await post(path, { confirm: false });
    const yes = `Try again${asked.usd ? ` for ${usd(asked.usd)}` : ""}`;
    if (!(await ask({ title: `Try ${card.pose} again?`, text: asked.asks, yes }))) return;
    await post(path, { confirm: true });
    toast(`${card.character} / ${card.pose} is tried again.`);
  } catch (problem) {
    toast(problem.message, true);
  }
}

/** A new job of the same face and pose with another seed, once the price is agreed to. */
export async function again(card) {
  try {
    const path = `${jobPath(card.job_id)}/again`;
    const asked = await post(path, { seed: null, confirm: false });
    const seed = h("input", { type: "text", inputmode: "numeric", pattern: "-?[0-9]{1,19}", required: true });
    seed.value = String(asked.seed);
    const field = h("label", { class: "field" }, h("span", {}, "Seed"), seed);
    const yes = `Make it for ${usd(asked.usd)}`;
    if (!(await ask({ title: "Again with another seed?", text: asked.sentence, yes, field }))) return;
    const made = await post(path, { seed: BigInt(seed.value), confirm: true });
    toast(`${made.character} / ${made.pose} is on its way.`);
  } catch (problem) {
    toast(problem.message, true);
  }
}
