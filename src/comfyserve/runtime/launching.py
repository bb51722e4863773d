"""The terms of a replica: all that its launch needs, gathered when it is about to start."""

import asyncio
from collections.abc import Mapping
from pathlib import Path

from comfyserve.domain.deployment import Deployment
from comfyserve.domain.inside import TOKEN_VARIABLE, URL_VARIABLE, inside_token
from comfyserve.domain.replica import Replica
from comfyserve.domain.spec import DeploymentSpec
from comfyserve.runtime.engines import is_any_server, launch_spec
from comfyserve.runtime.probes import COMFYUI, Probe
from comfyserve.runtime.supervisor import Parts, Terms
from comfyserve.runtime.surroundings import Surroundings, find_image, unpack_source


class Launching:
    """Gathers terms."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def directory(self, deployment_id: str) -> Path:
        """What the replicas of a deployment share on this host."""
        return self._parts.settings.home_path / "deployments" / deployment_id

    async def terms(self, replica: Replica, deployment: Deployment) -> Terms:
        """What to start `replica` of a deployment's current revision with.

        Raises InvalidInput for what a spec names and this server does not have (any more).
        """
        spec, is_comfyui = deployment.spec, not deployment.revision.is_plain
        surroundings = await self._surroundings(replica, deployment.name, spec)
        launch = await asyncio.to_thread(
            launch_spec,
            replica.revision_id,
            spec,
            surroundings,
            directory=self.directory(replica.deployment_id),
            settings=self._parts.settings,
        )
        return Terms(launch, spec.timeouts, spec.secrets, COMFYUI if is_comfyui else probe_of(spec))

    async def _surroundings(
        self, replica: Replica, name: str, spec: DeploymentSpec
    ) -> Surroundings:
        home = self._parts.settings.home_path
        return Surroundings(
            image=await asyncio.to_thread(find_image, self._parts.images, spec),
            source=await unpack_source(home, self._parts.store.blobs, spec),
            env=self._inside(replica, name) if is_any_server(spec) else {},
        )

    def _inside(self, replica: Replica, name: str) -> Mapping[str, str]:
        """How code in a replica finds out what it is part of, and calls back."""
        return {
            "COMFYSERVE_REPLICA_ID": replica.id,
            "COMFYSERVE_DEPLOYMENT": name,
            URL_VARIABLE: self._parts.inside_url,
            TOKEN_VARIABLE: inside_token(self._parts.store.signing_key, replica.deployment_id),
        }


def probe_of(spec: DeploymentSpec) -> Probe:
    """How a server of this spec shows that it is ready, as long as nobody knows what it is."""
    if not is_any_server(spec):
        return COMFYUI
    path = spec.engine.ready_path
    return Probe(path or "/", is_lenient=path is None)
