"""Create and change deployments: check, start once, record the answers, stop again."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import structlog

from comfyserve.domain.deployment import Deployment, DeploymentState, Revision
from comfyserve.domain.errors import Conflict, DeployFailed, EngineError, NotFound
from comfyserve.domain.ids import Prefix
from comfyserve.domain.replica import ReplicaState
from comfyserve.domain.spec import DeploymentSpec, EngineKind, check_name
from comfyserve.runtime.engines import check_engine, explain_failure, failed_imports, find_python
from comfyserve.runtime.runtime import Runtime, new_id
from comfyserve.runtime.snapshot import Snapshot, record
from comfyserve.runtime.volumes import list_volumes, prepare_volumes, recorded_with

log = structlog.get_logger()

_LOG_BYTES = 512 * 1024


@dataclass(frozen=True, slots=True)
class Deployed:
    """A deployment as it is now, and what its engine complained about while it started."""

    deployment: Deployment
    warnings: tuple[str, ...] = ()


class Deployer:
    """Every change of a deployment goes through here, one at a time for each name."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._busy: set[str] = set()

    async def find(self, name: str) -> Deployment:
        """The deployment of that name. Raises NotFound naming what there is."""
        deployments = self._runtime.parts.store.deployments
        found = await deployments.by_name(name)
        if found is None:
            names = ", ".join(sorted(item.name for item in await deployments.list())) or "none yet"
            raise NotFound(
                f"there is no deployment '{name[:80]}'; there is: {names}",
                code="deployment_not_found",
            )
        return found

    async def deploy(self, name: str, spec: DeploymentSpec) -> Deployed:
        """Create the deployment, or give it a new revision. Refused if its engine cannot start.

        Raises InvalidInput, Conflict (a deploy of this name is under way) and DeployFailed.
        """
        check_name(name)
        async with self._alone(name):
            await asyncio.to_thread(check_engine, spec)
            await self._runtime.parts.store.secrets.require(spec.secrets)
            spec = await self._settle(spec)
            store, now = self._runtime.parts.store, self._runtime.parts.clock.now()
            home = self._runtime.parts.settings.home_path
            await prepare_volumes(store, home, spec, now)
            existing = await store.deployments.by_name(name)
            deployment_id = existing.id if existing else new_id(Prefix.DEPLOYMENT)
            revision_id = new_id(Prefix.REVISION)
            snapshot, warnings = await self._record(deployment_id, revision_id, spec)
            snapshot = recorded_with(snapshot, await list_volumes(home, spec))
            blob = await store.blobs.put_bytes(snapshot.encode())
            revision = Revision(
                id=revision_id,
                deployment_id=deployment_id,
                number=existing.revision.number + 1 if existing else 1,
                spec=spec,
                engine_version=snapshot.version,
                snapshot_digest=blob.digest,
                created_at=now,
            )
            if existing is None:
                deployment = Deployment(
                    deployment_id, name, DeploymentState.ACTIVE, revision, now, now
                )
                await store.deployments.create(deployment)
                self._runtime.opened(deployment)
            else:
                await store.deployments.add_revision(deployment_id, revision, now)
                await store.deployments.set_state(deployment_id, DeploymentState.ACTIVE, now)
                deployment = replace(
                    existing, revision=revision, state=DeploymentState.ACTIVE, updated_at=now
                )
                self._runtime.updated(deployment)
            log.info("Deployed.", event_key="deployed", deployment=name, revision=revision.number)
            return Deployed(deployment, warnings)

    async def set_state(self, name: str, state: DeploymentState) -> Deployment:
        """Stop a deployment (its replicas drain, new work is refused) or start it again."""
        async with self._alone(name):
            deployment = await self.find(name)
            now = self._runtime.parts.clock.now()
            await self._runtime.parts.store.deployments.set_state(deployment.id, state, now)
            deployment = replace(deployment, state=state, updated_at=now)
            self._runtime.updated(deployment)
            return deployment

    async def delete(self, name: str) -> None:
        """Delete a deployment: its open jobs are canceled, its replicas stop, its name is free."""
        async with self._alone(name):
            deployment = await self.find(name)
            now = self._runtime.parts.clock.now()
            await self._runtime.parts.store.deployments.set_state(
                deployment.id, DeploymentState.DELETED, now
            )
            await self._runtime.closed(deployment)

    async def _settle(self, spec: DeploymentSpec) -> DeploymentSpec:
        """Decide what the user left open: ComfyUI gets a GPU where there is one."""
        resources = spec.resources
        if resources.gpus is not None:
            return spec
        wants_one = resources.gpu is not None or (
            spec.engine.kind is EngineKind.COMFYUI
            and "--cpu" not in spec.engine.args
            and bool(await self._runtime.parts.launcher.capacity())
        )
        return replace(spec, resources=replace(resources, gpus=1 if wants_one else 0))

    @asynccontextmanager
    async def _alone(self, name: str) -> AsyncIterator[None]:
        if name in self._busy:
            raise Conflict(
                f"deployment '{name}' is being changed by another request; try again after it",
                code="deploy_in_progress",
            )
        self._busy.add(name)
        try:
            yield
        finally:
            self._busy.discard(name)

    async def _record(
        self, deployment_id: str, revision_id: str, spec: DeploymentSpec
    ) -> tuple[Snapshot, tuple[str, ...]]:
        """Start the engine once and write down what it says about itself."""
        async with self._runtime.recording(deployment_id, revision_id, spec) as supervisor:
            if supervisor.state is not ReplicaState.READY:
                raise await self._refusal(spec, supervisor.message, supervisor.id)
            try:
                snapshot = await record(supervisor.client)
            except EngineError as error:
                raise await self._refusal(spec, error.message, supervisor.id) from error
            lines = await self._log(supervisor.id)
        broken = failed_imports(lines)
        return snapshot, tuple(
            f"custom node '{path}' could not be imported; its traceback is in the log of "
            f"{supervisor.id}"
            for path in broken
        )

    async def _refusal(self, spec: DeploymentSpec, what: str, replica_id: str) -> DeployFailed:
        lines = await self._log(replica_id)
        python = await asyncio.to_thread(find_python, spec)
        why = f"; {explain_failure(lines, python)}" if lines else ""
        return DeployFailed(
            f"the engine did not start: {what or 'it ended'}{why}", log_tail=lines[-40:]
        )

    async def _log(self, replica_id: str) -> list[str]:
        return list(await self._runtime.parts.logs.lines(replica_id, _LOG_BYTES))
