// What can be done with the run on the stage. `Stage` says which one it is.

import { post, put, run } from "./api.js";
import { $, ask, duration, say } from "./dom.js";

export class Deeds {
  async attempt(act) {
    say($("problem"), this.refused = "");
    try {
      const found = await act();
      this.details();
      this.actions.changed();
      return found;
    } catch (error) {
      say($("problem"), this.refused = error.message);
      return null;
    }
  }

  command(body) {
    return this.attempt(() => post(`${run(this.id)}/command`, body));
  }

  way() {
    return $("change").elements.change.value;
  }

  async change() {
    const text = $("change-text").value.trim();
    const over = this.video.status === "completed" || this.video.status === "failed";
    const at = $("change-frame").value;
    if (!text) return;
    if (over) {
      this.fork(text);
    } else if (at !== "") {
      const said = ({ text, change }) => (change ? { prompt: text, change } : text);
      const planned = this.prompts.filter((each) => each.frame > this.video.frames).map((each) => [each.frame, said(each)]);
      const schedule = { ...Object.fromEntries(planned), [at]: said({ text, change: this.way() }) };
      if (await this.attempt(() => put(`${run(this.id)}/schedule`, { schedule }))) $("change-frame").value = "";
    } else {
      await this.command({ do: "prompt", text, change: this.way() });
    }
  }

  wayNote() {
    const video = this.video;
    if (!video) return;
    if (video.status === "completed" || video.status === "failed") {
      say($("way-note"), "A new run with the frames before the one above; this one stays as it is.");
      return;
    }
    const later = (frames) => {
      const wait = video.rate ? `, in about ${duration(frames / video.rate)}` : "";
      return `frame ${video.frames + frames}${wait}`;
    };
    const at = $("change-frame").value;
    const notes = {
      tail: `Frames in the queue keep their prompt. The new one is seen from ${later(this.slots)}.`,
      queue: `Every frame in the queue changes now: gradually, and wholly from ${later(this.slots)}.`,
      blend: `From one to the other, beginning with ${later(this.slots)}.`,
    };
    say($("way-note"), at !== "" ? `Planned for frame ${at}; what was planned for other frames stays.` : notes[this.way()]);
  }

  async fork(text = null) {
    const frame = Number($("seek").value);
    const suggested = text ?? this.promptAt(frame);
    const given = await ask({
      title: "Fork here",
      text: "A new run that has the frames before this one, and goes on from there. Nothing is made twice.",
      ok: "Fork",
      fields: [
        { name: "frame", label: "First frame that may differ", type: "number", min: 0, max: this.video.frames, value: frame, required: true },
        { name: "prompt", label: "Prompt from there on", type: "textarea", value: suggested },
        { name: "num_frames", label: "Frames in all", type: "number", min: 1, value: Math.max(this.video.num_frames ?? 0, frame + 120) },
      ],
    });
    if (!given) return;
    const body = { frame: Number(given.frame), num_frames: Number(given.num_frames) };
    const words = given.prompt.trim();
    // What stood there, untouched, means: as this run goes on.
    const changed = text === null ? words !== suggested : words !== this.promptAt(body.frame);
    if (words && changed) Object.assign(body, { prompt: words, change: this.way() });
    const made = await this.attempt(() => post(`${run(this.id)}/fork`, body));
    if (made) this.actions.open(made.id);
  }

  async extend() {
    const given = await ask({
      title: "Make it longer",
      text: "It goes on where it ends, bit for bit as if it had never stopped.",
      ok: "Extend",
      fields: [{ name: "seconds", label: "Seconds more", type: "number", min: 0.1, step: "any", value: 10, required: true }],
    });
    if (!given) return;
    const made = await this.attempt(() => post(`${run(this.id)}/extend`, { seconds: Number(given.seconds) }));
    if (made) this.actions.open(made.id);
  }

  /** The newest snapshot at or before the frame that is looked at. */
  snapshot() {
    const at = Number($("seek").value);
    return (this.video?.snapshots ?? []).reduce((found, frame) => (frame <= at ? frame : found), null);
  }

  async pin() {
    const frame = this.snapshot();
    const pinned = $("pin").getAttribute("aria-pressed") === "true";
    if (frame !== null) await this.command({ do: pinned ? "unpin" : "pin", frame });
  }
}
