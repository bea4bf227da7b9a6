// One run: its newest picture, its queue, what is there of it to be seen again, and what can be done with it.

import { get, picture, run } from "./api.js";
import { Deeds } from "./deeds.js";
import { $, bytes, duration, h, number, say, settled } from "./dom.js";
import { stateOf } from "./runs.js";
import { drawStrip } from "./strip.js";
import { stretches, Timeline } from "./timeline.js";

const BLANK = { prompts: [], pins: [], request: {}, memory: null };

export class Stage extends Deeds {
  /** `actions`: changed() when the list of runs did, hears(whether events of a run come), open(id), reuse(id). */
  constructor(actions) {
    super();
    this.actions = actions;
    this.id = null;
    this.video = null;
    this.more = BLANK;
    this.mode = "live";
    this.drawn = 0;
    this.timeline = new Timeline((frame) => this.look(frame));
    this.refresh = settled(() => this.details(), 60);
    this.listen();
  }

  listen() {
    $("seek").addEventListener("input", () => this.look(Number($("seek").value)));
    $("play").addEventListener("click", () => (this.mode === "play" && !$("player").paused ? this.hold() : this.play()));
    $("live").addEventListener("click", () => this.live());
    $("loop").addEventListener("click", () => this.setLoop(!$("player").loop));
    $("change").addEventListener("submit", (event) => { event.preventDefault(); this.change(); });
    $("change").addEventListener("input", () => this.wayNote());
    $("pause").addEventListener("click", () => this.command({ do: this.resumable() ? "resume" : "pause" }));
    $("stop").addEventListener("click", () => this.command({ do: "stop" }));
    $("fork").addEventListener("click", () => this.fork());
    $("extend").addEventListener("click", () => this.extend());
    $("pin").addEventListener("click", () => this.pin());
    $("reuse").addEventListener("click", () => this.actions.reuse(this.id));
    const player = $("player");
    player.addEventListener("timeupdate", () => this.mode === "play" && this.point(this.playing()));
    player.addEventListener("play", () => this.buttons());
    player.addEventListener("pause", () => this.buttons());
    player.addEventListener("ended", () => this.ended());
  }

  // ---------------------------------------------------------------- opening

  open(id) {
    this.deaf();
    this.id = id;
    this.video = null;
    this.more = BLANK;
    this.since = 0;
    this.refused = this.suggested = "";
    this.newest = null;
    this.ticked = this.fetched = 0;
    this.reach = null;
    $("watch").hidden = !id;
    $("empty").hidden = Boolean(id);
    say($("problem"), "");
    say($("state"), "");
    $("log").replaceChildren();
    $("queue").hidden = true;
    $("change-text").value = "";
    if (!id) {
      say($("stage-title"), "Nothing is open");
      return;
    }
    this.live();
    this.clear();
    this.hear();
    this.details();
  }

  /** Events of this run, until it ends. */
  hear() {
    const source = this.source = new EventSource(`${run(this.id)}/events?since=${this.since}`);
    source.addEventListener("log", (event) => {
      this.since = Number(event.lastEventId) || this.since;
      this.logged(JSON.parse(event.data));
    });
    source.addEventListener("video", (event) => this.shown(JSON.parse(event.data)));
    source.addEventListener("frame", (event) => this.tick(JSON.parse(event.data)));
    source.addEventListener("runs", () => this.actions.changed());
    source.addEventListener("end", () => { this.deaf(); this.details(); });
    this.actions.hears(true);
  }

  deaf() {
    this.source?.close();
    this.source = null;
    this.actions.hears(false);
  }

  async details() {
    const id = this.id;
    if (!id) return;
    try {
      const more = await get(run(id));
      if (id !== this.id) return;
      this.more = more;
      this.shown(more);
      if (!this.source && (more.status === "queued" || more.status === "in_progress") && !more.paused) this.hear();
    } catch (error) {
      if (id !== this.id) return;
      if (error.status === 404 && this.source) this.deaf();
      say($("problem"), error.message);
    }
  }

  logged(event) {
    if (event.event === "snapshot" && event.change_frame > event.frame) this.reach = event.change_frame - event.frame;
    const { at, event: kind, ...rest } = event;
    const quiet = new Set(["control", "fingerprint", "settings", "software"]);
    const facts = Object.entries(rest).filter(([k, v]) => !quiet.has(k) && v !== null && typeof v !== "object");
    const line = h("li", {}, h("time", {}, new Date(at * 1000).toLocaleTimeString()), ` ${kind} `,
      h("span", {}, facts.map(([k, v]) => `${k} ${v}`).join(", ")));
    $("log").append(line);
    if ($("log").childElementCount > 400) $("log").firstElementChild.remove();
    $("log").scrollTop = $("log").scrollHeight;
    this.refresh();
  }

  // ---------------------------------------------------------------- what is there

  get slots() {
    return this.reach ?? Math.max(0, (this.video?.slots ?? 1) - 1);
  }

