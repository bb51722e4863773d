"""Derives broken prompts from good ones: seeded, the same on every machine.

A mutant is kept as edits of its base prompt, so that thousands of them stay small. `prompts_of_classes` makes a
base prompt for each class of a catalog; `mutants` breaks a base prompt in one or two places.
"""

import copy
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any, TypeAlias

Json: TypeAlias = Any

Prompt = dict[str, Json]
Edit = list[Json]
Info = Mapping[str, Json]


@dataclass(frozen=True, slots=True)
class Mutant:
    """A base prompt, what to change in it, and which outputs to ask for."""

    kind: str
    edits: tuple[Edit, ...]
    targets: Json = None

    def prompt(self, base: Prompt) -> Json:
        """Return the broken prompt."""
        return apply(base, self.edits)


def apply(base: Prompt, edits: tuple[Edit, ...]) -> Json:
    """Apply `["set", path, value]` and `["del", path]`; an empty path is the whole prompt."""
    root: dict[str, Json] = {"prompt": copy.deepcopy(base)}
    for edit in edits:
        path = ["prompt", *edit[1]]
        holder: Json = root
        for step in path[:-1]:
            holder = holder[step]
        if edit[0] == "del":
            del holder[path[-1]]
        else:
            holder[path[-1]] = copy.deepcopy(edit[2])
    return root["prompt"]


LONGEST_DEFAULT = 100
"""Longer texts that a class has for a default are ComfyUI's, and stay out of what is recorded."""

ODD_VALUES: tuple[Json, ...] = (
    *(None, True, False, 0, 1, -1, 7, 64, 2**31, 2**53 + 1, 2**64, -(2**70), 10**30),
    *(0.0, -0.5, 1.5, 48.9, 1e308, 1e-300, math.inf, -math.inf, math.nan),
    *("", " ", "0", "64", " 64 ", "6_4", "-3", "1.5", "1e3", "nan", "inf", "abc", "True", "none"),
    *("Zoë 猫 🐈", "\u0000", "\ud800", "a" * 500, "cat.png", "../cat.png", "9" * 4400),
    *({}, {"a": 1}, {"content": "cat.png", "type": "input"}, {"__value__": 3}),
    *({"__value__": "64"}, {"__value__": None}, {"__value__": ["a", "b"]}, {"__value__": ["1", 0]}),
    *({"__value__": {"__value__": 5}}, {"__value__": math.nan}, {"__value__": []}),
)
FILE_NAMES = (
    *("cat.png", "dog.png", "nothere.png", "sub/fish.png", "sub", "Cat.png", "cat.png [input]"),
    *("made_00001_.png [output]", "made_00001_.png", "sub/made.png [output]", "cat.png [output]"),
    *("x.png [temp]", "", "some.latent", "3d/cube.glb", "clip.mp4", "song.mp3", "notes.txt"),
    *("./cat.png", "sub/../cat.png", "cat.png[input]", "[output]", "sub/", "none", "sub [output]"),
)
ODD_LINKS: tuple[Json, ...] = (
    *([], ["1"], ["1", 0, 0], ["nope", 0], [1, 0], [None, 0], [["1"], 0], [{}, 0], [True, 0]),
    *(["", 0], [1.5, 0], ["1", "0"]),
)
ODD_SLOTS: tuple[Json, ...] = (1, 2, 99, -1, -99, 10**30, "0", "a", None, 0.0, 1.5, True, [], {})


