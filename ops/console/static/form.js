/** A form made from the job's schema. Only what somebody set is sent: all else stays as the files in the bucket say. */

import { json } from "./api.js";
import { button, h } from "./dom.js";

const LABELS = {
  prompt: "Prompt",
  samples: "Pictures",
  output_format: "Format",
  seed: "Seed",
  quality: "Quality",
  use_input_img_dimension: "As large as the pose",
  custom_width: "Width",
  custom_height: "Height",
  base_64: "Answer with the image itself",
  context: "Context",
};
const FEW = 6; // so many whole numbers are buttons
const SMALL = 200; // so many are a slider
const ADVANCED = ["base_64", "context"];

/** Build the fields. `changed()` is called after every change. */
export class Parameters {
  constructor(schema, { defaultPrompt = "", changed }) {
    this.fields = new Map();
    this.touched = new Set();
    this.changed = changed;
    const basic = h("div", { class: "parameters" });
    const more = h("div", { class: "parameters" });
    const order = [...new Set([...Object.keys(LABELS), ...Object.keys(schema.properties)])];
    for (const name of order.filter((name) => schema.properties[name])) {
      const rule = schema.properties[name];
      const field = this.field(name, rule, name === "prompt" ? defaultPrompt : undefined);
      (ADVANCED.includes(name) ? more : basic).append(field);
    }
    this.back = button("Reset", { kind: "small", onclick: () => { this.reset(); this.changed(); } });
    this.element = h("div", {}, basic, h("details", { class: "advanced" }, h("summary", {}, "More"), more), this.back);
    this.reset();
  }

  field(name, rule, fallback) {
    const id = `p-${name}`;
    const label = LABELS[name] ?? name;
    const made = this.control(name, rule, fallback, id);
    this.fields.set(name, made);
    made.error = h("p", { class: "error", id: `${id}-error`, hidden: true });
    made.rule = rule;
    made.hint = h("p", { class: "hint", id: `${id}-hint` }, this.hint(rule));
    made.there = h("p", { class: "hint there", id: `${id}-there`, hidden: true });
    for (const control of made.controls) control.setAttribute("aria-describedby", `${id}-hint ${id}-there ${id}-error`);
    const changed = () => {
      this.touched.add(name);
      made.there.hidden = true;
      // What was emptied is as if nobody had set it.
      if (this.check(name) && made.read() === undefined) this.touched.delete(name);
      this.back.hidden = !this.touched.size;
      this.follow();
      this.changed();
    };
    made.element.addEventListener("input", changed);
    const kind = made.group ? "fieldset" : "div";
    const title = made.group ? h("legend", {}, label) : h("label", { for: id }, label);
    made.field = h(kind, { class: `field ${name} ${made.kind}` }, title, made.element, made.hint, made.there, made.error);
    return made.field;
  }

  hint(rule) {
    const whole = (bound) => typeof bound === "bigint" || Number.isSafeInteger(bound);
    const range = rule.type === "integer" && whole(rule.minimum) && rule.maximum - rule.minimum >= FEW ? ` ${rule.minimum} to ${rule.maximum}.` : "";
    const usual = rule.default !== undefined && typeof rule.default !== "boolean" ? ` Default ${rule.default}.` : "";
    return `${rule.description ?? ""}${range}${usual}`;
  }

  /** Show what will count where nothing was set: the parameters of the jobs that are planned. */
  show(jobs) {
    for (const [name, field] of this.fields) {
      if (this.touched.has(name) || !field.set) continue;
      const values = [...new Set(jobs.filter((job) => name in job).map((job) => job[name]))];
      const usual = field.rule.default ?? field.fallback;
      const alike = values.length === 1;
      field.set(alike ? values[0] : usual);
      const other = values.length > 1 || (alike && String(values[0]) !== String(usual));
      field.there.hidden = !other;
      field.there.textContent = !other ? "" : alike ? "As the files that are there say." : "The poses differ, as the files that are there say.";
    }
    this.follow();
  }

  /** Set values, as if somebody had chosen them. */
  set(values) {
    for (const [name, value] of Object.entries(values)) {
      const field = this.fields.get(name);
      if (!field) continue;
      if (field.fill) field.fill(value);
      else field.set(value);
      this.touched.add(name);
    }
    this.back.hidden = !this.touched.size;
    this.follow();
  }

  /** Go to where one types first. */
  focus() {
    this.fields.get("prompt")?.controls[0].focus();
  }

  /** Forget what was set. */
  reset() {
    this.touched.clear();
    for (const [name, field] of this.fields) {
      if (field.clear) field.clear();
      field.set?.(field.rule.default ?? field.fallback);
      field.there.hidden = true;
      this.check(name);
    }
    this.back.hidden = true;
    this.follow();
  }

