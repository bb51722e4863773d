"""A builder whose bare environment is made once for all tests of a module."""

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import pytest
from tests.unit.build.supplies import MappedFetcher

from comfyserve.build.artifacts import Artifact, Artifacts
from comfyserve.build.bench import Progress, Supplies
from comfyserve.build.builder import Builder, Limits, Order
from comfyserve.build.files import remove_tree
from comfyserve.build.log import BuildLog
from comfyserve.build.models import ModelStore
from comfyserve.domain.image import ImageSpec
from comfyserve.domain.image_steps import ImageStep


@dataclass
class Yard:
    """A home to build in, and what happened there."""

    home: Path
    fetcher: MappedFetcher = field(default_factory=MappedFetcher)
    archives: dict[str, Path] = field(default_factory=dict)
    reports: list[Progress] = field(default_factory=list)
    step_timeout_s: float = 120.0
    _ids: Iterator[int] = field(default_factory=lambda: count(1))

    @property
    def artifacts(self) -> Artifacts:
        return Artifacts(self.home / "builds")

    @property
    def trees(self) -> list[str]:
        return sorted(path.name for path in (self.home / "builds" / "trees").iterdir())

    @property
    def builder(self) -> Builder:
        async def archive(digest: str) -> Path:
            return self.archives[digest]

        supplies = Supplies(
            fetcher=self.fetcher,
            models=ModelStore(self.artifacts.models),
            archive=archive,
            registry_url="https://registry.example",
        )
        limits = Limits(self.step_timeout_s, b"key")
        return Builder(self.artifacts, supplies, limits, os.environ)

    async def build(
        self,
        *steps: ImageStep,
        is_fresh: bool = False,
        secrets: Mapping[str, str] | None = None,
        python_version: str | None = None,
    ) -> Artifact:
        self.reports.clear()
        number = next(self._ids)
        self.log = self.home / "builds" / "logs" / f"{number}.log"
        order = Order(
            id="bd_" + hashlib.sha256(str(number).encode()).hexdigest()[:20],
            spec=ImageSpec(python_version, steps),
            log=BuildLog(self.log, limit_bytes=1_000_000),
            report=self.reports.append,
            is_fresh=is_fresh,
            secrets=secrets or {},
        )
        builder = self.builder
        await builder.open()
        return await builder.build(order)


@pytest.fixture(scope="module")
def shared_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("yard") / "home"


@pytest.fixture
def yard(shared_home: Path) -> Iterator[Yard]:
    """The same home for all tests of a module; each removes the images that it made."""
    yard = Yard(shared_home)
    yield yard
    for digest in yard.artifacts.digests():
        yard.artifacts.remove(digest)
    for path in (shared_home / "builds" / "trees").iterdir():
        remove_tree(path)


@pytest.fixture
def counted(tmp_path: Path) -> tuple[str, Callable[[], Sequence[str]]]:
    """A shell line that leaves a trace outside of the build, and what traces there are."""
    trace = tmp_path / "trace"

    def traces() -> Sequence[str]:
        return trace.read_text().split() if trace.exists() else []

    return f"echo >> {trace}", traces
