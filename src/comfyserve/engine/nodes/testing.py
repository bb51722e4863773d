"""Nodes that only tests and demos need: they wait, fail, crash, hang, and write every kind of output."""

import os
import signal
import time
from io import BytesIO
from typing import Any, Final

import numpy as np
from PIL import Image

from comfyserve.engine.faults import kill_self, sleep_for_ever
from comfyserve.engine.folders import FileType
from comfyserve.engine.hub import ImageType, Preview
from comfyserve.engine.nodes import media
from comfyserve.engine.nodes.io import file_entry
from comfyserve.engine.nodes.pixels import Array
from comfyserve.engine.nodes.spec import (
    IMAGE,
    Context,
    Hidden,
    Input,
    NodeClass,
    Outcome,
    Output,
    boolean,
    choice,
    integer,
    number,
    string,
)

_CATEGORY = "comfyserve/testing"
_MODULE = "comfyserve.engine.nodes.testing"
_ANYTHING: Final = Input("anything", "*", is_optional=True)
_PREVIEW_SIZE = 128


class OutOfMemoryError(RuntimeError):
    """What PyTorch raises when a GPU has no memory left, under the name that it has on the wire."""

    __module__ = "torch"


def sleep(
    *,
    seconds: float,
    steps: int,
    previews: bool,
    tag: str,
    context: Context,
    anything: object = None,
) -> tuple[Array]:
    """Wait in steps, each with progress; `tag` only makes a prompt different from others."""
    del anything
    if tag:
        context.say(tag)
    started = time.monotonic()
    for step in range(1, steps + 1):
        time.sleep(max(0.0, started + seconds * step / steps - time.monotonic()))
        context.progress(step, steps, _progress_preview(step / steps) if previews else None)
    return (np.full((1, 64, 64, 3), 0.5, np.float32),)


def _progress_preview(share: float) -> Preview:
    picture = Image.new("RGB", (_PREVIEW_SIZE, _PREVIEW_SIZE), (24, 32, 48))
    picture.paste((240, 160, 40), (0, 0, round(_PREVIEW_SIZE * share), _PREVIEW_SIZE))
    buffer = BytesIO()
    picture.save(buffer, format="JPEG", quality=95)
    return Preview(ImageType.JPEG, buffer.getvalue())


def allocate(
    *, megabytes: int, seconds: float, context: Context, anything: object = None
) -> tuple[Array]:
    """Hold so much memory for a while."""
    held = np.ones((megabytes, 1024, 1024), np.uint8)
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        context.progress(seconds - left, seconds)
        time.sleep(min(left, 0.05))
    del anything
    return (np.full((1, 64, 64, 3), float(held[0, 0, 0]), np.float32),)


def crash(
    *, exit_code: int, by_signal: str, once: str, context: Context, anything: object = None
) -> Outcome:
    """End the process. With `once` only where no file of that name is in the input directory yet."""
    del anything
    if once:
        marker = context.folders.input_path(once)
        if marker.exists():
            return Outcome(ui={"text": ["survived"]})
        marker.write_text("crashed once\n", encoding="utf-8")
    if by_signal != "none":
        kill_self(signal.Signals[by_signal])
        sleep_for_ever()
    os._exit(exit_code)


def hang(
    *, seconds: float, heeds_interrupt: bool, context: Context, anything: object = None
) -> Outcome:
    """Do nothing, without any progress."""
    del anything
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        if heeds_interrupt:
            context.check()
        time.sleep(min(left, 0.05))
    return Outcome(ui={"text": ["done hanging"]})


def fail(*, message: str, anything: object = None) -> tuple[Any]:
    """Raise an exception."""
    del anything
    raise ValueError(message)


def run_out_of_memory(*, anything: object = None) -> tuple[Any]:
    """Raise what a GPU without memory raises."""
    del anything
    raise OutOfMemoryError(
        "CUDA out of memory. Tried to allocate 24.00 GiB. GPU 0 has a total capacity of 23.50 GiB."
    )


def report_text(*, text: str, anything: object = None) -> Outcome:
    """Report a text."""
    return Outcome((text,), {"text": [text if anything is None else f"{text}{anything}"]})


def write_audio(*, filename_prefix: str, seconds: float, context: Context) -> Outcome:
    """Write a tone as WAV."""
    return _written(context, filename_prefix, ".wav", media.tone_wav(440.0, seconds), "audio")


def write_animation(*, filename_prefix: str, frames: int, context: Context) -> Outcome:
    """Write an animated GIF, reported the way popular video nodes do."""
    data = media.animated_gif(media.moving_bar(96, 64, frames), 8.0)
    about = {"format": "image/gif", "frame_rate": 8.0}
    return _written(context, filename_prefix, ".gif", data, "gifs", about)


def write_video(*, filename_prefix: str, frames: int, context: Context) -> Outcome:
    """Write a short video."""
    data = media.motion_jpeg_avi(media.moving_bar(96, 64, frames), 8.0)
    about = {"format": "video/x-msvideo", "frame_rate": 8.0}
    return _written(context, filename_prefix, ".avi", data, "video", about)


def write_unknown(*, filename_prefix: str, kilobytes: int, context: Context) -> Outcome:
    """Write a file of the given size under a key that nobody knows."""
    data = bytes(range(256)) * 4 * kilobytes
    return _written(context, filename_prefix, ".bin", data, "parchments")


