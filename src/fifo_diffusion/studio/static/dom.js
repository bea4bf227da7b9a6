// Elements, and numbers as people read them.

export const $ = (id) => document.getElementById(id);

/** An element. `on...` are listeners, `class` and names with `-` attributes, all others properties. */
export function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "class" || name.includes("-") || name === "for") element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

/** Change an attribute's text only where it differs: screen readers then hear it once. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function duration(seconds) {
  if (seconds === null || seconds === undefined || !isFinite(seconds)) return "";
  if (seconds < 10) return `${(Math.round(seconds * 10) / 10).toString()} s`;
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172800) return `${(seconds / 3600).toFixed(seconds < 36000 ? 1 : 0)} h`;
  return `${Math.round(seconds / 86400)} days`;
}

export function bytes(count) {
  if (!count) return "";
  const units = ["B", "kB", "MB", "GB", "TB"];
  let k = 0;
  while (count >= 1000 && k < units.length - 1) { count /= 1000; k += 1; }
  return `${count < 10 && k ? count.toFixed(1) : Math.round(count)} ${units[k]}`;
}

export function ago(unixSeconds) {
  const seconds = Date.now() / 1000 - unixSeconds;
  return seconds < 45 ? "just now" : `${duration(seconds)} ago`;
}

export function number(value) {
  return value >= 10 ? Math.round(value).toLocaleString("en") : String(Math.round(value * 100) / 100);
}

/** At most one call per `wait` milliseconds; the last one is never lost. */
export function settled(call, wait) {
  let timer = null;
  return (...given) => {
    clearTimeout(timer);
    timer = setTimeout(() => call(...given), wait);
  };
}

/** Ask in a dialog. Fields: [{name, label, type, value, min, max}]. Gives their values, or null. */
export function ask({ title, text = "", ok, fields = [] }) {
  const dialog = $("ask");
  $("ask-title").textContent = title;
  $("ask-text").textContent = text;
  $("ask-ok").textContent = ok;
  $("ask-fields").replaceChildren(
    ...fields.map(({ name, label, ...props }) => {
      const input = props.type === "textarea" ? h("textarea", { rows: 3 }) : h("input", { type: props.type });
      delete props.type;
      Object.assign(input, props, { name, id: `ask-${name}` });
      return h("div", { class: "field" }, h("label", { for: input.id }, label), input);
    }),
  );
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener(
      "close",
      () => {
        const inputs = [...$("ask-fields").querySelectorAll("input, textarea")];
        resolve(dialog.returnValue === "ok" ? Object.fromEntries(inputs.map((i) => [i.name, i.value])) : null);
      },
      { once: true },
    );
  });
}
