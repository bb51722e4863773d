"""Image steps from and to JSON, with messages that name the step and the field."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from comfyserve.domain.errors import InvalidInput
from comfyserve.domain.image_sources import ModelFile
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

_KINDS: Mapping[str, type[ImageStep]] = {
    kind.kind: kind
    for kind in (
        Packages, Command, Env, BuildSecrets, LocalFiles, CustomNodes, Models, ComfyUISource,
        ComfyUIDir,
    )
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads the fields of one step, and says which step it was when one is wrong."""

    where: str
    document: Mapping[str, Any] = field(default_factory=dict)

    def value(self, name: str) -> Any:  # noqa: ANN401 - the JSON border
        """One field, in the form in which its class holds it."""
        value = self.document[name]
        match name:
            case "values":
                return dict(self._texts_of(name, value))
            case "files":
                return tuple(self._model(item) for item in self._list(name, value))
            case "packages" | "names" | "nodes":
                return tuple(self._text(name, item) for item in self._list(name, value))
            case _:
                return value if value is None else self._text(name, value)

    def _model(self, item: object) -> ModelFile:
        if not isinstance(item, Mapping):
            raise self.wrong("each of files must be an object with source and folder")
        known = {f.name for f in fields(ModelFile)}
        if unknown := sorted(set(item) - known):
            raise self.wrong(f"a model has no field '{unknown[0]}'; it has {', '.join(known)}")
        texts = dict(self._texts_of("files", {k: v for k, v in item.items() if v is not None}))
        if not {"source", "folder"} <= set(texts):
            raise self.wrong("each of files needs source and folder")
        return ModelFile(**texts)

    def _list(self, name: str, value: object) -> list[Any]:
        if not isinstance(value, list):
            raise self.wrong(f"{name} must be a list, not {type(value).__name__}")
        return value

    def _text(self, name: str, value: object) -> str:
        if not isinstance(value, str):
            raise self.wrong(f"{name} must be text, not {type(value).__name__}")
        return value

    def _texts_of(self, name: str, value: object) -> Mapping[str, str]:
        if not isinstance(value, Mapping):
            raise self.wrong(f"{name} must be an object, not {type(value).__name__}")
        return {str(key): self._text(f"{name}.{key}", item) for key, item in value.items()}

    def wrong(self, message: str) -> InvalidInput:
        """What to raise."""
        return InvalidInput(f"{self.where}: {message}", code="invalid_image")


def read_step(document: object, number: int) -> ImageStep:
    """The step that a JSON object says. Raises InvalidInput."""
    reader = _Reader(f"step {number}")
    if not isinstance(document, Mapping):
        raise reader.wrong(f"a step is a JSON object, not {type(document).__name__}")
    kind = _KINDS.get(str(document.get("kind")))
    if kind is None:
        raise reader.wrong(
            f"unknown kind '{str(document.get('kind'))[:40]}'; there is: {', '.join(_KINDS)}"
        )
    reader = _Reader(f"step {number} ({kind.kind})", document)
    names = [item.name for item in fields(kind)]
    if unknown := sorted(set(document) - {"kind", *names}):
        raise reader.wrong(f"unknown field '{unknown[0]}'; there is: {', '.join(names)}")
    try:
        return kind(**{name: reader.value(name) for name in names if name in document})
    except TypeError:
        missing = [name for name in names if name not in document]
        raise reader.wrong(f"it needs {', '.join(missing)}") from None


def write_step(step: ImageStep) -> dict[str, object]:
    """The step as a JSON object; what was not said is left out."""
    answer: dict[str, object] = {"kind": step.kind}
    for item in fields(step):
        value = getattr(step, item.name)
        if item.name == "files":
            value = [file.to_json() for file in value]
        elif isinstance(value, tuple):
            value = list(value)
        elif isinstance(value, Mapping):
            value = dict(value)
        if value is not None:
            answer[item.name] = value
    return answer
