"""`Pod`: any HTTP server as a deployment; ComfyUI is recognised and keeps its own API."""

import os
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Unpack

from comfyserve.domain.errors import InvalidInput
from comfyserve.domain.spec import DeploymentSpec, EngineKind, EngineSpec, check_name
from comfyserve.sdk.amounts import read_count
from comfyserve.sdk.options import Options, read_options

if TYPE_CHECKING:
    from comfyserve.sdk.client import Client
    from comfyserve.sdk.image import Image

_LAST_PORT = 65535
_OWN = ("image", "entrypoint", "ports", "name")


class Pod:
    """A server that starts with the first request and stops when nobody needs it.

    Example:
        pod = Pod(entrypoint=["python", "server.py", "--port", "8000"], ports=[8000], gpu="L40S")
        print(pod.create().url)

    `entrypoint` is the argv; the port to listen on is in `{port}` and in the variable PORT, or is
    the one of `ports` where the server insists on its own. See `Options` for the other arguments.
    """

    def __init__(
        self,
        image: "Image | None" = None,
        *,
        entrypoint: Sequence[str] = (),
        ports: Sequence[int] = (),
        name: str | None = None,
        **options: Unpack[Options],
    ) -> None:
        self.image = image
        self.name = None if name is None else check_name(name)
        surroundings = read_options("Pod", _OWN, options)
        engine = EngineSpec(
            kind=EngineKind.COMMAND,
            command=_argv(entrypoint),
            container_port=_port(ports),
            env=surroundings.env,
            ready_path=surroundings.ready_path,
        )
        self.spec: DeploymentSpec = replace(surroundings.spec, engine=engine)

    def create(self, entrypoint: Sequence[str] = ()) -> "PodInstance":
        """Build the image, start the server once, and give it an address of its own.

        It lives until `terminate`. `entrypoint` replaces the declared one.
        """
        name = f"{self.name or 'pod'}-{os.urandom(4).hex()}"
        return self._deployed(check_name(name[-63:].lstrip("-")), entrypoint)

    def deploy(self, name: str | None = None, *, client: "Client | None" = None) -> "PodInstance":
        """Deploy under a name that stays: a new revision replaces the one before, without a gap."""
        chosen = name or self.name
        if chosen is None:
            raise InvalidInput(
                'a deployed pod needs a name: Pod(..., name="comfy") or deploy("comfy")'
            )
        return self._deployed(check_name(chosen), (), client)

    def _deployed(
        self, name: str, entrypoint: Sequence[str], client: "Client | None" = None
    ) -> "PodInstance":
        from comfyserve.sdk.building import built
        from comfyserve.sdk.client import connect
        from comfyserve.sdk.talk import say

        engine = self.spec.engine
        if entrypoint:
            engine = replace(engine, command=_argv(entrypoint))
        if not engine.command:
            raise InvalidInput(
                'a pod needs an entrypoint: Pod(entrypoint=["python", "server.py"], ...)'
            )
        client = client or connect()
        engine = replace(engine, image=built(client, self.image))
        spec = replace(self.spec, engine=engine)
        spec.check()
        say(f"starting {name} once, to see what it is")
        deployed = client.deploy(name, spec)
        for warning in deployed.warnings:
            say(f"warning: {warning}")
        return PodInstance(deployed.name, deployed.url, deployed.revision, client)


@dataclass(frozen=True, slots=True)
class PodInstance:
    """A pod that was created or deployed. `url` is its address, asleep or awake."""

    name: str
    url: str
    revision: int
    _client: "Client" = field(repr=False)

    def status(self) -> str:
        """asleep, waking, ready, busy, stopped or failing. Wakes nothing."""
        return self._client.deployment(self.name).status

    def logs(self, *, tail: int = 200, follow: bool = False) -> Iterator[str]:
        """Yield the log of the newest replica, line by line; with `follow` until it ends."""
        from comfyserve.sdk.lines import lines_of

        yield from lines_of(self._client.logs(self.name, tail=tail, follow=follow))

    def wait(self, timeout: float = 300.0) -> None:
        """Wake it and return once it is ready. Raises TimedOut, and ServerFailed with its log."""
        from comfyserve.sdk.waiting import await_ready

        await_ready(self._client, self.name, timeout)

    def terminate(self) -> None:
        """End it for good: replicas stop, the address answers 410 from now on."""
        self._client.delete(self.name)


def _argv(entrypoint: Sequence[str]) -> tuple[str, ...]:
    if isinstance(entrypoint, str):
        raise InvalidInput(f"entrypoint is a list: write entrypoint={shlex.split(entrypoint)!r}")
    if not all(isinstance(part, str) for part in entrypoint):
        raise InvalidInput(f"entrypoint is a list of texts, not {list(entrypoint)!r}")
    return tuple(entrypoint)


def _port(ports: Sequence[int]) -> int | None:
    if isinstance(ports, int):
        raise InvalidInput(f"ports is a list: write ports=[{ports}]")
    if len(ports) > 1:
        raise InvalidInput(f"a pod is served on one port, not on {list(ports)}: name one")
    for port in ports:
        if read_count("port", port, least=1) > _LAST_PORT:
            raise InvalidInput(f"port {port} is above {_LAST_PORT}")
        return port
    return None
