"""One build: reuse what an unchanged beginning left, do the rest, keep each step, or nothing."""

import asyncio
import hashlib
import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import structlog
import uv

from comfyserve.build.artifacts import Artifact, Artifacts, ImageDocument, find_comfyui
from comfyserve.build.bench import Bench, Progress, Supplies
from comfyserve.build.comfyui import fingerprint
from comfyserve.build.executor import BuildFailed, kill_marked
from comfyserve.build.files import remove_tree, size_of
from comfyserve.build.installations import python_of
from comfyserve.build.layers import LayerDamaged, Layers
from comfyserve.build.log import BuildLog
from comfyserve.build.plan import Facts, Plan, check_buildable, make_plan, secrets_of
from comfyserve.build.python import Interpreter, find_interpreter, make_environment
from comfyserve.build.tree import EMPTY, State, Tree
from comfyserve.build.workshop import Workshop
from comfyserve.domain.image import ImageSpec
from comfyserve.domain.image_steps import ComfyUIDir, ComfyUISource

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Order:
    """One build that was asked for. `secrets` are values by name."""

    id: str
    spec: ImageSpec
    log: BuildLog
    report: Callable[[Progress], None]
    is_fresh: bool = False
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a step may take, and the key that secrets leave their mark by."""

    step_timeout_s: float
    mark_key: bytes = field(repr=False)


class Builder:
    """Builds images below one directory, one at a time: the caller sees to that."""

    def __init__(
        self, artifacts: Artifacts, supplies: Supplies, limits: Limits, host_env: Mapping[str, str]
    ) -> None:
        self._artifacts = artifacts
        self._supplies = supplies
        self._limits = limits
        self._host_env = host_env
        self._root = artifacts.root
        self.layers = Layers(self._root, artifacts.models)

    async def open(self) -> int:
        """Make the directories; remove what a crash left half done, its processes too."""
        return await asyncio.to_thread(self._sweep)

    async def build(self, order: Order) -> Artifact:
        """Build the image. Raises BuildFailed, InvalidInput, StorageFull; then nothing is left."""
        check_buildable(order.spec)
        order.log.mask(order.secrets.values())
        tree = Tree(self._root / "trees" / order.id)
        try:
            await asyncio.to_thread(self._begin, tree)
            installation = next((s for s in order.spec.steps if isinstance(s, ComfyUIDir)), None)
            if installation is not None:
                return await self._adopt_installation(order, tree, installation)
            return await self._build(order, tree)
        except BaseException:
            await asyncio.to_thread(kill_marked, str(tree.path))
            await asyncio.to_thread(remove_tree, tree.path)
            raise

    async def _build(self, order: Order, tree: Tree) -> Artifact:
        workshop = Workshop(
            tree=tree.path,
            cache=self._root / "cache",
            uv=str(self._root / "tools" / "uv"),
            timeout_s=self._limits.step_timeout_s,
            host_env=self._host_env,
        )
        interpreter = await find_interpreter(order.spec.python_version, workshop, order.log)
        plan = make_plan(order.spec, await self._facts(order, interpreter))
        if (there := await asyncio.to_thread(self._found, order, plan)) is not None:
            await _note(order, "nothing to do: it is built already")
            await asyncio.to_thread(remove_tree, tree.path)
            return there
        state, done = await self._restore(order, plan, tree)
        if done == 0:
            await _note(order, f"make an environment of Python {interpreter.version}")
            await make_environment(interpreter, workshop, order.log)
            state = await asyncio.to_thread(self.layers.keep, plan.base_key, tree, EMPTY, ())
            done = 1
        secrets = [value.encode() for value in order.secrets.values() if len(value) >= 4]
        # Here, because most servers never build anything, and need not hold what the steps do.
        from comfyserve.build.steps import perform  # noqa: PLC0415

        for planned in plan.steps[done - 1 :]:
            progress = Progress(planned.number, len(plan.steps), planned.title)
            order.report(progress)
            await _note(order, f"step {planned.number}/{len(plan.steps)}: {planned.title}")
            bench = Bench(
                workshop, self._supplies, order.log, order.report, planned.env, order.secrets,
                order.is_fresh,
            )  # fmt: skip
            await asyncio.to_thread((tree.path / "tmp").mkdir, exist_ok=True)
            found = await perform(planned, bench, progress)
            await asyncio.to_thread(remove_tree, tree.path / "tmp")
            state = await asyncio.to_thread(
                self.layers.keep, planned.key, tree, state.resolved(found), secrets
            )
        await asyncio.to_thread(remove_tree, tree.path / "tmp")
        await asyncio.to_thread(self.layers.share, tree, state)
        return await asyncio.to_thread(self._seal, order, plan, tree, state)

    async def _restore(self, order: Order, plan: Plan, tree: Tree) -> tuple[State, int]:
        """Bring back the longest beginning that was built before; also how many layers that is."""
        keys = plan.keys
        count = 0 if order.is_fresh else len(keys)
        while count > 0:
            key = keys[count - 1]
            if not await asyncio.to_thread(self.layers.has, key):
                count -= 1
                continue
            try:
                await asyncio.to_thread(remove_tree, tree.path)
                await asyncio.to_thread(tree.path.mkdir)
                state = await asyncio.to_thread(self.layers.restore, key, tree)
            except LayerDamaged as error:
                log.warning(
                    "A layer is not whole; its step is done again.",
                    event_key="layer_damaged", build=order.id, why=error.message,
                )  # fmt: skip
                await asyncio.to_thread(self.layers.drop, key)
                continue
            for planned in plan.steps[: count - 1]:
                order.report(
                    Progress(planned.number, len(plan.steps), planned.title, is_cached=True)
                )
                await _note(
                    order, f"step {planned.number}/{len(plan.steps)}: {planned.title} (as before)"
                )
            await asyncio.to_thread((tree.path / "tmp").mkdir, exist_ok=True)
            return state, count
        await asyncio.to_thread(remove_tree, tree.path)
        await asyncio.to_thread(self._begin, tree)
        return EMPTY, 0

    async def _facts(self, order: Order, interpreter: Interpreter) -> Facts:
        sources = {
            step.source
            for step in order.spec.steps
            if isinstance(step, ComfyUISource) and step.source and step.source.startswith("/")
        }
        directories = {
            source: await asyncio.to_thread(fingerprint, Path(source)) for source in sources
        }
        if missing := [name for name in secrets_of(order.spec) if name not in order.secrets]:
            raise BuildFailed(
                f"there is no secret '{missing[0]}'; store it with `comfyserve secret create`",
                code="secret_not_found",
            )
        marks = {
            name: hmac.new(self._limits.mark_key, value.encode(), hashlib.sha256).hexdigest()
            for name, value in order.secrets.items()
        }
        # Trees hold absolute paths: in a home that was moved, none fits.
        python = f"{interpreter.identity} {self._root}"
        return Facts(python, self._supplies.torch_backend, marks, directories)

    async def _adopt_installation(
        self, order: Order, tree: Tree, installation: ComfyUIDir
    ) -> Artifact:
        directory = Path(installation.path)
        python = await asyncio.to_thread(python_of, directory, installation.python)
        await _note(order, f"use {directory} as it is, with {python}")
        plan = Plan("", (), make_plan(order.spec, Facts("")).env)
        await asyncio.to_thread(remove_tree, tree.path / "tmp")
        document = ImageDocument(
            tree=tree.path.name, home=str(self._root), python=python, comfyui_dir=str(directory),
            env=dict(plan.env), keys=[], models=[], lock={"comfyui": str(directory)}, size_bytes=0,
        )  # fmt: skip
        return await asyncio.to_thread(self._publish, order.spec.digest, document)

    def _found(self, order: Order, plan: Plan) -> Artifact | None:
        document = self._artifacts.read(order.spec.digest)
        if order.is_fresh or document is None or document.keys != list(plan.keys):
            return None
        found = self._artifacts.find(order.spec.digest)
        if found is not None:
            self._artifacts.touch(order.spec.digest)
        return found

    def _seal(self, order: Order, plan: Plan, tree: Tree, state: State) -> Artifact:
        comfyui = find_comfyui(tree.path / "workspace")
        contents = self._artifacts.models / "contents"
        document = ImageDocument(
            tree=tree.path.name,
            home=str(self._root),
            python="venv/bin/python",
            comfyui_dir=None if comfyui is None else str(comfyui.relative_to(tree.path)),
            env=dict(plan.env),
            keys=list(plan.keys),
            models=[path.name for path in state.links_below(contents)],
            lock=dict(state.lock),
            size_bytes=size_of(tree.path),
        )
        return self._publish(order.spec.digest, document)

    def _publish(self, digest: str, document: ImageDocument) -> Artifact:
        before = self._artifacts.read(digest)
        former = [] if before is None else [*before.former_trees, before.tree]
        # Replicas may still run in the trees of earlier builds; a prune removes them.
        self._artifacts.write(digest, msgspec.structs.replace(document, former_trees=former))
        artifact = self._artifacts.find(digest)
        if artifact is None:
            raise BuildFailed("the built image vanished; build it again")
        return artifact

    def _begin(self, tree: Tree) -> None:
        for path in (tree.path, tree.path / "workspace", tree.path / "tmp"):
            path.mkdir(parents=True, exist_ok=True)

    def _sweep(self) -> int:
        for name in ("trees", "cache", "tools", "logs"):
            (self._root / name).mkdir(parents=True, exist_ok=True)
        self._supplies.models.prepare()
        tool = self._root / "tools" / "uv"
        tool.unlink(missing_ok=True)
        tool.symlink_to(uv.find_uv_bin())
        known: set[str] = set()
        for digest in self._artifacts.digests():
            if (document := self._artifacts.read(digest)) is not None:
                known |= {document.tree, *document.former_trees}
        half_done = [path for path in (self._root / "trees").iterdir() if path.name not in known]
        for path in half_done:
            kill_marked(str(path))
            remove_tree(path)
        return len(half_done)


async def _note(order: Order, text: str) -> None:
    await asyncio.to_thread(order.log.write, [f"==> {text}"])
