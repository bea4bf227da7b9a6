// The whole of a video as one line: its prompts, what is made, what is in work, snapshots, and where one looks.

import { $, h } from "./dom.js";

const COLOURS = 6;

/** The prompts in order, each with the frame where the next one begins. */
export function stretches(prompts, whole) {
  const sorted = [...prompts].sort((a, b) => a.frame - b.frame);
  return sorted.map((each, k) => ({ ...each, to: sorted[k + 1]?.frame ?? whole, colour: k % COLOURS }));
}

export class Timeline {
  /** `seek(frame)` is asked for on a click. */
  constructor(seek) {
    this.seek = seek;
    this.whole = 1;
    this.seen = "";
    this.track = $("track");
    this.head = h("div", { class: "playhead" });
    this.track.addEventListener("pointerdown", (event) => {
      const box = this.track.getBoundingClientRect();
      this.seek(Math.floor(((event.clientX - box.left) / box.width) * this.whole));
    });
  }

  show({ frames, total, reach, prompts, snapshots, pins }) {
    const planned = prompts.reduce((most, each) => Math.max(most, each.frame + 1), 0);
    this.whole = Math.max(total ?? 0, frames + (total ? 0 : reach), planned, 1);
    const key = JSON.stringify([frames, this.whole, reach, prompts, snapshots, pins]);
    if (key === this.seen) return;
    this.seen = key;
    const parts = stretches(prompts, this.whole);
    const place = (element, from, to) => {
      element.style.left = `${(100 * Math.max(0, from)) / this.whole}%`;
      if (to !== undefined) element.style.width = `${(100 * (Math.min(to, this.whole) - Math.max(0, from))) / this.whole}%`;
      return element;
    };
    this.track.replaceChildren(
      ...parts.map((each) => place(h("div", { class: `stretch c${each.colour}${each.planned ? " planned" : ""}` }, h("span", {}, each.text)), each.frame, each.to)),
      place(h("div", { class: "working" }), frames, Math.min(frames + reach, this.whole)),
      place(h("div", { class: "unmade" }), Math.min(frames + reach, this.whole), this.whole),
      ...snapshots.map((frame) => place(h("div", { class: `snapshot${pins.includes(frame) ? " pinned" : ""}`, title: `snapshot at ${frame}` }), frame)),
      this.head,
    );
    $("legend").replaceChildren(
      ...parts.map((each) =>
        h("button", { type: "button", class: "chip", disabled: each.frame >= frames, onclick: () => this.seek(each.frame) },
          h("span", { class: `dot c${each.colour}`, "aria-hidden": "true" }), `${each.frame} · ${each.text}`)),
    );
  }

  point(frame) {
    this.head.style.left = `${(100 * (frame + 0.5)) / this.whole}%`;
  }
}
