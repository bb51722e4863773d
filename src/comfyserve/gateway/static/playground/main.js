// The page of one typed endpoint. It knows nothing but the public API of the address it is at.

import { Failure, ask, encode, events, keepToken, takeTokenFromAddress, token } from "./api.js";
import { wireCode } from "./code.js";
import { $, h, show } from "./dom.js";
import { makeFields } from "./fields.js";
import { Past } from "./past.js";
import { Result } from "./result.js";

const here = location.pathname;
const root = here.slice(0, here.lastIndexOf("/run/"));
const result = new Result();
let fields = [];
let past = null;
let running = null;

async function open() {
  show($("trouble"), false);
  show($("gate"), false);
  try {
    const endpoint = await ask(here);
    draw(endpoint);
  } catch (error) {
    refuse(error);
  }
}

function refuse(error) {
  if (!(error instanceof Failure)) throw error;
  const isShut = error.status === 401 || (error.status === 403 && error.code === "missing_scope");
  $("subtitle").textContent = isShut ? "" : "This endpoint cannot be shown.";
  show($("gate"), isShut);
  if (!isShut || token()) {
    $("trouble").textContent = error.message;
    show($("trouble"));
  }
  if (isShut) $("token").focus();
}

function draw(endpoint) {
  document.title = endpoint.name;
  $("title").textContent = endpoint.name;
  const kinds = endpoint.outputs.map((output) => output.label || output.name).join(", ");
  $("subtitle").textContent = `Version ${endpoint.version}${kinds ? `, gives ${kinds}` : ""}`;
  fields = makeFields(endpoint.inputs);
  $("fields").replaceChildren(...fields.map((field) => field.element));
  if (!fields.length) $("fields").append(h("p", { class: "quiet" }, "It takes none: just run it."));
  show($("token-change"), token() !== null);
  show($("work"));
  past ??= new Past(reopen);
}

/** The inputs of the form by name, and its files apart. Throws for JSON that is none. */
function inputs() {
  const values = {};
  const files = {};
  for (const field of fields) {
    const value = field.value;
    if (value instanceof File) files[field.input.name] = value;
    else if (value !== undefined) values[field.input.name] = value;
  }
  return { values, files };
}

function checked() {
  const bad = fields.filter((field) => {
    let wrong = "";
    try {
      if (field.value === undefined && field.input.required) wrong = "This is needed.";
    } catch {
      wrong = "This is not JSON.";
    }
    field.mark(wrong);
    return wrong;
  });
  bad[0]?.focus();
  return bad.length === 0;
}

function request() {
  const { values, files } = inputs();
  const headers = { Prefer: "respond-async" };
  if (!Object.keys(files).length) {
    headers["Content-Type"] = "application/json";
    return { method: "POST", headers, body: encode(values) };
  }
  const body = new FormData();
  for (const [name, value] of Object.entries(values)) body.append(name, typeof value === "object" ? JSON.stringify(value) : String(value));
  for (const [name, file] of Object.entries(files)) body.append(name, file);
  return { method: "POST", headers, body };
}

async function run() {
  for (const field of fields) field.renew?.();
  if (!checked()) return;
  busy(true);
  result.clear();
  result.badge("sending");
  try {
    const job = await ask(here, request());
    past.note(job);
    if (matchMedia("(max-width: 55.99rem)").matches) $("result").scrollIntoView({ behavior: "smooth" });
    await follow(job);
  } catch (error) {
    result.badge("");
    failed(error);
  } finally {
    busy(false);
  }
}

/** Show a job to its end. Another one that is opened meanwhile takes its place. */
async function follow(job) {
  running?.abort();
  const mine = (running = new AbortController());
  result.begin(job);
  $("cancel").onclick = () => cancel(job);
  if (["succeeded", "failed", "canceled", "expired"].includes(job.state)) return result.end(job);
  show($("cancel"));
  try {
    for await (const [name, data] of events(job.urls.events, mine.signal)) {
      if (name === "end") {
        past.note(data);
        result.end(data);
      } else if (name !== "job") {
        result[name]?.(data);
      }
    }
  } catch (error) {
    if (!mine.signal.aborted) throw error;
  } finally {
    if (running === mine) show($("cancel"), false);
  }
}

async function cancel(job) {
  $("cancel").disabled = true;
  try {
    await ask(job.urls.cancel, { method: "POST" });
  } catch (error) {
    failed(error);
  } finally {
    $("cancel").disabled = false;
  }
}

async function reopen(id) {
  try {
    const job = await ask(`${root}/jobs/${id}`);
    for (const field of fields) if (field.input.name in job.inputs) field.fill(job.inputs[field.input.name]);
    $("result").focus();
    await follow(job);
  } catch (error) {
    if (error.status === 404) past.drop(id);
    failed(error);
  }
}

/** Mark the fields that the server refuses, and say what belongs to none. */
function failed(error) {
  if (!(error instanceof Failure)) throw error;
  if (error.status === 401) return refuse(error);
  const byName = new Map(fields.map((field) => [field.input.name, field]));
  const marked = (error.details.problems ?? []).filter((problem) => byName.has(problem.input));
  for (const problem of marked) byName.get(problem.input).mark(sentences(problem.message, problem.hint));
  if (marked.length) byName.get(marked[0].input).focus();
  result.failed(marked.length ? "Some inputs cannot be used; they are marked." : error.message);
}

const sentences = (...texts) => texts.filter(Boolean).map((text) => `${text.replace(/\.$/, "")}.`).join(" ");

function busy(isBusy) {
  $("run").disabled = isBusy;
  show($("reset"), !isBusy);
  $("run").textContent = isBusy ? "Running…" : "Run";
}

$("form").addEventListener("submit", (event) => {
  event.preventDefault();
  if (!$("run").disabled) run();
});
$("form").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) $("form").requestSubmit();
});
$("reset").addEventListener("click", () => fields.forEach((field) => field.reset()));
$("gate").addEventListener("submit", (event) => {
  event.preventDefault();
  keepToken($("token").value.trim());
  $("token").value = "";
  open();
});
$("token-change").addEventListener("click", () => {
  keepToken("");
  show($("work"), false);
  show($("gate"));
  $("token").focus();
});
wireCode(() => {
  let found = { values: {}, files: {} };
  try {
    found = inputs();
  } catch {
    checked(); // marks what is not JSON; the snippet is without inputs until that is mended
  }
  const names = Object.fromEntries(Object.entries(found.files).map(([name, file]) => [name, file.name]));
  return { url: location.origin + here, values: found.values, files: names, needsToken: token() !== null };
});
takeTokenFromAddress();
open();
