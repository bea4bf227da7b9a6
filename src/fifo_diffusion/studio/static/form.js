// The form of a new video, made from the JSON Schema of the server's settings.

import { get, packed, post, put, Refused, run } from "./api.js";
import { $, ask, bytes, duration, h, number, say, settled } from "./dom.js";

const BASICS = ["model", "preset", "seed"];
const ELSEWHERE = new Set([
  ...BASICS, "prompt", "schedule", "num_frames", "seconds", "forever", "lora", "size", "input_reference", "start_of",
]);
const WORDS = {
  num_frames: "Frames", fps: "Frames per second", eta: "Fresh noise (eta)", dtype: "Precision", num_partitions: "Partitions (n)",
  window: "Window (f)", frames_per_level: "Frames per level (b)", fps_condition: "Frame rate told to the model", lora: "LoRA",
  include_start: "Show the start first", start_every_frame: "Take every frame of it", start_fit: "Fit of the start",
  prompt_change: "Change of prompts", compat: "Compatible with", flow_shift: "Flow shift", guidance_scale: "Guidance",
};
const EXAMPLES = [
  "a red ball moving right on a navy background",
  "mountains scrolling to the left on a sunny day",
  "a blue ball moving left on a white background",
];
const DRAFT = "fifo-diffusion draft";
const OWN = "fifo-diffusion presets";

const worded = (name) => WORDS[name] ?? name.charAt(0).toUpperCase() + name.slice(1).replaceAll("_", " ");

export class Form {
  /** `opened(id)` is told of a new run. */
  constructor(opened) {
    this.opened = opened;
    this.schema = {};
    this.loras = [];
    this.presets = [];
    this.file = null;
    this.startOf = null;
    this.editing = null;
    this.counter = 0;
    this.check = settled(() => this.cost(), 350);
    this.form = $("new");
  }

  async begin() {
    const [models, presets] = await Promise.all([get("/api/models"), get("/api/presets")]);
    this.schema = models.settings.properties;
    this.models = models.models;
    this.loras = models.loras.map((each) => each.id ?? each);
    this.presets = presets.presets;
    this.build();
    this.listen();
    this.examples();
    this.fill(JSON.parse(localStorage.getItem(DRAFT) ?? "null") ?? this.usual);
  }

  // ---------------------------------------------------------------- elements

  build() {
    const model = h("select", { name: "model", id: "f-model" }, this.models.map((m) => h("option", { value: m.id }, m.id)));
    const preset = h("select", { name: "preset", id: "f-preset" });
    const seed = h("input", { name: "seed", id: "f-seed", type: "number", min: 0, placeholder: "random" });
    $("basics").replaceChildren(
      this.field("model", model, ""), this.field("preset", preset, ""), this.field("seed", seed, ""),
    );
    this.presetOptions();
    const panels = new Map();
    for (const [name, schema] of Object.entries(this.schema)) {
      if (ELSEWHERE.has(name)) continue;
      const panel = schema["x-panel"] || "More";
      if (!panels.has(panel)) panels.set(panel, []);
      panels.get(panel).push(this.field(name, this.input(name, schema), schema.description));
    }
    $("panels").replaceChildren(
      ...[...panels].map(([panel, fields]) =>
        h("details", { class: "panel" }, h("summary", {}, panel), h("div", { class: "grid" }, fields))),
    );
    $("loras").replaceChildren(...(this.loras.length ? [this.loraPicker()] : []));
  }

  input(name, schema) {
    const props = { name, id: `f-${name}` };
    const usual = schema["x-usual"] ?? (schema.default !== undefined ? String(schema.default) : "");
    const kind = schema.enum ? "enum" : schema.type;
    if (kind === "boolean" || kind === "enum") {
      const values = kind === "boolean" ? [true, false] : schema.enum;
      const words = { true: "yes", false: "no" };
      const blank = h("option", { value: "" }, usual ? `${words[usual] ?? usual} (usual)` : "as usual");
      const others = values.filter((value) => value !== schema.default);
      return h("select", props, blank, others.map((v) => h("option", { value: JSON.stringify(v) }, words[v] ?? String(v))));
    }
    if (kind === "integer" || kind === "number") {
      return h("input", {
        ...props, type: "number", step: kind === "integer" ? 1 : "any", min: schema.minimum, max: schema.maximum, placeholder: usual,
      });
    }
    return h("input", { ...props, type: "text", placeholder: usual });
  }

