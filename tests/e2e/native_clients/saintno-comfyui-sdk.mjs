// @saintno/comfyui-sdk: wait until ready, upload, run with progress, and cancel a long job.
import fs from "node:fs";
import { CallWrapper, ComfyApi, PromptBuilder } from "@saintno/comfyui-sdk";

const [url, photo, workflow] = process.argv.slice(2);
const api = new ComfyApi(url);
await api.init().waitForReady();
const uploaded = await api.uploadImage(fs.readFileSync(photo), "photo.png");
const prompt = new PromptBuilder(JSON.parse(fs.readFileSync(workflow)), ["photo"], ["images"])
  .setInputNode("photo", "1.inputs.image")
  .setOutputNode("images", "9")
  .input("photo", uploaded.info.filename);
const told = [];
const result = await new Promise((resolve, reject) => new CallWrapper(api, prompt)
  .onPending(() => told.push("pending"))
  .onStart(() => told.push("start"))
  .onProgress(() => told.push("progress"))
  .onFinished((data) => resolve(data))
  .onFailed(reject)
  .run());
const image = result.images.images[0];
const blob = await api.getImage(image);
fs.writeFileSync(image.filename, Buffer.from(await blob.arrayBuffer()));
const long = await api.appendPrompt({
  "1": { class_type: "TestingSleep", inputs: { seconds: 60, steps: 600, previews: false, tag: "" } },
  "2": { class_type: "PreviewImage", inputs: { images: ["1", 0] } },
});
let queue = await api.getQueue();
while (!queue.queue_running.length) queue = await api.getQueue();
await api.interrupt();
while (queue.queue_running.length) queue = await api.getQueue();
const entry = await api.getHistory(long.prompt_id);
console.log(JSON.stringify({
  images: [image.filename], told: [...new Set(told)], interrupted: entry.status.status_str,
}));
api.destroy();
process.exit(0);
