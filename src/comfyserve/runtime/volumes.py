"""Volumes on this host: their directories, and the models that lie there now."""

import asyncio
import json
import shutil
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from comfyserve.clock import Clock
from comfyserve.domain.engine_spec import mount_parts
from comfyserve.domain.spec import DeploymentSpec, VolumeMount
from comfyserve.domain.volume import (
    ModelPlace,
    folder_name,
    is_model_folder,
    model_files,
    model_place,
)
from comfyserve.runtime.listings import list_files
from comfyserve.runtime.snapshot import VOLUME_FILES, Snapshot
from comfyserve.store import Store
from comfyserve.workflow.model_lists import FolderChange, folder_changes, with_changes

_LOOK_EACH_S = 1.0
_KEPT_SNAPSHOTS = 64
# Besides those that lie on a volume: ComfyUI looks into them once they are there.
_FOLDERS = (
    *("checkpoints", "configs", "loras", "vae", "text_encoders", "diffusion_models"),
    *("clip_vision", "style_models", "embeddings", "vae_approx", "controlnet", "gligen"),
    *("upscale_models", "hypernetworks", "photomaker", "model_patches", "audio_encoders"),
    *("latent_upscale_models",),
)

Files = Mapping[str, frozenset[str]]


def volume_directory(home: Path, name: str) -> Path:
    """Where the files of a volume lie."""
    return home / "volumes" / name


def make_volume_directory(home: Path, name: str) -> Path:
    """The same, made if it is missing. Blocks."""
    directory = volume_directory(home, name)
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    return directory


def remove_volume_directory(home: Path, name: str) -> None:
    """Remove a volume's files; of a link only the link. Blocks."""
    directory = volume_directory(home, name)
    if directory.is_symlink():
        directory.unlink()
    elif directory.exists():
        shutil.rmtree(directory)


def volume_directories(home: Path, spec: DeploymentSpec) -> Sequence[tuple[tuple[str, ...], Path]]:
    """Each mount of a spec: its path below the working directory, and the volume's directory."""
    return [(mount_parts(mount), volume_directory(home, mount.name)) for mount in spec.volumes]


async def prepare_volumes(store: Store, home: Path, spec: DeploymentSpec, now: float) -> None:
    """Make the volumes that a spec mounts and that are not there yet."""
    for mount in spec.volumes:
        await store.volumes.ensure(mount.name, now)
        await asyncio.to_thread(make_volume_directory, home, mount.name)


def extra_model_paths(home: Path, spec: DeploymentSpec) -> str:
    """ComfyUI's `extra_model_paths` for the mounts of a spec; JSON is YAML too. Blocks."""
    paths: dict[str, list[str]] = {}
    for parts, directory in volume_directories(home, spec):
        place = model_place(parts)
        if place is None or place.prefix:
            continue
        if place.folder:
            paths.setdefault(place.folder, []).append(str(directory))
            continue
        there = {path.name for path in directory.iterdir() if path.is_dir()}
        for name in sorted({*_FOLDERS, *filter(is_model_folder, there)}):
            paths.setdefault(folder_name(name), []).append(str(directory / name))
    return json.dumps({"comfyserve": {name: "\n".join(found) for name, found in paths.items()}})


def paths_option(pool: str, spec: DeploymentSpec, directory: Path, home: Path) -> tuple[str, ...]:
    """Models on volumes are shown to ComfyUI by a file of paths: its own files stay untouched."""
    if not spec.volumes:
        return ()
    path = paths_file(pool, directory)
    fresh = path.with_suffix(".new")
    fresh.write_text(extra_model_paths(home, spec), "utf-8")
    fresh.replace(path)
    return ("--extra-model-paths-config", str(path))


def paths_file(pool: str, directory: Path) -> Path:
    """Where that file of a revision lies."""
    return directory / f"model-paths-{pool}.json"


async def list_volumes(home: Path, spec: DeploymentSpec) -> Files:
    """The files of the volumes that hold models for a deployment; the same objects while unchanged."""
    names = [mount.name for mount in spec.volumes if model_place(mount_parts(mount)) is not None]
    return {name: await list_files(volume_directory(home, name)) for name in dict.fromkeys(names)}


