"""Create and change deployments: check, start once, record the answers, stop again."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import structlog

from comfyserve.domain.deployment import Deployment, DeploymentState, Revision
from comfyserve.domain.errors import Conflict, DeployFailed, EngineError, Gone, NotFound
from comfyserve.domain.ids import Prefix
from comfyserve.domain.replica import ReplicaState
from comfyserve.domain.spec import DeploymentSpec, EngineKind, check_name
from comfyserve.runtime.engines import (
    check_engine,
    explain,
    failed_imports,
    from_image,
    is_any_server,
)
from comfyserve.runtime.gate import CheckFile, pass_gate
from comfyserve.runtime.inputs import check_inputs_schema
from comfyserve.runtime.plain_engines import exposure, with_comfyui
from comfyserve.runtime.runtime import Runtime, new_id
from comfyserve.runtime.snapshot import Snapshot, is_comfyui, record
from comfyserve.runtime.supervisor import Supervisor
from comfyserve.runtime.surroundings import find_image
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
        if found is None and self._runtime.is_gone(name):
            raise gone(name)
        if found is None:
            names = ", ".join(sorted(item.name for item in await deployments.list())) or "none yet"
            raise NotFound(
                f"there is no deployment '{name[:80]}'; there is: {names}",
                code="deployment_not_found",
            )
        return found

    async def deploy(
        self, name: str, spec: DeploymentSpec, checks: Sequence[CheckFile] = ()
    ) -> Deployed:
        """Create the deployment, or give it a new revision. Refused if its engine cannot start.

        Each of `checks` must be able to run on it. The engine is not started for an image that was
        started when it was built, unless a replica is wanted at once.

        What was deployed before serves until a replica of the new revision is ready. Raises
        InvalidInput, Conflict (a deploy of this name is under way) and DeployFailed.
        """
        check_name(name)
        async with self._alone(name):
            asked, spec = spec, await self._settle(spec)
            store, now = self._runtime.parts.store, self._runtime.parts.clock.now()
            home = self._runtime.parts.settings.home_path
            await prepare_volumes(store, home, spec, now)
            existing = await store.deployments.by_name(name)
            candidate = _candidate(name, spec, existing, now)
            seen = await self._recorded(asked, existing)
            if seen is not None:
                await pass_gate(seen.snapshot, checks)
                deployment = await self._commit(existing, candidate, seen, None)
            else:
                async with self._runtime.recording(candidate) as supervisor:
                    seen = await self._see(candidate, supervisor)
                    await pass_gate(seen.snapshot, checks)
                    deployment = await self._commit(existing, candidate, seen, supervisor)
            number = deployment.revision.number
            log.info("Deployed.", event_key="deployed", deployment=name, revision=number)
            return Deployed(deployment, seen.warnings)

    async def look(self, name: str, spec: DeploymentSpec) -> "Look":
        """Start a ComfyUI once, for no deployment; what it says of itself. Raises DeployFailed."""
        spec = await self._settle(spec)
        candidate = _candidate(name, spec, None, self._runtime.parts.clock.now())
        async with self._runtime.recording(candidate) as supervisor:
            seen = await self._see(candidate, supervisor)
            lines = await self._log(supervisor.id)
        if seen.snapshot is None:
            raise DeployFailed("what was started is no ComfyUI", log_tail=lines[-40:])
        return Look(candidate.id, seen.snapshot, seen.warnings, tuple(lines))

    async def rollback(self, name: str, number: int | None = None) -> Deployment:
        """Make an earlier revision (None: the one before the current) the current one again.

        While replicas are awake, one of that revision is started first and takes over. Raises
        NotFound, Conflict and DeployFailed; what is current then stays.
        """
        async with self._alone(name):
            current = await self.find(name)
            revision = await self.earlier(current, number)
            store, now = self._runtime.parts.store, self._runtime.parts.clock.now()
            deployment = replace(current, revision=revision, updated_at=now)
            await self._check_switch(current, deployment)
            is_active = current.state is DeploymentState.ACTIVE
            if is_active and self._runtime.fleet(current.id).is_wanted:
                async with self._runtime.recording(deployment) as supervisor:
                    await self._require_ready(deployment.spec, supervisor)
                    await store.deployments.use_revision(current.id, revision.id, now)
                    self._switch(deployment, supervisor)
            else:
                await store.deployments.use_revision(current.id, revision.id, now)
                self._runtime.updated(deployment)
            log.info(
                "Rolled back.",
                event_key="rolled_back",
                deployment=name,
                revision=revision.number,
                before=current.revision.number,
            )
            return deployment

    async def revisions(self, name: str) -> tuple[Deployment, Sequence[Revision]]:
        """A deployment and all its revisions, oldest first."""
        deployment = await self.find(name)
        return deployment, await self._runtime.parts.store.deployments.revisions(deployment.id)

    async def earlier(self, deployment: Deployment, number: int | None) -> Revision:
        """The revision with that number (None: the one before the current). Raises NotFound, Conflict."""
        current = deployment.revision.number
        revisions = await self._runtime.parts.store.deployments.revisions(deployment.id)
        if number is None:
            before = [revision for revision in revisions if revision.number < current]
            if not before:
                raise Conflict(
                    f"revision {current} of '{deployment.name}' is its first; there is none before",
                    code="no_earlier_revision",
                )
            return before[-1]
        if number == current:
            raise Conflict(
                f"revision {number} of '{deployment.name}' is the current one already",
                code="already_current",
            )
        for revision in revisions:
            if revision.number == number:
                return revision
        raise NotFound(
            f"'{deployment.name}' has no revision {number}; it has 1 to {len(revisions)}",
            code="revision_not_found",
        )

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

    async def _commit(
        self,
        existing: Deployment | None,
        candidate: Deployment,
        seen: "_Seen",
        supervisor: Supervisor | None,
    ) -> Deployment:
        """Make it the current revision; `supervisor` is a ready replica of it, if one was started."""
        store, now = self._runtime.parts.store, candidate.updated_at
        deployment = replace(candidate, revision=await self._stored(candidate, seen))
        await self._check_switch(existing, deployment)
        if existing is None:
            await store.deployments.create(deployment)
            successor = supervisor if deployment.spec.scaling.min_replicas else None
            self._runtime.opened(deployment, successor)
            return deployment
        await store.deployments.set_state(deployment.id, DeploymentState.ACTIVE, now)
        deployment = await store.deployments.add_revision(deployment.id, deployment.revision, now)
        self._switch(deployment, supervisor)
        return deployment

    async def _recorded(self, spec: DeploymentSpec, existing: Deployment | None) -> "_Seen | None":
        """What was recorded when the image was built, if that holds for `spec` and is enough."""
        engine = spec.engine
        if engine.kind is not EngineKind.COMFYUI or engine.image is None:
            return None
        differs = engine.args or engine.env or engine.comfyui_dir or engine.python
        if differs or spec.volumes or spec.secrets or spec.scaling.min_replicas:
            return None
        if existing is not None and self._runtime.fleet(existing.id).is_wanted:
            return None
        record = await self._runtime.parts.store.builds.recorded(engine.image)
        if record is None:
            return None
        return _Seen(await self._runtime.snapshot(record.snapshot_digest), record.warnings)

    def _switch(self, deployment: Deployment, supervisor: Supervisor | None) -> None:
        """From now on the new revision serves: by this replica, if one is wanted just now."""
        is_wanted = self._runtime.fleet(deployment.id).is_wanted
        self._runtime.updated(deployment, supervisor if is_wanted else None)

    async def _settle(self, spec: DeploymentSpec) -> DeploymentSpec:
        """Check what can be checked before a start, and decide what the user left open.

        ComfyUI gets a GPU where there is one, and comes from its image if it has one.
        """
        spec.check()
        await self._runtime.parts.store.secrets.require(spec.secrets)
        image = await asyncio.to_thread(find_image, self._runtime.parts.images, spec)
        spec = await asyncio.to_thread(from_image, spec, image)
        await asyncio.to_thread(check_engine, spec, image)
        check_inputs_schema(spec.inputs)
        resources = spec.resources
        if resources.gpus is not None:
            return spec
        wants_one = resources.gpu is not None or (
            spec.engine.kind is EngineKind.COMFYUI
            and "--cpu" not in spec.engine.args
            and bool(await self._runtime.parts.launcher.capacity())
        )
        return replace(spec, resources=replace(resources, gpus=1 if wants_one else 0))

    async def _check_switch(self, existing: Deployment | None, deployment: Deployment) -> None:
        """Raise Conflict if jobs wait that the new revision could not run."""
        if existing is None or existing.revision.is_plain or not deployment.revision.is_plain:
            return
        counts = await self._runtime.parts.store.jobs.counts(existing.id)
        if open_jobs := counts.queued + counts.active:
            raise Conflict(
                f"'{existing.name}' has {open_jobs} open jobs, and what would be deployed is no "
                "ComfyUI: let them end or cancel them first",
                code="open_jobs",
            )

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

    async def _stored(self, candidate: Deployment, seen: "_Seen") -> Revision:
        if seen.snapshot is None:
            return candidate.revision
        parts = self._runtime.parts
        files = await list_volumes(parts.settings.home_path, candidate.spec)
        recorded = recorded_with(seen.snapshot, files)
        blob = await parts.store.blobs.put_bytes(recorded.encode())
        spec = candidate.spec
        if is_any_server(spec):
            image = await asyncio.to_thread(find_image, parts.images, spec)
            found = await asyncio.to_thread(with_comfyui, spec.engine, recorded.argv, image)
            spec = replace(spec, engine=found)
        return replace(
            candidate.revision,
            spec=spec,
            snapshot_digest=blob.digest,
            engine_version=recorded.version,
        )

    async def _see(self, candidate: Deployment, supervisor: Supervisor) -> "_Seen":
        """Find out what a started replica is, and write down what it says about itself."""
        spec = candidate.spec
        await self._require_ready(spec, supervisor)
        warnings = await asyncio.to_thread(exposure, supervisor.last_status)
        if is_any_server(spec) and not (
            spec.engine.kind is EngineKind.COMMAND and await is_comfyui(supervisor.client)
        ):
            return _Seen(None, warnings)
        try:
            snapshot = await record(supervisor.client)
        except EngineError as error:
            raise await self._refusal(spec, error.message, supervisor.id) from error
        broken = failed_imports(await self._log(supervisor.id))
        return _Seen(
            snapshot,
            warnings
            + tuple(
                f"custom node '{path}' could not be imported; its traceback is in the log of "
                f"{supervisor.id}"
                for path in broken
            ),
        )

    async def _require_ready(self, spec: DeploymentSpec, supervisor: Supervisor) -> None:
        if supervisor.state is not ReplicaState.READY:
            raise await self._refusal(spec, supervisor.message, supervisor.id)

    async def _refusal(self, spec: DeploymentSpec, what: str, replica_id: str) -> DeployFailed:
        lines = await self._log(replica_id)
        why = f"; {await asyncio.to_thread(explain, lines, spec)}" if lines else ""
        return DeployFailed(
            f"the engine did not start: {what or 'it ended'}{why}", log_tail=lines[-40:]
        )

    async def _log(self, replica_id: str) -> list[str]:
        return list(await self._runtime.parts.logs.lines(replica_id, _LOG_BYTES))


def gone(name: str) -> Gone:
    """What is answered where a deployment was."""
    return Gone(
        f"deployment '{name[:80]}' was terminated, for good; deploy under this name to begin anew",
        code="deployment_gone",
    )


@dataclass(frozen=True, slots=True)
class Look:
    """What a ComfyUI said of itself when it was started once."""

    deployment_id: str
    snapshot: Snapshot
    warnings: tuple[str, ...]
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Seen:
    """What a replica turned out to be: a ComfyUI with its answers, or any other server (None)."""

    snapshot: Snapshot | None
    warnings: tuple[str, ...]


def _candidate(
    name: str, spec: DeploymentSpec, existing: Deployment | None, now: float
) -> Deployment:
    """The deployment as it will be if the engine starts, before anything is known of that."""
    deployment_id = existing.id if existing else new_id(Prefix.DEPLOYMENT)
    revision = Revision(
        id=new_id(Prefix.REVISION),
        deployment_id=deployment_id,
        number=1,
        spec=spec,
        engine_version="",
        snapshot_digest="",
        created_at=now,
    )
    created_at = existing.created_at if existing else now
    return Deployment(deployment_id, name, DeploymentState.ACTIVE, revision, created_at, now)