  control(name, rule, fallback, id) {
    if (rule.type === "boolean") {
      const box = h("input", { type: "checkbox", id, class: "switch", role: "switch" });
      return { kind: "boolean", element: box, controls: [box], set: (value) => (box.checked = value === true), read: () => box.checked };
    }
    if (rule.enum || (rule.type === "integer" && rule.maximum - rule.minimum < FEW)) {
      const values = rule.enum ?? Array.from({ length: rule.maximum - rule.minimum + 1 }, (_, at) => rule.minimum + at);
      const radios = values.map((value) => h("input", { type: "radio", name: id, value }));
      const element = h("div", { class: "choices" }, radios.map((radio, at) => h("label", {}, radio, h("span", {}, String(values[at])))));
      const set = (value) => radios.forEach((radio, at) => (radio.checked = values[at] === value));
      return { kind: "choice", group: true, element, controls: radios, set, read: () => values[radios.findIndex((radio) => radio.checked)] };
    }
    if (rule.type === "integer" && rule.maximum - rule.minimum <= SMALL) {
      const slider = h("input", { type: "range", id, min: rule.minimum, max: rule.maximum });
      const shown = h("output", { for: id });
      const set = (value) => (shown.textContent = slider.value = String(value));
      slider.addEventListener("input", () => (shown.textContent = slider.value));
      return { kind: "slider", element: h("div", { class: "sliding" }, slider, shown), controls: [slider], set, read: () => Number(slider.value) };
    }
    if (rule.type === "integer") return this.integer(name, rule, id);
    if (rule.type === "object") {
      const area = h("textarea", { id, rows: 3, spellcheck: "false", placeholder: '{"order": 17}', class: "code" });
      return { kind: "object", element: area, controls: [area], fill: (value) => (area.value = json(value)), clear: () => (area.value = ""), read: () => parseObject(area.value) };
    }
    const area = h("textarea", { id, rows: 4, maxlength: rule.maxLength });
    const set = (value) => (area.placeholder = value || "A portrait in soft window light, 50 mm");
    return { kind: "text", element: area, controls: [area], fallback, set, fill: (value) => (area.value = value), clear: () => (area.value = ""), read: () => readText(area.value, rule) };
  }

  integer(name, rule, id) {
    // As text: a number field rounds what has 64 bits.
    const input = h("input", { type: "text", inputmode: "numeric", id, autocomplete: "off" });
    const element = h("div", { class: "joined" }, input);
    if (name === "seed") {
      const roll = () => {
        input.value = String(crypto.getRandomValues(new Uint32Array(1))[0]);
        input.dispatchEvent(new Event("input", { bubbles: true }));
      };
      element.append(button("Random seed", { sign: "dice", quiet: true, onclick: roll }));
    }
    const read = () => {
      const text = input.value.trim();
      if (!text) return undefined;
      if (!/^-?\d{1,19}$/.test(text)) throw new Error("This is not a whole number.");
      const value = BigInt(text);
      if (value < roughly(rule.minimum, true) || value > roughly(rule.maximum, false)) throw new Error(`From ${rule.minimum} to ${rule.maximum}.`);
      return value;
    };
    return { kind: "integer", element, controls: [input], set: (value) => (input.placeholder = String(value ?? "")), fill: (value) => (input.value = String(value)), clear: () => (input.value = ""), read };
  }

  /** Width and height only count where the pose does not decide. */
  follow() {
    const box = this.fields.get("use_input_img_dimension")?.controls[0];
    for (const name of ["custom_width", "custom_height"]) {
      const field = this.fields.get(name);
      if (!field || !box) continue;
      field.controls[0].disabled = box.checked;
      field.field.hidden = box.checked;
    }
  }

  check(name) {
    const field = this.fields.get(name);
    let message = "";
    try {
      field.read();
    } catch (error) {
      message = error.message;
    }
    field.error.textContent = message;
    field.error.hidden = !message;
    for (const control of field.controls) {
      if (message) control.setAttribute("aria-invalid", "true");
      else control.removeAttribute("aria-invalid");
    }
    return !message;
  }

  /** What was set, or null if something is wrong. */
  read() {
    const values = {};
    for (const [name, field] of this.fields) {
      if (field.controls[0].disabled || !this.touched.has(name)) continue;
      if (!this.check(name)) return null;
      const value = field.read();
      if (value !== undefined) values[name] = value;
    }
    return values;
  }
}

/** A bound of the schema; a 64-bit bound may have been rounded by JSON.parse. */
function roughly(bound, low) {
  if (typeof bound === "bigint") return bound;
  if (Number.isSafeInteger(bound)) return BigInt(bound);
  return low ? -(2n ** 63n) : 2n ** 63n - 1n;
}

function readText(text, rule) {
  const value = text.trim();
  if (!value) return undefined;
  const size = new TextEncoder().encode(value).length;
  if (rule.maxLength && size > rule.maxLength) throw new Error(`${size} bytes: at most ${rule.maxLength}.`);
  return value;
}

function parseObject(text) {
  if (!text.trim()) return undefined;
  let value;
  try {
    value = JSON.parse(text);
  } catch {
    throw new Error("This is not JSON.");
  }
  if (!value || typeof value !== "object" || Array.isArray(value)) throw new Error("This is not a JSON object.");
  return value;
}
