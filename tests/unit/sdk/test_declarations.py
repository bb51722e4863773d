"""What is declared becomes a spec, and what cannot be meant is refused at once, clearly."""

import traceback
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from comfyserve import Image, Pod, Secret, Volume, asgi
from comfyserve.domain.errors import ComfyserveError, InvalidInput
from comfyserve.domain.spec import EngineKind, VolumeMount
from comfyserve.sdk.amounts import read_cpu, read_gpu, read_memory
from comfyserve.sdk.errors import ServerFailed

GIB = 2**30


def test_a_pod_as_in_the_guide_is_a_spec() -> None:
    pod = Pod(
        image=Image(python_version="3.11"),
        ports=[8000],
        cpu=12,
        memory="32Gi",
        gpu="a100-80gb",
        keep_warm_seconds=60,
        volumes=[Volume("weights", "./models")],
        secrets=["HF_TOKEN", Secret("CIVITAI")],
        env={"MODE": "fast"},
        entrypoint=["comfy", "launch", "--", "--listen", "0.0.0.0", "--port", "8000"],
    )
    spec = pod.spec
    spec.check()
    assert spec.engine.kind is EngineKind.COMMAND
    assert spec.engine.command[:2] == ("comfy", "launch")
    assert (spec.engine.container_port, dict(spec.engine.env)) == (8000, {"MODE": "fast"})
    resources = spec.resources
    assert (resources.gpu, resources.gpus) == ("A100-80", 1)
    assert (resources.cpu, resources.memory_bytes) == (12.0, 32 * GIB)
    assert spec.scaling.idle_timeout_s == 60
    assert spec.volumes == (VolumeMount("weights", "./models"),)
    assert spec.secrets == ("HF_TOKEN", "CIVITAI")
    assert spec.authorized


def test_an_application_is_a_spec_with_its_schema() -> None:
    class Wish(BaseModel):
        prompt: str

    @asgi(gpu="L40S", concurrent_requests=4, workers=2, inputs=Wish, min_replicas=2, timeout=30)
    def make_postcards() -> None: ...

    spec = make_postcards.spec("0" * 64, "api:make_postcards", image="1" * 64)
    assert make_postcards.name == "make-postcards"
    assert spec.engine.kind is EngineKind.APP
    assert spec.engine.app is not None
    assert (spec.engine.app.handler, spec.engine.app.workers) == ("api:make_postcards", 2)
    assert spec.limits.concurrency == 4
    assert (spec.scaling.min_replicas, spec.scaling.max_replicas) == (2, 2)
    assert spec.timeouts.job_s == 30
    assert spec.inputs is not None
    assert spec.inputs["required"] == ["prompt"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"memory": "32Gx"}, "memory '32Gx' cannot be read"),
        ({"memory": -1}, "memory -1"),
        ({"memory": True}, "memory True"),
        ({"memory": "0Gi"}, "memory '0Gi'"),
        ({"cpu": "lots"}, "cpu 'lots'"),
        ({"cpu": 0}, "cpu 0"),
        ({"gpu": "$$"}, "gpu '\\$\\$'"),
        ({"gpu": "L4", "gpu_count": 0}, "says two things"),
        ({"gpu_count": 1.5}, "gpu_count 1.5"),
        ({"keep_warm_seconds": -1}, "say min_replicas=1"),
        ({"keep_warm": 3}, "did you mean 'keep_warm_seconds'"),
        ({"entrypont": ["x"]}, "did you mean 'entrypoint'"),
        ({"zzz": 3}, "there is: image, entrypoint"),
        ({"secrets": "HF_TOKEN"}, r"write secrets=\['HF_TOKEN'\]"),
        ({"secrets": [3]}, "secrets takes names"),
        ({"volumes": ["weights"]}, "volumes takes values such as Volume"),
        ({"env": {"A": 1}}, "env 'A' must be a text"),
        ({"env": ["A=1"]}, "env is a mapping"),
        ({"entrypoint": "python -m http.server"}, r"\['python', '-m', 'http.server'\]"),
        ({"entrypoint": ["python", 3]}, "list of texts"),
        ({"ports": 8000}, r"write ports=\[8000\]"),
        ({"ports": [1, 2]}, "name one"),
        ({"ports": [70000]}, "above 65535"),
        ({"ports": ["x"]}, "port 'x'"),
        ({"name": "No Spaces"}, "cannot be a deployment name"),
    ],
)
def test_a_pod_that_cannot_be_meant_is_refused(arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        Pod(**arguments)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"concurrent_requests": 0}, "concurrent_requests 0"),
        ({"workers": "two"}, "workers 'two'"),
        ({"on_start": 3}, "leave the parentheses away"),
        ({"inputs": 3}, "pydantic model or a JSON schema"),
        ({"worker": 3}, "did you mean 'workers'"),
    ],
)
def test_an_application_that_cannot_be_meant_is_refused(
    arguments: dict[str, Any], says: str
) -> None:
    with pytest.raises(InvalidInput, match=says):
        asgi(**arguments)


def test_the_decorator_wants_its_parentheses() -> None:
    with pytest.raises(InvalidInput, match="with parentheses"):
        asgi(lambda: None)  # type: ignore[arg-type]  # that is the test
    with pytest.raises(InvalidInput, match="goes above a function"):
        asgi(name="x")(3)  # type: ignore[arg-type]  # as above


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("32Gi", 32 * GIB),
        ("1.5 GiB", GIB * 3 // 2),
        ("32GB", 32 * 10**9),
        ("512m", 512 * 10**6),
        ("128", 128 * 2**20),
        (64, 64 * 2**20),
    ],
)
def test_memory_as_people_write_it(text: int | str, amount: int) -> None:
    assert read_memory(text) == amount


@pytest.mark.parametrize(("text", "cores"), [(12, 12.0), ("0.5", 0.5), ("1500m", 1.5)])
def test_cores_as_people_write_them(text: float | str, cores: float) -> None:
    assert read_cpu(text) == cores


@pytest.mark.parametrize(
    ("text", "type_"),
    [("l40s", "L40S"), ("A100-80GB", "A100-80"), ("NVIDIA H100", "H100"), ("Any", "any")],
)
def test_gpus_as_people_call_them(text: str, type_: str) -> None:
    assert read_gpu(text) == type_


def test_a_pod_without_an_entrypoint_says_so_before_it_asks_anybody(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="needs an entrypoint"):
        Pod(name="comfy").deploy()
    with pytest.raises(InvalidInput, match="needs a name"):
        Pod(entrypoint=["python"]).deploy()


def test_errors_are_of_one_tree() -> None:
    with pytest.raises(ComfyserveError):
        Volume("", "x")
    with pytest.raises(ComfyserveError):
        Secret("")


def test_an_error_that_nobody_catches_shows_its_evidence() -> None:
    shown = "".join(traceback.format_exception_only(ServerFailed("it broke", evidence=["why"])))
    assert shown.endswith("ServerFailed: it broke\n  why\n")
