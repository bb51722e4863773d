// The runs of this browser: only their ids and times are kept here, the rest is asked for.

import { $, h, show } from "./dom.js";

const MOST = 30;

export class Past {
  constructor(open) {
    this.key = `comfyserve:runs:${location.pathname}`;
    this.open = open;
    $("forget").addEventListener("click", () => this.write([]));
    this.draw();
  }

  read() {
    try {
      const found = JSON.parse(localStorage.getItem(this.key) ?? "[]");
      return Array.isArray(found) ? found : [];
    } catch {
      return []; // somebody else wrote there
    }
  }

  write(runs) {
    localStorage.setItem(this.key, JSON.stringify(runs.slice(0, MOST)));
    this.draw();
  }

  note(job) {
    const others = this.read().filter((run) => run.id !== job.id);
    const before = this.read().find((run) => run.id === job.id);
    const run = { id: job.id, at: job.created_at, state: job.state };
    this.write(before ? this.read().map((each) => (each.id === job.id ? run : each)) : [run, ...others]);
  }

  drop(id) {
    this.write(this.read().filter((run) => run.id !== id));
  }

  draw() {
    const runs = this.read();
    const items = runs.map((run) =>
      h("li", {}, h("button", { type: "button", class: "plain", onclick: () => this.open(run.id) }, h("span", {}, new Date(run.at).toLocaleString()), h("span", { class: `badge ${run.state}` }, run.state))),
    );
    $("runs").replaceChildren(...items);
    show($("past"), runs.length > 0);
  }
}
