// The page: a run on the stage (its id in the address, so that a reload finds it again), the form, the shelf.

import { get, run } from "./api.js";
import { $, say } from "./dom.js";
import { Form } from "./form.js";
import { serverLine, Shelf } from "./runs.js";
import { Stage } from "./stage.js";

const ID = /^run_[0-9a-f]{12}$/;
let others = null; // events while the stage hears of no run

function open(id, { push = true } = {}) {
  if (push) history.pushState(null, "", id ? `/?run=${id}` : "/");
  shelf.current = id;
  stage.open(id);
  shelf.load();
  if (id && push && innerWidth < 900) $("stage").scrollIntoView();
}

function listenToAll(on) {
  others?.close();
  others = on ? new EventSource("/api/events") : null;
  others?.addEventListener("runs", () => { shelf.read(); stage.refresh(); });
}

async function request(id) {
  const found = await get(run(id));
  const fields = { ...found.request };
  if (found.start_file) fields.start_of = id;
  return fields;
}

async function reuse(id) {
  form.leaveEdit();
  form.fill(await request(id));
  $("make").scrollIntoView();
  $("prompt").focus();
}

async function edit(id) {
  form.edit(id, await request(id));
  $("make").scrollIntoView();
}

const shelf = new Shelf({ open, reuse, edit });
const stage = new Stage({ open, reuse, changed: () => shelf.read(), hears: (on) => listenToAll(!on) });
const form = new Form(open);

async function machine() {
  if (!document.hidden) say($("server"), await serverLine());
}

function fromAddress() {
  const id = new URLSearchParams(location.search).get("run");
  open(id && ID.test(id) ? id : null, { push: false });
}

addEventListener("popstate", fromAddress);
fromAddress();
form.begin().catch((error) => say($("new-problem"), error.message));
machine();
setInterval(machine, 5000);
