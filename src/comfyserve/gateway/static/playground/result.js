// What becomes of a job: its stages, node and steps, preview, outputs, error and receipt.

import { $, h, seconds, show, size } from "./dom.js";

const STAGES = ["queued", "placing", "starting", "loading", "running", "saving", "done"];

/** Shows one job at a time. Outputs come one by one; the end tells all of them again. */
export class Result {
  constructor() {
    this.outputs = new Map();
  }

  clear() {
    this.outputs.clear();
    $("outputs").replaceChildren();
    $("doing").textContent = "";
    this.preview(null);
    for (const id of ["hint", "failure", "receipt", "progress"]) show($(id), false);
    this.badge("");
  }

  badge(state) {
    $("state").textContent = state;
    $("state").className = `badge ${state}`;
    show($("state"), state !== "");
  }

  begin(job) {
    this.clear();
    this.badge(job.state);
    show($("progress"));
    this.stage({ stage: job.stage, position: job.position, eta_s: job.eta_s, detail: job.detail });
    if (job.progress) this.progress(job.progress);
    for (const output of job.outputs) this.output(output);
  }

  stage({ stage, position, eta_s: eta, detail }) {
    const now = STAGES.indexOf(stage);
    const items = STAGES.map((name, index) => h("li", { class: index < now ? "past" : null, "aria-current": index === now ? "step" : null }, name));
    $("stages").replaceChildren(...items);
    if (stage !== "queued") this.badge(stage === "done" ? "succeeded" : "running");
    if (now < STAGES.indexOf("running")) $("bar").removeAttribute("value");
    const told = [];
    if (position) told.push(position === 1 ? "next in the queue" : `number ${position} in the queue`);
    if (eta) told.push(`about ${seconds(eta)} to go`);
    if (detail) told.push(detail);
    if (told.length) $("doing").textContent = told.join(", ");
  }

  node({ title, class_type: kind, number, total }) {
    if (title || kind) $("doing").textContent = `${title || kind} (node ${number} of ${total})`;
  }

  progress({ value, node, step, steps, nodes_done: done, nodes_total: total }) {
    $("bar").value = value;
    if (!node) return;
    const at = steps ? `step ${step} of ${steps}` : `node ${Math.min(done + 1, total)} of ${total}`;
    $("doing").textContent = `${node.title || node.class_type}: ${at}`;
  }

  preview(told) {
    if (this.shown) URL.revokeObjectURL(this.shown);
    this.shown = null;
    show($("preview"), told !== null);
    if (told === null) return $("preview").removeAttribute("src");
    const bytes = Uint8Array.from(atob(told.data_base64), (char) => char.charCodeAt(0));
    this.shown = URL.createObjectURL(new Blob([bytes], { type: told.content_type }));
    $("preview").src = this.shown;
  }

  output(output) {
    if (this.outputs.has(output.asset_id)) return;
    this.outputs.set(output.asset_id, output);
    $("outputs").append(figure(output));
    $("outputs").classList.toggle("one", this.outputs.size === 1);
  }

  end(job) {
    this.preview(null);
    show($("progress"), false);
    show($("hint"), false);
    this.badge(job.state);
    for (const output of job.outputs) this.output(output);
    if (job.error) this.failed(job.error.message, job.error.node, job.error.log_tail);
    else if (job.state === "succeeded" && !job.outputs.length) this.say("It succeeded, and made no files.");
    else if (job.state === "canceled") this.say("It was canceled.");
    this.receipt(job);
  }

  say(text) {
    $("hint").textContent = text;
    show($("hint"));
  }

  failed(message, node = null, log = []) {
    const where = node ? `${node.title || node.class_type}: ` : "";
    const more = log?.length ? [h("pre", {}, log.join("\n"))] : [];
    $("failure").replaceChildren(h("strong", {}, where), message, ...more);
    show($("failure"));
  }

  receipt(job) {
    const { receipt } = job;
    if (!receipt) return;
    const rows = [
      ["waited", seconds(receipt.queued_ms / 1000)],
      ["woke", seconds(receipt.wake_ms / 1000)],
      ["loaded", seconds(receipt.load_ms / 1000)],
      ["ran", seconds(receipt.execute_ms / 1000)],
      ["in all", seconds(receipt.total_ms / 1000)],
      ["on", receipt.gpu || "cpu"],
      ["cost", receipt.cost ? receipt.cost.toFixed(6) : "0"],
    ];
    if (job.reused_from) rows.push(["reused from", job.reused_from]);
    const list = rows.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value)));
    $("receipt").replaceChildren(h("dl", { "aria-label": "Receipt" }, ...list));
    show($("receipt"));
  }
}

function figure(output) {
  const name = output.name ?? output.filename;
  const link = h("a", { href: output.url, download: output.filename }, "Download");
  const caption = h("figcaption", {}, h("span", { class: "quiet" }, `${name}, ${size(output.size_bytes)}`), link);
  return h("figure", { class: output.kind }, shown(output, name), caption);
}

function shown(output, name) {
  switch (output.kind) {
    case "image":
      return h("a", { href: output.url, target: "_blank", rel: "noopener" }, h("img", { src: output.url, alt: `Output ${name}`, onerror: unshown }));
    case "video":
      return h("video", { src: output.url, controls: true, loop: true, playsinline: true, onerror: unshown });
    case "audio":
      return h("audio", { src: output.url, controls: true, onerror: unshown });
    case "text":
      return text(output);
    default:
      return h("p", {}, output.filename);
  }
}

/** A format that this browser does not know is still there to be downloaded. */
function unshown(event) {
  event.currentTarget.replaceWith(h("p", { class: "quiet" }, "This browser cannot show it."));
}

function text(output) {
  const place = h("pre", { tabindex: "0" }, "…");
  fetch(output.url)
    .then((response) => response.text())
    .then((found) => (place.textContent = found))
    .catch(() => (place.textContent = "It could not be read."));
  return place;
}
