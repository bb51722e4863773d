"""The gate of a deploy: workflows that must be able to run, or nothing is deployed."""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from comfyserve.domain.errors import DeployFailed
from comfyserve.runtime.snapshot import Snapshot
from comfyserve.workflow.check import Check, check
from comfyserve.workflow.requirements.model import ModelFile, NodePack


@dataclass(frozen=True, slots=True)
class CheckFile:
    """A workflow of any format, as the bytes of its file, and what to call it."""

    name: str
    data: bytes = field(repr=False)


async def pass_gate(snapshot: Snapshot | None, files: Sequence[CheckFile]) -> None:
    """Raise DeployFailed, with the list, unless each class is there and each model resolves."""
    if not files:
        return
    if snapshot is None:
        raise DeployFailed(
            "workflows can only be checked against a ComfyUI, and what would be deployed is none",
            code="check_failed",
        )
    lacks = [line for file in files for line in await asyncio.to_thread(_lacks, file, snapshot)]
    if lacks:
        raise DeployFailed(
            f"the deployment would not be ready for {', '.join(file.name for file in files)}; "
            "nothing was deployed",
            code="check_failed",
            log_tail=tuple(lacks),
        )


def _lacks(file: CheckFile, snapshot: Snapshot) -> list[str]:
    found = check(file.data, snapshot.catalog)
    lines = [f"{file.name}: {line}" for line in _missing(found)]
    return lines + [f"{file.name}: {fix.sdk}" for fix in found.requirements.fixes if fix.sdk]


def _missing(found: Check) -> Iterator[str]:
    if not found.prepared.prompt:
        yield "it is no workflow that can run: " + "; ".join(
            problem.message for problem in found.problems[:3]
        )
    for item in found.requirements.missing:
        match item:
            case NodePack():
                pack = f" (of {item.id})" if item.id else ""
                yield f"missing node class {', '.join(item.classes)}{pack}"
            case ModelFile():
                yield f"missing model {item.directory or '?'}/{item.name}"
            case _:
                continue  # Input files come with a job.
