"""A workflow file and what can be said about it, against whichever catalog was chosen."""

from dataclasses import dataclass, replace
from pathlib import Path

from comfyserve.cli.catalogs import Chosen, choose_catalog
from comfyserve.cli.client import Client
from comfyserve.cli.documents import STDIN, read_input
from comfyserve.domain.errors import InvalidInput
from comfyserve.workflow import Flavour, Prepared, prepare_file
from comfyserve.workflow.check import Check, check_prepared
from comfyserve.workflow.requirements import requirements


@dataclass(frozen=True, slots=True)
class Sought:
    """Which file is looked at, and by which catalog."""

    file: str
    deployment: str | None
    catalog: Path | None
    flavour: Flavour = Flavour.NEW

    @property
    def name(self) -> str:
        """What to call the file."""
        return "stdin" if self.file == STDIN else self.file


@dataclass(frozen=True, slots=True)
class Examined:
    """What was found, and the catalog that it was found by."""

    check: Check
    chosen: Chosen


def examine(client: Client, sought: Sought) -> Examined:
    """Look at a workflow. Raises InvalidInput for a file without one, and what `choose_catalog` does."""
    data = read_input(sought.file)
    chosen = choose_catalog(client, sought.deployment, sought.catalog)
    prepared = _prepare(data, sought, chosen)
    if chosen.is_stand_in:
        return _guess_machine(data, prepared, sought, chosen)
    return Examined(check_prepared(prepared, chosen.catalog), chosen)


def _guess_machine(data: bytes, prepared: Prepared, sought: Sought, chosen: Chosen) -> Examined:
    """The bundled catalog has node classes and no machine: files may be there, nothing is missing."""
    files = requirements(prepared, chosen.catalog).files
    catalog = chosen.catalog.with_input_files({file.name for file in files})
    chosen = replace(chosen, catalog=catalog)
    check = check_prepared(_prepare(data, sought, chosen), catalog)
    needs = replace(
        requirements(check.prepared),
        files=tuple(replace(file, is_present=None) for file in files),
    )
    return Examined(replace(check, requirements=needs), chosen)


def _prepare(data: bytes, sought: Sought, chosen: Chosen) -> Prepared:
    prepared = prepare_file(data, chosen.catalog, flavour=sought.flavour)
    if prepared.format is None:
        problem = prepared.errors[0]
        raise InvalidInput(f"{sought.name}: {problem.message} {problem.hint}".strip())
    return prepared
