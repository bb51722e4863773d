"""Specs: what makes sense passes, the first value that does not is named."""

import pytest

from comfyserve.domain.deployment import Deployment, DeploymentState, Revision
from comfyserve.domain.engine_spec import names_port
from comfyserve.domain.errors import InvalidInput
from comfyserve.domain.spec import (
    AppSpec,
    DeploymentSpec,
    EngineKind,
    EngineSpec,
    Limits,
    Resources,
    Scaling,
    Timeouts,
    VolumeMount,
    check_name,
)

SOURCE = "5" * 64


def command(*argv: str, **engine: object) -> EngineSpec:
    return EngineSpec(EngineKind.COMMAND, command=argv, **engine)  # type: ignore[arg-type] # fields of EngineSpec


def app(handler: str = "api:handler", source: str = SOURCE, workers: int = 1) -> EngineSpec:
    return EngineSpec(EngineKind.APP, app=AppSpec(source, handler, workers))


def mounts(*pairs: tuple[str, str]) -> DeploymentSpec:
    volumes = tuple(VolumeMount(*pair) for pair in pairs)
    return DeploymentSpec(engine=command("serve"), volumes=volumes)


def comfyui_with(mount_path: str) -> DeploymentSpec:
    engine = EngineSpec(EngineKind.COMFYUI, "/opt/ComfyUI")
    return DeploymentSpec(engine=engine, volumes=(VolumeMount("weights", mount_path),))


def test_the_defaults_make_sense() -> None:
    DeploymentSpec().check()


@pytest.mark.parametrize(
    ("spec", "named"),
    [
        (DeploymentSpec(scaling=Scaling(max_replicas=0)), "max_replicas"),
        (DeploymentSpec(scaling=Scaling(min_replicas=-1)), "min_replicas"),
        (DeploymentSpec(scaling=Scaling(min_replicas=3, max_replicas=2)), r"max_replicas \(2\)"),
        (DeploymentSpec(scaling=Scaling(idle_timeout_s=-0.1)), "idle_timeout_s"),
        (DeploymentSpec(timeouts=Timeouts(start_s=0)), "start timeout"),
        (DeploymentSpec(timeouts=Timeouts(job_s=0)), "job timeout"),
        (DeploymentSpec(timeouts=Timeouts(queue_s=-1)), "queue timeout"),
        (DeploymentSpec(limits=Limits(max_queue=0)), "max_queue"),
        (DeploymentSpec(limits=Limits(max_attempts=0)), "max_attempts"),
        (DeploymentSpec(resources=Resources(gpus=-1)), "gpus"),
        (DeploymentSpec(port=-1), "port"),
        (DeploymentSpec(port=65536), "port"),
        (DeploymentSpec(engine=EngineSpec(EngineKind.COMFYUI)), "comfyui_dir"),
        (DeploymentSpec(limits=Limits(concurrency=0)), "concurrency"),
        (DeploymentSpec(resources=Resources(cpu=0)), "cpu"),
        (DeploymentSpec(resources=Resources(memory_bytes=1)), "16 MiB"),
        (DeploymentSpec(engine=EngineSpec(EngineKind.COMMAND)), "the argv to run"),
        (DeploymentSpec(engine=command("")), "the argv to run"),
        (DeploymentSpec(engine=EngineSpec(command=("serve",))), "not with embedded"),
        (DeploymentSpec(engine=EngineSpec(container_port=8000)), "container_port"),
        (DeploymentSpec(engine=EngineSpec(image="i")), "no image"),
        (DeploymentSpec(engine=EngineSpec(ready_path="/")), "ready_path"),
        (DeploymentSpec(engine=command("serve", container_port=0)), "container_port"),
        (DeploymentSpec(engine=command("serve", ready_path="health")), "begin with '/'"),
        (DeploymentSpec(engine=EngineSpec(EngineKind.APP)), "source and handler"),
        (DeploymentSpec(engine=command("serve", app=AppSpec(SOURCE, "a:b"))), "with engine app"),
        (DeploymentSpec(engine=app(source="api.py")), "upload it"),
        (DeploymentSpec(engine=app("api.py")), "module:attribute"),
        (DeploymentSpec(engine=app("api:")), "module:attribute"),
        (DeploymentSpec(engine=app(workers=0)), "workers"),
        (DeploymentSpec(inputs={}), "inputs"),
        (DeploymentSpec(secrets=("A=B",)), "environment variable"),
        (DeploymentSpec(engine=EngineSpec(env={"": "x"})), "environment variable"),
        (mounts(("../x", "a")), "name of a volume"),
        (mounts(("v", "/models")), "'./models'"),
        (mounts(("v", "a/../b")), "'./models'"),
        (mounts(("v", "./")), "'./models'"),
        (mounts(("v", "models"), ("w", "./models/loras")), "at or below"),
        (mounts(("v", "models"), ("w", "models/")), "at or below"),
        (DeploymentSpec(volumes=(VolumeMount("v", "m"),)), "no use for volumes"),
        (comfyui_with("custom_nodes"), "models/FOLDER"),
        (comfyui_with("models/loras/styles"), "models/FOLDER"),
        (comfyui_with("models/custom_nodes"), "models/FOLDER"),
        (DeploymentSpec(engine=EngineSpec(env={"A": "1"}), secrets=("A",)), "both in env"),
        (
            DeploymentSpec(
                engine=command("serve", container_port=8000), scaling=Scaling(max_replicas=2)
            ),
            "one replica at most",
        ),
    ],
)
def test_a_value_that_makes_no_sense_is_named(spec: DeploymentSpec, named: str) -> None:
    with pytest.raises(InvalidInput, match=named) as refusal:
        spec.check()
    assert refusal.value.code in {"invalid_spec", "invalid_name"}


