"""`NodeCatalog`: the node classes of one ComfyUI, parsed from what its `/object_info` answers.

Classes are parsed when they are first asked for: the file has 1-3 MB, a workflow uses a dozen of them.
A malformed entry hides that one class and nothing else.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from comfyserve.workflow.custom_checks import Check, check_of
from comfyserve.workflow.dynamic import Expander, Expansion
from comfyserve.workflow.input_files import offered_files, upload_kind
from comfyserve.workflow.quick_plan import QuickPlan, plan_of
from comfyserve.workflow.rules import Rules, guess_version, parse_version, rules_for
from comfyserve.workflow.specs import InputSpec, NodeClass, node_class, with_choices

__all__ = ["InputSpec", "NodeCatalog", "NodeClass", "upload_kind"]


@dataclass(frozen=True, slots=True, eq=False)
class NodeCatalog:
    """The node classes that one ComfyUI offers, by class type."""

    entries: Mapping[str, Mapping[str, Any]]
    """The entries of `/object_info` as they came, the unusable ones left out."""
    rules: Rules
    """The validation rules of that ComfyUI."""
    version: str | None = None
    """The ComfyUI version; `None` where nobody said."""
    input_files: frozenset[str] | None = None
    """Names that file inputs may use; `None`: only those that were there at the recording."""
    validators: Mapping[str, Collection[str]] | None = None
    """Arguments of each class' own validation function, where somebody recorded them."""
    replacements: Mapping[str, Any] | None = None
    """What `/node_replacements` answered, where somebody recorded it."""
    _parsed: dict[str, NodeClass | None] = field(default_factory=dict, repr=False)
    _expanders: dict[str, Expander] = field(default_factory=dict, repr=False)
    _checks: dict[str, Check | None] = field(default_factory=dict, repr=False)
    _plans: dict[str, QuickPlan | None] = field(default_factory=dict, repr=False)

    @classmethod
    def from_object_info(
        cls,
        info: Mapping[str, Any],
        *,
        version: str | None = None,
        validators: Mapping[str, Collection[str]] | None = None,
        replacements: Mapping[str, Any] | None = None,
    ) -> "NodeCatalog":
        """Read what `GET /object_info` answers. Entries that are not objects are left out.

        Without a `version` the release is told by the shape of the entries.
        """
        entries = {name: entry for name, entry in info.items() if isinstance(entry, Mapping)}
        release = parse_version(version) if version else None
        return cls(
            entries=entries,
            rules=rules_for(release or guess_version(entries)),
            version=version,
            validators=validators,
            replacements=replacements,
        )

    def get(self, class_type: object) -> NodeClass | None:
        """Return the class, or `None` where it is unknown or its entry is malformed."""
        if not isinstance(class_type, str):
            return None
        try:
            return self._parsed[class_type]
        except KeyError:
            entry = self.entries.get(class_type)
            if entry is None:
                return None
            found = node_class(class_type, entry)
            if found is not None and self.input_files is not None:
                found = _with_files(found, self.input_files)
            self._parsed[class_type] = found
            return found

    def __contains__(self, class_type: object) -> bool:
        """Whether the class is known and usable."""
        return self.get(class_type) is not None

    def __len__(self) -> int:
        """How many entries there are."""
        return len(self.entries)

    def __iter__(self) -> Iterator[NodeClass]:
        """Go through all usable classes; this parses every one."""
        for name in self.entries:
            found = self.get(name)
            if found is not None:
                yield found

    @property
    def names(self) -> Collection[str]:
        """All class types."""
        return self.entries.keys()

    def expand(self, node: NodeClass, given: Mapping[str, Any]) -> Expansion:
        """Return the plain inputs of a node of that class for what it was given."""
        expander = self._expanders.get(node.name)
        if expander is None or expander.node is not node:
            expander = self._expanders[node.name] = Expander(node)
        return expander.expand(given)

    def check(self, node: NodeClass) -> Check | None:
        """Return the class' own validation function, as far as it is known here."""
        try:
            return self._checks[node.name]
        except KeyError:
            found = self._checks[node.name] = check_of(node, self.validators, self.rules)
            return found

    def quick_plan(self, class_type: object) -> QuickPlan | None:
        """Return how to judge nodes of a class quickly; `None` where they need the walk."""
        if type(class_type) is not str:
            return None
        try:
            return self._plans[class_type]
        except KeyError:
            node = self.get(class_type)
            if node is None:
                return None  # not kept: there is no end to the names that somebody may send
            plan = self._plans[class_type] = plan_of(node, self.check(node), self.rules)
            return plan

    def with_input_files(self, files: Collection[str]) -> "NodeCatalog":
        """Return this catalog with the file inputs offering `files`.

        `/object_info` holds the names of the day it was recorded, the input directory changes with
        each upload. Names are relative to the input directory (`"cat.png"`, `"sub/cat.png"`); those of
        other directories carry ComfyUI's annotation (`"cat.png [output]"`).
        """
        return replace(
            self, input_files=frozenset(files), _parsed={}, _expanders={}, _checks={}, _plans={}
        )


def _with_files(node: NodeClass, files: frozenset[str]) -> NodeClass:
    """Replace the choices of each file input by the files of its kind."""
    if not any(upload_kind(spec) for spec in node.inputs):
        return node
    return replace(
        node,
        inputs=tuple(
            with_choices(spec, offered_files(node.name, spec, files)) if upload_kind(spec) else spec
            for spec in node.inputs
        ),
    )
