// @stable-canvas/comfyui-client: run over the WebSocket and by polling, and read what its page reads.
import fs from "node:fs";
import WebSocket from "ws";
import { Client } from "@stable-canvas/comfyui-client";

const [url, , workflow] = process.argv.slice(2);
const client = new Client({ api_host: url.replace("http://", ""), WebSocket, clientId: crypto.randomUUID() });
await client.connect();
const prompt = JSON.parse(fs.readFileSync(workflow));
const steps = [];
const pushed = await client.enqueue(prompt, { progress: (p) => steps.push(p.value) });
prompt["5"].inputs.seconds = 0.3;
const polled = await client.enqueue_polling(prompt);
const images = [...pushed.images, ...polled.images];
for (const each of images) {
  const name = new URL(each.data).searchParams.get("filename");
  fs.writeFileSync(name, Buffer.from(await (await fetch(each.data)).arrayBuffer()));
}
const nodes = await client.getNodeDefs();
client.close();
console.log(JSON.stringify({
  images: images.map((each) => new URL(each.data).searchParams.get("filename")),
  steps: steps.length, nodes: Object.keys(nodes).length,
}));
process.exit(0);
