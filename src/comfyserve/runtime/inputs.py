"""The schema of an application's request bodies, and what is wrong with one: before anything wakes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from comfyserve.domain.errors import InvalidInput

if TYPE_CHECKING:
    from jsonschema_rs import Validator

_MOST_FINDINGS = 100
_MOST_CHARACTERS = 500


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong: where in the body, and what."""

    where: tuple[str | int, ...]
    message: str


class InputsSchema:
    """A JSON schema, compiled. References lead nowhere outside of it."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        """Raises InvalidInput for what is no JSON schema."""
        # Imported here: it takes 3 MB, and few servers need it.
        from jsonschema_rs import ValidationError, validator_for  # noqa: PLC0415

        try:
            self._validator: Validator = validator_for(dict(schema), offline=True)
        except (ValidationError, ValueError) as error:
            reason = str(getattr(error, "message", error))[:_MOST_CHARACTERS]
            raise InvalidInput(
                f"inputs is no JSON schema that can be used: {reason}", code="invalid_schema"
            ) from error

    def findings(self, body: Any) -> Sequence[Finding]:  # noqa: ANN401 - decoded JSON
        """All that is wrong with a body, at most a hundred."""
        found: list[Finding] = []
        for error in self._validator.iter_errors(body):
            if len(found) == _MOST_FINDINGS:
                break
            where = tuple(error.instance_path)
            found.append(Finding(where, error.message[:_MOST_CHARACTERS]))
        return found


def check_inputs_schema(schema: Mapping[str, Any] | None) -> None:
    """Raise InvalidInput for what is no JSON schema; None is fine."""
    if schema is not None:
        InputsSchema(schema)
