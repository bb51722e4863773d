"""Names that look like a misspelt one, within bounded time."""

from collections.abc import Iterable, Iterator

_MAX_LENGTH = 200
_ENOUGH = 0.45


class Nearest:
    """Finds look-alikes; stops looking when its budget of comparisons is used up."""

    def __init__(self, budget: int = 20_000) -> None:
        """Allow that many comparisons in all."""
        self._left = budget

    def of(self, given: object, candidates: Iterable[object], *, most: int = 3) -> tuple[str, ...]:
        """Return the candidates closest to the given name, the best first."""
        if not isinstance(given, str) or not 0 < len(given) <= _MAX_LENGTH:
            return ()
        wanted = _Shape(given)
        scored = []
        for candidate in self._affordable(candidates):
            score = wanted.likeness(_Shape(candidate))
            if score >= _ENOUGH:
                scored.append((-score, candidate))
        return tuple(candidate for _, candidate in sorted(scored)[:most])

    def _affordable(self, candidates: Iterable[object]) -> Iterator[str]:
        for candidate in candidates:
            if self._left <= 0:
                return
            self._left -= 1
            if isinstance(candidate, str) and len(candidate) <= _MAX_LENGTH:
                yield candidate


class _Shape:
    """What is compared of a name: folder, case, ending and punctuation count for little."""

    __slots__ = ("pairs", "plain", "stem")

    def __init__(self, name: str) -> None:
        base = name.replace("\\", "/").rpartition("/")[2].casefold()
        stem = base.rpartition(".")[0] or base
        self.stem = "".join(char for char in stem if char.isalnum()) or stem
        self.plain = base
        self.pairs = {self.stem[at : at + 2] for at in range(len(self.stem) - 1)} or {self.stem}

    def likeness(self, other: "_Shape") -> float:
        """Return 1 for the same file in another folder or case, down to 0."""
        if self.plain == other.plain:
            return 1.0
        if self.stem == other.stem:
            return 0.95
        return 2 * len(self.pairs & other.pairs) / (len(self.pairs) + len(other.pairs))
