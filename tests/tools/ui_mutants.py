"""UI workflows changed as people change them in an editor, and as editors of other years left them."""

import copy
from collections.abc import Iterator
from random import Random
from typing import Any, Final, TypeAlias

Json: TypeAlias = Any

KINDS: Final = (
    *("mode", "mode", "mode", "drop_link", "relink", "relink", "value", "value", "slots"),
    *("instance", "proxies", "proxies", "boundary", "primitive", "new_primitive", "reroute"),
    *("group", "group", "group"),
)
_VALUES: Final[tuple[Json, ...]] = (
    *(None, 5, 7.5, -3, "x", "", True, False, "320", "a{b|c}d", [1, 2], {"a": 1}, "//x"),
)
_PRIMITIVES: Final[tuple[Json, ...]] = (
    *([5, "fixed"], [1e12], ["x"], [None], [], [2.7, "randomize"], [-4, "fixed"]),
    *(["euler", "fixed", ""], [0.5], ["t"]),
)


class UiMutator:
    """Makes one to three changes to a workflow."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng

    def mutant(self, workflow: Json) -> tuple[str, Json]:
        """Return the names of the changes and the changed copy."""
        ui, done = copy.deepcopy(workflow), []
        for _ in range(self._rng.choices((1, 2, 3), (6, 3, 1))[0]):
            for _ in range(6):
                kind = self._rng.choice(KINDS)
                try:
                    is_done = getattr(self, f"_{kind}")(ui)
                except (KeyError, TypeError, IndexError, AttributeError, ValueError):
                    continue  # the file has no such part, or an odd one
                if is_done:
                    done.append(kind)
                    break
        return "+".join(done), ui

    def _any(self, ui: Json) -> tuple[Json, Json]:
        return self._rng.choice(list(_nodes(ui)))

    def _linked(self, ui: Json) -> tuple[Json, Json, Json]:
        """Return a graph, a node of it, and an input of that with a link."""
        graph, node = self._any(ui)
        slots = [slot for slot in node["inputs"] if slot.get("link") is not None]
        return graph, node, self._rng.choice(slots)

    def _mode(self, ui: Json) -> bool:
        self._any(ui)[1]["mode"] = self._rng.choice((0, 2, 4, 4))
        return True

    def _drop_link(self, ui: Json) -> bool:
        self._linked(ui)[2]["link"] = None
        return True

    def _relink(self, ui: Json) -> bool:
        graph, node, slot = self._linked(ui)
        link = _link(graph, slot["link"])
        sources = [
            (other, index)
            for other in graph["nodes"]
            for index, output in enumerate(other.get("outputs") or [])
            if other is not node and output.get("type") in (slot.get("type"), "*")
        ]
        other, index = self._rng.choice(sources)
        for each in graph["nodes"]:
            for output in each.get("outputs") or []:
                if slot["link"] in (output.get("links") or []):
                    output["links"].remove(slot["link"])
        output = other["outputs"][index]
        output["links"] = [*(output.get("links") or []), slot["link"]]
        if isinstance(link, list):
            link[1:3] = [other["id"], index]
        else:
            link.update(origin_id=other["id"], origin_slot=index)
        return True

    def _value(self, ui: Json) -> bool:
        values = self._rng.choice(
            [v for _, node in _nodes(ui) if isinstance(v := node.get("widgets_values"), list) and v]
        )
        place = self._rng.randrange(len(values))
        match self._rng.randrange(5):
            case 0:
                values[place] = copy.deepcopy(self._rng.choice(_VALUES))
            case 1:
                values.pop(place)
            case 2:
                values.append(self._rng.choice((1, "x", None)))
            case 3:
                values[place], values[0] = values[0], values[place]
            case _:
                del values[place:]
        return True

    def _slots(self, ui: Json) -> bool:
        slots = self._rng.choice(
            [n["inputs"] for _, n in _nodes(ui) if len(n.get("inputs") or []) > 1]
        )
        match self._rng.randrange(3):
            case 0:
                self._rng.shuffle(slots)
            case 1:
                slots.remove(self._rng.choice([slot for slot in slots if slot.get("link") is None]))
            case _:
                self._rng.choice(slots).pop("widget", None)
        return True

    def _instances(self, ui: Json) -> tuple[Json, Json, Json]:
        """Return a graph, an instance of a subgraph in it, and its definition."""
        definitions = {each["id"]: each for each in _definitions(ui)}
        graph, node = self._rng.choice([(g, n) for g, n in _nodes(ui) if n["type"] in definitions])
        return graph, node, definitions[node["type"]]

    def _instance(self, ui: Json) -> bool:
        graph, node, _ = self._instances(ui)
        match self._rng.randrange(4):
            case 0:
                more = copy.deepcopy(node)
                used = [each["id"] for _, each in _nodes(ui) if isinstance(each["id"], int)]
                more["id"] = max(used, default=0) + self._rng.choice((1, 1, 50))
                for slot in more.get("inputs") or []:
                    slot["link"] = None
                for output in more.get("outputs") or []:
                    output["links"] = None
                graph["nodes"].append(more)
            case 1:
                node["widgets_values"] = node["widgets_values"][: self._rng.randrange(3)]
            case 2:
                count = self._rng.randrange(4)
                node["widgets_values"] = [
                    self._rng.choice((1, "x", None, "euler")) for _ in range(count)
                ]
            case _:
                del node["properties"]["proxyWidgets"]
        return True

    def _proxies(self, ui: Json) -> bool:
        _, node, definition = self._instances(ui)
        properties = node.setdefault("properties", {})
        proxies = properties.setdefault("proxyWidgets", [])
        kind = self._rng.randrange(4)
        if kind == 0 and proxies:
            proxies.pop(self._rng.randrange(len(proxies)))
        elif kind == 1 and proxies:
            self._rng.shuffle(proxies)
        elif kind == 2 and proxies:
            self._rng.choice(proxies)[self._rng.randrange(2)] = self._rng.choice(
                ("-1", "seed", "999")
            )
        else:
            inner = self._rng.choice(definition["nodes"])
            names = [slot["name"] for slot in inner.get("inputs") or [] if slot.get("widget")]
            proxies.append([str(inner["id"]), self._rng.choice(names or ["seed"])])
            if isinstance(node.get("widgets_values"), list):
                node["widgets_values"].append(self._rng.choice((3, "x", None)))
        return True

    def _boundary(self, ui: Json) -> bool:
        definition = self._rng.choice(_definitions(ui))
        match self._rng.randrange(3):
            case 0:
                name = self._rng.choice(("a", "seed", "text", "image"))
                self._rng.choice(definition["inputs"])["name"] = name
            case 1:
                self._rng.choice(definition["inputs"])["linkIds"] = []
            case _:
                self._rng.choice(definition["outputs"])["linkIds"] = []
        return True

    def _primitive(self, ui: Json) -> bool:
        primitives = [node for _, node in _nodes(ui) if node["type"] == "PrimitiveNode"]
        self._rng.choice(primitives)["widgets_values"] = list(self._rng.choice(_PRIMITIVES))
        return True

    def _new_primitive(self, ui: Json) -> bool:
        node = self._rng.choice(ui["nodes"])
        free = [s for s in node["inputs"] if s.get("widget") and s.get("link") is None]
        slot = self._rng.choice(free)
        link, made = _next(ui)
        kind, place = slot.get("type"), node["inputs"].index(slot)
        output = {"name": kind, "type": kind, "widget": {"name": slot["name"]}, "links": [link]}
        ui["nodes"].append(
            {
                "id": made,
                "type": "PrimitiveNode",
                "pos": [0, 0],
                "size": [200, 100],
                "mode": 0,
                "inputs": [],
                "outputs": [output],
                "properties": {},
                "widgets_values": list(self._rng.choice(_PRIMITIVES)),
            }
        )
        slot["link"] = link
        _add_link(ui, (link, made, 0, node["id"], place, kind))
        return True

    def _reroute(self, ui: Json) -> bool:
        node = self._rng.choice(ui["nodes"])
        slot = self._rng.choice([s for s in node["inputs"] if s.get("link") is not None])
        old = _link(ui, slot["link"])
        if not isinstance(old, list):
            return False
        link, made = _next(ui)
        ui["nodes"].append(
            {
                "id": made,
                "type": "Reroute",
                "pos": [0, 0],
                "size": [75, 26],
                "mode": self._rng.choice((0, 0, 4, 2)),
                "properties": {},
                "inputs": [{"name": "", "type": "*", "link": old[0]}],
                "outputs": [{"name": "", "type": old[5], "links": [link]}],
            }
        )
        place = node["inputs"].index(slot)
        old[3:5] = [made, 0]
        slot["link"] = link
        _add_link(ui, (link, made, 0, node["id"], place, old[5]))
        return True

    def _group(self, ui: Json) -> bool:
        group = self._rng.choice(list(ui["extra"]["groupNodes"].values()))
        index = self._rng.randrange(len(group["nodes"]))
        node = group["nodes"][index]
        config = group.setdefault("config", {}).setdefault(str(index), {})
        match self._rng.randrange(6):
            case 0:
                node["mode"] = self._rng.choice((0, 2, 4))
            case 1:
                group["links"].pop(self._rng.randrange(len(group["links"])))
            case 2:
                names = [slot["name"] for slot in node.get("inputs") or []] or ["seed"]
                setting = self._rng.choice(({"visible": False}, {"name": "renamed"}))
                config.setdefault("input", {})[self._rng.choice(names)] = setting
            case 3:
                group.setdefault("external", []).append([index, 0, "*"])
            case 4:
                node["widgets_values"][0] = self._rng.choice((3, "x", None))
            case _:
                config.setdefault("output", {})["0"] = {"visible": self._rng.choice((True, False))}
        return True


def _definitions(ui: Json) -> list[Json]:
    return list((ui.get("definitions") or {}).get("subgraphs") or [])


def _nodes(ui: Json) -> Iterator[tuple[Json, Json]]:
    for graph in (ui, *_definitions(ui)):
        for node in graph["nodes"]:
            yield graph, node


def _link(graph: Json, link_id: Json) -> Json:
    for link in graph["links"]:
        if link is not None and link_id == (link[0] if isinstance(link, list) else link["id"]):
            return link
    raise ValueError("no such link")


def _next(ui: Json) -> tuple[int, int]:
    """Return a fresh link id and a fresh node id."""
    ui["last_link_id"] = ui.get("last_link_id", 0) + 1
    ui["last_node_id"] = ui.get("last_node_id", 0) + 1
    return ui["last_link_id"], ui["last_node_id"]


def _add_link(ui: Json, link: tuple[Json, ...]) -> None:
    names = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
    is_object = bool(ui["links"]) and isinstance(ui["links"][0], dict)
    ui["links"].append(dict(zip(names, link, strict=True)) if is_object else list(link))
