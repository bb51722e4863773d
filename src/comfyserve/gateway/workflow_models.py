"""The JSON of `workflows:check`, as pydantic models: the OpenAPI is read from these."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ProblemModel(_Model):
    """One finding: where, what, and how to mend it."""

    code: str
    severity: str
    node_id: str | None
    node_title: str | None
    class_type: str | None
    input: str | None
    message: str
    details: str
    given: Any
    allowed: str
    nearest: list[str]
    hint: str


class VerdictModel(_Model):
    """What ComfyUI would answer to the prompt."""

    ok: bool
    partial: bool = Field(description="Some outputs would run, others would be dropped.")
    outputs: list[str] = Field(description="The output nodes that would run.")
    undecided: list[str] = Field(description="Nodes whose inputs only the engine can judge.")


class PlaceModel(_Model):
    """An input of a node of the prompt."""

    node: str
    input: str


class ModelFileModel(_Model):
    """A model file that the workflow names."""

    name: str
    directory: str | None
    url: str | None
    sha256: str | None
    size_bytes: int | None
    present: bool | None
    used_by: list[PlaceModel]


class NodePackModel(_Model):
    """A pack of custom nodes; without an id where nobody knows which brings the classes."""

    id: str | None
    version: str | None
    classes: list[str]
    present: bool | None


class InputFileModel(_Model):
    """An input file that the workflow names."""

    name: str
    type: str
    node: str
    input: str
    present: bool | None


class FixModel(_Model):
    """How to get one missing thing."""

    what: str
    command: str | None
    sdk: str | None


class RequirementsModel(_Model):
    """What the workflow needs, and what of it the deployment lacks."""

    complete: bool
    comfyui_version: str | None
    download_bytes: int
    models_of_unknown_size: int
    models: list[ModelFileModel]
    packs: list[NodePackModel]
    files: list[InputFileModel]
    fixes: list[FixModel]


class InterfaceInputModel(_Model):
    """One named input; the limits are there where there are any."""

    name: str
    type: str
    label: str
    description: str
    role: str | None
    default: Any
    required: bool
    sets: list[PlaceModel]
    min: int | float | None = None
    max: int | float | None = None
    step: int | float | None = None
    choices: list[Any] | None = None
    multiline: bool | None = None


class InterfaceOutputModel(_Model):
    """One named output."""

    name: str
    type: str
    label: str
    node: str


class InterfaceModel(_Model):
    """The typed inputs and outputs; can be saved, edited and handed in."""

    comfyserve_interface: int
    source: str
    inputs: list[InterfaceInputModel]
    outputs: list[InterfaceOutputModel]


class WorkflowCheckModel(_Model):
    """All that can be said about a workflow. `format` is null where it is no workflow."""

    format: str | None
    container: str | None = Field(description="The kind of file it was embedded in.")
    flavour: str = Field(description="The frontend whose conversion is followed.")
    verdict: VerdictModel | None = Field(description="Null where there is no prompt to judge.")
    problems: list[ProblemModel]
    problems_left_out: int
    prompt: Any = Field(description="In API format, ready to be run; null where there is none.")
    requirements: RequirementsModel
    interface: InterfaceModel
