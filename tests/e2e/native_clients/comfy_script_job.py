"""ComfyScript: the node classes as Python functions, from a server that sleeps; run, wait, cancel."""

import json
import sys

from comfy_script.runtime import Workflow, load, queue

load(sys.argv[1])
from comfy_script.runtime.nodes import EmptyImage, SaveImage, TestingSleep  # noqa: E402 - made by load

with Workflow(wait=True):
    saved = SaveImage(EmptyImage(48, 32, 1, 255), "script")
[image] = saved.wait()
image.save("script.png")
with Workflow():
    SaveImage(EmptyImage(8, 8, 1, 7), "never")
    hanging = SaveImage(TestingSleep(60.0, 600, False, ""), "never")
queue.cancel_all()
print(json.dumps({"size": image.size, "color": image.convert("RGB").getpixel((0, 0))}))
