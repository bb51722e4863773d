"""Take a job's files out of its replica, so that results outlive it, and name them in public."""

import mimetypes
from collections.abc import Mapping, Sequence
from typing import Any

from comfyserve.clock import Clock
from comfyserve.domain.job import Job
from comfyserve.runtime.comfy import ComfyClient
from comfyserve.store import Store
from comfyserve.store.assets import Asset, NewAsset

_KINDS = frozenset({"output", "temp"})


class OutputIngest:
    """Ingests the files of one attempt: bytes to a blob, a row under a public name.

    Every dict with a `filename` counts, under whatever key a node reports it (`images`, `gifs`,
    `audio`, `3d`, unknown ones). A cached run reports an earlier run's files: they are fetched
    all the same and become this job's assets over the same blob. `earlier` are the assets that
    this attempt had stored before its server was restarted: they are found again by their bytes.
    """

    def __init__(
        self,
        job: Job,
        client: ComfyClient,
        store: Store,
        clock: Clock,
        temp_expiry_s: float,
        earlier: Sequence[Asset] = (),
    ) -> None:
        self._job = job
        self._client = client
        self._store = store
        self._clock = clock
        self._temp_expiry_s = temp_expiry_s
        self._earlier = {(asset.node_id, asset.type, asset.digest): asset for asset in earlier}
        self._known: dict[tuple[str, str, str], Asset | None] = {}
        self._nodes: dict[str, Any] = {}

    @property
    def outputs(self) -> Mapping[str, Any]:
        """What the nodes reported so far, by node id, with public names."""
        return self._nodes

    @property
    def assets(self) -> Sequence[Asset]:
        """What was taken in so far, in that order."""
        return [asset for asset in self._known.values() if asset is not None]

    async def take(self, node_id: str, output: Any) -> Any:  # noqa: ANN401 - a node may report anything
        """Ingest what one node reported; return it with public names. The second time is free."""
        if node_id not in self._nodes:
            self._nodes[node_id] = await self._rewrite(node_id, output)
        return self._nodes[node_id]

    async def _rewrite(self, node_id: str, value: Any) -> Any:  # noqa: ANN401 - as above
        if isinstance(value, list):
            return [await self._rewrite(node_id, item) for item in value]
        if not isinstance(value, dict):
            return value
        if isinstance(value.get("filename"), str) and value.get("type", "output") in _KINDS:
            asset = await self._ingest(node_id, value)
            if asset is not None:
                public = {"filename": asset.name, "subfolder": asset.subfolder}
                return {**value, **public, "type": asset.type}
        return {key: await self._rewrite(node_id, item) for key, item in value.items()}

    async def _ingest(self, node_id: str, reference: Mapping[str, Any]) -> Asset | None:
        filename = str(reference["filename"])
        subfolder = str(reference.get("subfolder") or "")
        kind = str(reference.get("type", "output"))
        key = (filename, subfolder, kind)
        if key not in self._known:
            self._known[key] = await self._fetch(node_id, *key)
        return self._known[key]

    async def _fetch(self, node_id: str, filename: str, subfolder: str, kind: str) -> Asset | None:
        async with self._client.fetch(filename, subfolder, kind) as chunks:
            if chunks is None:
                return None
            async with self._store.blobs.writer() as writer:
                async for chunk in chunks:
                    await writer.write(chunk)
                blob = await writer.commit()
        if (asset := self._earlier.pop((node_id, kind, blob.digest), None)) is not None:
            return asset
        now = self._clock.now()
        return await self._store.assets.add(
            NewAsset(
                deployment_id=self._job.deployment_id,
                job_id=self._job.id,
                node_id=node_id,
                name=filename,
                subfolder=subfolder,
                type=kind,
                digest=blob.digest,
                size_bytes=blob.size_bytes,
                content_type=content_type_of(filename),
                expires_at=now + self._temp_expiry_s if kind == "temp" else None,
            ),
            now,
        )


def content_type_of(filename: str) -> str:
    """The content type that a file's name promises."""
    return mimetypes.guess_type(filename)[0] or "application/octet-stream"
