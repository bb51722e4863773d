"""Where ComfyUI's web page lies on disk, found without running anything of the installation.

A replica may change what lies in its installation, so the gateway only reads there. ComfyUI takes
its page from packages of its own Python and from directories of custom nodes.
"""

import ast
import re
import shutil
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

from comfyserve.domain.spec import DeploymentSpec, EngineKind
from comfyserve.runtime.engines import find_python
from comfyserve.runtime.snapshot import Snapshot

_LIBRARIES = (
    "lib/python{version}/site-packages",
    "lib64/python{version}/site-packages",
    "local/lib/python{version}/dist-packages",
    "lib/python3/dist-packages",
)
_FRONTEND_VERSION = re.compile(r"(?P<owner>[\w-]+)/(?P<repo>[\w.-]+)@v?(?P<version>\d[\w.-]*)")
_EXAMPLES = ("example_workflows", "example", "examples", "workflow", "workflows")
_WEB_NAMES = ("web", "js", "web/js", "dist")
_MAX_DIRECTORIES = 500


@dataclass(frozen=True, slots=True)
class WebRoots:
    """Directories, all of them resolved. `missing` says why there is no page."""

    page: Path | None = None
    missing: str = ""
    extensions: Mapping[str, Path] = field(default_factory=dict)
    packs: Mapping[str, Path] = field(default_factory=dict)
    templates: tuple[Path, ...] = ()
    docs: tuple[Path, ...] = ()
    blueprints: tuple[Path, ...] = ()

    def examples(self, pack: str) -> tuple[Path, ...]:
        """The example workflows of a custom node pack."""
        directory = self.packs.get(pack)
        return () if directory is None else tuple(directory / name for name in _EXAMPLES)


def find_web_roots(spec: DeploymentSpec, snapshot: Snapshot) -> WebRoots:
    """Look for everything that the page is made of. Blocks; once for each revision is enough."""
    if spec.engine.kind is EngineKind.EMBEDDED:
        return WebRoots(missing="the embedded engine has no editor of its own")
    if spec.engine.comfyui_dir is None:
        return WebRoots(missing="it is not known where the ComfyUI of this command lies")
    directory = Path(spec.engine.comfyui_dir or "").absolute()
    libraries = tuple(_libraries(spec, snapshot))
    packs = _packs(directory, snapshot)
    page = _find_page(spec.engine.args, directory, libraries)
    return WebRoots(
        page=page,
        missing="" if page else f"there is no comfyui_frontend_package for {find_python(spec)}",
        extensions=_extensions(packs, snapshot),
        packs=packs,
        templates=_existing(
            package / "templates"
            for library in libraries
            for package in sorted(library.glob("comfyui_workflow_templates*"))
        ),
        docs=_existing(library / "comfyui_embedded_docs" / "docs" for library in libraries),
        blueprints=_existing(
            [
                directory / "blueprints",
                *(library / "comfyui_subgraph_blueprints/blueprints" for library in libraries),
            ]
        ),
    )


def _find_page(args: Sequence[str], directory: Path, libraries: Iterable[Path]) -> Path | None:
    """As ComfyUI looks: the root it is told, the version it is told, its package, its own copy."""
    told, version = _option(args, "--front-end-root"), _option(args, "--front-end-version")
    candidates = [directory / told] if told else []
    if version and (match := _FRONTEND_VERSION.fullmatch(version)):
        custom = directory / "web_custom_versions" / f"{match['owner']}_{match['repo']}"
        candidates.append(custom / match["version"])
    candidates += [library / "comfyui_frontend_package" / "static" for library in libraries]
    candidates.append(directory / "web")
    return next((path.resolve() for path in candidates if (path / "index.html").is_file()), None)


def _option(args: Sequence[str], name: str) -> str | None:
    for position, arg in enumerate(args):
        if arg == name and position + 1 < len(args):
            return args[position + 1]
        if arg.startswith(f"{name}="):
            return arg.partition("=")[2]
    return None


