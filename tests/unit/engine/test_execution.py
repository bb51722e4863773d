"""Prompts on the executor: order, events, lists, errors, interrupts."""

from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tests.unit.engine.running import Bench

from comfyserve.engine.queue import QueueItem

EMPTY = {
    "class_type": "EmptyImage",
    "inputs": {"width": 8, "height": 8, "batch_size": 1, "color": 0},
}


def node(class_type: str, **inputs: object) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def executed(bench: Bench) -> list[str]:
    """The nodes that ran, in order."""
    return [data["node"] for event, data, _ in bench.hub.events if event == "executing"]


def test_outputs_come_as_early_as_they_can(bench: Bench) -> None:
    prompt = {
        "far": node("ImageInvert", image=["source", 0]),
        "farther": node("ImageInvert", image=["far", 0]),
        "last": node("PreviewImage", images=["farther", 0]),
        "source": EMPTY,
        "first": node("PreviewImage", images=["source", 0]),
    }
    bench.run(prompt, "last", "first")
    assert executed(bench) == ["source", "first", "far", "farther", "last"]


def test_only_what_an_output_needs_runs(bench: Bench) -> None:
    prompt = {
        "1": EMPTY,
        "2": node("PreviewImage", images=["1", 0]),
        "3": node("TestingFail", message="never"),
        "4": node("PreviewImage", images=["3", 0]),
    }
    report = bench.run(prompt, "2")
    assert report.status.is_completed
    assert executed(bench) == ["1", "2"]
    assert list(report.outputs) == list(report.meta) == ["2"]


def test_what_follows_a_list_runs_once_for_each_value(bench: Bench) -> None:
    prompt = {
        "numbers": node("TestingListNumbers", start=3, amount=4),
        "texts": node("TestingText", text="n=", anything=["numbers", 0]),
        "joined": node("TestingJoinNumbers", numbers=["numbers", 0], separator="+"),
    }
    report = bench.run(prompt)
    assert report.outputs == {
        "texts": {"text": ["n=3", "n=4", "n=5", "n=6"]},
        "joined": {"text": ["3+4+5+6"]},
    }


def test_shorter_lists_repeat_their_last_value(bench: Bench) -> None:
    prompt = {
        "numbers": node("TestingListNumbers", start=1, amount=3),
        "sizes": node("EmptyImage", width=4, height=["numbers", 0], batch_size=1, color=0),
        "saved": node("SaveImage", images=["sizes", 0], filename_prefix="size"),
    }
    report = bench.run(prompt)
    names = [file["filename"] for file in report.outputs["saved"]["images"]]
    assert names == ["size_00001_.png", "size_00002_.png", "size_00003_.png"]


def test_an_error_says_where_and_with_what(bench: Bench) -> None:
    prompt = {
        "1": EMPTY,
        "2": node("ImageCrop", image=["1", 0], width="wide", height=4, x=0, y=0),
        "3": node("PreviewImage", images=["2", 0]),
    }
    report = bench.run(prompt)
    event, data = report.status.messages[-1]
    assert event == "execution_error"
    assert not report.status.is_completed
    assert (data["node_id"], data["node_type"], data["executed"]) == ("2", "ImageCrop", ["1"])
    assert data["exception_type"] == "TypeError"
    assert data["current_inputs"]["width"] == ["wide"]
    assert data["current_inputs"]["image"][0].startswith("[[[[")
    assert executed(bench) == ["1", "2"]


def test_out_of_memory_has_the_name_that_pytorch_gives_it(bench: Bench) -> None:
    prompt = {"1": node("TestingOutOfMemory"), "2": node("PreviewImage", images=["1", 0])}
    _, data = bench.run(prompt).status.messages[-1]
    assert data["exception_type"] == "torch.OutOfMemoryError"
    assert data["exception_message"].startswith("CUDA out of memory.")


def test_an_interrupt_stops_at_the_next_progress(bench: Bench) -> None:
    prompt = {
        "1": node("TestingSleep", seconds=0.0, steps=5, previews=False, tag=""),
        "2": node("PreviewImage", images=["1", 0]),
    }
    sent = bench.hub.send

    def interrupt(event: str, data: Any, sid: str | None = None) -> None:
        sent(event, data, sid)
        if event == "progress" and data["value"] == 2:
            bench.queue.interrupt()

    bench.hub.send = interrupt  # type: ignore[method-assign] # to act in the middle of a node
    bench.queue.put(QueueItem(0, "p", prompt, {}, ("2",)))
    bench.queue.take()
    report = bench.run(prompt)
    assert report.status.messages[-1][0] == "execution_interrupted"
    assert bench.hub.names.count("progress") == 2


def test_without_a_client_only_progress_is_told(bench: Bench) -> None:
    bench.run({"1": EMPTY, "2": node("PreviewImage", images=["1", 0])}, client=None)
    assert set(bench.hub.names) == {"progress_state"}
    assert {sid for _, _, sid in bench.hub.events} == {None}


def test_the_prompt_is_written_into_the_image(bench: Bench) -> None:
    prompt = {"1": EMPTY, "2": node("SaveImage", images=["1", 0], filename_prefix="a/b_%width%")}
    report = bench.run(prompt)
    (file,) = report.outputs["2"]["images"]
    assert file == {"filename": "b_8_00001_.png", "subfolder": "a", "type": "output"}
    with Image.open(bench.root / "output" / "a" / "b_8_00001_.png") as image:
        assert '"class_type": "SaveImage"' in image.info["prompt"]


def test_a_prefix_cannot_leave_the_output_directory(bench: Bench) -> None:
    prompt = {"1": EMPTY, "2": node("SaveImage", images=["1", 0], filename_prefix="../../x")}
    _, data = bench.run(prompt).status.messages[-1]
    assert "outside the output folder" in data["exception_message"]
