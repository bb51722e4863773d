"""The schema of an application's inputs: all findings at once, and no way out of the document."""

import pytest
from pydantic import BaseModel, Field

from comfyserve.domain.errors import InvalidInput
from comfyserve.runtime.inputs import InputsSchema, check_inputs_schema


class Size(BaseModel):
    width: int = Field(ge=64)


class Postcard(BaseModel):
    prompt: str
    sizes: list[Size] = []


def test_every_finding_is_told_with_its_place() -> None:
    schema = InputsSchema(Postcard.model_json_schema())
    assert schema.findings({"prompt": "x", "sizes": [{"width": 64}]}) == []
    found = schema.findings({"sizes": [{"width": 1}, {"width": "wide"}]})
    assert {finding.where for finding in found} == {
        (),
        ("sizes", 0, "width"),
        ("sizes", 1, "width"),
    }
    assert any("prompt" in finding.message for finding in found)
    assert schema.findings(None)


def test_findings_are_bounded() -> None:
    schema = InputsSchema({"items": {"type": "string", "maxLength": 3}})
    found = schema.findings(["x" * 10_000] * 1000)
    assert len(found) == 100
    assert max(len(finding.message) for finding in found) <= 500


@pytest.mark.parametrize(
    "schema", [{"type": "nonsense"}, {"$ref": "http://127.0.0.1:9/x.json"}, {"$ref": "#/gone"}]
)
def test_what_is_no_schema_is_refused_at_the_deploy(schema: dict[str, str]) -> None:
    with pytest.raises(InvalidInput, match="no JSON schema") as refusal:
        check_inputs_schema(schema)
    assert refusal.value.code == "invalid_schema"
    check_inputs_schema(None)
