"""Runs inside a real ComfyUI's Python: answers prompts with that ComfyUI's own verdict, executing nothing.

    python comfy_worker.py COMFYUI_DIR BASE_DIR

Started by `engine.py`. Each line on stdin is a JSON object; each answer is one line on the stream that was
stdout at the start (ComfyUI's own output goes to stderr). This file imports nothing of comfyserve.
"""

import asyncio
import importlib.machinery
import importlib.util
import inspect
import json
import logging
import os
import sys
import types
from typing import Any, TypeAlias

Json: TypeAlias = Any


class OrderedSet(dict[Json, None]):
    """A set that keeps its order: what ComfyUI's verdict says does not depend on hash seeds with it."""

    def __init__(self, items: Json = ()) -> None:
        super().__init__(dict.fromkeys(items))

    def add(self, item: Json) -> None:
        self[item] = None

    def union(self, other: Json) -> "OrderedSet":
        return OrderedSet([*self, *other])


class _Stub(types.ModuleType):
    """Stands for a package that only running nodes need."""

    __path__: list[str] = []  # noqa: RUF012 - the attribute that makes a module a package

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__spec__ = importlib.machinery.ModuleSpec(name, None)

    def __getattr__(self, name: str) -> "_Stub":
        if name.startswith("__"):
            raise AttributeError(name)
        return _Stub(name)

    def __call__(self, *args: Json, **kwargs: Json) -> "_Stub":
        return self


def boot(comfyui_dir: str, base_dir: str) -> tuple[asyncio.AbstractEventLoop, Json]:
    """Start ComfyUI up to the point where it would listen; return its loop and server object."""
    os.chdir(comfyui_dir)
    sys.path.insert(0, comfyui_dir)
    database = "sqlite:///:memory:"
    sys.argv = ["main.py", "--cpu", "--base-directory", base_dir, "--database-url", database]
    if importlib.util.find_spec("torchaudio") is None:
        for name in ("torchaudio", "torchaudio.functional", "torchaudio.transforms"):
            sys.modules[name] = _Stub(name)
    main = importlib.import_module("main")
    loop, server, _ = main.start_comfyui()
    execution = importlib.import_module("execution")
    execution.set = OrderedSet  # type: ignore[attr-defined]
    logging.disable(logging.CRITICAL)
    return loop, server


async def judge(server: Json, case: dict[str, Json]) -> dict[str, Json]:
    """Do what `POST /prompt` does up to the queue."""
    execution = sys.modules["execution"]
    prompt = case["prompt"]
    try:
        manager = getattr(server, "node_replace_manager", None)
        if manager is not None:
            manager.apply_replacements(prompt)
        valid = await execution.validate_prompt("id", prompt, case.get("targets"))
    except Exception as error:  # noqa: BLE001 - ComfyUI answers 500 to any
        return {"crash": type(error).__name__}
    return {
        "ok": valid[0],
        "error": valid[1],
        "outputs": valid[2],
        "nodes": valid[3],
        "prompt": prompt,
    }


async def catalog(server: Json) -> dict[str, Json]:
    """Return what `GET /object_info` answers, and the version."""
    handlers = {route.path: route.handler for route in server.routes if route.method == "GET"}
    response = await handlers["/object_info"](None)
    version = importlib.import_module("comfyui_version").__version__
    replacements = {}
    if "/node_replacements" in handlers:
        replacements = json.loads((await handlers["/node_replacements"](None)).body)
    return {
        "version": version,
        "object_info": json.loads(response.body),
        "validators": validators(),
        "replacements": replacements,
    }


def validators() -> dict[str, list[str]]:
    """Return the arguments of each class' own validation function; `**` for the rest."""
    internal = importlib.import_module("comfy_api.internal")
    found = {}
    for name, node in importlib.import_module("nodes").NODE_CLASS_MAPPINGS.items():
        if issubclass(node, internal._ComfyNodeInternal):
            function = internal.first_real_override(node, "validate_inputs")
        else:
            function = getattr(node, "VALIDATE_INPUTS", None)
        if function is not None:
            spec = inspect.getfullargspec(function)
            found[name] = [*spec.args[1:], *(["**"] if spec.varkw else [])]
    return found


def main() -> None:
    """Answer lines until stdin ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    loop, server = boot(sys.argv[1], sys.argv[2])
    for line in sys.stdin:
        case = json.loads(line)
        work = catalog(server) if case == "catalog" else judge(server, case)
        answers.write(json.dumps(loop.run_until_complete(work)) + "\n")
        answers.flush()
    answers.close()
    os._exit(0)


if __name__ == "__main__":
    main()
