"""Lines that get what is missing. What they hold comes from a workflow, so that every word is quoted."""

import shlex
from collections.abc import Iterator

from comfyserve.workflow.requirements.model import Fix, InputFile, ModelFile, NodePack, Requirements
from comfyserve.workflow.requirements.stated import CORE


def fixes(found: Requirements) -> Iterator[Fix]:
    """Go through the missing things and say how to get each."""
    for each in found.missing:
        if isinstance(each, NodePack):
            yield _pack(each)
        elif isinstance(each, ModelFile):
            yield _model(each)
        else:
            yield _file(each)


def _pack(pack: NodePack) -> Fix:
    classes = ", ".join(pack.classes[:10])
    if not pack.id:
        return Fix(
            f"find the node pack that brings {classes} (ComfyUI-Manager knows many by class)"
        )
    if pack.id == CORE:
        version = f" to {pack.version} or newer" if pack.version else ""
        return Fix(
            f"update ComfyUI{version} for {classes}",
            _command("comfy", "update", "comfy"),
            f"Image.comfyui(version={_quoted(pack.version)})" if pack.version else "",
        )
    if "/" in pack.id:
        url = f"https://github.com/{pack.id}"
        return Fix(
            f"install {pack.id} for {classes}",
            _command("git", "clone", url, f"custom_nodes/{pack.id.partition('/')[2]}"),
            f".add_custom_nodes([{_quoted(f'{url}@{pack.version}' if pack.version else url)}])",
        )
    wanted = f"{pack.id}@{pack.version}" if pack.version else pack.id
    return Fix(
        f"install {pack.id} for {classes}",
        _command("comfy", "node", "install", wanted),
        f".add_custom_nodes([{_quoted(wanted)}])",
    )


def _model(model: ModelFile) -> Fix:
    folder = model.directory or "?"
    if not model.url:
        return Fix(f"put {_quoted(model.name)} into models/{folder}: nobody says where it is from")
    path, _, base = model.name.replace("\\", "/").rpartition("/")
    target = f"{folder}/{path}" if path else folder
    pin = f" @sha256:{model.sha256}" if model.sha256 else ""
    return Fix(
        f"download {_quoted(model.name)} into models/{target}",
        _command(
            *("comfy", "model", "download", "--url", model.url),
            *("--relative-path", f"models/{target}", "--filename", base),
        ),
        f".add_models([{_quoted(f'{model.url}{pin} -> {target}')}])",
    )


def _file(file: InputFile) -> Fix:
    return Fix(
        f"upload {_quoted(file.name)} ({file.kind.value}) for node {file.place.node_id}",
        _command("curl", "-F", f"image=@{file.name}", "http://HOST:PORT/upload/image"),
    )


def _command(*words: str) -> str:
    return " ".join(shlex.quote(word) for word in words)


def _quoted(text: str) -> str:
    return repr(text)