class Mutator:
    """Breaks one prompt in many ways."""

    def __init__(self, base: Prompt, info: Info, rng: Random) -> None:
        self._base = base
        self._info = info
        self._rng = rng
        self._ids = list(base)
        self._inputs = [
            (node_id, name) for node_id, node in base.items() for name in node["inputs"]
        ]
        self._links = [spot for spot in self._inputs if isinstance(self._value(spot), list)]
        self._values = [spot for spot in self._inputs if not isinstance(self._value(spot), list)]

    def _value(self, spot: tuple[str, str]) -> Json:
        return self._base[spot[0]]["inputs"][spot[1]]

    def _spec(self, spot: tuple[str, str]) -> Json:
        sections = self._info[self._base[spot[0]]["class_type"]]["input"]
        for section in ("required", "optional"):
            if spot[1] in sections.get(section, {}):
                return sections[section][spot[1]]
        return ["UNKNOWN", {}]

    def _set(self, spot: tuple[str, str], value: Json) -> list[Edit]:
        return [["set", [spot[0], "inputs", spot[1]], value]]

    def _any(self, *options: Json) -> Json:
        return self._rng.choice(options)

    def draw(self) -> Mutant:
        """Return a mutant: mostly one fault, sometimes two or three."""
        targets = None
        if self._rng.random() < 0.06:
            outputs = [each for each in self._ids if self._is_output(each)]
            targets = self._rng.choice(
                [outputs, outputs[:1], ["nope"], [], "".join(outputs), {}, {"9": 1}, 5, True, None]
            )
        count = self._rng.choices((1, 2, 3), (80, 14, 6))[0]
        kinds: list[str] = []
        edits: list[Edit] = []
        for _ in range(count):
            kind = self._rng.choice(KINDS)
            made = getattr(self, f"_{kind}")()
            if not made:
                continue
            try:
                apply(self._base, (*edits, *made))
            except (KeyError, TypeError, IndexError):
                continue  # an earlier edit took away what this one changes
            kinds.append(kind)
            edits += made
        return Mutant("+".join(kinds) or "unchanged", tuple(edits), targets)

    def _is_output(self, node_id: str) -> bool:
        return bool(self._info[self._base[node_id]["class_type"]]["output_node"])

    def _drop_input(self) -> list[Edit]:
        if not self._inputs:
            return []
        node_id, name = self._rng.choice(self._inputs)
        return [["del", [node_id, "inputs", name]]]

    def _odd_value(self) -> list[Edit]:
        if not self._values:
            return []
        return self._set(self._rng.choice(self._values), self._rng.choice(ODD_VALUES))

    def _near_bound(self) -> list[Edit]:
        bounded = [
            (spot, options)
            for spot in self._values
            if len(spec := self._spec(spot)) > 1
            and "min" in (options := spec[1])
            and "max" in options
        ]
        if not bounded:
            return []
        spot, options = self._rng.choice(bounded)
        low, high = options["min"], options["max"]
        step = self._rng.choice((1, 0.5, 1e-9))
        value = self._rng.choice(
            (low, high, low - step, high + step, low + step, high - step, str(low), str(high + 1))
        )
        return self._set(spot, value)

    def _other_choice(self) -> list[Edit]:
        combos = [
            (spot, choices) for spot in self._values if (choices := choices_of(self._spec(spot)))
        ]
        if not combos:
            return []
        spot, choices = self._rng.choice(combos)
        choice = self._rng.choice(choices)
        text = str(choice)
        odd = (choice, text + "x", text[:-1], text.upper(), text.lower(), " " + text, "", 0, None)
        return self._set(spot, self._rng.choice((*odd, [choice], {"__value__": [choice]}, True)))

    def _file_name(self) -> list[Edit]:
        names = {"image", "mask", "audio", "video", "file", "latent", "model_file"}
        spots = [spot for spot in self._values if spot[1] in names]
        return self._set(self._rng.choice(spots), self._rng.choice(FILE_NAMES)) if spots else []

    def _literal_for_link(self) -> list[Edit]:
        if not self._links:
            return []
        odd: tuple[Json, ...] = ("x", 5, None, True, {}, {"__value__": ["1", 0]}, "")
        return self._set(self._rng.choice(self._links), self._rng.choice(odd))

    def _link_for_literal(self) -> list[Edit]:
        if not self._values:
            return []
        link = [self._rng.choice(self._ids), self._rng.choice((0, 0, 0, 1, 2))]
        return self._set(self._rng.choice(self._values), link)

    def _other_source(self) -> list[Edit]:
        if not self._links:
            return []
        link = [self._rng.choice(self._ids), self._rng.choice((0, 0, 0, 1, 2))]
        return self._set(self._rng.choice(self._links), link)

    def _odd_link(self) -> list[Edit]:
        if not self._inputs:
            return []
        return self._set(self._rng.choice(self._inputs), self._rng.choice(ODD_LINKS))

    def _odd_slot(self) -> list[Edit]:
        if not self._links:
            return []
        spot = self._rng.choice(self._links)
        value = self._value(spot)
        return self._set(spot, [value[0], self._rng.choice(ODD_SLOTS)]) if value else []

    def _cycle(self) -> list[Edit]:
        """Link a source back to one of the nodes that it feeds."""
        if not self._links:
            return []
        node_id, name = self._rng.choice(self._links)
        source = self._base[node_id]["inputs"][name][0]
        for _ in range(self._rng.randrange(4)):
            further = [spot for spot in self._links if spot[0] == source]
            if further:
                source = self._value(self._rng.choice(further))[0]
        inputs = [spot for spot in self._inputs if spot[0] == source]
        target = self._rng.choice(inputs)[1] if inputs else "extra"
        return self._set((source, target), [node_id, 0]) if source in self._base else []

    def _drop_node(self) -> list[Edit]:
        return [["del", [self._rng.choice(self._ids)]]]

    def _drop_outputs(self) -> list[Edit]:
        return [["del", [node_id]] for node_id in self._ids if self._is_output(node_id)]

    def _copy_output(self) -> list[Edit]:
        outputs = [node_id for node_id in self._ids if self._is_output(node_id)]
        if not outputs:
            return []
        node = copy.deepcopy(self._base[self._rng.choice(outputs)])
        links = [name for name, value in node["inputs"].items() if isinstance(value, list)]
        if links and self._rng.random() < 0.5:
            node["inputs"][self._rng.choice(links)] = self._rng.choice(([], ["nope", 0], "x"))
        return [["set", [self._rng.choice(("copy", "0", "Ω", ""))], node]]

    def _extra_input(self) -> list[Edit]:
        value = self._any(5, "x", None, ["nope", 0], [self._rng.choice(self._ids), 0], {})
        name = self._rng.choice(("extra", "", "images.image9", "Seed", "seed ", "__value__"))
        return self._set((self._rng.choice(self._ids), name), value)

    def _other_class(self) -> list[Edit]:
        node_id = self._rng.choice(self._ids)
        if self._rng.random() < 0.4:
            return [["set", [node_id, "class_type"], self._rng.choice(list(self._info))]]
        name = self._base[node_id]["class_type"]
        odd = self._any(
            name.lower(), name + " ", "Nope", "", None, 5, 1.5, True, [], [name], {}, "名"
        )
        return [["set", [node_id, "class_type"], odd]]

    def _gone_class(self) -> list[Edit]:
        names = ("T2IAdapterLoader", "SDV_img2vid_Conditioning", "ConditioningAverage ")
        node = self._rng.choice(self._ids)
        edits: list[Edit] = [["set", [node, "class_type"], self._rng.choice(names)]]
        if self._rng.random() < 0.7:
            edits.append(["set", [node, "_meta"], {"title": "gone"}])
        if self._rng.random() < 0.7:
            name = self._rng.choice(("alpha.safetensors", "nope"))
            edits.append(["set", [node, "inputs", "t2i_adapter_name"], name])
        return edits

    def _odd_meta(self) -> list[Edit]:
        node_id = self._rng.choice(self._ids)
        meta = self._any(None, {}, {"title": "A title"}, {"title": 5}, {"title": ""}, [], "x")
        edits: list[Edit] = [["set", [node_id, "_meta"], meta]]
        if self._rng.random() < 0.6:
            path = [node_id, "class_type"]
            edits.append(self._any(["set", path, "Nope"], ["del", path]))
        return edits

    def _no_class(self) -> list[Edit]:
        return [["del", [self._rng.choice(self._ids), "class_type"]]]

    def _odd_inputs(self) -> list[Edit]:
        path = [self._rng.choice(self._ids), "inputs"]
        if self._rng.random() < 0.3:
            return [["del", path]]
        odd = self._any({}, [], None, "image", 5, ["image", "images"], True)
        return [["set", path, odd]]

    def _odd_node(self) -> list[Edit]:
        odd = self._any(
            None, 5, "x", "class_type", "class_type inputs", [], ["class_type"], {}, True
        )
        return [["set", [self._rng.choice(self._ids)], odd]]

    def _odd_prompt(self) -> list[Edit]:
        odd = self._any(None, {}, [], [0], ["a"], "", "abc", 5, 1.5, True, False, [None])
        return [["set", [], odd]]