  get prompts() {
    return this.more.prompts.length ? this.more.prompts : [{ frame: 0, text: this.video?.prompt ?? "" }];
  }

  shown(video) {
    const first = !this.video;
    this.video = { ...this.video, ...video };
    video = this.video;
    const made = video.status === "in_progress";
    say($("stage-title"), this.promptAt(video.frames) || "no prompt");
    say($("state"), stateOf(video));
    $("state").dataset.state = stateOf(video);
    const length = video.num_frames ? `of ${video.num_frames} frames` : "frames, endless";
    const figures = [
      `${video.frames} ${length}`,
      made && video.rate ? `${number(video.rate)} frames/s` : null,
      made && video.eta_seconds ? `${duration(video.eta_seconds)} left` : null,
      made && this.more.memory ? `${bytes(this.more.memory)} memory` : null,
      made && this.more.worker?.device ? this.more.worker.device : null,
      video.size || null,
      video.seed !== null && video.seed !== undefined ? `seed ${video.seed}` : null,
      video.queue_position !== null && video.queue_position !== undefined ? `${video.queue_position} before it in the queue` : null,
    ];
    say($("figures"), figures.filter(Boolean).join(" · "));
    say($("problem"), this.refused || (video.error ? video.error.message : ""));
    $("seek").max = Math.max(0, video.frames - 1);
    if (this.mode === "live") this.point(Math.max(0, video.frames - 1));
    this.timeline.show({
      frames: video.frames, total: video.num_frames, reach: made ? this.slots : 0, prompts: this.prompts,
      snapshots: video.snapshots ?? [], pins: this.more.pins ?? [],
    });
    this.timeline.point(Number($("seek").value));
    const waits = !video.frames ? (made ? "the first frame is being made" : stateOf(video)) : "";
    say($("waiting"), video.status === "failed" && !video.frames ? "" : waits);
    $("download").href = `/v1/videos/${this.id}/content`;
    $("download").download = `${this.id}.mp4`;
    if (first || !$("change-text").value || $("change-text").value === this.suggested) {
      $("change-text").value = this.suggested = this.promptAt(Infinity);
    }
    if (!made) $("queue").hidden = true;
    const newest = `${this.id}/${video.frames}`; // of the last frames of a fast run there are no pictures for watchers
    if (!made && video.frames && this.ticked !== video.frames && this.newest !== newest && this.mode === "live") {
      this.newest = newest;
      this.fetchFrame(video.frames - 1);
    }
    this.buttons();
    this.wayNote();
  }

  promptAt(frame) {
    return this.prompts.reduce((found, each) => (each.frame <= frame ? each.text : found), this.prompts[0]?.text ?? "");
  }

  resumable() {
    return this.video && (this.video.paused || this.video.stopped || this.video.status === "failed");
  }

  buttons() {
    const video = this.video;
    if (!video) return;
    const over = video.status === "completed" || video.status === "failed";
    const there = video.frames > 0;
    say($("pause"), this.resumable() ? "Resume" : "Pause");
    $("pause").disabled = over && !this.resumable();
    $("stop").disabled = over;
    for (const id of ["play", "fork", "extend", "loop"]) $(id).disabled = !there;
    $("seek").disabled = !there;
    $("extend").disabled = !there || video.num_frames === null;
    $("live").disabled = !there;
    $("download").toggleAttribute("hidden", !there);
    const at = this.snapshot();
    $("pin").disabled = at === null;
    const pinned = (this.more.pins ?? []).includes(at);
    $("pin").setAttribute("aria-pressed", String(pinned));
    say($("pin"), at === null ? "Keep snapshot" : `${pinned ? "Kept" : "Keep"} snapshot ${at}`);
    const running = this.mode === "play" && !$("player").paused;
    $("play").setAttribute("aria-label", running ? "Hold" : "Play");
    $("play").querySelector("use").setAttribute("href", `/static/icons.svg#${running ? "pause" : "play"}`);
    $("live").setAttribute("aria-pressed", String(this.mode === "live"));
    say($("live"), over ? "Newest" : "Live");
    const words = { live: over ? "" : "live", still: `frame ${$("seek").value}`, play: "playing" };
    say($("mode"), there ? words[this.mode] : "");
    $("mode").dataset.mode = this.mode;
    say($("change").querySelector("button"), over ? "Fork" : "Change");
    say($("change").querySelector("label"), over ? "Go on from the frame above, with this prompt" : "Prompt from here on");
    $("change-frame").closest("label").hidden = over;
  }

  point(frame) {
    $("seek").value = frame;
    say($("at"), this.video?.fps ? `${frame} · ${(frame / this.video.fps).toFixed(1)} s` : String(frame));
    this.timeline.point(frame);
  }

  // ---------------------------------------------------------------- pictures

  clear() {
    const canvas = $("picture");
    canvas.width = canvas.height = 1;
    canvas.setAttribute("aria-label", "no frame yet");
  }