  field(name, input, about) {
    const error = h("p", { class: "error", id: `error-${name}` });
    const note = about ? h("p", { class: "note", id: `about-${name}` }, about) : null;
    input.setAttribute("aria-describedby", `${note ? `about-${name} ` : ""}error-${name}`);
    return h("div", { class: "field" }, h("label", { for: input.id }, worded(name)), input, note, error);
  }

  loraPicker() {
    const rows = this.loras.map((id, k) =>
      h("div", { class: "lora" },
        h("label", {}, h("input", { type: "checkbox", value: id, class: "lora-on" }), ` ${id}`),
        h("input", { type: "number", step: 0.05, value: 1, id: `lora-${k}`, "aria-label": `Strength of ${id}` })));
    return h("fieldset", { class: "field" }, h("legend", {}, "LoRA"), rows, h("p", { class: "error", id: "error-lora" }));
  }

  presetOptions() {
    const own = JSON.parse(localStorage.getItem(OWN) ?? "{}");
    const select = $("f-preset");
    const chosen = select.value;
    select.replaceChildren(
      h("option", { value: "" }, "none"),
      ...this.presets.map((p) => h("option", { value: p.name, title: p.about }, p.name)),
      ...Object.keys(own).map((name) => h("option", { value: `own:${name}` }, `${name} (yours)`)),
      h("option", { value: "save" }, "Save these settings…"),
    );
    select.value = chosen;
  }

  /** `when`: a frame, or a time ("1:30", "90s"); `said`: a text, or {prompt, change}. */
  laterRow(when = "", said = "") {
    const { prompt: text, change = "" } = typeof said === "string" ? { prompt: said } : said;
    this.counter += 1;
    const id = `later-${this.counter}`;
    const row = h("div", { class: "later", "data-change": change ?? "" },
      h("div", { class: "field" }, h("label", { for: `${id}-frame` }, "from frame, or time"),
        h("input", { id: `${id}-frame`, type: "text", placeholder: "90, or 0:09", value: when, class: "later-frame" })),
      h("div", { class: "field grow" }, h("label", { for: `${id}-text` }, "prompt"),
        h("textarea", { id: `${id}-text`, rows: 2, value: text, class: "later-text" })),
      h("button", { type: "button", class: "quiet", "aria-label": "Remove this prompt",
        onclick: () => { row.remove(); $("add-later").focus(); this.changed(); } }, "×"));
    return row;
  }

  /** What a new video is if nothing else is said: of the models inside this package, one that is made at once. */
  get usual() {
    const has = (id) => this.models.some((model) => model.id === id);
    if (has("toybox-diagonal")) return { model: "toybox-diagonal", preset: "live", num_frames: 200 };
    return has("toybox") ? { model: "toybox", preset: "fast", num_frames: 120 } : { seconds: 12 };
  }

  /** What those models understand. */
  examples() {
    const { usual } = this;
    if (!usual.model) return;
    $("examples").replaceChildren(...EXAMPLES.map((text) =>
      h("button", { type: "button", class: "chip", onclick: () => { this.fill({ ...usual, prompt: text }); $("generate").focus(); } }, text)));
  }

  // ---------------------------------------------------------------- what happens

  listen() {
    this.form.addEventListener("input", () => this.changed());
    this.form.addEventListener("submit", (event) => { event.preventDefault(); this.submit(); });
    $("add-later").addEventListener("click", () => {
      const row = this.laterRow();
      $("later").append(row);
      row.querySelector("input").focus();
    });
    $("f-preset").addEventListener("change", (event) => this.choosePreset(event.target.value));
    $("reset").addEventListener("click", () => { this.leaveEdit(); this.fill(this.usual); $("prompt").focus(); });
    $("cancel-edit").addEventListener("click", () => { this.leaveEdit(); this.check(); });
    $("unit").addEventListener("change", () => { $("length").disabled = $("unit").value === "forever"; });
    const drop = $("drop");
    $("start-file").addEventListener("change", (event) => this.take(event.target.files[0] ?? null));
    $("start-clear").addEventListener("click", () => { this.take(null); $("start-file").focus(); });
    for (const place of [drop, $("screen")]) {
      place.addEventListener("dragover", (event) => { event.preventDefault(); drop.classList.add("over"); });
      place.addEventListener("dragleave", () => drop.classList.remove("over"));
      place.addEventListener("drop", (event) => {
        event.preventDefault();
        drop.classList.remove("over");
        if (event.dataTransfer.files.length) this.take(event.dataTransfer.files[0]);
      });
    }
  }

  changed() {
    localStorage.setItem(DRAFT, JSON.stringify(this.fields()));
    this.check();
  }