@dataclass(slots=True)
class _Seen:
    """What a revision's snapshot was at the last look, and what it was made of."""

    looked_at: float
    files: Files
    snapshot: Snapshot


class VolumeModels:
    """Snapshots as they would be now: model lists follow the volumes, and nothing wakes for it."""

    def __init__(self, home: Path, clock: Clock) -> None:
        self._home = home
        self._clock = clock
        self._seen: OrderedDict[tuple[str, tuple[VolumeMount, ...]], _Seen] = OrderedDict()

    def touch(self) -> None:
        """Look again at the next request: files were changed through this server."""
        for seen in self._seen.values():
            seen.looked_at = float("-inf")

    async def current(self, digest: str, recorded: Snapshot, spec: DeploymentSpec) -> Snapshot:
        """The recorded snapshot `digest`, with the models that are there now."""
        if not spec.volumes or not recorded.classes:
            return recorded
        key = digest, spec.volumes
        seen, now = self._seen.get(key), self._clock.monotonic()
        if seen is not None and now - seen.looked_at < _LOOK_EACH_S:
            return seen.snapshot
        files = await list_volumes(self._home, spec)
        if seen is None or any(seen.files.get(name) is not held for name, held in files.items()):
            snapshot = await asyncio.to_thread(refreshed, recorded, spec, files)
            seen = self._seen[key] = _Seen(now, files, snapshot)
        seen.looked_at = now
        self._seen.move_to_end(key)
        if len(self._seen) > _KEPT_SNAPSHOTS:
            self._seen.popitem(last=False)
        return seen.snapshot


def refreshed(recorded: Snapshot, spec: DeploymentSpec, files: Files) -> Snapshot:
    """A snapshot whose model lists are as they would be with these files on the volumes."""
    changes = folder_changes(
        recorded.model_lists, _by_folder(spec, recorded.volume_files), _by_folder(spec, files)
    )
    if not changes:
        return recorded
    patched = with_changes(recorded.classes, recorded.catalog, changes)
    return replace(
        recorded,
        object_info=msgspec.json.encode({**recorded.classes, **patched}),
        answers={**recorded.answers, **_answers(recorded, changes)},
    )


def recorded_with(snapshot: Snapshot, files: Files) -> Snapshot:
    """A fresh snapshot that knows which files lay on the volumes when it was recorded."""
    if not files:
        return snapshot
    listed = {name: sorted(held) for name, held in files.items()}
    kept = msgspec.Raw(msgspec.json.encode(listed))
    return replace(snapshot, answers={**snapshot.answers, VOLUME_FILES: kept})


def _by_folder(spec: DeploymentSpec, files: Files) -> Files:
    found: dict[str, frozenset[str]] = {}
    for mount in spec.volumes:
        place: ModelPlace | None = model_place(mount_parts(mount))
        if place is not None and mount.name in files:
            for folder, names in model_files(place, files[mount.name]).items():
                found[folder] = found.get(folder, frozenset()) | names
    return found


def _answers(recorded: Snapshot, changes: Mapping[str, FolderChange]) -> Mapping[str, msgspec.Raw]:
    """What ComfyUI's routes about models would say now."""
    answers: dict[str, object] = {}
    for folder, change in changes.items():
        answers[f"/models/{folder}"] = change.now(change.recorded)
        known = recorded.answer(f"/experiment/models/{folder}")
        if isinstance(known, list):
            kept = [item for item in known if item.get("name") not in change.gone]
            come = [{"name": name, "pathIndex": 0} for name in sorted(change.come)]
            answers[f"/experiment/models/{folder}"] = [*kept, *come]
    if "embeddings" in changes:
        names = changes["embeddings"].now(changes["embeddings"].recorded)
        answers["/embeddings"] = [name.rpartition(".")[0] for name in names]
    return {
        path: msgspec.Raw(msgspec.json.encode(answer))
        for path, answer in answers.items()
        if path in recorded.answers
    }
