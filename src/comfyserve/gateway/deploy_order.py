"""What a deploy is asked for with: a spec, and workflows that must be able to run."""

import base64
from dataclasses import dataclass, fields

from comfyserve.domain.errors import InvalidInput
from comfyserve.domain.spec import DeploymentSpec
from comfyserve.runtime.gate import CheckFile

_MOST_CHECKS = 64


@dataclass(frozen=True, slots=True)
class CheckOrder:
    """A workflow file: its name, and its bytes in base64."""

    name: str
    data: str


@dataclass(frozen=True, slots=True)
class DeployOrder(DeploymentSpec):
    """A spec with the workflows that it is checked by; those are not kept."""

    checks: tuple[CheckOrder, ...] = ()

    @property
    def spec(self) -> DeploymentSpec:
        """The spec alone."""
        return DeploymentSpec(**{f.name: getattr(self, f.name) for f in fields(DeploymentSpec)})

    @property
    def files(self) -> tuple[CheckFile, ...]:
        """The workflows. Raises InvalidInput."""
        if len(self.checks) > _MOST_CHECKS:
            raise InvalidInput(f"a deploy is checked by {_MOST_CHECKS} workflows at most")
        return tuple(CheckFile(check.name, _decoded(check)) for check in self.checks)


def _decoded(check: CheckOrder) -> bytes:
    try:
        return base64.b64decode(check.data, validate=True)
    except ValueError as error:  # also what binascii raises
        raise InvalidInput(f"the data of check '{check.name[:80]}' is not base64") from error