  take(file, startOf = null) {
    this.file = file;
    this.startOf = startOf;
    const preview = $("start-preview");
    if (preview.src.startsWith("blob:")) URL.revokeObjectURL(preview.src);
    const shown = file?.type.startsWith("image/") ? URL.createObjectURL(file) : startOf ? `${run(startOf)}/start` : "";
    preview.hidden = !shown;
    if (shown) preview.src = shown;
    say($("start-name"), file ? `${file.name}, ${bytes(file.size)}` : startOf ? "the one of that run" : "Drop it here, or choose a file");
    $("start-clear").hidden = !file && !startOf;
    if (!file) $("start-file").value = "";
    this.changed();
  }

  async choosePreset(value) {
    if (value === "save") {
      const given = await ask({ title: "Save these settings", ok: "Save", fields: [{ name: "name", label: "Name", type: "text", required: true }] });
      const name = given?.name.trim();
      const own = JSON.parse(localStorage.getItem(OWN) ?? "{}");
      const { prompt: _, schedule: __, ...rest } = this.fields();
      if (name) localStorage.setItem(OWN, JSON.stringify({ ...own, [name]: rest }));
      $("f-preset").value = "";
      this.presetOptions();
    } else if (value.startsWith("own:")) {
      const own = JSON.parse(localStorage.getItem(OWN) ?? "{}");
      this.fill({ prompt: $("prompt").value, ...own[value.slice(4)] });
    }
  }

  // ---------------------------------------------------------------- fields

  fields() {
    const found = {};
    for (const input of this.form.elements) {
      const schema = this.schema[input.name];
      if (!schema || input.name === "prompt" || input.value === "") continue;
      found[input.name] = this.value(input, schema);
    }
    const later = [...document.querySelectorAll(".later")]
      .map((row) => [row.querySelector(".later-frame").value.trim(), row.querySelector(".later-text").value.trim(), row.dataset.change])
      .filter(([when, text]) => when !== "" && text)
      .map(([when, text, change]) => [when, change ? { prompt: text, change } : text]);
    const text = $("prompt").value.trim();
    if (later.length) found.schedule = { 0: text, ...Object.fromEntries(later) };
    else if (text) found.prompt = text;
    if ($("unit").value === "forever") found.forever = true;
    else if ($("length").value !== "") found[$("unit").value] = Number($("length").value);
    const loras = [...document.querySelectorAll(".lora")]
      .filter((row) => row.querySelector(".lora-on").checked)
      .map((row) => {
        const scale = row.querySelector('[type="number"]').value;
        return row.querySelector(".lora-on").value + (scale && Number(scale) !== 1 ? `:${scale}` : "");
      });
    if (loras.length) found.lora = loras;
    if (this.startOf) found.start_of = this.startOf;
    const preset = this.presets.find((p) => p.name === found.preset);
    if (!preset) delete found.preset;
    return preset ? { ...preset.fields, ...found } : found;
  }

  value(input, schema) {
    if (input.tagName === "SELECT" && (schema.enum || schema.type === "boolean") && input.id !== "f-preset") return JSON.parse(input.value);
    if (schema.type === "integer" || schema.type === "number") return Number(input.value);
    if (schema.type === "array") {
      const each = input.value.split(/[,\s]+/).filter(Boolean);
      return schema.items.type === "number" ? each.map(Number) : each;
    }
    return input.value;
  }

  /** Put the fields of a request, as the server gives them, into the form. */
  fill(fields) {
    for (const input of this.form.elements) {
      const schema = this.schema[input.name];
      if (!schema) continue;
      const value = fields[input.name];
      if (value === undefined || value === null) input.value = input.id === "f-model" ? this.models[0]?.id ?? "" : "";
      else if (input.tagName === "SELECT" && input.id !== "f-model" && input.id !== "f-preset") {
        input.value = value === schema.default ? "" : JSON.stringify(value);
      } else input.value = Array.isArray(value) ? value.join(", ") : value;
    }
    const entries = Object.entries(fields.schedule ?? {});
    const begins = ([when]) => /^[0:.]+s?$/.test(when); // "0", "0s", "0:00"
    const first = entries.find(begins)?.[1] ?? "";
    $("prompt").value = fields.prompt ?? first.prompt ?? first;
    $("later").replaceChildren(...entries.filter((entry) => !begins(entry)).map(([when, said]) => this.laterRow(when, said)));
    const unit = fields.forever ? "forever" : fields.num_frames ? "num_frames" : "seconds";
    $("unit").value = unit;
    $("length").value = unit === "forever" ? "" : fields[unit] ?? "";
    $("length").disabled = unit === "forever";
    const loras = new Map((fields.lora ?? []).map((each) => {
      const plain = this.loras.includes(each);
      return [plain ? each : each.slice(0, each.lastIndexOf(":")), plain ? 1 : each.slice(each.lastIndexOf(":") + 1)];
    }));
    for (const row of document.querySelectorAll(".lora")) {
      const on = row.querySelector(".lora-on");
      on.checked = loras.has(on.value);
      row.querySelector('[type="number"]').value = loras.get(on.value) ?? 1;
    }
    this.take(null, fields.start_of ?? null);
    for (const panel of document.querySelectorAll(".panel")) {
      panel.open = [...panel.querySelectorAll("input, select")].some((input) => input.value !== "");
    }
  }

