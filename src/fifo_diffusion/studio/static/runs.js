// What is being made, what waits, and what there was.

import { get, post, remove, run } from "./api.js";
import { $, ago, ask, h, number, settled } from "./dom.js";

const STATES = { queued: "waiting", in_progress: "being made", completed: "done", failed: "failed" };

export function stateOf(video) {
  if (video.paused) return "paused";
  if (video.stopped) return "stopped";
  return STATES[video.status] ?? video.status;
}

const blank = () => h("span", { class: "blank", "aria-hidden": "true" });

export class Shelf {
  /** `actions`: open(id), edit(id, fields), reuse(id). */
  constructor(actions) {
    this.actions = actions;
    this.limit = 24;
    this.current = null;
    this.read = settled(() => this.load(), 120);
    $("more").addEventListener("click", () => { this.limit = Math.min(100, this.limit + 24); this.load(); });
  }

  async load() {
    let page;
    let waiting;
    try {
      const ask = ["limit=100&status=in_progress", "limit=100&order=asc&status=queued", `limit=${this.limit}`];
      const [making, queued, all] = await Promise.all(ask.map((each) => get(`/api/runs?${each}`)));
      page = all;
      waiting = [...new Map([...making.data, ...queued.data].map((video) => [video.id, video])).values()];
    } catch {
      return; // the page says elsewhere that the server is gone
    }
    const focused = document.activeElement?.dataset?.key;
    const waits = (video) => video.status === "queued" || video.status === "in_progress";
    waiting.sort((a, b) => this.place(a) - this.place(b));
    const movable = waiting.filter((video) => video.queue_position !== null);
    $("waiting-runs").replaceChildren(
      ...(waiting.length ? [h("h3", {}, "Queue"), h("ol", { class: "runs" }, waiting.map((v) => this.waiting(v, movable)))] : []),
    );
    const history = page.data.filter((video) => !waits(video));
    $("history").replaceChildren(
      ...(history.length
        ? [h("h3", {}, "History"), h("ul", { class: "runs" }, history.map((v) => this.item(v, this.kept(v))))]
        : waiting.length ? [] : [h("p", { class: "note" }, "What you make stays here, with its settings.")]),
    );
    $("more").hidden = !page.has_more || this.limit >= 100;
    if (focused) document.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus();
  }

  place(video) {
    if (video.status === "in_progress") return -1;
    return video.queue_position ?? 1e9;
  }

  item(video, buttons) {
    const thumb = video.frames
      ? h("img", { src: `/v1/videos/${video.id}/content?variant=thumbnail&at=${video.frames}`, alt: "", loading: "lazy", onerror: (event) => event.target.replaceWith(blank()) })
      : blank();
    const length = `${video.frames}${video.num_frames ? ` of ${video.num_frames}` : ""} frames`;
    const about = [stateOf(video), length, ago(video.completed_at ?? video.created_at)].join(" · ");
    const open = h("button", { type: "button", class: "open", onclick: () => this.actions.open(video.id) },
      thumb, h("span", { class: "words" }, h("span", { class: "title" }, video.prompt || "no prompt"), h("small", {}, about)));
    open.dataset.key = `${video.id} open`;
    if (video.id === this.current) open.setAttribute("aria-current", "true");
    return h("li", { "data-id": video.id, class: video.status }, open, h("span", { class: "tools" }, buttons));
  }

  tool(video, key, label, text, act) {
    const button = h("button", { type: "button", class: "tool", title: label, "aria-label": `${label}: ${video.prompt.slice(0, 60)}`, onclick: act }, text);
    button.dataset.key = `${video.id} ${key}`;
    return button;
  }

  waiting(video, movable) {
    const tools = [];
    const at = movable.findIndex((each) => each.id === video.id);
    if (at >= 0) {
      if (at > 0) tools.push(this.tool(video, "up", "Move up", "↑", () => this.move(video.id, movable[at - 1].id)));
      if (at < movable.length - 1) {
        tools.push(this.tool(video, "down", "Move down", "↓", () => this.move(video.id, movable[at + 2]?.id ?? null)));
      }
      if (!video.frames) tools.push(this.tool(video, "edit", "Change", "✎", () => this.actions.edit(video.id)));
    }
    tools.push(this.remover(video));
    const item = this.item(video, tools);
    if (at >= 0) this.dragging(item, video, movable);
    return item;
  }

  dragging(item, video, movable) {
    item.draggable = true;
    item.addEventListener("dragstart", (event) => event.dataTransfer.setData("text/run", video.id));
    item.addEventListener("dragover", (event) => {
      if (event.dataTransfer.types.includes("text/run")) { event.preventDefault(); item.classList.add("over"); }
    });
    item.addEventListener("dragleave", () => item.classList.remove("over"));
    item.addEventListener("drop", (event) => {
      event.preventDefault();
      const id = event.dataTransfer.getData("text/run");
      if (id && id !== video.id && movable.some((each) => each.id === id)) this.move(id, video.id);
    });
  }

  kept(video) {
    return [this.tool(video, "reuse", "Use these settings", "⟲", () => this.actions.reuse(video.id)), this.remover(video)];
  }

  remover(video) {
    return this.tool(video, "remove", "Remove", "×", async () => {
      const made = video.frames ? ` Its ${video.frames} frames are deleted for good.` : "";
      if (!(await ask({ title: "Remove this video?", text: `“${video.prompt.slice(0, 120)}”.${made}`, ok: "Remove" }))) return;
      await this.attempt(() => remove(run(video.id)));
      if (video.id === this.current) this.actions.open(null);
    });
  }

  async move(id, before) {
    await this.attempt(() => post(`${run(id)}/move`, { before }));
  }

  async attempt(act) {
    try {
      await act();
    } catch (error) {
      await ask({ title: "That cannot be done", text: error.message, ok: "All right" });
    }
    this.load();
  }
}

/** What the machine is doing, in one line. */
export async function serverLine() {
  try {
    const server = await get("/api/server");
    const workers = server.workers.map((each) => `${each.device || "CPU"} ${each.state}`);
    const memory = server.memory ? `${number(server.memory.used / 1e9)} of ${number(server.memory.total / 1e9)} GB memory` : "";
    const disk = server.disk ? `${number(server.disk.free / 1e9)} GB disk free` : "";
    return [...workers, memory, disk].filter(Boolean).join(" · ");
  } catch {
    return "the server is not there";
  }
}

