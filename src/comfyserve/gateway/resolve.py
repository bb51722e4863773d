"""Which deployment a request is for: by path, by host name, by port, else the default one."""

from dataclasses import dataclass

from starlette.types import Scope

from comfyserve.domain.deployment import Deployment
from comfyserve.domain.errors import ComfyserveError, NotFound
from comfyserve.runtime.deploy import gone
from comfyserve.runtime.runtime import Runtime

_PATH_PREFIX = "/d/"
_DEFAULT_NAME = "default"


@dataclass(frozen=True, slots=True)
class Resolved:
    """A deployment, and the path of the request inside it (None: add the missing slash).

    `has_every_path`: a plain server with a host name or port to itself, where no path is ours.
    """

    deployment: Deployment
    path: str | None
    prefix: str = ""
    has_every_path: bool = False


def resolve(scope: Scope, runtime: Runtime, domain: str) -> Resolved:
    """Find the deployment. Raises NotFound naming what there is, and Gone."""
    path: str = scope["path"]
    is_prefixed = path.startswith(_PATH_PREFIX)
    try:
        own = _own_address(scope, runtime, domain)
    except ComfyserveError:
        if not is_prefixed:
            raise
        own = None
    if own is not None and own.revision.is_plain:
        return Resolved(own, path, has_every_path=True)
    if is_prefixed:
        name, slash, rest = path[len(_PATH_PREFIX) :].partition("/")
        found = _named(runtime, name)
        return Resolved(found, f"/{rest}" if slash else None, f"{_PATH_PREFIX}{name}")
    return Resolved(own or default_of(runtime.deployments), path)


def _own_address(scope: Scope, runtime: Runtime, domain: str) -> Deployment | None:
    """The deployment whose own host name or port a request came to. Raises NotFound and Gone."""
    if domain and (label := _label_of(scope, domain)):
        return _named(runtime, label)
    port = scope["server"][1] if scope.get("server") else None
    for deployment in runtime.deployments:
        if deployment.spec.port is not None and deployment.spec.port == port:
            return deployment
    return None


def _named(runtime: Runtime, name: str) -> Deployment:
    deployments = runtime.deployments
    for deployment in deployments:
        if deployment.name == name:
            return deployment
    if runtime.is_gone(name):
        raise gone(name)
    names = ", ".join(deployment.name for deployment in deployments) or "none yet"
    raise NotFound(
        f"there is no deployment '{name[:80]}'; there is: {names}", code="deployment_not_found"
    )


def default_of(deployments: tuple[Deployment, ...]) -> Deployment:
    """The one called `default`, else the oldest."""
    if not deployments:
        raise NotFound(
            "nothing is deployed yet; try `comfyserve deploy demo --engine embedded`",
            code="deployment_not_found",
        )
    return next((d for d in deployments if d.name == _DEFAULT_NAME), deployments[0])


def _label_of(scope: Scope, domain: str) -> str:
    host = next((value for key, value in scope["headers"] if key == b"host"), b"")
    name = host.decode("latin-1").partition(":")[0].lower()
    return name[: -len(domain) - 1] if name.endswith(f".{domain}") else ""
