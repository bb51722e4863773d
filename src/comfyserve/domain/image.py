"""What an environment is made of: an image's spec, its checks, its canonical form and digest."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from comfyserve.domain.errors import InvalidInput
from comfyserve.domain.image_json import read_step, write_step
from comfyserve.domain.image_steps import ComfyUIDir, ComfyUISource, Env, ImageStep

_PYTHON = re.compile(r"3(?:\.\d{1,2}(?:\.\d{1,2})?)?")
_MOST_STEPS = 256
_KEYS = frozenset({"python_version", "steps", "base_image", "dockerfile"})


@dataclass(frozen=True, slots=True)
class ImageSpec:
    """An environment recipe: steps in order. Its digest is its identity.

    `python_version` None is the Python that the builder itself runs on. `base_image` and
    `dockerfile` are for container engines; the embedded builder refuses them.
    """

    python_version: str | None = None
    steps: tuple[ImageStep, ...] = ()
    base_image: str | None = None
    dockerfile: str | None = None

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical form, in hex."""
        return hashlib.sha256(self.canonical().encode()).hexdigest()

    @property
    def needs_container_engine(self) -> bool:
        """Whether only a container engine can build it."""
        return self.base_image is not None or self.dockerfile is not None

    def canonical(self) -> str:
        """JSON in which equal specs are equal bytes."""
        return json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"), ensure_ascii=True)

    def to_json(self) -> dict[str, object]:
        """The spec as a JSON object; what was not said is left out."""
        answer: dict[str, object] = {"steps": [write_step(step) for step in self.steps]}
        for name in ("python_version", "base_image", "dockerfile"):
            if (value := getattr(self, name)) is not None:
                answer[name] = value
        return answer

    def check(self) -> None:
        """Raise InvalidInput for the first thing that makes no sense."""
        if self.python_version is not None and not _PYTHON.fullmatch(self.python_version):
            raise _invalid(
                f"python_version '{self.python_version[:40]}' is not a Python version; give '3.11', "
                "or leave it out for the Python of the server"
            )
        if len(self.steps) > _MOST_STEPS:
            raise _invalid(f"an image has {_MOST_STEPS} steps at most, not {len(self.steps)}")
        if self.base_image is not None and self.dockerfile is not None:
            raise _invalid("give either a base image or a Dockerfile, not both")
        for step in self.steps:
            step.check()
        self._check_comfyui()

    def _check_comfyui(self) -> None:
        whole = [step for step in self.steps if isinstance(step, ComfyUIDir | ComfyUISource)]
        if len(whole) > 1:
            raise _invalid("an image has one ComfyUI; it names several")
        if any(isinstance(step, ComfyUIDir) for step in whole):
            more = [s.kind for s in self.steps if not isinstance(s, ComfyUIDir | Env)]
            if more:
                raise _invalid(
                    "Image.from_comfyui_dir takes an installation as it is; only with_envs can "
                    f"follow, not {more[0]}. To build upon a copy of it use "
                    "Image.comfyui(source=directory)"
                )


def normal_python_version(text: str | None) -> str | None:
    """`python3.11` and `3.11` are the same; `python3`, `3` and None are the builder's own."""
    bare = (text or "").removeprefix("python").strip()
    return None if bare in {"", "3"} else bare


def read_image(document: object) -> ImageSpec:
    """The spec that a JSON object says. Raises InvalidInput naming what is wrong."""
    if not isinstance(document, Mapping):
        raise _invalid(f"an image is a JSON object, not {type(document).__name__}")
    if unknown := sorted(set(document) - _KEYS):
        raise _invalid(f"unknown field '{unknown[0]}'; there is: {', '.join(sorted(_KEYS))}")
    steps = document.get("steps", [])
    if not isinstance(steps, list):
        raise _invalid(f"steps must be a list, not {type(steps).__name__}")
    texts = {name: document.get(name) for name in ("python_version", "base_image", "dockerfile")}
    for name, value in texts.items():
        if value is not None and not isinstance(value, str):
            raise _invalid(f"{name} must be text, not {type(value).__name__}")
    spec = ImageSpec(
        python_version=normal_python_version(texts["python_version"]),
        steps=tuple(read_step(step, number) for number, step in enumerate(steps, 1)),
        base_image=texts["base_image"],
        dockerfile=texts["dockerfile"],
    )
    spec.check()
    return spec


def _invalid(message: str) -> InvalidInput:
    return InvalidInput(message, code="invalid_image")
