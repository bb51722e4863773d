// One field for each input of the interface. A field knows its value, and can be told what is wrong.

import { h, size } from "./dom.js";

const MOST_SLIDER_STEPS = 10_000;
const ACCEPTED = { image: "image/*", video: "video/*", audio: "audio/*" };
const FILES = new Set(["image", "video", "audio", "model"]);

let count = 0;

/** A field for each input. Inputs of one node share its title: their names tell them apart. */
export function makeFields(inputs) {
  const labels = inputs.map((input) => input.label || input.name);
  const isShared = (label) => labels.indexOf(label) !== labels.lastIndexOf(label);
  return inputs.map((input, index) => {
    const label = labels[index];
    return makeField({ ...input, label: isShared(label) && label !== input.name ? `${label} (${input.name})` : label });
  });
}

function makeField(input) {
  if (FILES.has(input.type)) return new FileField(input);
  if (input.role === "seed" && input.type === "integer") return new SeedField(input);
  const kind = {
    integer: NumberField,
    number: NumberField,
    boolean: SwitchField,
    choice: ChoiceField,
    json: JsonField,
  }[input.type];
  return new (kind ?? TextField)(input);
}

/** What all fields share: label, description, and the place for what is wrong. */
class Field {
  constructor(input) {
    this.input = input;
    this.id = `field-${++count}`;
    this.wrong = h("p", { class: "wrong", id: `${this.id}-wrong`, hidden: true });
    this.control = this.makeControl();
    this.element = h("div", { class: "field" }, ...this.parts(), this.wrong);
    this.fill(input.default);
  }

  get label() {
    return this.input.label || this.input.name;
  }

  parts() {
    const label = h("label", { for: this.id, class: this.input.required ? "must" : null }, this.label);
    return [label, this.about(), this.body()];
  }

  about() {
    const text = this.input.description;
    return text ? h("p", { class: "about quiet", id: `${this.id}-about` }, text) : null;
  }

  body() {
    return this.control;
  }

  /** Attributes that tie the control to its label, description and error. */
  get tied() {
    return { id: this.id, name: this.input.name, "aria-describedby": `${this.id}-about ${this.id}-wrong` };
  }

  /** Undefined: leave it to the endpoint. */
  get value() {
    return this.control.value;
  }

  fill(value) {
    this.control.value = value ?? "";
  }

  reset() {
    this.mark("");
    this.fill(this.input.default);
  }

  mark(text) {
    this.wrong.textContent = text;
    this.wrong.hidden = !text;
    if (text) this.control.setAttribute("aria-invalid", "true");
    else this.control.removeAttribute("aria-invalid");
  }

  focus() {
    this.control.focus();
    this.element.scrollIntoView({ block: "center" });
  }
}

class TextField extends Field {
  makeControl() {
    const isLong = this.input.multiline || this.input.role?.endsWith("prompt");
    return isLong ? h("textarea", { ...this.tied, rows: 3 }) : h("input", { ...this.tied, type: "text" });
  }
}

class JsonField extends Field {
  makeControl() {
    return h("textarea", { ...this.tied, rows: 3, spellcheck: "false" });
  }

  get value() {
    const text = this.control.value.trim();
    return text ? JSON.parse(text) : undefined;
  }

  fill(value) {
    this.control.value = value === undefined || value === null ? "" : JSON.stringify(value, null, 2);
  }
}

/** A number, with a slider beside it where its range is one that can be slid through. */
class NumberField extends Field {
  makeControl() {
    const { min, max, type } = this.input;
    const step = this.input.step ?? (type === "integer" ? 1 : "any");
    this.slider = null;
    const control = h("input", { ...this.tied, type: "number", inputmode: type === "integer" ? "numeric" : "decimal", min: text(min), max: text(max), step: text(step) });
    const fine = sliderStep(min, max, step);
    if (fine !== null) {
      this.slider = h("input", { type: "range", min: text(min), max: text(max), step: text(fine), "aria-label": `${this.label}, slider`, oninput: () => (control.value = this.slider.value) });
      control.addEventListener("input", () => (this.slider.value = control.value));
    }
    return control;
  }

  body() {
    return this.slider ? h("div", { class: "row" }, this.slider, this.control) : this.control;
  }

  get value() {
    const typed = this.control.value.trim();
    if (typed === "") return undefined;
    return wholeOrNumber(typed);
  }

  fill(value) {
    super.fill(value === null || value === undefined ? "" : String(value));
    if (this.slider) this.slider.value = this.control.value;
  }
}

class SeedField extends Field {
  makeControl() {
    this.isNew = h("input", { type: "checkbox", id: `${this.id}-new`, checked: true });
    return h("input", { ...this.tied, type: "text", inputmode: "numeric", autocomplete: "off", oninput: () => (this.isNew.checked = false) });
  }

