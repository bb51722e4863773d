// comfy-ui-client: connect, upload, run and collect the pictures, read what a client reads.
import fs from "node:fs";
import { ComfyUIClient } from "comfy-ui-client";

const [url, photo, workflow] = process.argv.slice(2);
const client = new ComfyUIClient(url.replace("http://", ""), "baadbabe-b00b-4206-9420-deadd00d1337");
await client.connect();
const uploaded = await client.uploadImage(fs.readFileSync(photo), "photo.png", true);
const prompt = JSON.parse(fs.readFileSync(workflow));
prompt["1"].inputs.image = uploaded.name;
const images = await client.getImages(prompt);
await client.saveImages(images, ".");
const stats = await client.getSystemStats();
const classes = await client.getObjectInfo("SaveImage");
const queue = await client.getQueue();
await client.disconnect();
console.log(JSON.stringify({
  images: Object.values(images).flat().map((each) => each.image.filename),
  os: stats.system.os, classes: Object.keys(classes), running: queue.queue_running.length,
}));
