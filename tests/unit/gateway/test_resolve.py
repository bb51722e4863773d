"""Which deployment is meant: the path first, then the host name, the port, and the default."""

from dataclasses import dataclass, replace
from typing import Any

import pytest

from comfyserve.domain.deployment import Deployment
from comfyserve.domain.errors import Gone, NotFound
from comfyserve.domain.spec import DeploymentSpec
from comfyserve.gateway.resolve import Resolved, resolve
from comfyserve.testing.store_data import a_deployment


@dataclass
class Deployments:
    """All that is asked of a runtime."""

    deployments: tuple[Deployment, ...] = ()

    def is_gone(self, name: str) -> bool:
        """One was terminated."""
        return name == "gone"


def named(name: str, port: int | None = None) -> Deployment:
    deployment = a_deployment(f"dp_{name}", name=name)
    return replace(
        deployment, revision=replace(deployment.revision, spec=DeploymentSpec(port=port))
    )


ONE, TWO = named("one"), named("two", port=9000)
BOTH = Deployments((ONE, TWO))


def ask(
    path: str,
    *,
    host: str = "localhost:8000",
    port: int = 8000,
    domain: str = "",
    of: Deployments = BOTH,
) -> Resolved:
    scope = {
        "type": "http",
        "path": path,
        "headers": [(b"host", host.encode())],
        "server": ("127.0.0.1", port),
    }
    return resolve(scope, of, domain)  # type: ignore[arg-type] # all that it uses of a Runtime


@pytest.mark.parametrize(
    ("path", "inside"),
    [
        ("/d/two/", "/"),
        ("/d/two/prompt", "/prompt"),
        ("/d/two//view", "//view"),
        ("/d/two", None),
        ("/d/two/d/one/", "/d/one/"),
    ],
)
def test_the_path_names_it(path: str, inside: str | None) -> None:
    assert ask(path) == Resolved(TWO, inside, "/d/two")


def test_the_path_beats_host_and_port() -> None:
    found = ask("/d/one/x", host="two.gpu.test", port=9000, domain="gpu.test")
    assert found.deployment is ONE


@pytest.mark.parametrize("host", ["two.gpu.test", "TWO.GPU.TEST:443", "two.gpu.test:8000"])
def test_the_host_names_it(host: str) -> None:
    assert ask("/prompt", host=host, domain="gpu.test") == Resolved(TWO, "/prompt")


@pytest.mark.parametrize("host", ["gpu.test", "two.other.test", "localhost", "", ".gpu.test"])
def test_other_hosts_mean_the_default(host: str) -> None:
    assert ask("/prompt", host=host, domain="gpu.test").deployment is ONE


def test_without_a_domain_no_host_means_anything() -> None:
    assert ask("/prompt", host="two.gpu.test").deployment is ONE


def test_a_port_of_its_own_means_it() -> None:
    assert ask("/prompt", port=9000) == Resolved(TWO, "/prompt")


def test_the_default_is_the_one_of_that_name_else_the_oldest() -> None:
    default = named("default")
    assert ask("/").deployment is ONE
    assert ask("/", of=Deployments((ONE, TWO, default))).deployment is default


@pytest.mark.parametrize(
    ("path", "host"), [("/d/three/prompt", "x"), ("/d//prompt", "x"), ("/", "three.gpu.test")]
)
def test_what_is_not_there_is_told_with_what_is(path: str, host: str) -> None:
    with pytest.raises(NotFound, match="there is: one, two") as refusal:
        ask(path, host=host, domain="gpu.test")
    assert refusal.value.code == "deployment_not_found"


def test_where_nothing_is_deployed_the_way_is_shown() -> None:
    with pytest.raises(NotFound, match="comfyserve deploy"):
        ask("/", of=Deployments())
    with pytest.raises(NotFound, match="none yet"):
        ask("/d/one/", of=Deployments())


def test_a_server_without_a_port_has_a_default() -> None:
    scope: dict[str, Any] = {"type": "http", "path": "/", "headers": [], "server": None}
    assert resolve(scope, BOTH, "gpu.test").deployment is ONE  # type: ignore[arg-type] # as above


def test_what_was_terminated_is_told_apart() -> None:
    with pytest.raises(Gone, match="for good"):
        ask("/d/gone/")
    with pytest.raises(Gone):
        ask("/", host="gone.example.com", domain="example.com")