_WEIGHTS = {
    "drop_input": 10,
    "odd_value": 16,
    "near_bound": 8,
    "other_choice": 8,
    "file_name": 3,
    "literal_for_link": 4,
    "link_for_literal": 4,
    "other_source": 9,
    "odd_link": 6,
    "odd_slot": 4,
    "cycle": 5,
    "drop_node": 3,
    "drop_outputs": 1,
    "copy_output": 4,
    "extra_input": 4,
    "other_class": 4,
    "gone_class": 2,
    "odd_meta": 2,
    "no_class": 1,
    "odd_inputs": 4,
    "odd_node": 2,
    "odd_prompt": 1,
}
KINDS = tuple(kind for kind, weight in _WEIGHTS.items() for _ in range(weight))


def mutants(base: Prompt, info: Info, rng: Random, count: int) -> Iterator[Mutant]:
    """Go through `count` ways to break a prompt; the first is the prompt itself."""
    yield Mutant("unchanged", ())
    mutator = Mutator(base, info, rng)
    for _ in range(count - 1):
        yield mutator.draw()


def choices_of(spec: Json) -> list[Json]:
    """Return what a combo offers."""
    if isinstance(spec[0], list):
        return list(spec[0])
    options = spec[1] if len(spec) > 1 else {}
    return list(options.get("options") or []) if spec[0] == "COMBO" else []


