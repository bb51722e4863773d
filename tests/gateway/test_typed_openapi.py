"""The contract is exact: a generated client works, and no request that anybody can make breaks a route."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.gateway.test_typed_run import PAINT
from tests.gateway.typed_door import Door, inverting, painting, typed_door
from tests.gateway.v2_door import unused_port

BIN = Path(sys.executable).parent
OCTETS = "application/octet-stream"


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    home = tmp_path_factory.mktemp("openapi") / "home"
    with typed_door(home, unused_port()) as door:
        door.publish("paint", painting(), interface=PAINT)
        door.publish("invert-it", inverting())
        yield door


def test_the_document_tells_inputs_as_they_are_checked(door: Door) -> None:
    document = door.call("GET", "/openapi.json").json
    assert document["openapi"] == "3.1.0"
    assert {"/run/paint", "/run/invert-it", "/run/paint/batch", "/jobs/{job_id}"} <= set(
        document["paths"]
    )
    schema = document["components"]["schemas"]["PaintInputs"]
    assert schema["additionalProperties"] is False
    color = schema["properties"]["color"]
    assert (color["type"], color["minimum"], color["maximum"], color["default"]) == (
        "integer", 0, 0xFFFFFF, 0x102030,
    )  # fmt: skip
    assert schema["properties"]["copies"]["enum"] == [1, 2]
    invert = document["components"]["schemas"]["InvertItInputs"]
    assert invert["required"] == ["image"]
    one = Door(door.server, "/d/demo").call("GET", "/run/paint/openapi.json").json
    assert one["servers"] == [{"url": f"{door.server.url}/d/demo"}]
    assert "/run/invert-it" not in one["paths"]
    assert door.call("GET", "/run/nope/openapi.json").refusal == (404, "endpoint_not_found")
    references = {
        part.split('"')[0] for part in json.dumps(document).split('"#/components/schemas/')[1:]
    }
    assert references <= set(document["components"]["schemas"])


CLIENT = """
from io import BytesIO
from client import Client
from client.api.default import batch_paint, get_job, run_invert_it, run_paint
from client.models import ErrorModel, InvertItInputs, JobModel, PaintInputs, PaintInputsCopies
client = Client(base_url={url!r})
job = run_paint.sync(client=client, body=PaintInputs(color=255, copies=PaintInputsCopies.VALUE_2), prefer="wait=60")
assert isinstance(job, JobModel), job
assert job.state == "succeeded" and len(job.outputs) == 2
assert job.outputs[0].name == "picture"
assert get_job.sync(job_id=job.id, client=client).receipt.total_ms > 0
inverted = run_invert_it.sync(client=client, body=InvertItInputs(image=job.outputs[0].asset_id), prefer="wait=60")
assert inverted.state == "succeeded"
refused = run_paint.sync(client=client, body=PaintInputs(color=-1))
assert refused is None or isinstance(refused, ErrorModel), refused
print("the generated client works")
"""


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_generated_client_works(door: Door, tmp_path: Path) -> None:
    (tmp_path / "openapi.json").write_bytes(door.call("GET", "/openapi.json").body)
    # The generator knows one type of bytes.
    known = {"content_type_overrides": dict.fromkeys(["*/*", "application/zip"], OCTETS)}
    (tmp_path / "config.json").write_text(json.dumps(known))
    made = subprocess.run(
        [
            BIN / "openapi-python-client", "generate", "--path", "openapi.json",
            "--config", "config.json", "--meta", "none", "--output-path", "client",
            "--fail-on-warning",
        ],
        cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
        env={"PATH": f"{BIN}:/usr/bin:/bin", "HOME": str(tmp_path)},
    )  # fmt: skip
    assert made.returncode == 0, made.stdout + made.stderr
    (tmp_path / "use.py").write_text(CLIENT.format(url=door.server.url))
    used = subprocess.run(
        [sys.executable, "use.py"], cwd=tmp_path, capture_output=True, text=True, timeout=150,
        check=False,
    )  # fmt: skip
    assert used.returncode == 0, used.stdout + used.stderr
    assert "the generated client works" in used.stdout


FUZZED = {
    "typed": "/openapi.json",
    "control": "/api/v1/openapi.json",
}


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", FUZZED)
def test_no_request_breaks_a_route(door: Door, tmp_path: Path, name: str) -> None:
    ran = subprocess.run(
        [
            BIN / "schemathesis", "run", f"{door.server.url}{FUZZED[name]}",
            "--url", door.server.url, "--checks", "not_a_server_error",
            "--max-examples", "5", "--phases", "examples,coverage,fuzzing",
            # Logs may be followed for ever; a tar of code cannot be made up.
            "--exclude-path-regex", "logs|sources", "--seed", "1", "--request-timeout", "30",
            "--no-color", "--suppress-health-check", "all",
        ],
        cwd=tmp_path, capture_output=True, text=True, timeout=800, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout[-6000:] + ran.stderr[-2000:]
    # The fuzzer may have deleted what there was; the server itself goes on.
    assert door.call("GET", "/api/v1/health/ready").status == 200
