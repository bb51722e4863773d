"""The page of an endpoint, as files over HTTP: open to all, and with nothing inline."""

import re
from collections.abc import Iterator

import pytest
from tests.e2e.ports import two_free_ports
from tests.e2e.server_process import Reply, ServerProcess, serving

REMOTE = {"X-Forwarded-For": "203.0.113.9"}
BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8", **REMOTE}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Nothing is deployed: the page is the same for any endpoint, and for none."""
    with serving(tmp_path_factory.mktemp("page") / "home", two_free_ports()[0]) as server:
        yield server


def get(server: ServerProcess, path: str, **headers: str) -> Reply:
    return server.request("GET", path, headers={**BROWSER, **headers})


def test_a_browser_gets_the_page_without_a_token(server: ServerProcess) -> None:
    page = get(server, "/run/anything")
    assert page.status == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert get(server, "/d/demo/run/anything").body == page.body
    assert server.request("HEAD", "/run/anything", headers=BROWSER).status == 200


def test_everybody_else_gets_the_api_and_needs_a_token(server: ServerProcess) -> None:
    for accept in ("application/json", "*/*", "text/event-stream"):
        told = server.request("GET", "/run/anything", headers={"Accept": accept, **REMOTE})
        assert told.status == 401
    assert server.request("POST", "/run/anything", {}, headers=BROWSER).status == 401


def test_the_page_runs_its_own_files_and_nothing_else(server: ServerProcess) -> None:
    page = get(server, "/run/anything")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    assert page.headers["x-content-type-options"] == "nosniff"
    text = page.body.decode()
    assert not re.search(r"<script(?![^>]*src=)|<style|\sstyle=|\son\w+=", text)
    named = re.findall(r'(?:href|src)="(_page/[^"]+)"', text)
    assert len(named) == 3
    modules = {name for name in named if name.endswith(".js")}
    while modules:
        script = get(server, f"/run/{modules.pop()}")
        assert script.status == 200
        named += (found := re.findall(r'from "\./(\w+\.js)"', script.body.decode()))
        assert all(get(server, f"/run/_page/{name}").status == 200 for name in found)
    types = {name: get(server, f"/run/{name}").headers["content-type"] for name in named[:3]}
    assert sorted(kind.partition(";")[0] for kind in types.values()) == [
        "image/svg+xml", "text/css", "text/javascript"
    ]  # fmt: skip


def test_files_are_asked_for_again_only_when_they_changed(server: ServerProcess) -> None:
    first = get(server, "/run/_page/page.css")
    again = get(server, "/run/_page/page.css", **{"If-None-Match": first.headers["etag"]})
    assert (again.status, again.body) == (304, b"")
    assert again.headers["cache-control"] == "no-cache"


@pytest.mark.parametrize(
    "path",
    ["/run/_page/page.html", "/run/_page/none.js", "/run/_page/..%2fapp.py", "/run/Not", "/runs"],
)
def test_there_is_nothing_else(server: ServerProcess, path: str) -> None:
    assert get(server, path).status == 401
