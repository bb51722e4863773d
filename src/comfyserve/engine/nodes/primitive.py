"""Plain values as nodes, so that one value can feed several inputs."""

from typing import Any, Final

from comfyserve.engine.nodes.spec import (
    Input,
    NodeClass,
    Output,
    Style,
    boolean,
    integer,
    number,
    string,
)

_LIMIT = 2**63 - 1


def pass_on(*, value: Any) -> tuple[Any]:  # noqa: ANN401 - of whatever type the class declares
    """Give the value."""
    return (value,)


def _primitive(name: str, title: str, value: Input) -> NodeClass:
    return NodeClass(
        name=name,
        title=title,
        category="utilities/primitive",
        run=pass_on,
        style=Style.SCHEMA,
        module="comfy_extras.nodes_primitive",
        inputs=(value,),
        outputs=(Output(value.type),),
    )


NODES: Final = (
    _primitive("PrimitiveString", "Text", string("value", multiline=False)),
    _primitive("PrimitiveStringMultiline", "Text (Multiline)", string("value", multiline=True)),
    _primitive(
        "PrimitiveInt",
        "Int",
        integer("value", min=-_LIMIT, max=_LIMIT, control_after_generate="fixed"),
    ),
    _primitive("PrimitiveFloat", "Float", number("value", min=-_LIMIT, max=_LIMIT, step=0.1)),
    _primitive("PrimitiveBoolean", "Boolean", boolean("value")),
)