  edit(id, fields) {
    this.editing = id;
    this.fill(fields);
    say($("make-title"), "Change a waiting video");
    say($("generate"), "Save");
    $("cancel-edit").hidden = false;
    $("prompt").focus();
  }

  leaveEdit() {
    this.editing = null;
    say($("make-title"), "New video");
    say($("generate"), "Generate");
    $("cancel-edit").hidden = true;
  }

  // ---------------------------------------------------------------- asking

  problems(error) {
    for (const place of this.form.querySelectorAll(".error")) say(place, "");
    for (const input of this.form.querySelectorAll("[aria-invalid]")) input.removeAttribute("aria-invalid");
    say($("new-problem"), "");
    if (!error) return;
    const of = { num_frames: "length", seconds: "length", forever: "length", schedule: "prompt", start: "input_reference" };
    const name = of[error.param] ?? error.param;
    const place = name ? $(`error-${name}`) : null;
    const input = name ? $(`f-${name}`) ?? $(name) : null;
    input?.setAttribute("aria-invalid", "true");
    say(place ?? $("new-problem"), error.message);
    place?.closest("details")?.setAttribute("open", "");
  }

  async cost() {
    const fields = this.fields();
    if (!fields.prompt && !fields.schedule) {
      this.problems(null);
      $("cost").replaceChildren();
      return;
    }
    const asked = (this.asked = (this.asked ?? 0) + 1);
    let found;
    try {
      found = await post("/api/cost", packed(fields, this.file));
    } catch (error) {
      found = { ok: false, error: { message: error.message, param: error.param } };
    }
    if (asked !== this.asked) return;
    this.problems(found.ok ? null : found.error);
    $("cost").replaceChildren(...(found.ok ? this.told(found) : []));
  }

  told(cost) {
    const times = [
      cost.first_frame_seconds ? ["first frame", `after ${duration(cost.first_frame_seconds)}`] : null,
      cost.rate ? ["then", `${number(cost.rate)} frames/s`] : null,
      cost.eta_seconds ? ["done", `in about ${duration(cost.eta_seconds)}`] : null,
      cost.memory?.weights ? ["memory", bytes(cost.memory.weights + (cost.memory.queue ?? 0))] : null,
      cost.size ? ["picture", cost.size] : null,
      cost.slots ? ["queue", `${cost.slots} frames, ${cost.levels} steps each`] : null,
    ].filter(Boolean);
    const facts = h("dl", { class: "facts" }, times.map(([k, v]) => h("div", {}, h("dt", {}, k), h("dd", {}, v))));
    const notes = (cost.notes ?? []).map((note) => h("p", { class: "remark" }, note));
    const rows = (cost.rows ?? []).map(([k, v]) => h("tr", {}, h("th", { scope: "row" }, k), h("td", {}, v)));
    const more = rows.length
      ? [h("details", {}, h("summary", {}, "All of it"), h("div", { class: "scroll", tabIndex: 0, "aria-label": "What it costs", role: "region" },
        h("table", {}, h("tbody", {}, rows)), cost.command ? h("pre", {}, cost.command) : null))]
      : [];
    return [facts, ...notes, ...more];
  }

  async submit() {
    const fields = this.fields();
    if (!fields.prompt && !fields.schedule) {
      this.problems(new Refused("say what should be seen", "prompt", 400));
      $("prompt").focus();
      return;
    }
    $("generate").disabled = true;
    try {
      const made = this.editing
        ? await put(run(this.editing), packed(fields, this.file))
        : await post("/v1/videos", packed(fields, this.file));
      this.problems(null);
      this.leaveEdit();
      this.opened(made.id);
    } catch (error) {
      this.problems(error);
      this.form.querySelector("[aria-invalid]")?.focus();
    } finally {
      $("generate").disabled = false;
    }
  }
}