  draw(bitmap, canvas, label) {
    canvas.width = bitmap.width;
    canvas.height = bitmap.height;
    canvas.getContext("2d").drawImage(bitmap, 0, 0);
    bitmap.close();
    canvas.setAttribute("aria-label", label);
  }

  tick({ frame, queue }) {
    this.ticked = frame;
    this.inQueue = queue;
    this.follow();
  }

  /** The newest picture, one at a time: a slow page skips pictures, and never holds up the run. */
  async follow() {
    if (this.following) return;
    this.following = true;
    try {
      while (this.ticked && this.fetched !== this.ticked) {
        const id = this.id;
        const at = this.ticked;
        if (this.mode === "live") {
          const bitmap = await picture(`${run(id)}/live/frame.jpg?${at}`);
          if (bitmap && id === this.id && this.mode === "live") {
            this.draw(bitmap, $("picture"), `frame ${at - 1}`);
            this.drawn += 1;
            say($("waiting"), "");
            document.documentElement.dataset.drawn = this.drawn;
          }
        }
        const inQueue = this.inQueue;
        const strip = inQueue.length ? await picture(`${run(id)}/live/queue.jpg?${at}`) : null;
        if (strip && id === this.id) this.showStrip(strip, at, inQueue);
        if (id === this.id) this.fetched = at;
      }
    } finally {
      this.following = false;
    }
  }

  /** The queue, and where in it a new prompt begins; `first` is the first frame of each of its pictures. */
  showStrip(bitmap, frame, first) {
    const prompts = stretches(this.prompts, Infinity);
    const colours = first.map((k) => prompts.findLast((p) => p.frame <= k)?.colour ?? 0);
    $("queue").hidden = false;
    drawStrip($("strip"), bitmap, first.length, colours);
    const next = prompts.find((p) => p.frame > first[0] && p.frame <= first.at(-1));
    const words = next ? `“${next.text}” in ${next.frame - frame} frames` : `frames ${first[0]} to ${first.at(-1)}, in work`;
    say($("queue-note"), words);
    $("strip").setAttribute("aria-label", `the queue, clean first, noise last: ${words}`);
  }

  /** A frame that is there, by its number; only the newest that was asked for is fetched. */
  async fetchFrame(frame) {
    this.wanted = { id: this.id, frame };
    if (this.fetching) return;
    this.fetching = true;
    try {
      let got = null;
      while (got !== this.wanted) {
        got = this.wanted;
        const bitmap = await picture(`${run(got.id)}/frames/${got.frame}.jpg`);
        if (bitmap && got.id === this.id && this.mode !== "play") {
          this.draw(bitmap, $("picture"), `frame ${got.frame}`);
          document.documentElement.dataset.frame = got.frame;
        }
      }
    } finally {
      this.fetching = false;
    }
  }

  // ---------------------------------------------------------------- looking

  look(frame) {
    if (!this.video?.frames) return;
    frame = Math.max(this.oldest, Math.min(this.video.frames - 1, frame));
    if (this.mode === "play") {
      $("player").currentTime = (frame - this.oldest + 0.5) / (this.video.fps || 1);
    } else {
      this.setMode("still");
      this.fetchFrame(frame);
    }
    this.point(frame);
    this.buttons();
  }

  setMode(mode) {
    this.mode = mode;
    $("player").hidden = mode !== "play";
    $("picture").hidden = mode === "play";
    if (mode !== "play") $("player").pause();
    this.buttons();
  }

  live() {
    this.setMode("live");
    this.fetched = -1;
    if (this.ticked && this.video?.status === "in_progress") this.follow();
    else if (this.video?.frames) this.fetchFrame(this.video.frames - 1);
    if (this.video?.frames) this.point(this.video.frames - 1);
  }

  hold() {
    this.setMode("still");
    this.look(Number($("seek").value));
  }

  /** The first frame that is kept: those before it may have gone to save room. */
  get oldest() {
    return this.more.parts?.[0] ?? 0;
  }

  playing() {
    const played = Math.floor($("player").currentTime * (this.video.fps || 1) + 1e-6);
    return Math.min(this.video.frames - 1, this.oldest + played);
  }

  play(from = null) {
    const seek = Number($("seek").value);
    const at = Math.max(0, (from ?? (seek >= this.video.frames - 1 ? 0 : seek)) - this.oldest);
    const player = $("player");
    this.setMode("play");
    this.loaded = this.video.frames;
    player.src = `/v1/videos/${this.id}/content?frames=${this.loaded}`;
    player.onloadedmetadata = () => {
      player.currentTime = at / (this.video.fps || 1);
      player.play().catch(() => this.hold());
    };
    player.onerror = () => { if (player.getAttribute("src")) this.hold(); };
  }

  ended() {
    if (this.mode !== "play") return;
    if (this.video.frames > this.loaded) this.play(this.loaded);
    else if (this.video.status === "in_progress") this.live();
    else this.hold();
  }

  setLoop(on) {
    $("player").loop = on;
    $("loop").setAttribute("aria-pressed", String(on));
    if (on && this.video?.frames) this.play(0);
  }
}
