"""Builds of images: one at a time, the same image once, recorded, followed, collected."""

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import structlog

from comfyserve.build.artifacts import Artifact, Artifacts
from comfyserve.build.bench import Progress
from comfyserve.build.builder import Builder, Order
from comfyserve.build.log import BuildLog
from comfyserve.build.models import ModelStore
from comfyserve.build.plan import check_buildable, secrets_of
from comfyserve.build.prune import Pruned, prune
from comfyserve.clock import Clock
from comfyserve.domain.build import Build, BuildEvent, BuildResult, BuildState, step
from comfyserve.domain.errors import ComfyserveError, Conflict, EngineFailure, NotFound
from comfyserve.domain.ids import Prefix
from comfyserve.domain.image import ImageSpec, read_image
from comfyserve.runtime.runtime import new_id
from comfyserve.runtime.tasks import TaskScope
from comfyserve.settings import Settings
from comfyserve.store import Store

log = structlog.get_logger()

_LOST = BuildResult(
    "the server ended while it was built; nothing half-done was kept, and what was done before is "
    "reused when it is built again",
    "server_stopped",
)


@dataclass(frozen=True, slots=True)
class Recorded:
    """What came out when a built image was started once."""

    warnings: tuple[str, ...] = ()
    import_times: Mapping[str, float] = field(default_factory=dict)


class Recorder(Protocol):
    """Starts an image once and keeps what its engine says."""

    async def record(self, artifact: Artifact, log: BuildLog, *, is_new: bool) -> Recorded:
        """Record an image, again if it `is_new`. Raises DeployFailed."""
        ...


