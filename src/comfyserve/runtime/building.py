"""Put together what builds images: the builder, its supplies, and who keeps the records."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from comfyserve.build.artifacts import Artifacts
from comfyserve.build.bench import Supplies
from comfyserve.build.builder import Builder, Limits
from comfyserve.build.models import ModelStore
from comfyserve.runtime.builds import Builds, Recorder
from comfyserve.runtime.downloads import GuardedFetcher
from comfyserve.runtime.outside import Outside
from comfyserve.runtime.supervisor import Parts
from comfyserve.store.sealing import derive_key

_INDEX = "index"


@dataclass(frozen=True, slots=True)
class BuildHost:
    """What builds may know of the machine: how it reaches the network, whether it has a GPU."""

    environ: Mapping[str, str] = field(repr=False)
    has_gpu: bool


def make_builds(parts: Parts, outside: Outside, host: BuildHost, recorder: Recorder) -> Builds:
    """The builds of a home, not open yet."""
    store, settings = parts.store, parts.settings
    artifacts = Artifacts(settings.home_path / "builds")

    async def archive(digest: str) -> Path:
        return (await store.blobs.open(digest)).path

    supplies = Supplies(
        fetcher=GuardedFetcher(outside),
        models=ModelStore(artifacts.models),
        archive=archive,
        registry_url=settings.node_registry_url,
        torch_backend=torch_backend(settings.torch_backend, has_gpu=host.has_gpu),
    )
    limits = Limits(settings.build_step_timeout_s, derive_key(store.signing_key, "build secrets"))
    builder = Builder(artifacts, supplies, limits, host.environ)
    return Builds(store, builder, artifacts, settings, parts.clock, recorder)


def torch_backend(setting: str, *, has_gpu: bool) -> str:
    """What uv is told to choose torch by: without a GPU there is no driver to ask."""
    if setting == _INDEX:
        return ""
    return "cpu" if setting == "auto" and not has_gpu else setting
