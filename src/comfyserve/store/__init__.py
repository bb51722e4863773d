"""What is committed to disk: one small store per noun, and the blobs."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from comfyserve.store.assets import AssetStore
from comfyserve.store.batches import BatchStore
from comfyserve.store.blobs import BlobStore
from comfyserve.store.budgets import BudgetStore
from comfyserve.store.builds import BuildStore
from comfyserve.store.calls import CallStore
from comfyserve.store.deployments import DeploymentStore
from comfyserve.store.endpoints import EndpointStore
from comfyserve.store.engine import Database
from comfyserve.store.jobs import JobStore
from comfyserve.store.links import LinkStore
from comfyserve.store.outbox import OutboxStore
from comfyserve.store.references import ReferenceStore
from comfyserve.store.replicas import ReplicaStore
from comfyserve.store.reuse import ReuseStore
from comfyserve.store.sealing import Sealer, derive_key, load_key
from comfyserve.store.secrets import SecretStore
from comfyserve.store.tokens import TokenStore
from comfyserve.store.usage import UsageStore
from comfyserve.store.volumes import VolumeStore
from comfyserve.store.webhooks import WebhookSeal, WebhookStore

# Bytes that were put again so recently may be about to get their row.
_FRESH_S = 3600.0


@dataclass(frozen=True, slots=True)
class Store:
    """All stores of a home, over one database."""

    database: Database
    jobs: JobStore
    deployments: DeploymentStore
    endpoints: EndpointStore
    calls: CallStore
    batches: BatchStore
    reuse: ReuseStore
    replicas: ReplicaStore
    usage: UsageStore
    budgets: BudgetStore
    assets: AssetStore
    links: LinkStore
    references: ReferenceStore
    tokens: TokenStore
    secrets: SecretStore
    volumes: VolumeStore
    webhooks: WebhookStore
    outbox: OutboxStore
    blobs: BlobStore
    builds: BuildStore
    signing_key: bytes

    async def collect(self, now: float, *, jobs_ended_before: float | None = None) -> int:
        """Delete what has expired, and the bytes that nothing refers to; return how many blobs.

        Jobs that ended by `jobs_ended_before` go first, with their outputs.
        """
        if jobs_ended_before is not None:
            await self.jobs.prune(jobs_ended_before)
        await self.outbox.prune(now)
        gone = [
            digest
            for digest in await self.assets.delete_expired(now)
            if await self.blobs.delete(digest, put_before=now - _FRESH_S)
        ]
        await self.assets.forget(gone)
        await self.secrets.forget_retired(now)
        return len(gone)


@asynccontextmanager
async def open_store(home: Path, db_url: str = "") -> AsyncIterator[Store]:
    """Open the database and the blobs of a home; both are made where they are missing.

    The caller holds the HomeLock. Raises StorageFull, or ComfyserveError for a database that
    cannot be used.
    """
    key = await asyncio.to_thread(_prepare, home)
    seal = WebhookSeal(Sealer(key), derive_key(key, "webhooks of jobs"))
    news = asyncio.Event()
    blobs = BlobStore(home / "blobs")
    await blobs.open_directory()
    async with Database(db_url or f"sqlite:///{home / 'comfyserve.db'}") as database:
        yield Store(
            database=database,
            jobs=JobStore(database, seal, news),
            deployments=DeploymentStore(database),
            endpoints=EndpointStore(database),
            calls=CallStore(database),
            batches=BatchStore(database, seal),
            reuse=ReuseStore(database, seal, news),
            replicas=ReplicaStore(database),
            usage=UsageStore(database),
            budgets=BudgetStore(database),
            assets=AssetStore(database, news),
            links=LinkStore(database),
            references=ReferenceStore(database),
            tokens=TokenStore(database),
            secrets=SecretStore(database, Sealer(derive_key(key, "secrets"))),
            volumes=VolumeStore(database),
            webhooks=WebhookStore(database, seal),
            outbox=OutboxStore(database, seal, news),
            blobs=blobs,
            builds=BuildStore(database),
            signing_key=derive_key(key, "signed URLs"),
        )


def _prepare(home: Path) -> bytes:
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    return load_key(home / "secret.key")