class _UnderWay:
    """A build that has not ended: its task, how far it is, and who waits for news."""

    def __init__(self) -> None:
        self.progress: Progress | None = None
        self.task: asyncio.Task[None] | None = None
        self.is_canceled = False
        self._changed = asyncio.Event()

    def tell(self) -> None:
        """Wake everybody who waits."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def changed(self) -> None:
        """Wait for the next news."""
        await self._changed.wait()


class Builds:
    """The builds of one home. Use it in an `async with`."""

    def __init__(
        self,
        store: Store,
        builder: Builder,
        artifacts: Artifacts,
        settings: Settings,
        clock: Clock,
        recorder: Recorder,
    ) -> None:
        self.artifacts = artifacts
        self._store = store
        self._builder = builder
        self._settings = settings
        self._clock = clock
        self._recorder = recorder
        self._scope = TaskScope("builds")
        self._under_way: dict[str, _UnderWay] = {}
        self._by_digest: dict[str, Build] = {}
        self._lane = asyncio.Lock()

    async def __aenter__(self) -> Self:
        if (swept := await self._builder.open()) > 0:
            log.info("Removed half-done builds.", event_key="builds_swept", count=swept)
        for build in await self._store.builds.open():
            await self._store.builds.save(step(build, BuildEvent.LOST, self._clock.now(), _LOST))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._scope.aclose()

    async def submit(self, document: object, *, is_fresh: bool = False) -> Build:
        """Build an image; one that is being built already is not built twice.

        Raises InvalidInput for a spec that cannot be built here.
        """
        spec = read_image(document)
        check_buildable(spec)
        await self._store.secrets.require(secrets_of(spec))
        digest = spec.digest
        if (same := self._by_digest.get(digest)) is not None:
            return await self._store.builds.get(same.id)
        build = Build(
            id=new_id(Prefix.BUILD),
            digest=digest,
            image=spec.canonical(),
            is_fresh=is_fresh,
            state=BuildState.QUEUED,
            created_at=self._clock.now(),
        )
        self._by_digest[digest] = build
        try:
            await self._store.builds.create(build)
        except BaseException:
            del self._by_digest[digest]
            raise
        under_way = self._under_way[build.id] = _UnderWay()
        under_way.task = self._scope.spawn(self._run(build, spec, under_way), name=build.id)
        return build

    async def cancel(self, build_id: str) -> Build:
        """End a build that has not ended; nothing half-done is kept. Raises NotFound."""
        under_way = self._under_way.get(build_id)
        if under_way is not None and under_way.task is not None:
            under_way.is_canceled = True
            under_way.task.cancel()
            await asyncio.wait([under_way.task])
        return await self._store.builds.get(build_id)

    def progress(self, build_id: str) -> Progress | None:
        """How far a build is; None while it waits and after it ended."""
        under_way = self._under_way.get(build_id)
        return None if under_way is None else under_way.progress

    async def news(self, build_id: str, timeout_s: float) -> None:
        """Return when something about a build is new, at the latest after `timeout_s`."""
        under_way = self._under_way.get(build_id)
        if under_way is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await under_way.changed()

    async def log(self, build_id: str, offset: int, limit_bytes: int) -> bytes:
        """A part of a build's log. Raises NotFound if it was pruned."""
        return await asyncio.to_thread(_read, self._log_path(build_id), offset, limit_bytes)

    async def log_size(self, build_id: str) -> int:
        """How long a build's log is."""
        path = self._log_path(build_id)
        return await asyncio.to_thread(lambda: path.stat().st_size if path.exists() else 0)

    async def prune(self, *, unused_for_s: float = 0.0, models: bool = False) -> Pruned:
        """Remove images that no deployment names and nobody used for so long, and their layers.

        Raises Conflict while something is built.
        """
        if self._lane.locked():
            raise Conflict(
                "something is being built just now; prune when it has ended, or cancel it with "
                "`comfyserve build cancel`",
                code="build_in_progress",
            )
        async with self._lane:
            pinned = await self._pinned()
            before = self._clock.now() - unused_for_s
            return await asyncio.to_thread(
                prune, self._builder.layers, self.artifacts, pinned, before, models=models
            )

    async def _run(self, build: Build, spec: ImageSpec, under_way: _UnderWay) -> None:
        try:
            async with self._lane:
                build = await self._saved(step(build, BuildEvent.BEGUN, self._clock.now()))
                under_way.tell()
                result = await self._build(build, spec, under_way)
            event = BuildEvent.BUILT
        except asyncio.CancelledError:
            event = BuildEvent.CANCELED if under_way.is_canceled else BuildEvent.LOST
            result = BuildResult("it was canceled", "canceled") if under_way.is_canceled else _LOST
        except EngineFailure as error:
            event, result = BuildEvent.BROKEN, _failure(error, error.log_tail)
        except ComfyserveError as error:
            event, result = BuildEvent.BROKEN, _failure(error, ())
        except Exception:
            log.exception("A build died.", event_key="build_died", build=build.id)
            result = BuildResult(
                "something failed on the server that should not; its log has the trace",
                "internal_error",
            )
            event = BuildEvent.BROKEN
        if build.state is BuildState.QUEUED and event is BuildEvent.BROKEN:
            event = BuildEvent.LOST  # It could not even begin: the store does not take it.
        await self._saved(step(build, event, self._clock.now(), result))
        del self._under_way[build.id]
        del self._by_digest[build.digest]
        under_way.tell()
        log.info("A build ended.", event_key="build_ended", build=build.id, how=event.value)

    async def _build(self, build: Build, spec: ImageSpec, under_way: _UnderWay) -> BuildResult:
        loop = asyncio.get_running_loop()

        def report(progress: Progress) -> None:
            under_way.progress = progress
            loop.call_soon_threadsafe(under_way.tell)

        build_log = BuildLog(self._log_path(build.id), limit_bytes=self._settings.log_limit_bytes)
        order = Order(
            id=build.id,
            spec=spec,
            log=build_log,
            report=report,
            is_fresh=build.is_fresh,
            secrets=await self._store.secrets.open(secrets_of(spec)),
        )
        artifact = await self._builder.build(order)
        await self._evict_models(artifact.digest)
        is_new = artifact.workspace.parent.name == build.id
        recorded = await self._recorder.record(artifact, build_log, is_new=is_new)
        return BuildResult(
            size_bytes=artifact.size_bytes,
            lock=artifact.lock,
            warnings=recorded.warnings,
            import_times=recorded.import_times,
        )

    async def _evict_models(self, digest: str) -> None:
        """Keep the cap on model files, without what is deployed or was just built."""
        cap_bytes = self._settings.models_cap_bytes
        if cap_bytes <= 0:
            return
        pinned: set[str] = set()
        for kept in {digest, *(await self._pinned())}:
            document = await asyncio.to_thread(self.artifacts.read, kept)
            pinned.update(() if document is None else document.models)
        store = ModelStore(self.artifacts.models)
        gone = await asyncio.to_thread(store.evict, cap_bytes, pinned)
        if gone:
            log.info(
                "Evicted model files.", event_key="models_evicted", count=len(gone),
                bytes=sum(model.size_bytes for model in gone),
            )  # fmt: skip

    async def _pinned(self) -> frozenset[str]:
        """The images that revisions of deployments name; a revision may be gone back to."""
        found: set[str] = set()
        for deployment in await self._store.deployments.list():
            for revision in await self._store.deployments.revisions(deployment.id):
                if revision.spec.engine.image is not None:
                    found.add(revision.spec.engine.image)
        return frozenset(found)

    async def _saved(self, build: Build) -> Build:
        await self._store.builds.save(build)
        return build

    def _log_path(self, build_id: str) -> Path:
        return self.artifacts.root / "logs" / f"{build_id}.log"


def _failure(error: ComfyserveError, log_tail: tuple[str, ...]) -> BuildResult:
    return BuildResult(error.message, error.code, log_tail)


def _read(path: Path, offset: int, limit_bytes: int) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(limit_bytes)
    except FileNotFoundError:
        raise NotFound("the log of this build is not kept", code="log_not_found") from None
