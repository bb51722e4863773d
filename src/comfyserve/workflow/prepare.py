"""The one door: whatever workflow somebody has becomes a prompt and a list of problems."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from comfyserve.workflow.catalog import NodeCatalog
from comfyserve.workflow.convert import convert
from comfyserve.workflow.display import Labels
from comfyserve.workflow.flavours import Flavour
from comfyserve.workflow.formats import Format, Recognised, recognise
from comfyserve.workflow.metadata import KEYS, MAX_TEXT_BYTES, Container, read_embedded
from comfyserve.workflow.problems import Code, Problem, Severity
from comfyserve.workflow.reader import parse_ui
from comfyserve.workflow.validate import Verdict, validate
from comfyserve.workflow.values import Choose, first_choice

_TAKEN: Final = (
    "ComfyUI's API format, the editor's export, an app-mode file, "
    "or a PNG, WEBP, FLAC, MP4 or WebM file that ComfyUI saved"
)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A workflow, ready to be run or refused."""

    prompt: Mapping[str, Any]
    """The prompt in API format; empty where there is none."""
    problems: tuple[Problem, ...]
    """What was assumed or left out on the way here, then ComfyUI's errors, then warnings."""
    format: Format | None
    """What was handed in, `None` where nobody knows."""
    source: Mapping[str, Any] | None
    """The UI workflow that the prompt was made of or that came with it, as it came."""
    verdict: Verdict | None
    """ComfyUI's verdict on the prompt; `None` where there is no prompt to judge."""
    container: Container | None = None
    """The kind of file that it was embedded in."""
    flavour: Flavour = Flavour.NEW

    @property
    def ok(self) -> bool:
        """Whether anything of it would run."""
        return self.verdict is not None and self.verdict.ok

    @property
    def errors(self) -> tuple[Problem, ...]:
        """The problems that keep something from running."""
        return tuple(p for p in self.problems if p.severity is Severity.ERROR)

    def labels(self) -> Labels:
        """Return titles, classes and places of the nodes, for display."""
        workflow = parse_ui(self.source) if self.source is not None else None
        return Labels(self.prompt, workflow, self.flavour)


@dataclass(frozen=True, slots=True)
class _Wishes:
    """How a UI workflow is to be converted, and what of it is to run."""

    flavour: Flavour
    choose: Choose
    now: datetime | None
    partial_execution_targets: object


def prepare(
    body: object,
    catalog: NodeCatalog,
    *,
    flavour: Flavour = Flavour.NEW,
    choose: Choose = first_choice,
    now: datetime | None = None,
    partial_execution_targets: object = None,
) -> Prepared:
    """Turn a parsed JSON body of any format into a prompt, and judge it. Never raises on user data.

    `flavour`, `choose` and `now` matter for UI workflows alone, see `convert`;
    `partial_execution_targets` is `validate`'s. The prompt shares its values with the body.
    """
    found = recognise(body)
    if found is None:
        return _refused(_not_a_workflow(body))
    targets = partial_execution_targets
    if not found.format.is_ui:
        verdict = validate(found.content, catalog, partial_execution_targets=targets)
        prompt = found.content if isinstance(found.content, dict) else {}
        return Prepared(prompt, _all(verdict), found.format, found.workflow, verdict)
    return _convert(found, catalog, _Wishes(flavour, choose, now, targets))


def _convert(found: Recognised, catalog: NodeCatalog, wishes: _Wishes) -> Prepared:
    workflow = parse_ui(found.content)
    conversion = convert(
        workflow, catalog, flavour=wishes.flavour, choose=wishes.choose, now=wishes.now
    )
    verdict = None
    if all(problem.severity is not Severity.ERROR for problem in conversion.problems):
        verdict = validate(
            conversion.prompt, catalog, partial_execution_targets=wishes.partial_execution_targets
        )
    problems = conversion.problems + (() if verdict is None else _all(verdict))
    return Prepared(
        conversion.prompt, problems, found.format, found.content, verdict, flavour=wishes.flavour
    )


def _all(verdict: Verdict) -> tuple[Problem, ...]:
    return verdict.problems + verdict.warnings


def prepare_file(
    data: bytes,
    catalog: NodeCatalog,
    *,
    flavour: Flavour = Flavour.NEW,
    choose: Choose = first_choice,
    now: datetime | None = None,
) -> Prepared:
    """Turn the bytes of a file into a prompt: JSON text, or a picture, sound or video of ComfyUI's.

    Of a file that carries both, the embedded prompt is taken: it is what really ran. The embedded UI
    workflow is then the `source`; it is converted where there is no prompt.
    """
    embedded = read_embedded(data)
    if embedded is None:
        body = _read_json(data)
        if isinstance(body, Problem):
            return _refused(body)
        return prepare(body, catalog, flavour=flavour, choose=choose, now=now)
    texts = {key: _read_json(embedded.texts[key]) for key in KEYS if key in embedded.texts}
    found = {key: body for key, body in texts.items() if not isinstance(body, Problem)}
    if not found:
        return replace(
            _refused(_nothing_embedded(embedded.container)), container=embedded.container
        )
    body = found if "prompt" in found else found["workflow"]
    prepared = prepare(body, catalog, flavour=flavour, choose=choose, now=now)
    return replace(prepared, container=embedded.container)


def _read_json(data: bytes | str) -> object:
    """Parse JSON text; what cannot be read is returned as the problem that it is."""
    if len(data) > MAX_TEXT_BYTES:
        return Problem(
            Code.WORKFLOW_TOO_LARGE,
            f"The file has {len(data)} bytes.",
            allowed=f"at most {MAX_TEXT_BYTES} bytes of JSON",
            hint="Hand in a smaller workflow.",
        )
    try:
        return json.loads(data.decode("utf-8-sig") if isinstance(data, bytes) else data)
    except (ValueError, RecursionError) as error:
        return Problem(
            Code.UNREADABLE_FILE,
            "The file is neither JSON nor a kind of file that can carry a workflow.",
            details=f"{type(error).__name__}: {error}"[:300],
            allowed=_TAKEN,
            hint="Export the workflow from ComfyUI again (Workflow, Export).",
        )


def _nothing_embedded(container: Container) -> Problem:
    return Problem(
        Code.UNREADABLE_FILE,
        f"No workflow is embedded in this {container.value.upper()} file.",
        allowed=_TAKEN,
        hint="Use the file as ComfyUI saved it: editors and chat services strip the metadata.",
    )


def _not_a_workflow(body: object) -> Problem:
    return Problem(
        Code.NOT_A_WORKFLOW,
        "This is not a workflow.",
        given=body if isinstance(body, (str, int, float, bool)) else type(body).__name__,
        allowed=_TAKEN,
        hint="Export the workflow from ComfyUI (Workflow, Export) and hand that file in.",
    )


def _refused(problem: Problem) -> Prepared:
    return Prepared({}, (problem,), None, None, None)
