/** Questions before anything is paid, and short answers after. */

import { button, h, say } from "./dom.js";
import { post, jobPath } from "./api.js";
import { many, usd } from "./words.js";
import { toast } from "./notices.js";

const MOST_SEEDS = 8;

/** Ask. The promise says whether the answer is yes; `field` is shown below the text, `made(submit)` gets the button. */
export function ask({ title, text, yes, field = null, made = () => {} }) {
  return new Promise((answer) => {
    const submit = h("button", { type: "submit", class: "button primary" }, yes);
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
      h("div", { class: "actions" }, button("Cancel", { onclick: () => dialog.close("no") }), submit),
    );
    const dialog = h("dialog", { class: "ask", "aria-labelledby": "ask-title", "aria-describedby": "ask-text" }, form);
    dialog.addEventListener("close", () => {
      dialog.remove();
      answer(dialog.returnValue === "yes");
    });
    document.body.append(dialog);
    made(submit);
    dialog.showModal();
  });
}

/** A new attempt of a job, once the price is agreed to. */
export async function retry(card) {
  try {
    const path = `${jobPath(card.job_id)}/retry`;
    const asked = await post(path, { confirm: false });
    const yes = `Retry${asked.usd ? ` for ${usd(asked.usd)}` : ""}`;
    const twice = h("input", { type: "checkbox" });
    const field = asked.unknown && h("label", { class: "check" }, twice, "Pay again even if the provider's history cannot say whether the first request was accepted");
    if (!(await ask({ title: `Retry ${card.pose}?`, text: asked.asks, yes, field }))) return;
    await post(path, { confirm: true, buy_again: twice.checked });
    toast(`${card.character} / ${card.pose} is retried.`);
  } catch (problem) {
    toast(problem.message, true);
  }
}

/** New attempts of all failed jobs among some, once the price is agreed to. */
export async function retryAll(ids) {
  try {
    const asked = await post("/api/retry", { jobs: ids, confirm: false });
    const [first] = asked.refused;
    const left = asked.refused.length ? ` ${many(asked.refused.length, "job")} cannot be retried: ${first}.` : "";
    if (!asked.jobs) return toast(`None of them can be retried.${left}`, true);
    const text = `It costs ${usd(asked.usd)} at most: a result that is still at the provider is not paid for again.${left}`;
    const yes = `Retry for ${usd(asked.usd)}`;
    if (!(await ask({ title: `Retry ${many(asked.jobs, "failed job")}?`, text, yes }))) return;
    const done = await post("/api/retry", { jobs: ids, confirm: true });
    toast(`${many(done.jobs, "job")} ${done.jobs === 1 ? "is" : "are"} retried.`);
  } catch (problem) {
    toast(problem.message, true);
  }
}

/** New jobs of the same face and pose with other seeds, once the price is agreed to. */
export async function moreSeeds(card) {
  try {
    const path = `${jobPath(card.job_id)}/again`;
    const asked = await post(path, { count: 1, confirm: false });
    const seed = h("input", { type: "text", inputmode: "numeric", pattern: "-?[0-9]{1,19}" });
    seed.value = String(asked.seeds[0]);
    const one = h("label", { class: "field" }, h("span", {}, "Seed"), seed);
    const radios = Array.from({ length: MOST_SEEDS }, (_, at) => h("input", { type: "radio", name: "seeds", value: at + 1, checked: !at }));
    const number = () => Number(radios.find((radio) => radio.checked).value);
    const choices = h("div", { class: "choices" }, radios.map((radio) => h("label", {}, radio, h("span", {}, radio.value))));
    const field = h("div", { class: "field" }, h("fieldset", {}, h("legend", {}, "How many"), choices), one);
    const yes = (n) => `Make ${n} for ${usd(n * asked.usd)}`;
    const made = (submit) =>
      field.addEventListener("input", () => {
        one.hidden = number() > 1;
        say(submit, yes(number()));
      });
    const note = asked.character === card.character ? "" : ` ${card.character} has another face by now, so they are made as ${asked.character}.`;
    const text = `The same face, pose and parameters with other seeds, each for about ${usd(asked.usd)}.${note}`;
    if (!(await ask({ title: `More seeds of ${card.pose}?`, text, yes: yes(1), field, made }))) return;
    const n = number();
    const seeds = n === 1 && seed.value.trim() ? { seed: BigInt(seed.value) } : { count: n };
    const begun = await post(path, { ...seeds, confirm: true, usd: n * asked.usd + 1e-9 });
    toast(n === 1 ? `${begun.jobs[0].character} / ${begun.jobs[0].pose} is queued.` : `${n} more of ${card.pose} are queued.`);
    return begun;
  } catch (problem) {
    toast(problem.message, true);
  }
}
