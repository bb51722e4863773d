// The same call as a command or a program, with the values of the form as they are.

import { encode } from "./api.js";
import { $, h } from "./dom.js";

const LANGUAGES = { curl: curl, Python: python, JavaScript: javascript };

/** Wire the dialog; `current` gives `{url, values, files, needsToken}`. */
export function wireCode(current) {
  const dialog = $("code");
  let chosen = "curl";
  const draw = () => {
    const tabs = Object.keys(LANGUAGES).map((name) =>
      h("button", { type: "button", role: "tab", class: "plain", id: `tab-${name}`, "aria-selected": String(name === chosen), "aria-controls": "snippet", tabindex: name === chosen ? "0" : "-1", onclick: () => choose(name) }, name),
    );
    $("languages").replaceChildren(...tabs);
    $("snippet").textContent = LANGUAGES[chosen](current());
    $("copy").textContent = "Copy";
  };
  const choose = (name) => {
    chosen = name;
    draw();
    $(`tab-${name}`).focus();
  };
  $("languages").addEventListener("keydown", (event) => {
    const names = Object.keys(LANGUAGES);
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (step) choose(names[(names.indexOf(chosen) + step + names.length) % names.length]);
  });
  $("copy").addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText($("snippet").textContent);
      $("copy").textContent = "Copied";
    } catch {
      getSelection().selectAllChildren($("snippet"));
      $("copy").textContent = "Selected: copy it with the keyboard";
    }
  });
  $("code-close").addEventListener("click", () => dialog.close());
  $("show-code").addEventListener("click", () => {
    draw();
    dialog.showModal();
  });
}

const hasFiles = ({ files }) => Object.keys(files).length > 0;
const asText = (value) => (typeof value === "object" ? JSON.stringify(value) : String(value));

/** Quote for a POSIX shell: nothing inside single quotes means anything. */
const shell = (text) => `'${text.replaceAll("'", "'\\''")}'`;

export function curl(call) {
  const lines = [`curl --fail-with-body ${shell(call.url)}`, "-H 'Prefer: wait=60'"];
  if (call.needsToken) lines.push('-H "Authorization: Bearer $COMFYSERVE_TOKEN"');
  if (hasFiles(call)) {
    for (const [name, value] of Object.entries(call.values)) lines.push(`--form-string ${shell(`${name}=${asText(value)}`)}`);
    for (const [name, file] of Object.entries(call.files)) lines.push(`-F ${shell(`${name}=@"${file.replace(/["\\]/g, "\\$&")}"`)}`);
  } else {
    lines.push("-H 'Content-Type: application/json'", `-d ${shell(encode(call.values))}`);
  }
  return lines.join(" \\\n  ");
}

export function python(call) {
  const headers = ['"Prefer": "wait=60"'];
  if (call.needsToken) headers.push('"Authorization": "Bearer " + os.environ["COMFYSERVE_TOKEN"]');
  const inputs = Object.entries(call.values).map(([name, value]) => `    ${JSON.stringify(name)}: ${literal(hasFiles(call) ? asText(value) : value)},`);
  const files = Object.entries(call.files).map(([name, file]) => `        ${JSON.stringify(name)}: open(${JSON.stringify(file)}, "rb"),`);
  return [
    ...(call.needsToken ? ["import os", ""] : []),
    "import requests",
    "",
    inputs.length ? `inputs = {\n${inputs.join("\n")}\n}` : "inputs = {}",
    "response = requests.post(",
    `    ${JSON.stringify(call.url)},`,
    `    headers={${headers.join(", ")}},`,
    ...(files.length ? ["    data=inputs,", "    files={", ...files, "    },"] : ["    json=inputs,"]),
    ")",
    "job = response.json()",
    'if "error" in job and job["error"]:',
    '    raise SystemExit(job["error"]["message"])',
    'for output in job["outputs"]:',
    '    print(output["url"])',
  ].join("\n");
}

export function javascript(call) {
  const headers = ['Prefer: "wait=60"'];
  if (call.needsToken) headers.push("Authorization: `Bearer ${process.env.COMFYSERVE_TOKEN}`");
  const lines = [];
  if (hasFiles(call)) {
    lines.push('import { openAsBlob } from "node:fs";', "", "const body = new FormData();");
    for (const [name, value] of Object.entries(call.values)) lines.push(`body.append(${JSON.stringify(name)}, ${JSON.stringify(asText(value))});`);
    for (const [name, file] of Object.entries(call.files)) lines.push(`body.append(${JSON.stringify(name)}, await openAsBlob(${JSON.stringify(file)}), ${JSON.stringify(file)});`);
  } else {
    headers.push('"Content-Type": "application/json"');
    const hasLarge = Object.values(call.values).some((value) => typeof value === "bigint");
    // A number that JavaScript cannot hold goes as it is written.
    lines.push(hasLarge ? `const body = ${JSON.stringify(encode(call.values))};` : `const body = JSON.stringify(${encode(call.values, "  ")});`);
  }
  return [
    ...lines,
    `const response = await fetch(${JSON.stringify(call.url)}, {`,
    '  method: "POST",',
    `  headers: { ${headers.join(", ")} },`,
    "  body,",
    "});",
    "const job = await response.json();",
    "if (job.error) throw new Error(job.error.message);",
    "for (const output of job.outputs) console.log(output.url);",
  ].join("\n");
}

/** A Python literal. */
function literal(value) {
  if (value === null) return "None";
  if (value === true) return "True";
  if (value === false) return "False";
  if (typeof value === "bigint" || typeof value === "number") return String(value);
  if (Array.isArray(value)) return `[${value.map(literal).join(", ")}]`;
  if (typeof value === "object") return `{${Object.entries(value).map(([name, each]) => `${JSON.stringify(name)}: ${literal(each)}`).join(", ")}}`;
  return JSON.stringify(value);
}
