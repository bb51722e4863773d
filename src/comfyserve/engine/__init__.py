"""The embedded engine: a small server that speaks ComfyUI's protocol and computes image nodes.

It runs as a process of its own (`python -m comfyserve.engine --port N`), exactly where a real ComfyUI
would run, and says in `/system_stats` that it is not ComfyUI. Requests come in by `app`, prompts wait in
`queue`, one `worker` thread runs them with `executor` over the classes of `nodes`, and `hub` tells the
sockets about it.
"""

ENGINE_VERSION = "0.1.0"
"""Reported as `comfyserve_engine` in `/system_stats`."""
COMFYUI_VERSION = "0.33.0"
"""The ComfyUI release whose protocol and validation rules are followed."""
