// The server's routes (docs/http.md).

export class Refused extends Error {
  constructor(message, param, status) {
    super(message);
    this.param = param;
    this.status = status;
  }
}

async function answer(response) {
  let body = null;
  try {
    body = await response.json();
  } catch {
    // no JSON: the status says enough
  }
  if (response.ok) return body;
  const error = body?.error ?? { message: `the server answered ${response.status}` };
  throw new Refused(error.message, error.param, response.status);
}

async function ask(method, path, body) {
  const init = { method };
  if (body instanceof FormData) init.body = body;
  else if (body !== undefined) {
    init.body = JSON.stringify(body);
    init.headers = { "Content-Type": "application/json" };
  }
  let response;
  try {
    response = await fetch(path, init);
  } catch {
    throw new Refused("the server cannot be reached: is it still running?", null, 0);
  }
  return answer(response);
}

export const get = (path) => ask("GET", path);
export const post = (path, body = {}) => ask("POST", path, body);
export const put = (path, body) => ask("PUT", path, body);
export const remove = (path) => ask("DELETE", path);
export const run = (id) => `/api/runs/${id}`;

/** A picture, ready to be drawn; null where there is none. */
export async function picture(path) {
  try {
    const response = await fetch(path);
    return response.ok ? await createImageBitmap(await response.blob()) : null;
  } catch {
    return null;
  }
}

/** The fields of a new video for the wire: a form where a file goes with them, else JSON. */
export function packed(fields, file) {
  if (!file) return fields;
  const form = new FormData();
  for (const [name, value] of Object.entries(fields)) {
    if (Array.isArray(value)) value.forEach((each) => form.append(`${name}[]`, each));
    else if (value !== null && typeof value === "object") {
      for (const [key, each] of Object.entries(value)) form.append(`${name}[${key}]`, each);
    } else form.append(name, String(value));
  }
  form.append("input_reference", file, file.name);
  return form;
}
