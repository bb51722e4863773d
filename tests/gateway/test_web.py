"""ComfyUI's web page from the disk: found without running anything, given with ComfyUI's headers."""

import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from comfyserve.domain.spec import DeploymentSpec, EngineKind, EngineSpec
from comfyserve.gateway.web_roots import find_web_roots
from comfyserve.runtime.snapshot import Snapshot
from comfyserve.testing.file_door import FileDoor, file_door

VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
BLUEPRINTS = {
    "id-1": {"source": "templates", "name": "Blur", "info": {"node_pack": "comfyui"}},
    "id-2": {"source": "custom_node", "name": "Mine", "info": {"node_pack": "custom_nodes.packed"}},
    "id-3": {"source": "templates", "name": "../../secret", "info": {}},
}


def write(path: Path, text: str = "") -> Path:
    """Write a file and its directories."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.fixture
def installation(tmp_path: Path) -> Path:
    """A ComfyUI directory with an environment beside it and packs of several habits."""
    library = tmp_path / "venv" / "lib" / f"python{VERSION}" / "site-packages"
    page = library / "comfyui_frontend_package" / "static"
    write(page / "index.html", "<title>ComfyUI</title>")
    write(page / "assets" / "app.js", "import './other.js'")
    write(page / "assets" / "look.css", "body {}")
    write(page / "assets" / "logo.png", "png")
    write(page / "extensions" / "core" / "clip.js", "core")
    write(library / "comfyui_workflow_templates_json" / "templates" / "index.json", "[]")
    write(library / "comfyui_workflow_templates_media_image" / "templates" / "a-1.webp", "webp")
    write(library / "comfyui_embedded_docs" / "docs" / "KSampler" / "en.md", "# KSampler")
    python = write(tmp_path / "venv" / "bin" / "python", "#!/bin/sh\nexit 1\n")
    python.chmod(0o755)
    comfyui = tmp_path / "comfyui"
    nodes = comfyui / "custom_nodes"
    write(nodes / "packed" / "__init__.py", 'WEB_DIRECTORY = "./front/scripts"\n1/0\n')
    write(nodes / "packed" / "front" / "scripts" / "ui.js", "packed")
    write(nodes / "packed" / "front" / "scripts" / "style.css", "css")
    write(nodes / "packed" / "example_workflows" / "first.json", "{}")
    write(nodes / "packed" / "subgraphs" / "Mine.json", '{"mine": 1}')
    write(nodes / "computed" / "__init__.py", "WEB_DIRECTORY = make()\n")
    write(nodes / "computed" / "deep" / "er" / "lib" / "ui.js", "computed")
    write(nodes / "computed" / "secret.py", "secret")
    write(nodes / "dir-name" / "__init__.py", "def broken(:")
    write(
        nodes / "dir-name" / "pyproject.toml",
        '[project]\nname = "declared name"\n[tool.comfy]\nweb = "dist"\n',
    )
    write(nodes / "dir-name" / "dist" / "ui.js", "declared")
    write(comfyui / "blueprints" / "Blur.json", '{"blur": "ü"}')
    write(tmp_path / "secret.json", "secret")
    return comfyui


def spec_of(installation: Path, *args: str) -> DeploymentSpec:
    """A deployment of that directory."""
    python = str(installation.parent / "venv" / "bin" / "python")
    engine = EngineSpec(EngineKind.COMFYUI, str(installation), python, args)
    return DeploymentSpec(engine=engine)


ANSWERS: dict[str, object] = {
    "/system_stats": {"system": {"python_version": f"{VERSION}.7 (main)"}},
    "/extensions": [
        "/extensions/core/clip.js",
        "/extensions/packed/ui.js",
        "/extensions/computed/lib/ui.js",
        "/extensions/declared%20name/ui.js",
        "/extensions/vanished/ui.js",
        "nonsense",
    ],
    "/global_subgraphs": BLUEPRINTS,
}


@asynccontextmanager
async def page_of(
    home: Path, spec: DeploymentSpec, version: str = "0.3.64"
) -> AsyncIterator[FileDoor]:
    """The door of a deployment with that page."""
    async with file_door(home, version=version, spec=spec, answers=ANSWERS) as door:
        yield door


async def test_the_page_and_its_files(home: Path, installation: Path) -> None:
    expected = {
        "/": ("<title>ComfyUI</title>", "text/html", "no-cache"),
        "/assets/app.js": ("import './other.js'", "text/javascript", "no-cache"),
        "/assets/look.css": ("body {}", "text/css", "no-cache"),
        "/assets/logo.png": ("png", "image/png", "public, max-age=86400"),
        "/extensions/core/clip.js": ("core", "text/javascript", "no-cache"),
        "/extensions/packed/ui.js": ("packed", "text/javascript", "no-cache"),
        "/extensions/packed/style.css": ("css", "text/css", "no-cache"),
        "/extensions/computed/lib/ui.js": ("computed", "text/javascript", "no-cache"),
        "/extensions/declared%20name/ui.js": ("declared", "text/javascript", "no-cache"),
        "/templates/index.json": ("[]", "application/json", "no-cache"),
        "/templates/a-1.webp": ("webp", "image/webp", "public, max-age=86400"),
        "/docs/KSampler/en.md": ("# KSampler", "text/markdown", None),
        "/api/workflow_templates/packed/first.json": ("{}", "application/json", None),
    }
    async with page_of(home, spec_of(installation)) as door:
        for path, (body, content_type, kept) in expected.items():
            answer = await door.get(path)
            assert (answer.status, answer.body.decode()) == (200, body), path
            assert answer.headers["content-type"] == content_type
            assert answer.headers.get("cache-control") == kept
        front = await door.get("/")
        assert (front.headers["pragma"], front.headers["expires"]) == ("no-cache", "0")
        again = await door.get("/assets/app.js", If_None_Match=front.headers["etag"])
        assert again.status == 200
        known = (await door.get("/assets/app.js")).headers["etag"]
        assert (await door.get("/assets/app.js", If_None_Match=known)).status == 304
        assert (await door.ask("HEAD", "/assets/app.js")).headers["content-length"] == "19"
        assert (await door.ask("POST", "/assets/app.js")).status == 404


async def test_under_a_path_absolute_imports_stay_in_the_deployment(
    home: Path, installation: Path
) -> None:
    script = (
        "import { app } from \"/scripts/app.js\"\nimport '/extensions/core/clip.js';\n"
        'const lazy = import( "/lib/x.js");\nimport "./near.js"\n'
        'import far from "https://x.org/scripts/a.js"\nconst from = "/scripts/text.js";\n'
    )
    write(installation / "custom_nodes" / "packed" / "front" / "scripts" / "ui.js", script)
    async with page_of(home, spec_of(installation)) as door:
        assert (await door.get("/extensions/packed/ui.js")).body.decode() == script
        under = await door.get("/d/dp_1/extensions/packed/ui.js")
        assert under.body.decode() == (
            'import { app } from "/d/dp_1/scripts/app.js"\n'
            "import '/d/dp_1/extensions/core/clip.js';\n"
            'const lazy = import( "/d/dp_1/lib/x.js");\nimport "./near.js"\n'
            'import far from "https://x.org/scripts/a.js"\nconst from = "/scripts/text.js";\n'
        )
        assert under.headers["content-type"] == "text/javascript"
        assert (await door.get("/d/dp_1/assets/app.js")).body == b"import './other.js'"


async def test_newer_versions_keep_no_copies(home: Path, installation: Path) -> None:
    async with page_of(home, spec_of(installation), "0.33.0") as door:
        front = await door.get("/")
        assert front.headers["cache-control"] == "no-store, must-revalidate"
        assert (await door.get("/assets/app.js")).headers["cache-control"] == "no-store"


async def test_nothing_else_of_the_installation_is_given(
    home: Path, installation: Path, tmp_path: Path
) -> None:
    page = find_web_roots(spec_of(installation), Snapshot(b"{}", {})).page
    assert page is not None
    (page / "linked.json").symlink_to(tmp_path / "secret.json")
    async with page_of(home, spec_of(installation)) as door:
        for path in (
            "/assets",
            "/assets/",
            "/nope.js",
            "/linked.json",
            "/extensions/vanished/ui.js",
            "/extensions/packed/../../../secret.json",
            "/extensions/packed/..%2F__init__.py",
            "/extensions/computed/../secret.py",
            "/extensions/computed/",
            "/api/workflow_templates/packed/../__init__.py",
            "/api/workflow_templates/../secret.json",
            "/templates/..%2F..%2F..%2F..%2F..%2F..%2Fsecret.json",
            "/%2e%2e/%2e%2e/index.html",
            "//etc/passwd",
            "/%00",
        ):
            answer = await door.get(path)
            assert (answer.status, answer.body) == (404, b""), path


async def test_a_root_that_was_swapped_for_a_link_is_not_read(
    home: Path, installation: Path, tmp_path: Path
) -> None:
    outside = write(tmp_path / "outside" / "ui.js", "outside")
    async with page_of(home, spec_of(installation)) as door:
        assert (await door.get("/extensions/packed/ui.js")).status == 200
        scripts = installation / "custom_nodes" / "packed" / "front" / "scripts"
        shutil.rmtree(scripts)
        scripts.symlink_to(outside.parent)
        assert (await door.get("/extensions/packed/ui.js")).status == 404


async def test_blueprints(home: Path, installation: Path) -> None:
    async with page_of(home, spec_of(installation)) as door:
        found = await door.get("/api/global_subgraphs/id-1")
        assert found.json() == {**BLUEPRINTS["id-1"], "data": '{"blur": "ü"}'}
        assert (await door.get("/global_subgraphs/id-2")).json()["data"] == '{"mine": 1}'
        for path in ("id-3", "nope"):
            assert (await door.get(f"/global_subgraphs/{path}")).body == b"null"


def test_where_the_page_is_looked_for(installation: Path, tmp_path: Path) -> None:
    snapshot = Snapshot(b"{}", {})
    told = write(tmp_path / "told" / "index.html").parent
    custom = installation / "web_custom_versions" / "Owner_Front" / "1.2.3"
    write(custom / "index.html")
    write(installation / "web" / "index.html")

    def page(*args: str) -> Path | None:
        return find_web_roots(spec_of(installation, *args), snapshot).page

    packaged = page()
    assert packaged is not None
    assert packaged.parent.name == "comfyui_frontend_package"
    assert page("--front-end-root", str(told)) == told
    assert page(f"--front-end-root={told}") == told
    assert page("--front-end-version", "Owner/Front@v1.2.3") == custom
    assert page("--front-end-version", "Owner/Front@9.9.9") == packaged
    shutil.rmtree(packaged.parent)
    assert page() == installation / "web"
    shutil.rmtree(installation / "web")
    assert page() is None


def test_packages_from_pythonpath_and_of_the_engines_own_version(installation: Path) -> None:
    stats = {"/system_stats": msgspec.Raw(b'{"system": {"python_version": "3.99.1 (main)"}}')}
    spec = spec_of(installation)
    assert find_web_roots(spec, Snapshot(b"{}", stats)).page is None
    library = installation.parent / "venv" / "lib" / f"python{VERSION}" / "site-packages"
    engine = replace(spec.engine, env={"PYTHONPATH": f"/nowhere:{library}"})
    found = find_web_roots(replace(spec, engine=engine), Snapshot(b"{}", stats))
    assert found.page == library / "comfyui_frontend_package" / "static"


async def test_without_a_page_a_small_one_says_why(home: Path, installation: Path) -> None:
    async with file_door(home) as door:
        answer = await door.get("/")
        assert answer.status == 200
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        assert b"embedded" in answer.body
        assert b"no editor" in answer.body
        assert (await door.get("/assets/app.js")).status == 404


async def test_a_missing_package_is_named(home: Path, installation: Path) -> None:
    shutil.rmtree(installation.parent / "venv" / "lib")
    async with page_of(home, spec_of(installation)) as door:
        answer = await door.get("/")
        assert b"comfyui_frontend_package" in answer.body
        assert str(installation.parent / "venv").encode() in answer.body
