"""Models: one copy for each content, resumed, checked, evicted only where nothing needs them."""

import hashlib
import os
from pathlib import Path

import pytest
from tests.unit.build.conftest import Yard
from tests.unit.build.supplies import MappedFetcher

from comfyserve.build.executor import BuildFailed
from comfyserve.build.models import DownloadBroken, ModelStore, download
from comfyserve.domain.errors import StorageFull
from comfyserve.domain.image_sources import ModelFile, parse_model
from comfyserve.domain.image_steps import Models

_URL = "https://models.example/a.safetensors"
_DATA = os.urandom(50_000)
_HASH = hashlib.sha256(_DATA).hexdigest()


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    store = ModelStore(tmp_path / "models")
    store.prepare()
    return store


def _models(*texts: str) -> Models:
    return Models(tuple(parse_model(text) for text in texts))


async def test_a_content_is_fetched_and_stored_once_whatever_its_names(yard: Yard) -> None:
    yard.fetcher.pages = {_URL: _DATA, "https://mirror.example/b.safetensors": _DATA}
    first = await yard.build(
        _models(
            f"{_URL} -> checkpoints",
            f"{_URL} -> loras/same.safetensors",
            "https://mirror.example/b.safetensors -> loras",
        )
    )
    models = first.workspace / "models"
    names = ("checkpoints/a.safetensors", "loras/same.safetensors", "loras/b.safetensors")
    assert {(models / name).resolve() for name in names} == {
        yard.artifacts.models / "contents" / _HASH
    }
    assert (models / names[0]).read_bytes() == _DATA
    assert [url for url, _, _ in yard.fetcher.asked] == [
        _URL,
        "https://mirror.example/b.safetensors",
    ]
    assert first.lock["model loras/same.safetensors"] == f"{_URL}@sha256:{_HASH}"
    yard.fetcher.asked.clear()
    await yard.build(_models(f"{_URL} -> vae/other.safetensors"))
    assert yard.fetcher.asked == []
    assert yard.reports[-1].title == "fetch other.safetensors"


async def test_a_download_that_breaks_off_goes_on_where_it_ended(store: ModelStore) -> None:
    fetcher = MappedFetcher({_URL: _DATA}, cut={_URL: 20_000})
    told: list[tuple[int, int | None]] = []
    path = await download(
        ModelFile(_URL, "loras"), store, fetcher, None, lambda *so_far: told.append(so_far)
    )
    assert path.read_bytes() == _DATA
    assert [offset for _, offset, _ in fetcher.asked] == [0, 19_999]
    assert told[-1] == (50_000, 50_000)


async def test_one_that_never_gets_on_is_given_up_and_resumed_later(store: ModelStore) -> None:
    class Stuck(MappedFetcher):
        def open(self, url: str, **more: object):  # type: ignore[no-untyped-def]  # as its base
            self.cut[url] = 10_000 if not self.asked else 1
            return super().open(url, **more)  # type: ignore[arg-type]  # as above

    with pytest.raises(DownloadBroken):
        await download(ModelFile(_URL, "loras"), store, Stuck({_URL: _DATA}), None, print)
    later = MappedFetcher({_URL: _DATA})
    path = await download(ModelFile(_URL, "loras"), store, later, None, print)
    assert later.asked[0][1] > 9_000
    assert path.read_bytes() == _DATA


async def test_what_changed_meanwhile_is_fetched_anew(store: ModelStore) -> None:
    first = MappedFetcher({_URL: b"x" * 40_000}, cut={_URL: 30_000})
    first.pages = {_URL: b"x" * 40_000}
    part = store.partial / hashlib.sha256(_URL.encode()).hexdigest()
    part.write_bytes(b"old" * 1000)
    part.with_suffix(".validator").write_text("another")
    path = await download(ModelFile(_URL, "loras"), store, first, None, print)
    assert path.read_bytes() == b"x" * 40_000


async def test_a_file_that_is_not_what_it_should_be_is_refused(yard: Yard) -> None:
    yard.fetcher.pages = {_URL: _DATA}
    with pytest.raises(BuildFailed, match=f"its SHA-256 is {_HASH}, the image says 0000") as failed:
        await yard.build(_models(f"{_URL}@{'0' * 64} -> loras"))
    assert failed.value.code == "model_hash_mismatch"
    assert not list((yard.artifacts.models / "partial").glob("[0-9a-f]*"))


async def test_a_secret_is_sent_as_a_credential(yard: Yard) -> None:
    url = "https://private.example/p.safetensors"
    yard.fetcher.pages = {url: b"private"}
    step = Models((parse_model(f"{url} -> loras", "CIVITAI"),))
    await yard.build(step, secrets={"CIVITAI": "the-key"})
    assert yard.fetcher.asked == [(url, 0, "the-key")]
    assert "the-key" not in yard.log.read_text()


async def test_an_address_that_does_not_answer_is_named(yard: Yard) -> None:
    with pytest.raises(BuildFailed, match=r"gone\.safetensors' answered 404"):
        await yard.build(_models("https://models.example/gone.safetensors -> loras"))


def test_what_does_not_fit_is_refused_before_it_is_fetched(store: ModelStore) -> None:
    store.check_space(1000, "it")
    with pytest.raises(StorageFull, match=r"'big' needs 1125899\.91 GB more"):
        store.check_space(1 << 50, "'big'")


def _put(store: ModelStore, letter: str, used_at: float) -> str:
    source = store.partial / letter
    source.write_bytes(letter.encode() * 1000)
    model = store.adopt(source, ModelFile(f"https://h.example/{letter}.pt", "loras"))
    os.utime(model.path, (used_at, used_at))
    return model.sha256


def test_the_least_used_go_first_and_pinned_ones_never(store: ModelStore) -> None:
    a, b, c = (_put(store, letter, at) for letter, at in (("a", 10), ("b", 20), ("c", 30)))
    assert [model.sha256 for model in store.evict(2500, {a})] == [b]
    assert [model.sha256 for model in store.evict(0, {a})] == [c]
    assert [model.sha256 for model in store.all()] == [a]


async def test_an_image_whose_model_was_evicted_is_built_again(yard: Yard) -> None:
    yard.fetcher.pages = {_URL: _DATA}
    step = _models(f"{_URL} -> embeddings")
    artifact = await yard.build(step)
    ModelStore(yard.artifacts.models).evict(0, ())
    assert yard.artifacts.find(artifact.digest) is None
    yard.fetcher.asked.clear()
    again = await yard.build(step)
    assert yard.artifacts.find(again.digest) == again
    assert len(yard.fetcher.asked) == 1