def mended(prompt: Prompt, info: Info) -> Prompt:
    """Return a prompt whose combos all choose something that the catalog offers."""
    fixed = copy.deepcopy(prompt)
    for node in fixed.values():
        node.pop("_meta", None)
        sections = info[node["class_type"]]["input"]
        specs = {**sections.get("optional", {}), **sections.get("required", {})}
        for name, value in node["inputs"].items():
            choices = choices_of(specs[name]) if name in specs else []
            if choices and not isinstance(value, list) and value not in choices:
                node["inputs"][name] = choices[0]
    return fixed


def prompts_of_classes(info: Info, rng: Random) -> Iterator[tuple[str, Prompt]]:
    """Make a small prompt around each class: sources for its links, an output behind it."""
    makers: dict[str, list[str]] = {}
    for name, entry in info.items():
        for declared in entry["output"]:
            if isinstance(declared, str):
                makers.setdefault(declared, []).append(name)
    for names in makers.values():
        names.sort(key=lambda name: (_links_needed(info[name]), name))
    for name in sorted(info):
        builder = _Builder(info, makers, rng)
        node_id = builder.add(name, depth=3)
        if not info[name]["output_node"] and info[name]["output"]:
            builder.nodes["out"] = {
                "class_type": "PreviewAny",
                "inputs": {"source": [node_id, rng.randrange(len(info[name]["output"]))]},
            }
        yield name, builder.nodes


def _links_needed(entry: Json) -> int:
    plain = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"}
    specs = entry["input"].get("required", {}).values()
    return sum(isinstance(spec[0], str) and spec[0] not in plain for spec in specs)


class _Builder:
    def __init__(self, info: Info, makers: Mapping[str, list[str]], rng: Random) -> None:
        self.nodes: Prompt = {}
        self._info = info
        self._makers = makers
        self._rng = rng

    def add(self, name: str, depth: int) -> str:
        node_id = str(len(self.nodes) + 1)
        inputs: dict[str, Json] = {}
        self.nodes[node_id] = {"class_type": name, "inputs": inputs}
        self._fill(inputs, "", self._info[name]["input"], depth)
        return node_id

    def _fill(self, inputs: dict[str, Json], prefix: str, sections: Json, depth: int) -> None:
        for section in ("required", "optional"):
            for name, spec in sections.get(section, {}).items():
                if section == "required" or self._rng.random() < 0.4:
                    self._give(inputs, prefix + name, spec, depth)

    def _give(self, inputs: dict[str, Json], path: str, spec: Json, depth: int) -> None:
        kind, options = spec[0], spec[1] if len(spec) > 1 else {}
        if kind == "COMFY_DYNAMICCOMBO_V3":
            option = self._rng.choice(options["options"])
            inputs[path] = option["key"]
            self._fill(inputs, f"{path}.", option["inputs"], depth)
        elif kind == "COMFY_AUTOGROW_V3":
            template = options["template"]
            names = template.get("names") or [f"{template['prefix']}{at}" for at in range(3)]
            inner = next(iter(next(iter(template["input"].values())).values()))
            for name in names[: max(template["min"], self._rng.randrange(3))]:
                self._give(inputs, f"{path}.{name}", inner, depth)
        else:
            value = self._value(kind, options, depth)
            if value is not None:
                inputs[path] = value

    def _value(self, kind: Json, options: Json, depth: int) -> Json:
        choices = choices_of([kind, options])
        if choices:
            return self._rng.choice(choices)
        plain = {"INT": 1, "FLOAT": 0.5, "STRING": "text", "BOOLEAN": True, "COMBO": "x"}
        if isinstance(kind, list) or kind in plain:
            low = options.get("min", 1) if kind in ("INT", "FLOAT") else None
            default = options.get("default")
            if default is not None and len(str(default)) <= LONGEST_DEFAULT:
                return default
            return low if low is not None else plain.get(str(kind), "x")
        return self._link(kind, options, depth)

    def _link(self, kind: str, options: Json, depth: int) -> Json:
        wanted = kind.split(",")[0]
        if kind == "COMFY_MATCHTYPE_V3":
            wanted = options["template"]["allowed_types"].split(",")[0]
        if wanted == "*":
            wanted = "STRING"
        for node_id, node in self.nodes.items():
            outputs = self._info[node["class_type"]]["output"]
            if wanted in outputs and depth < 3:
                return [node_id, outputs.index(wanted)]
        makers = self._makers.get(wanted)
        if not makers or depth == 0:
            return None
        maker = makers[0] if self._rng.random() < 0.8 else self._rng.choice(makers[:5])
        return [self.add(maker, depth - 1), self._info[maker]["output"].index(wanted)]
