"""Specs: what makes sense passes, the first value that does not is named."""

import pytest

from comfyserve.domain.deployment import Deployment, DeploymentState, Revision
from comfyserve.domain.errors import InvalidInput
from comfyserve.domain.spec import (
    DeploymentSpec,
    EngineKind,
    EngineSpec,
    Limits,
    Resources,
    Scaling,
    Timeouts,
    check_name,
)


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
    ],
)
def test_a_value_that_makes_no_sense_is_named(spec: DeploymentSpec, named: str) -> None:
    with pytest.raises(InvalidInput, match=named) as refusal:
        spec.check()
    assert refusal.value.code == "invalid_spec"


@pytest.mark.parametrize(
    "spec",
    [
        DeploymentSpec(port=0),
        DeploymentSpec(port=65535),
        DeploymentSpec(scaling=Scaling(2, 2, 0.0)),
        DeploymentSpec(engine=EngineSpec(EngineKind.COMFYUI, comfyui_dir="/opt/comfyui")),
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