def _libraries(spec: DeploymentSpec, snapshot: Snapshot) -> Iterator[Path]:
    """Directories from which that Python imports packages."""
    yield from (Path(path) for path in spec.engine.env.get("PYTHONPATH", "").split(":") if path)
    found = shutil.which(find_python(spec))
    if found is None:
        return
    python = Path(found).absolute()
    # A virtual environment is found by the path of its own link, its base by where that leads.
    for prefix in dict.fromkeys((python.parent.parent, python.resolve().parent.parent)):
        for pattern in _LIBRARIES:
            yield from prefix.glob(pattern.format(version=_python_version(snapshot)))
    yield from Path.home().glob(f".local/{_LIBRARIES[0].format(version=_python_version(snapshot))}")


def _python_version(snapshot: Snapshot) -> str:
    stats = snapshot.answer("/system_stats")
    system = stats.get("system") if isinstance(stats, dict) else None
    told = str(system.get("python_version", "")) if isinstance(system, dict) else ""
    found = re.match(r"\d+\.\d+", told)
    return found[0] if found else "3*"


def _packs(directory: Path, snapshot: Snapshot) -> Mapping[str, Path]:
    """Custom node packs by the name of their directory."""
    folders = snapshot.folder_paths.get("custom_nodes") or (str(directory / "custom_nodes"),)
    packs: dict[str, Path] = {}
    for folder in folders:
        for path in sorted(Path(folder).glob("*/")):
            packs.setdefault(path.name, path.resolve())
    return packs


def _extensions(packs: Mapping[str, Path], snapshot: Snapshot) -> Mapping[str, Path]:
    """The web directory of each pack that offers scripts, by the name in its addresses."""
    listed = snapshot.answer("/extensions")
    scripts: dict[str, list[str]] = {}
    for address in listed if isinstance(listed, list) else ():
        _, root, name, rest = (*str(address).split("/", 3), "", "", "")[:4]
        if root == "extensions" and rest:
            scripts.setdefault(unquote(name), []).append(rest)
    declared = _declared(packs)
    found = {name: _web_directory(name, files, packs, declared) for name, files in scripts.items()}
    return {name: path for name, path in found.items() if path is not None}


def _web_directory(
    name: str, files: Sequence[str], packs: Mapping[str, Path], declared: Mapping[str, Path]
) -> Path | None:
    """The directory that has all of a pack's scripts, where its code says or wherever they are."""
    pack = packs.get(name)
    candidates = [declared[name]] if name in declared else []
    if pack is not None:
        candidates += [*_web_directory_in_code(pack), *(pack / web for web in _WEB_NAMES)]
        candidates += _directories(pack)
    for path in candidates:
        if all((path / file).is_file() for file in files):
            return path.resolve()
    return None


def _web_directory_in_code(pack: Path) -> Iterator[Path]:
    """`WEB_DIRECTORY = "..."` of a pack, read without running it."""
    try:
        tree = ast.parse((pack / "__init__.py").read_text("utf-8", "replace"))
    except (OSError, SyntaxError, ValueError, RecursionError):
        return
    for statement in tree.body:
        match statement:
            case ast.Assign(targets=[ast.Name(id="WEB_DIRECTORY")], value=ast.Constant(str(path))):
                yield pack / path
            case _:
                continue


def _declared(packs: Mapping[str, Path]) -> Mapping[str, Path]:
    """Web directories that packs declare in `pyproject.toml`, by project name."""
    declared: dict[str, Path] = {}
    for pack in packs.values():
        try:
            project = tomllib.loads((pack / "pyproject.toml").read_text("utf-8", "replace"))
        except (OSError, tomllib.TOMLDecodeError):
            continue
        name = project.get("project", {}).get("name")
        web = project.get("tool", {}).get("comfy", {}).get("web")
        if isinstance(name, str) and isinstance(web, str):
            declared[name] = pack / web
    return declared


def _directories(pack: Path) -> Iterator[Path]:
    """The pack's directories, nearest first, up to a bound."""
    ahead = [pack]
    for path in ahead:
        yield path
        if len(ahead) < _MAX_DIRECTORIES:
            ahead += [
                step
                for step in sorted(path.glob("[!._]*/"))
                if step.name != "node_modules" and not step.is_symlink()
            ]


def _existing(paths: Iterable[Path]) -> tuple[Path, ...]:
    return tuple(path.resolve() for path in paths if path.is_dir())
