// The server, over its public API alone: JSON, and server-sent events that survive a lost connection.

const TOKEN = "comfyserve:token";
const LONGEST_PAUSE_MS = 8000;

/** What the server refused, or could not be asked. */
export class Failure extends Error {
  constructor(status, code, message, details = {}) {
    super(message);
    this.status = status;
    this.code = code;
    this.details = details;
  }
}

export const token = () => sessionStorage.getItem(TOKEN);

export function keepToken(value) {
  if (value) sessionStorage.setItem(TOKEN, value);
  else sessionStorage.removeItem(TOKEN);
}

/** A token that came with the address moves to this tab, and out of sight. */
export function takeTokenFromAddress() {
  const address = new URL(location.href);
  const found = address.searchParams.get("token");
  if (found === null) return;
  keepToken(found);
  address.searchParams.delete("token");
  history.replaceState(null, "", address);
}

async function request(path, options = {}) {
  const headers = { Accept: "application/json", ...options.headers };
  if (token()) headers.Authorization = `Bearer ${token()}`;
  let response;
  try {
    response = await fetch(path, { ...options, headers, cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Failure(0, "unreachable", "The server cannot be reached; is it running?");
  }
  if (response.ok) return response;
  const said = await response.json().catch(() => ({}));
  const { code = "failed", message = `The server answered ${response.status}.` } = said.error ?? {};
  throw new Failure(response.status, code, message, said.error?.details ?? {});
}

/** JSON, with whole numbers that are too large for JavaScript as BigInt. */
export async function ask(path, options) {
  return JSON.parse(await (await request(path, options)).text(), (_, value, context) => {
    const isLarge = typeof value === "number" && Number.isInteger(value) && !Number.isSafeInteger(value);
    return isLarge && /^-?\d+$/.test(context?.source ?? "") ? BigInt(context.source) : value;
  });
}

/** The same the other way: an object of inputs as JSON. */
export function encode(values, indent = "") {
  const parts = Object.entries(values).map(([name, value]) => {
    const text = typeof value === "bigint" ? String(value) : JSON.stringify(value);
    return `${indent}${JSON.stringify(name)}: ${text}`;
  });
  const glue = indent ? "\n" : "";
  return parts.length ? `{${glue}${parts.join(`,${glue || " "}`)}${glue}}` : "{}";
}

/** A job's events to its end: `[name, data]`. Connects again, and goes on where it was. */
export async function* events(path, signal) {
  let last = null;
  let pause = 500;
  for (;;) {
    try {
      const headers = { Accept: "text/event-stream" };
      if (last !== null) headers["Last-Event-ID"] = last;
      const response = await request(path, { headers, signal });
      if (response.status === 204) return;
      for await (const frame of frames(response.body)) {
        pause = 500;
        last = frame.id ?? last;
        yield [frame.event, JSON.parse(frame.data)];
        if (frame.event === "end") return;
      }
    } catch (error) {
      if (signal.aborted || (error instanceof Failure && error.status >= 400 && error.status < 500 && error.status !== 429)) throw error;
    }
    await new Promise((resolve) => setTimeout(resolve, pause));
    pause = Math.min(pause * 2, LONGEST_PAUSE_MS);
  }
}

async function* frames(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const parts = (rest + value).split("\n\n");
      rest = parts.pop();
      for (const part of parts) {
        const frame = {};
        for (const line of part.split("\n")) {
          const [, name, text] = /^(\w+): ?(.*)$/.exec(line) ?? [];
          if (name) frame[name] = text;
        }
        if (frame.data !== undefined) yield frame;
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}
