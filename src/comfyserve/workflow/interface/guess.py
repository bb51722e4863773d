"""What the values of a prompt are for: prompts traced from the samplers, sizes, seeds, files.

The rules look at what inputs are called, typed and linked to, never at single classes by name.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from comfyserve.workflow.input_files import upload_kind
from comfyserve.workflow.interface.model import Role
from comfyserve.workflow.prompt_nodes import Nodes, Place
from comfyserve.workflow.specs import InputSpec

_SIDES = {"positive": Role.PROMPT, "negative": Role.NEGATIVE_PROMPT, "conditioning": Role.PROMPT}
_CARRIES_TEXT = frozenset({"CONDITIONING", "STRING", "GUIDER", "*"})
_TEXT_NAMES = frozenset({"text", "prompt", "value", "string", "caption", "instruction", "lyrics"})
_SEEDS = frozenset({"seed", "noise_seed"})
_NUMBERS: Mapping[tuple[str, str], Role] = {
    ("steps", "INT"): Role.STEPS,
    ("cfg", "FLOAT"): Role.CFG,
    ("guidance", "FLOAT"): Role.GUIDANCE,
}
_CANVAS = {"width": Role.WIDTH, "height": Role.HEIGHT, "length": Role.LENGTH}
_PICTURES = frozenset({"IMAGE", "LATENT", "MASK", "VIDEO"})
_ORDER = (Role.PROMPT, Role.NEGATIVE_PROMPT, None, *list(Role)[2:])


@dataclass(frozen=True, slots=True)
class Guess:
    """A value worth exposing, and what it is for; `None`: a file, or a value with a title of its own."""

    place: Place
    role: Role | None = None


def guess(nodes: Nodes) -> list[Guess]:
    """Return the values of a prompt that a caller would want to set, the most telling first."""
    found: dict[Place, Role | None] = {}
    for place, role in (
        *_prompts(nodes),
        *_files(nodes),
        *_canvas(nodes),
        *_numbers(nodes),
        *_titled(nodes),
    ):
        found.setdefault(place, role)
    guesses = [Guess(place, role) for place, role in found.items()]
    return sorted(guesses, key=lambda each: _ORDER.index(each.role))


def _prompts(nodes: Nodes) -> Iterator[tuple[Place, Role]]:
    """Find what describes the result: above samplers where there are any, else by name."""
    texts: dict[Role, dict[Place, None]] = {Role.PROMPT: {}, Role.NEGATIVE_PROMPT: {}}
    for node_id in nodes.running:
        for name, source in nodes.links(node_id):
            role = _SIDES.get(name)
            if role is not None:
                texts[role].update(dict.fromkeys(_texts_above(nodes, source, name)))
    # A negative side that is the positive one with its strength taken away has no text of its own.
    yield from ((place, Role.PROMPT) for place in texts[Role.PROMPT])
    yield from ((place, Role.NEGATIVE_PROMPT) for place in texts[Role.NEGATIVE_PROMPT])
    if not texts[Role.PROMPT]:
        yield from _named_prompts(nodes)


def _texts_above(nodes: Nodes, start: str, side: str) -> list[Place]:
    """Return the texts above a node, staying on one side of nodes that have both."""
    seen, left = {start}, [start]
    texts: list[Place] = []
    templates: list[Place] = []
    while left:
        node_id = left.pop(0)
        links = dict(nodes.links(node_id))
        if "positive" in links and "negative" in links:
            links = {side: links[side]} if side in links else {}
        found = [place for place, spec in nodes.values(node_id) if _is_prompt_text(spec)]
        followed = [source for name, source in links.items() if _carries(nodes, node_id, name)]
        # What only reworks a text that comes in holds patterns and the like.
        (templates if followed and _gives_text(nodes, node_id) else texts).extend(found)
        left += [source for source in dict.fromkeys(followed) if source not in seen]
        seen.update(followed)
    return texts or templates


def _carries(nodes: Nodes, node_id: str, name: str) -> bool:
    spec = nodes.specs(node_id).get(name)
    return spec is None or not _CARRIES_TEXT.isdisjoint(spec.type.split(","))


def _gives_text(nodes: Nodes, node_id: str) -> bool:
    node_class = nodes.class_of(node_id)
    return node_class is not None and "STRING" in node_class.output_types


def _is_prompt_text(spec: InputSpec) -> bool:
    if spec.type != "STRING":
        return False
    is_long = bool(spec.options.get("multiline") or spec.options.get("dynamicPrompts"))
    return is_long or spec.name.rpartition(".")[2] in _TEXT_NAMES


def _named_prompts(nodes: Nodes) -> Iterator[tuple[Place, Role]]:
    """Find the long texts of nodes that are no samplers: of an API node, of a text generator."""
    for node_id in nodes.running:
        for name, spec in nodes.specs(node_id).items():
            base = name.rpartition(".")[2]
            is_named = base in _TEXT_NAMES or "prompt" in base
            if not (is_named and spec.type == "STRING" and spec.options.get("multiline")):
                continue
            place = nodes.settled(Place(node_id, name))
            if place is not None:
                said = f"{name} {nodes.title(node_id)}".lower()
                yield place, Role.NEGATIVE_PROMPT if "negative" in said else Role.PROMPT


def _files(nodes: Nodes) -> Iterator[tuple[Place, None]]:
    for node_id in nodes.running:
        for place, spec in nodes.values(node_id):
            if upload_kind(spec) is not None:
                yield place, None


def _canvas(nodes: Nodes) -> Iterator[tuple[Place, Role]]:
    """Find the size of what is made from nothing: not that of a resize."""
    for node_id in nodes.running:
        node_class = nodes.class_of(node_id)
        specs = nodes.specs(node_id)
        if node_class is None or not {"width", "height"} <= specs.keys():
            continue
        makes = _PICTURES.intersection(map(str, node_class.output_types))
        takes = {spec.type for spec in specs.values() if spec.is_required} & _PICTURES
        if makes and not takes:
            for name, role in _CANVAS.items():
                place = nodes.settled(Place(node_id, name)) if name in specs else None
                if place is not None:
                    yield place, role


def _numbers(nodes: Nodes) -> Iterator[tuple[Place, Role]]:
    for node_id in nodes.running:
        for name, spec in nodes.specs(node_id).items():
            role = _NUMBERS.get((name.rpartition(".")[2], spec.type))
            is_seed = spec.type == "INT" and spec.options.get("control_after_generate")
            if is_seed or (spec.type == "INT" and name in _SEEDS):
                role = Role.SEED
            if (name, spec.type) == ("denoise", "FLOAT") and _is_part(nodes, node_id):
                role = Role.DENOISE
            place = nodes.settled(Place(node_id, name)) if role is not None else None
            if place is not None and role is not None:
                yield place, role


def _is_part(nodes: Nodes, node_id: str) -> bool:
    """Whether a sampler starts from a picture: with less than all of the noise."""
    value = nodes.value(Place(node_id, "denoise"))
    return isinstance(value, int | float) and value < 1


def _titled(nodes: Nodes) -> Iterator[tuple[Place, None]]:
    """Find nodes that only hold a value and were given a title: somebody meant it to be set."""
    for node_id in nodes.running:
        if nodes.own_title(node_id):
            place = nodes.held(node_id)
            if place is not None:
                yield place, None