@pytest.mark.parametrize(
    "spec",
    [
        DeploymentSpec(port=0),
        DeploymentSpec(port=65535),
        DeploymentSpec(scaling=Scaling(2, 2, 0.0)),
        DeploymentSpec(engine=EngineSpec(EngineKind.COMFYUI, comfyui_dir="/opt/comfyui")),
        DeploymentSpec(engine=EngineSpec(EngineKind.COMFYUI, image="i")),
        DeploymentSpec(engine=command("serve", container_port=8000)),
        DeploymentSpec(
            engine=command("serve", "--port=8000", container_port=8000),
            scaling=Scaling(max_replicas=2),
        ),
        DeploymentSpec(engine=app("pkg.api:make.handler"), inputs={"type": "object"}),
        mounts(("weights", "./models"), ("out", "data/out")),
    ],
)
def test_what_is_on_the_edge_passes(spec: DeploymentSpec) -> None:
    spec.check()


@pytest.mark.parametrize("name", ["a", "7", "demo", "a-b", "a--b", "x" * 63])
def test_a_name_that_can_be_a_host_label(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize(
    "name", ["", "-a", "a-", "A", "a_b", "a.b", "ä", "a b", "demo\n", "x" * 64, "../etc"]
)
def test_a_name_that_cannot(name: str) -> None:
    with pytest.raises(InvalidInput, match="cannot be a deployment name") as refusal:
        check_name(name)
    assert refusal.value.code == "invalid_name"


def test_a_long_name_is_not_repeated_in_full() -> None:
    with pytest.raises(InvalidInput) as refusal:
        check_name("x" * 100_000)
    assert len(refusal.value.message) < 300


def test_a_deployment_has_the_spec_of_its_revision() -> None:
    spec = DeploymentSpec(port=9000)
    revision = Revision("rv_1", "dp_1", 1, spec, "0.3.64", "digest", 1.0)
    deployment = Deployment("dp_1", "demo", DeploymentState.ACTIVE, revision, 1.0, 1.0)
    assert deployment.spec is spec


@pytest.mark.parametrize(
    ("argument", "is_named"),
    [
        ("8000", True),
        ("--port=8000", True),
        ("0.0.0.0:8000", True),
        ("18000", False),
        ("80001", False),
        ("http://x:8000/", False),
    ],
)
def test_a_port_is_found_where_it_is_an_argument(argument: str, *, is_named: bool) -> None:
    assert names_port(argument, 8000) is is_named
