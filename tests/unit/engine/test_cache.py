"""What is computed again, and what is not."""

from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tests.unit.engine.running import Bench

from comfyserve.engine.options import CacheMode


def chain(width: int, prefix: str = "a") -> dict[str, Any]:
    sizes = {"width": width, "height": 8, "batch_size": 1, "color": 0}
    return {
        "1": {"class_type": "EmptyImage", "inputs": sizes},
        "2": {"class_type": "ImageInvert", "inputs": {"image": ["1", 0]}},
        "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": prefix}},
    }


def cached(bench: Bench) -> list[str]:
    (nodes,) = (data["nodes"] for event, data, _ in bench.hub.events if event == "execution_cached")
    assert isinstance(nodes, list)
    return nodes


def test_the_same_prompt_runs_nothing_and_reports_the_old_files(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    first = bench.run(chain(8))
    second = bench.run(chain(8))
    assert cached(bench) == ["1", "2", "3"]
    assert "executing" not in bench.hub.names
    assert bench.hub.names.count("executed") == 1
    assert second.outputs == first.outputs
    assert [path.name for path in (tmp_path / "output").iterdir()] == ["a_00001_.png"]


def test_only_what_depends_on_a_change_runs_again(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.run(chain(8))
    bench.run(chain(8, prefix="b"))
    assert cached(bench) == ["1", "2"]
    bench.run(chain(9, prefix="b"))
    assert cached(bench) == []


def test_other_node_ids_make_no_difference(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.run(chain(8))
    renamed = {
        "z": {"class_type": "SaveImage", "inputs": {"images": ["y", 0], "filename_prefix": "a"}},
        "y": {"class_type": "ImageInvert", "inputs": {"image": ["x", 0]}},
        "x": chain(8)["1"],
    }
    bench.run(renamed)
    assert cached(bench) == ["z", "y", "x"]


def test_the_same_values_on_other_inputs_are_another_signature(tmp_path: Path) -> None:
    def blend(first: str, second: str) -> dict[str, Any]:
        def colour(value: int) -> dict[str, Any]:
            sizes = {"width": 8, "height": 8, "batch_size": 1, "color": value}
            return {"class_type": "EmptyImage", "inputs": sizes}

        inputs = {"image1": [first, 0], "image2": [second, 0], "blend_factor": 0.3}
        mode = {"blend_mode": "difference"}
        return {
            "1": colour(1),
            "2": colour(2),
            "3": {"class_type": "ImageBlend", "inputs": inputs | mode},
            "4": {"class_type": "PreviewImage", "inputs": {"images": ["3", 0]}},
        }

    bench = Bench(tmp_path)
    bench.run(blend("1", "2"))
    bench.run(blend("2", "1"))
    assert cached(bench) == ["1", "2"]


def test_a_file_that_changed_is_read_again(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    prompt = {
        "1": {"class_type": "LoadImage", "inputs": {"image": "x.png"}},
        "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
    }
    Image.new("RGB", (4, 4), "red").save(tmp_path / "input" / "x.png")
    bench.run(prompt)
    bench.run(prompt)
    assert cached(bench) == ["1", "2"]
    Image.new("RGB", (4, 4), "blue").save(tmp_path / "input" / "x.png")
    bench.run(prompt)
    assert cached(bench) == []


def test_a_node_that_always_changed_takes_all_that_follows_along(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    prompt = {
        "1": {"class_type": "TestingNeverCached", "inputs": {"start": 1, "step": 1}},
        "2": {"class_type": "TestingText", "inputs": {"text": "", "anything": ["1", 0]}},
        "3": chain(8)["1"],
        "4": {"class_type": "PreviewImage", "inputs": {"images": ["3", 0]}},
    }
    bench.run(prompt)
    bench.run(prompt)
    assert cached(bench) == ["3", "4"]


@pytest.mark.parametrize(
    ("mode", "entries", "again", "kept"),
    [
        (CacheMode.MEMORY, 0, ["1", "2", "3"], ["1", "2", "3"]),
        (CacheMode.CLASSIC, 0, ["1", "2", "3"], []),
        (CacheMode.LRU, 3, ["1", "2", "3"], []),
        (CacheMode.LRU, 9, ["1", "2", "3"], ["1", "2", "3"]),
        (CacheMode.NONE, 0, [], []),
    ],
)
def test_how_long_results_are_kept(
    tmp_path: Path, mode: CacheMode, entries: int, again: list[str], kept: list[str]
) -> None:
    bench = Bench(tmp_path, mode, entries)
    bench.run(chain(8))
    bench.run(chain(8))
    assert cached(bench) == again
    bench.run(chain(9, prefix="other"))
    bench.run(chain(10, prefix="another"))
    bench.run(chain(8))
    assert cached(bench) == kept


def test_too_much_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("comfyserve.engine.cache.MEMORY_BUDGET_BYTES", 500)
    bench = Bench(tmp_path)
    bench.run(chain(8))
    bench.run(chain(9, prefix="b"))
    bench.run(chain(8))
    assert cached(bench) == []
