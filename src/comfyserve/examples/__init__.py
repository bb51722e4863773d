"""A photograph and what `comfyserve demo` makes of it; read with `importlib.resources`.

- `postcard.jpg`: a mountain lake in the evening, painted by `tests/tools/paint_postcard.py`.
- `postcard_api.json`: a workflow of 17 nodes that turns it into a postcard, in API format.
- `postcard.json`: the same workflow as ComfyUI's editor saves it.
"""
