"""User code: where a handler is, what is uploaded, and what loading it can meet."""

import io
import os
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from comfyserve.domain.errors import InvalidInput, NotFound
from comfyserve.sdk import source as source_module
from comfyserve.sdk.loading import HandlerFailed, load_handler
from comfyserve.sdk.source import Source, locate, source_of

API = "from comfyserve import asgi\n@asgi()\ndef handler():\n    return 1\n"


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory with code, as the current one; what is imported of it is forgotten."""
    (tmp_path / "api_under_test.py").write_text(API)
    (tmp_path / "workflow_api.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    path, modules = list(sys.path), set(sys.modules)
    yield tmp_path
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        del sys.modules[name]


def names(archive: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return tar.getnames()


def test_a_file_and_a_module_are_places(code: Path) -> None:
    wanted = Source(code.resolve(), "api_under_test:handler")
    assert locate("api_under_test.py:handler") == wanted
    assert locate("api_under_test:handler") == wanted


def test_the_package_around_a_file_goes_along(code: Path) -> None:
    package = code / "shop" / "web"
    package.mkdir(parents=True)
    (code / "shop" / "__init__.py").touch()
    (package / "__init__.py").touch()
    (package / "api.py").write_text(API)
    assert locate("shop/web/api.py:handler") == Source(code.resolve(), "shop.web.api:handler")
    assert locate("shop.web.api:handler").handler == "shop.web.api:handler"


@pytest.mark.parametrize(
    ("text", "kind", "says"),
    [
        ("nothing.py:handler", NotFound, "there is no file 'nothing.py'"),
        ("api_under_test.py:", InvalidInput, "write FILE:NAME"),
        (":handler", InvalidInput, "write FILE:NAME"),
        ("api-x:handler", InvalidInput, "neither a file.py nor a module"),
    ],
)
def test_a_place_that_is_none_is_refused(
    code: Path, text: str, kind: type[Exception], says: str
) -> None:
    with pytest.raises(kind, match=says):
        locate(text)


def test_a_module_that_cannot_be_imported_by_name_is_refused(code: Path) -> None:
    (code / "my-api.py").write_text(API)
    with pytest.raises(InvalidInput, match="cannot be imported"):
        locate("my-api.py:handler")


def test_the_same_files_are_the_same_bytes(code: Path) -> None:
    source = locate("api_under_test.py:handler")
    first = source.archive()
    os.utime(code / "api_under_test.py", (1, 1))
    assert source.archive() == first
    assert names(first) == ["api_under_test.py", "workflow_api.json"]


def test_what_is_ignored_stays_here(code: Path) -> None:
    for name in (".git/config", "venv/lib.py", ".env", "data/big.bin", "notes.txt", "keep.txt"):
        path = code / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("x")
    (code / ".comfyserveignore").write_text("# weights\ndata/\n\n./notes.txt\n")
    kept = names(locate("api_under_test.py:handler").archive())
    assert kept == [".comfyserveignore", "api_under_test.py", "keep.txt", "workflow_api.json"]


def test_too_much_code_names_what_is_large(code: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_module, "MOST_BYTES", 100_000)
    (code / "weights.safetensors").write_bytes(bytes(2_000_000))
    with pytest.raises(InvalidInput, match=r"weights.safetensors \(1 MiB\)"):
        locate("api_under_test.py:handler").archive()


def test_a_link_that_leads_out_is_named(code: Path) -> None:
    (code / "inner").symlink_to("workflow_api.json")
    assert "inner" in names(locate("api_under_test.py:handler").archive())
    (code / "weights").symlink_to("/etc")
    with pytest.raises(InvalidInput, match=r"'weights' in .* \.comfyserveignore"):
        locate("api_under_test.py:handler").archive()
    (code / ".comfyserveignore").write_text("weights\n")
    assert "weights" not in names(locate("api_under_test.py:handler").archive())


def test_a_function_is_found_where_it_is_written(code: Path) -> None:
    found = load_handler(locate("api_under_test.py:handler"))
    made = found.make  # type: ignore[attr-defined]  # an App
    assert source_of(made) == locate("api_under_test.py:handler")
    with pytest.raises(InvalidInput, match="at the top of a file"):
        source_of(lambda: None)


def test_a_name_that_is_not_there_is_told_with_those_that_are(code: Path) -> None:
    with pytest.raises(NotFound, match="has no 'handlr'; it has: asgi, handler"):
        load_handler(Source(code, "api_under_test:handlr"))


def test_a_module_that_raises_is_shown_by_its_own_lines(code: Path) -> None:
    (code / "broken_under_test.py").write_text("def load():\n    return 1 / 0\nload()\n")
    with pytest.raises(HandlerFailed, match="ZeroDivisionError") as caught:
        load_handler(Source(code, "broken_under_test:handler"))
    trace = "\n".join(caught.value.evidence)
    assert "return 1 / 0" in trace
    assert "loading.py" not in trace
    assert "importlib" not in trace


def test_a_syntax_error_is_shown_too(code: Path) -> None:
    (code / "broken_too.py").write_text("def handler(:\n")
    with pytest.raises(HandlerFailed, match="SyntaxError") as caught:
        load_handler(Source(code, "broken_too:handler"))
    assert "def handler(:" in "\n".join(caught.value.evidence)
