"""Widget values: what the frontend turns them into when it writes the prompt.

Facts: `processDynamicPrompt`, `applyTextReplacements`, `formatDate` and the number widgets' callbacks of
ComfyUI's frontend, in our own words in `docs/workflows.md`.
"""

import math
import re
from collections.abc import Callable
from datetime import datetime
from enum import Enum
from typing import Final, Literal, TypeAlias

Choose: TypeAlias = Callable[[int], int]
"""Takes how many alternatives there are, answers which one; asked in the order of the text."""


class Unset(Enum):
    """JavaScript's `undefined`: a widget that holds it is left out of the prompt."""

    UNSET = "unset"


UNSET: Final[Literal[Unset.UNSET]] = Unset.UNSET

_COMMENT_START: Final = re.compile(r"/[*/]")
_LINE_END: Final = re.compile(r"[\n\r\u2028\u2029]")
_ESCAPED_BRACE: Final = re.compile(r"\\([{}|])")
_PATTERN: Final = re.compile(r"%([^%]+)%")
_UNSAFE_IN_FILE_NAME: Final = re.compile(r"[/?<>\\:*|\"\x00-\x1f\x7f]")
_DATE_PART: Final = re.compile(r"dd?|MM?|hh?|mm?|ss?|yyy?y?")
_MAX_PROMPT_DEPTH: Final = 100
_MAX_PROMPT: Final = 200_000
_MAX_REPLACED: Final = 1000
_MAX_REPLACEMENT: Final = 10_000
_LONGEST_NUMBER: Final = 400
_LARGEST: Final = 10**300
_MAX_LIST_DEPTH: Final = 20


def first_choice(_count: int) -> int:
    """Choose the first alternative: the documented default of dynamic prompts."""
    return 0


def dynamic_prompt(text: str, choose: Choose, *, depth: int = 0) -> str:
    """Strip comments, replace `{a|b}` by one alternative (nesting allowed), unescape braces.

    Alternatives nested deeper than 100 levels are left as they are, as are texts of more than 200,000
    characters.
    """
    if len(text) > _MAX_PROMPT:
        return text
    text = _without_comments(text)
    if "{" not in text or depth >= _MAX_PROMPT_DEPTH:
        return _ESCAPED_BRACE.sub(r"\1", text)
    result: list[str] = []
    at, end = 0, len(text)
    while at < end:
        char = text[at]
        if char == "\\":
            result.append(text[at : at + 2])
            at += 2
        elif char == "{":
            options, at = _alternatives(text, at + 1)
            chosen = options[min(max(choose(len(options)), 0), len(options) - 1)]
            result.append(dynamic_prompt(chosen, choose, depth=depth + 1))
        else:
            result.append(char)
            at += 1
    return _ESCAPED_BRACE.sub(r"\1", "".join(result))


def _without_comments(text: str) -> str:
    """Strip `/*...*/` and `//...`; one that is not closed stays."""
    kept: list[str] = []
    at = 0
    while (start := _COMMENT_START.search(text, at)) is not None:
        if start[0] == "//":
            line = _LINE_END.search(text, start.end())
            end = len(text) if line is None else line.start()
        else:
            closed = text.find("*/", start.end())
            if closed < 0:  # then no later one is closed either
                return "".join(
                    (*kept, text[at : start.start()], _without_lines(text, start.start()))
                )
            end = closed + 2
        kept.append(text[at : start.start()])
        at = end
    return "".join((*kept, text[at:]))


def _without_lines(text: str, at: int) -> str:
    return re.sub(r"//[^\n\r\u2028\u2029]*", "", text[at:])


def _alternatives(text: str, at: int) -> tuple[list[str], int]:
    """Read the alternatives behind an opening brace; an unclosed block ends with the text."""
    options: list[str] = []
    start, depth, end = at, 0, len(text)
    while at < end:
        char = text[at]
        if char == "\\":
            at += 2
            continue
        if char == "{":
            depth += 1
        elif char == "}":
            if not depth:
                break
            depth -= 1
        elif char == "|" and not depth:
            options.append(text[start:at])
            start = at + 1
        at += 1
    options.append(text[start:at])
    return options, at + 1


