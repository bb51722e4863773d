"""comfy-api-simplified: upload, run and wait over the WebSocket, download; then the queue and a refusal."""

import json
import sys
from pathlib import Path

from comfy_api_simplified import ComfyApiWrapper, ComfyWorkflowWrapper
from comfy_api_simplified.exceptions import ComfyApiError

url, photo, workflow = sys.argv[1], sys.argv[2], sys.argv[3]
api = ComfyApiWrapper(url)
uploaded = api.upload_image(photo, subfolder="in")
graph = ComfyWorkflowWrapper(workflow)
graph.set_node_param("Photo", "image", f"{uploaded['subfolder']}/{uploaded['name']}")
images = api.queue_and_wait_images(graph, "Result")
pending = api.queue_prompt({**graph})
try:
    before = api.get_queue_size_before(pending["prompt_id"])
except ValueError:
    before = -1  # it has ended already
try:
    api.queue_prompt({"1": {"class_type": "Nope", "inputs": {}}})
    refused = ""
except ComfyApiError as error:
    refused = str(error)
for name, data in images.items():
    Path(name).write_bytes(data)
print(json.dumps({"images": sorted(images), "before": before, "refused": refused}))