  body() {
    const dice = h("button", { type: "button", title: "Throw the dice", "aria-label": `${this.label}: throw the dice`, onclick: () => this.roll() }, "⚄");
    return h("div", {}, h("div", { class: "row" }, this.control, dice), h("label", { class: "switch small" }, this.isNew, "A new one for each run"));
  }

  roll() {
    const low = Number(this.input.min ?? 0);
    const high = Math.min(Number(this.input.max ?? Number.MAX_SAFE_INTEGER), 2 ** 32 - 1);
    this.control.value = String(low + Math.floor(Math.random() * (high - low + 1)));
  }

  /** Called when a run begins. */
  renew() {
    if (this.isNew.checked) this.roll();
  }

  get value() {
    const typed = this.control.value.trim();
    return typed === "" ? undefined : wholeOrNumber(typed);
  }

  fill(value) {
    super.fill(value === null || value === undefined ? "" : String(value));
  }
}

class SwitchField extends Field {
  makeControl() {
    return h("input", { ...this.tied, type: "checkbox" });
  }

  parts() {
    return [h("label", { class: "switch" }, this.control, this.label), this.about()];
  }

  get value() {
    return this.control.checked;
  }

  fill(value) {
    this.control.checked = value === true;
  }
}

class ChoiceField extends Field {
  makeControl() {
    const options = (this.input.choices ?? []).map((choice, index) => h("option", { value: String(index) }, String(choice)));
    return h("select", this.tied, ...options);
  }

  get value() {
    return this.input.choices?.[Number(this.control.value)];
  }

  fill(value) {
    const index = (this.input.choices ?? []).indexOf(value);
    this.control.value = String(index < 0 ? 0 : index);
  }
}

/** A file from this machine, or what stands for one: a URL, an asset's id, the name of a file. */
class FileField extends Field {
  makeControl() {
    this.file = null;
    this.preview = h("div");
    this.chooser = h("input", { type: "file", accept: ACCEPTED[this.input.type], "aria-label": `${this.label}: choose a file`, onchange: () => this.take(this.chooser.files[0]) });
    return h("input", { ...this.tied, type: "text", placeholder: "or a URL, or the name of a file", "aria-label": `${this.label}: URL or name`, oninput: () => this.take(null) });
  }

  parts() {
    const label = h("span", { class: this.input.required ? "label must" : "label" }, this.label);
    this.zone = h("label", { class: "drop", ondragover: (event) => this.over(event, true), ondragleave: (event) => this.over(event, false), ondrop: (event) => this.dropped(event) }, this.preview, this.chooser);
    this.take(null);
    return [label, this.about(), this.zone, this.control];
  }

  over(event, isOver) {
    event.preventDefault();
    this.zone.classList.toggle("over", isOver);
  }

  dropped(event) {
    this.over(event, false);
    if (event.dataTransfer.files.length) this.take(event.dataTransfer.files[0]);
  }

  take(file) {
    this.file = file ?? null;
    if (this.address) URL.revokeObjectURL(this.address);
    this.address = null;
    if (!file) {
      this.chooser.value = "";
      this.preview.replaceChildren(`Drop ${article(this.input.type)} here, or choose one`);
      return;
    }
    this.control.value = "";
    this.address = URL.createObjectURL(file);
    this.preview.replaceChildren(...seen(this.input.type, this.address), h("div", {}, `${file.name} (${size(file.size)})`));
  }

  get value() {
    return this.file ?? (this.control.value.trim() || undefined);
  }

  fill(value) {
    this.take(null);
    this.control.value = typeof value === "string" ? value : "";
  }
}

function seen(type, address) {
  if (type === "image") return [h("img", { src: address, alt: "The chosen picture" })];
  if (type === "video") return [h("video", { src: address, controls: true })];
  return type === "audio" ? [h("audio", { src: address, controls: true })] : [];
}

const article = (type) => `${/^[aeiou]/.test(type) ? "an" : "a"} ${type === "model" ? "file" : type}`;
/** The step of a slider over this range; null for a range that nobody could hit anything on. */
function sliderStep(min, max, step) {
  if (typeof min !== "number" || typeof max !== "number" || max <= min) return null;
  const fine = step === "any" ? (max - min) / 100 : Number(step);
  return (max - min) / fine <= MOST_SLIDER_STEPS ? fine : null;
}

const text = (value) => (value === undefined || value === null ? undefined : String(value));

/** What was typed as a number; as a text where it is none, so that the server says what is wrong. */
function wholeOrNumber(typed) {
  if (/^-?\d{1,30}$/.test(typed)) return Number.isSafeInteger(Number(typed)) ? Number(typed) : BigInt(typed);
  const number = Number(typed);
  return Number.isFinite(number) ? number : typed;
}
