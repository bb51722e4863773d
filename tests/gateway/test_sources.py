"""`POST /api/v1/sources`: user code, checked before it is kept, and kept while a revision runs it."""

import io
import tarfile
from collections.abc import Iterator
from dataclasses import replace

import pytest
from tests.e2e.ports import two_free_ports
from tests.e2e.server_process import ServerProcess, serving

from comfyserve.domain.spec import AppSpec, DeploymentSpec, EngineKind, EngineSpec
from comfyserve.sdk.client import Client
from comfyserve.sdk.errors import Refused
from comfyserve.sdk.transport import Transport
from comfyserve.store import Store


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """One server for all tests here."""
    port, _ = two_free_ports()
    with serving(tmp_path_factory.mktemp("sources") / "home", port) as server:
        yield server


def client(server: ServerProcess, token: str = "") -> Client:
    return Client(Transport(server.url, token))


def tar_of(name: str, *, kind: bytes = tarfile.REGTYPE, link: str = "") -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as tar:
        entry = tarfile.TarInfo(name)
        entry.type, entry.linkname = kind, link
        tar.addfile(entry)
    return sink.getvalue()


def test_the_same_code_has_the_same_digest(server: ServerProcess) -> None:
    first = client(server).upload_source(tar_of("api.py"))
    assert client(server).upload_source(tar_of("api.py")) == first
    assert client(server).upload_source(tar_of("api2.py")) != first
    assert (server.home / "blobs" / first[:2] / first[2:]).is_file()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no tar at all",
        tar_of("../out.py"),
        tar_of("dev", kind=tarfile.CHRTYPE),
        tar_of("link", kind=tarfile.SYMTYPE, link="/etc/passwd"),
        tar_of("api.py")[:100],
    ],
    ids=["empty", "no-tar", "outside", "device", "link-out", "cut"],
)
def test_what_cannot_be_unpacked_is_refused(server: ServerProcess, body: bytes) -> None:
    with pytest.raises(Refused) as caught:
        client(server).upload_source(body)
    assert caught.value.code == "invalid_source"


def test_it_takes_an_administrator(server: ServerProcess) -> None:
    secret = server.post("/api/v1/tokens", {"name": "runner", "scopes": ["run"]}).json["secret"]
    with pytest.raises(Refused) as caught:
        client(server, secret).upload_source(tar_of("api.py"))
    assert caught.value.code == "missing_scope"


async def test_code_goes_after_an_hour_unless_a_revision_runs_it(store: Store) -> None:
    kept, lost = [await store.blobs.put_bytes(data) for data in (b"kept", b"lost")]
    await store.assets.release([kept.digest, lost.digest])
    assert await store.collect(kept.path.stat().st_mtime + 60) == 0
    await _run(store, kept.digest)
    assert await store.collect(kept.path.stat().st_mtime + 4000) == 1
    assert kept.path.is_file()
    assert not lost.path.exists()
    assert await store.assets.referenced(kept.digest)


async def _run(store: Store, digest: str) -> None:
    deployment = await store.deployments.get("dp_1")
    assert deployment is not None
    engine = EngineSpec(kind=EngineKind.APP, app=AppSpec(digest, "api:handler"))
    revision = replace(deployment.revision, id="rv_2", spec=DeploymentSpec(engine=engine))
    await store.deployments.add_revision(deployment.id, revision, 5.0)