def _written(
    context: Context,
    prefix: str,
    suffix: str,
    data: bytes,
    key: str,
    about: dict[str, Any] | None = None,
) -> Outcome:
    place = context.folders.save_place(prefix, FileType.OUTPUT, 0, 0, time.localtime())
    name = place.name(0, suffix)
    (place.directory / name).write_bytes(data)
    return Outcome(ui={key: [file_entry(name, place, FileType.OUTPUT) | (about or {})]})


def count(*, start: int, step: int) -> tuple[int]:
    """Give a number. Its class says that it changed, every time."""
    return (start + step,)


def pass_through(*, anything: object) -> tuple[object]:
    """Give what it gets."""
    return (anything,)


def list_numbers(*, start: int, amount: int) -> tuple[list[int]]:
    """Give a list: what follows runs once for each number."""
    return (list(range(start, start + amount)),)


def join_numbers(*, numbers: list[int], separator: list[str]) -> Outcome:
    """Take a whole list at once."""
    text = separator[0].join(map(str, numbers))
    return Outcome((text,), {"text": [text]})


def _testing(
    name: str,
    title: str,
    run: Any,  # noqa: ANN401 - any node function
    *inputs: Input,
    outputs: tuple[Output, ...] = (),
    **others: Any,  # noqa: ANN401 - fields of NodeClass
) -> NodeClass:
    others = {"is_output": not outputs, "hidden": (Hidden.CONTEXT,), **others}
    return NodeClass(name, title, _CATEGORY, run, inputs, outputs, module=_MODULE, **others)


_PREFIX: Final = string("filename_prefix", default="testing")
_FRAMES: Final = integer("frames", default=8, min=2, max=240)
_NO_CONTEXT: Final[dict[str, Any]] = {"hidden": ()}

NODES: Final = (
    _testing(
        "TestingSleep",
        "Sleep",
        sleep,
        number("seconds", default=1.0, min=0.0, max=3600.0, step=0.1),
        integer("steps", default=10, min=1, max=10_000),
        boolean("previews", default=False),
        string("tag", default=""),
        _ANYTHING,
        outputs=(IMAGE,),
    ),
    _testing(
        "TestingAllocate",
        "Allocate Memory",
        allocate,
        integer("megabytes", default=256, min=1, max=1_000_000),
        number("seconds", default=1.0, min=0.0, max=3600.0, step=0.1),
        _ANYTHING,
        outputs=(IMAGE,),
    ),
    _testing(
        "TestingCrash",
        "Crash",
        crash,
        integer("exit_code", default=1, min=0, max=255),
        choice("by_signal", "none", "SIGKILL", "SIGSEGV", "SIGABRT", "SIGTERM"),
        string("once", default=""),
        _ANYTHING,
    ),
    _testing(
        "TestingHang",
        "Hang",
        hang,
        number("seconds", default=3600.0, min=0.0, max=86_400.0, step=0.1),
        boolean("heeds_interrupt", default=False),
        _ANYTHING,
    ),
    _testing(
        "TestingFail",
        "Fail",
        fail,
        string("message", default="failed as asked"),
        _ANYTHING,
        outputs=(IMAGE,),
        **_NO_CONTEXT,
    ),
    _testing(
        "TestingOutOfMemory",
        "Out of Memory",
        run_out_of_memory,
        _ANYTHING,
        outputs=(IMAGE,),
        **_NO_CONTEXT,
    ),
    _testing(
        "TestingText",
        "Report Text",
        report_text,
        string("text", default="hello", multiline=True),
        _ANYTHING,
        outputs=(Output("STRING"),),
        is_output=True,
        **_NO_CONTEXT,
    ),
    _testing(
        "TestingAudio",
        "Write Audio",
        write_audio,
        _PREFIX,
        number("seconds", default=0.25, min=0.01, max=60.0, step=0.01),
    ),
    _testing("TestingAnimation", "Write Animation", write_animation, _PREFIX, _FRAMES),
    _testing("TestingVideo", "Write Video", write_video, _PREFIX, _FRAMES),
    _testing(
        "TestingUnknownOutput",
        "Write Unknown Output",
        write_unknown,
        _PREFIX,
        integer("kilobytes", default=1, min=0, max=4_194_304),
    ),
    _testing(
        "TestingNeverCached",
        "Never Cached",
        count,
        integer("start", default=0, min=-(2**53), max=2**53),
        integer("step", default=0, min=-(2**53), max=2**53),
        outputs=(Output("INT"),),
        changed=lambda _folders, **_inputs: float("nan"),
        **_NO_CONTEXT,
    ),
    _testing(
        "TestingPassThrough",
        "Pass Through",
        pass_through,
        Input("anything", "*"),
        outputs=(Output("*"),),
        **_NO_CONTEXT,
    ),
    _testing(
        "TestingListNumbers",
        "List Numbers",
        list_numbers,
        integer("start", default=1, min=-(2**53), max=2**53),
        integer("amount", default=3, min=0, max=10_000),
        outputs=(Output("INT", is_list=True),),
        **_NO_CONTEXT,
    ),
    _testing(
        "TestingJoinNumbers",
        "Join Numbers",
        join_numbers,
        integer("numbers", default=0, min=-(2**53), max=2**53),
        string("separator", default=","),
        outputs=(Output("STRING"),),
        is_output=True,
        takes_lists=True,
        **_NO_CONTEXT,
    ),
)
