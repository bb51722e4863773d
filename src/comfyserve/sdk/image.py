"""`Image`: what a deployment's environment is made of, as a chain of calls."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self, TypeVar

from comfyserve.domain.errors import InvalidInput
from comfyserve.domain.image import ImageSpec, normal_python_version
from comfyserve.domain.image_sources import parse_model
from comfyserve.domain.image_steps import (
    BuildSecrets,
    ComfyUIDir,
    ComfyUISource,
    Command,
    CustomNodes,
    Env,
    ImageStep,
    LocalFiles,
    Models,
    Packages,
)
from comfyserve.sdk.archive import Archive, check_path, join

Texts = str | Sequence[str]


@dataclass(frozen=True, slots=True)
class _Requirements:
    """A requirements file, read when the image is compiled."""

    path: Path

    def settle(self) -> Packages:
        """The requirements in it."""
        return Packages(tuple(_read_requirements(self.path, frozenset())))


@dataclass(frozen=True, slots=True)
class _LocalPath:
    """Local files, read when the image is compiled."""

    archive: Archive
    target: str


@dataclass(frozen=True, slots=True)
class CompiledImage:
    """A spec, and the local files that it names by digest and that the server must be given."""

    spec: ImageSpec
    archives: Mapping[str, Archive] = field(default_factory=dict)


class Image:
    """An environment recipe: an immutable chain, in which each call gives a new image.

    Nothing is built or read from disk until the image is deployed (`Pod`, `@asgi`,
    `comfyserve build`, `comfyserve deploy --image`); a path that is not there is refused at once.

        image = (
            Image.comfyui(version="v0.3.64")
            .add_custom_nodes(["https://example.com/me/pack.git@v1.2"])
            .add_models(["hf://owner/repo/model.safetensors -> checkpoints"])
        )
    """

    __slots__ = ("_recipe",)

    def __init__(
        self,
        python_version: str | None = None,
        python_packages: Texts = (),
        commands: Texts = (),
        env_vars: Mapping[str, str] | Texts = (),
        base_image: str | None = None,
    ) -> None:
        parts: list[_Part] = []
        if python_packages:
            parts.append(_packages(python_packages))
        parts += [_checked(Command(line)) for line in join(commands)]
        if env_vars:
            parts.append(_checked(Env(_variables(env_vars))))
        version = _python(python_version)
        given = _call(
            "Image",
            python_version=python_version,
            python_packages=python_packages,
            commands=commands,
            env_vars=env_vars,
            base_image=base_image,
        )
        self._recipe = _Recipe(version, tuple(parts), base_image, None, (given,))

    @classmethod
    def comfyui(
        cls,
        version: str | None = None,
        source: str | Path | None = None,
        python_version: str | None = None,
    ) -> Self:
        """ComfyUI at a tag, with its requirements, and torch chosen for the host's GPU or its CPU.

        `source` is another git repository, or a directory to copy: `Image.comfyui("v0.3.64")`.
        """
        bare = None if source is None else str(source)
        if bare is not None and "://" not in bare and not bare.startswith("git@"):
            bare = str(check_path(bare, "Image.comfyui"))
        step = _checked(ComfyUISource(version, bare))
        call = _call("comfyui", version, source=source, python_version=python_version)
        version = _python(python_version)
        return cls._of(_Recipe(version, (step,), calls=(f"Image.{call}",)))

    @classmethod
    def from_comfyui_dir(cls, path: str | Path, python: str | None = None) -> Self:
        """A ComfyUI installation as it is, on this machine: `Image.from_comfyui_dir("~/ComfyUI")`.

        `python` is the interpreter that has its requirements; else the virtual environment in it or
        beside it is taken.
        """
        directory = check_path(path, "Image.from_comfyui_dir")
        if not (directory / "main.py").is_file():
            raise InvalidInput(
                f"Image.from_comfyui_dir: '{directory}' has no main.py; give the directory of "
                "ComfyUI itself",
                code="not_comfyui",
            )
        step = _checked(ComfyUIDir(str(directory), python))
        call = _call("Image.from_comfyui_dir", path, python=python)
        return cls._of(_Recipe(None, (step,), calls=(call,)))

    @classmethod
    def from_dockerfile(cls, path: str | Path) -> Self:
        """What a Dockerfile says, for container engines only; the embedded builder refuses it."""
        file = check_path(path, "Image.from_dockerfile")
        return cls._of(_Recipe(dockerfile=file, calls=(_call("Image.from_dockerfile", path),)))

    def add_python_packages(self, packages: Texts | Path) -> Self:
        """Install packages: a list of requirements, or the path of a requirements file.

        `image.add_python_packages(["numpy==2.1.0", "pillow"])`
        """
        return self._add(_packages(packages), _call("add_python_packages", packages))

    def add_commands(self, commands: Texts) -> Self:
        """Run shell commands in the workspace, in order: `image.add_commands(["git --version"])`."""
        image = self
        for line in join(commands):
            image = image._add(_checked(Command(line)), _call("add_commands", [line]))
        return image

    def with_envs(self, envs: Mapping[str, str] | Texts) -> Self:
        """Set variables for later steps and for what runs: `image.with_envs({"HF_HUB_OFFLINE": "1"})`."""
        values = _variables(envs)
        return self._add(_checked(Env(values)), _call("with_envs", sorted(values)))

    def with_secrets(self, names: Texts) -> Self:
        """Give later steps secrets, by name, in their environment; no layer or log keeps a value.

        `image.with_secrets(["HF_TOKEN"])`, stored before with `comfyserve secret create`.
        """
        return self._add(_checked(BuildSecrets(join(names))), _call("with_secrets", names))

    def add_local_path(
        self, path: str | Path, target: str | None = None, ignore: Texts = ()
    ) -> Self:
        """Copy a local file or directory into the workspace: `image.add_local_path("./nodes")`.

        It is called `target` there, by default as it is called here. `ignore` are shell patterns.
        """
        source = check_path(path, "add_local_path")
        target = (target or source.name).removeprefix("./")
        if target.endswith("/") and not source.is_dir():
            target += source.name
        target = target.rstrip("/")
        _checked(LocalFiles("0" * 64, target))
        part = _LocalPath(Archive(source, join(ignore)), target)
        return self._add(part, _call("add_local_path", path, target=target))

    def add_custom_nodes(self, nodes: Texts) -> Self:
        """Install custom node packs with their requirements: registry ids, or git URLs `@ref`.

        `image.add_custom_nodes(["comfyui-impact-pack@8.0", "https://example.com/me/pack@v1"])`
        """
        step = _checked(CustomNodes(join(nodes)))
        return self._add(step, _call("add_custom_nodes", nodes))

    def add_models(self, models: Texts, secret: str | None = None) -> Self:
        """Fetch model files, once for each content: `SOURCE[@SHA256] -> FOLDER[/NAME]`.

        A source is an https URL or `hf://OWNER/REPO/FILE`; `secret` names the secret whose value is
        sent as a bearer credential (Civitai, private repositories).

            image.add_models(["hf://owner/repo/flux.safetensors -> checkpoints"])
        """
        files = tuple(parse_model(text, secret) for text in join(models))
        return self._add(_checked(Models(files)), _call("add_models", models))

    def compile(self) -> CompiledImage:
        """The spec, and the local files that belong to it. Reads them. Raises InvalidInput."""
        archives: dict[str, Archive] = {}
        steps: list[ImageStep] = []
        for part in self._recipe.parts:
            match part:
                case _Requirements():
                    steps.append(_checked(part.settle()))
                case _LocalPath():
                    archives[digest := part.archive.digest] = part.archive
                    steps.append(LocalFiles(digest, part.target))
                case _:
                    steps.append(part)
        recipe = self._recipe
        dockerfile = None if recipe.dockerfile is None else _read(recipe.dockerfile)
        spec = ImageSpec(recipe.python_version, tuple(steps), recipe.base_image, dockerfile)
        spec.check()
        return CompiledImage(spec, archives)

    def __repr__(self) -> str:
        return ".".join(self._recipe.calls)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Image):
            return NotImplemented
        return replace(self._recipe, calls=()) == replace(other._recipe, calls=())

    def __hash__(self) -> int:
        return hash((self._recipe.python_version, len(self._recipe.parts)))

    def _add(self, part: "_Part", call: str) -> Self:
        recipe = self._recipe
        parts, calls = (*recipe.parts, part), (*recipe.calls, call)
        return self._of(replace(recipe, parts=parts, calls=calls))

    @classmethod
    def _of(cls, recipe: "_Recipe") -> Self:
        image = cls.__new__(cls)
        image._recipe = recipe  # noqa: SLF001 - its own
        return image


_Part = ImageStep | _Requirements | _LocalPath
_Step = TypeVar("_Step", bound=ImageStep)


@dataclass(frozen=True, slots=True)
class _Recipe:
    """What the chain has said so far, and how it said it."""

    python_version: str | None = None
    parts: tuple[_Part, ...] = ()
    base_image: str | None = None
    dockerfile: Path | None = None
    calls: tuple[str, ...] = ()


def _python(text: str | None) -> str | None:
    version = normal_python_version(text)
    ImageSpec(version).check()
    return version


def _checked(step: _Step) -> _Step:
    step.check()
    return step


def _call(name: str, *values: object, **named: object) -> str:
    """A call as one would write it; what was left at its default is left out."""
    shown = [repr(_plain(value)) for value in values if value not in (None, ())]
    shown += [f"{key}={_plain(value)!r}" for key, value in named.items() if value not in (None, ())]
    return f"{name}({', '.join(shown)})"


def _plain(value: object) -> object:
    if isinstance(value, Path):
        return str(value)
    return list(value) if isinstance(value, tuple) else value


def _packages(packages: Texts | Path) -> Packages | _Requirements:
    if isinstance(packages, str | Path):
        return _Requirements(check_path(packages, "add_python_packages"))
    return _checked(Packages(tuple(packages)))


def _variables(envs: Mapping[str, str] | Texts) -> Mapping[str, str]:
    if isinstance(envs, Mapping):
        return {str(name): str(value) for name, value in envs.items()}
    values = {}
    for text in join(envs):
        name, sign, value = text.partition("=")
        if not sign:
            raise InvalidInput(
                f"with_envs: '{text[:80]}' has no '='; write NAME=VALUE", code="invalid_image"
            )
        values[name] = value
    return values


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"'{path}' cannot be read: {error}", code="path_not_readable") from error


def _read_requirements(path: Path, within: frozenset[Path]) -> Iterator[str]:
    """The lines that say something, with those of files that are named by `-r`."""
    if path in within:
        raise InvalidInput(f"'{path}' includes itself", code="invalid_image")
    for line in _read(path).replace("\\\n", " ").splitlines():
        bare = re.sub(r"(^|\s)#.*$", "", line).strip()
        if found := re.fullmatch(r"(?:-r|--requirement)[\s=]*(\S+)", bare):
            inner = check_path(path.parent / found[1], f"add_python_packages: {path}")
            yield from _read_requirements(inner, within | {path})
        elif bare:
            yield bare
