"""Remove what no deployment needs: images, layers, trees of earlier builds, models."""

from collections.abc import Collection
from dataclasses import dataclass

from comfyserve.build.artifacts import Artifacts
from comfyserve.build.files import remove_tree, size_of
from comfyserve.build.layers import Layers
from comfyserve.build.models import ModelStore


@dataclass(frozen=True, slots=True)
class Pruned:
    """What was removed."""

    images: int
    layers: int
    models: int
    freed_bytes: int


def prune(
    layers: Layers, artifacts: Artifacts, pinned: Collection[str], before: float, *, models: bool
) -> Pruned:
    """Remove images that are not pinned and were last used before that moment, and their layers.

    With `models`, model files that no image refers to any more go too. Blocks; for threads.
    """
    kept_keys: set[str] = set()
    kept_trees: set[str] = set()
    kept_models: set[str] = set()
    gone = 0
    for digest in artifacts.digests():
        document = artifacts.read(digest)
        if document is None:
            continue
        if digest not in pinned and artifacts.used_at(digest) < before:
            artifacts.remove(digest)
            gone += 1
            continue
        kept_keys.update(document.keys)
        kept_models.update(document.models)
        kept_trees.add(document.tree)
        if digest in pinned:
            # Replicas of an earlier build may still run, and a revision may name its directory.
            kept_trees.update(document.former_trees)
    freed = _remove_trees(artifacts, kept_trees)
    keys = layers.keys()
    recent = {key for key, used_at in keys.items() if used_at >= before}
    freed += layers.drop_except(kept_keys | recent)
    dropped = len(keys) - len(layers.keys())
    evicted = ModelStore(artifacts.models).evict(0, kept_models) if models else ()
    freed += sum(model.size_bytes for model in evicted)
    return Pruned(gone, dropped, len(evicted), freed)


def _remove_trees(artifacts: Artifacts, kept: Collection[str]) -> int:
    freed = 0
    for path in (artifacts.root / "trees").iterdir():
        if path.name not in kept:
            freed += size_of(path)
            remove_tree(path)
    return freed