def replace_patterns(
    text: str, find: Callable[[str, str], str | None], now: datetime | None
) -> str:
    """Replace `%Node.widget%` by what `find(node, widget)` gives and `%date:FORMAT%` by the time.

    Patterns that `find` does not know stay, as do dates where nobody said what time it is, and all
    behind the first thousand.
    """

    def replacement(match: re.Match[str]) -> str:
        parts = match[1].split(".")
        if len(parts) == 2:
            found = find(parts[0], parts[1])
            if found is None:
                return match[0]
            return _UNSAFE_IN_FILE_NAME.sub("_", found[:_MAX_REPLACEMENT])
        if parts[0].startswith("date:") and now is not None:
            return format_date(parts[0].removeprefix("date:"), now)
        return match[0]

    return _PATTERN.sub(replacement, text, count=_MAX_REPLACED) if "%" in text else text


def format_date(pattern: str, now: datetime) -> str:
    """Write a date by the frontend's tokens: d M h m s, twice for two digits, yy and yyyy."""
    fields = {"d": now.day, "M": now.month, "h": now.hour, "m": now.minute, "s": now.second}

    def part(match: re.Match[str]) -> str:
        letters = match[0]
        if letters[0] == "y":
            return {4: str(now.year), 2: str(now.year)[2:]}.get(len(letters), letters)
        return str(fields[letters[0]]).zfill(len(letters))

    return _DATE_PART.sub(part, pattern)


def as_text(value: object, *, depth: int = 0) -> str:
    """Write a value as JavaScript's `String` does; lists nested deeper than 20 levels are empty."""
    match value:
        case None | Unset.UNSET:
            return ""
        case bool():
            return "true" if value else "false"
        case float() if value.is_integer() and abs(value) < 1e21:
            return str(int(value))
        case list():
            inner = value if depth < _MAX_LIST_DEPTH else ()
            return ",".join(as_text(each, depth=depth + 1) for each in inner)
        case dict():
            return "[object Object]"
        case _:
            return str(value)


def as_text_box(value: object) -> str:
    """Return what an HTML text area makes of a value: text with plain line feeds."""
    return as_text(value).replace("\r\n", "\n").replace("\r", "\n")


def as_number(value: object) -> float | int | None:
    """Return a value as a number, `None` where JavaScript would have none."""
    match value:
        case None:
            return 0
        case bool() | int():
            return int(value) if -_LARGEST < value < _LARGEST else None
        case float():
            return value if math.isfinite(value) else None
        case str() if len(value) < _LONGEST_NUMBER:
            return _parsed(value)
        case _:
            return None


def _parsed(text: str) -> float | int | None:
    try:
        number = float(text or 0)
    except ValueError:
        return None
    return _plain(number) if math.isfinite(number) else None


def round_to_step(value: object, *, step: float, minimum: float) -> float:
    """Round a whole number to its step, counted from the minimum, as the INT widget does.

    Whole numbers with step 1 stay exact whatever their size: seeds have 64 bits. What is no number
    becomes NaN, which the prompt shows as null.
    """
    number = as_number(value)
    if number is None:
        return math.nan
    if step == 1:
        return number if isinstance(number, int) else _round_half_up(number)
    offset = math.fmod(minimum, step)
    return _plain(_round_half_up((number - offset) / step) * step + offset)


def round_to_precision(value: object, *, unit: float, precision: int) -> float:
    """Round to a multiple of `unit` with `precision` decimals, as the FLOAT widget does."""
    number = as_number(value)
    if number is None or not math.isfinite(number / unit):
        return math.nan
    return _plain(float(f"{_round_half_up(number / unit) * unit:.{precision}f}"))


def _round_half_up(number: float) -> int:
    return math.floor(number + 0.5)


def _plain(number: float) -> float | int:
    """Write whole numbers without a fraction, as JavaScript does."""
    return int(number) if float(number).is_integer() and abs(number) < 2**53 else number
