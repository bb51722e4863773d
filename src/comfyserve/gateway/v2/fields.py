"""What callers send to this door, read and checked: nothing is guessed, nothing unknown is taken."""

import re
from collections.abc import Mapping
from typing import Any

from starlette.datastructures import QueryParams

from comfyserve.gateway.errors import Refusal
from comfyserve.gateway.fields import LABEL_KEY, UNSEEN
from comfyserve.gateway.v2.errors import invalid_request

_MOST_FILTERS = 3
_FILTER = re.compile(r"metadata\[(.*)\]", re.DOTALL)
_HASH = re.compile(r"blake3:([0-9a-f]{64})")
_CONTENT_TYPE = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,62}/[a-z0-9][a-z0-9!#$&^_.+-]{0,62}")
_EXPIRES_IN_S = (60, 604_800)
_MOST_TAGS = 32
_MOST_TAG_CHARACTERS = 128
_MOST_PATH_BYTES = 1024
_MOST_NAME_BYTES = 200


def read_label_filter(query: QueryParams) -> Mapping[str, str]:
    """`metadata[key]=value`, up to three of them. Raises Refusal `invalid_metadata_filter`."""
    chosen: dict[str, str] = {}
    for name, value in query.multi_items():
        if not name.startswith("metadata"):
            continue
        found = _FILTER.fullmatch(name)
        if found is None or LABEL_KEY.fullmatch(found[1]) is None:
            raise _bad_filter(f"'{name[:80]}' is no label filter; write metadata[key]=value")
        if found[1] in chosen:
            raise _bad_filter(f"the label '{found[1]}' is filtered twice")
        chosen[found[1]] = value
    if len(chosen) > _MOST_FILTERS:
        raise _bad_filter(f"{len(chosen)} labels are filtered; at most {_MOST_FILTERS} can be")
    return chosen


def read_secrets(extra_data: object) -> Mapping[str, Any]:
    """`extra_data`, which is closed: a key for ComfyUI's paid nodes and nothing else."""
    if extra_data is None:
        return {}
    if not isinstance(extra_data, dict):
        raise invalid_request(f"extra_data must be an object, not {type(extra_data).__name__}")
    refuse_unknown(extra_data, frozenset({"api_key_comfy_org"}), "extra_data")
    if not all(isinstance(value, str) for value in extra_data.values()):
        raise invalid_request("extra_data.api_key_comfy_org must be a text")
    return extra_data


def refuse_unknown(given: Mapping[str, Any], known: frozenset[str], what: str) -> None:
    """Raise Refusal for the first field that the contract does not have, or reserves."""
    for name in given:
        if name not in known:
            raise invalid_request(
                f"{what} has the field '{name[:80]}', which is not taken; "
                f"known are {', '.join(sorted(known))}"
            )


def read_hash(value: object, name: str) -> str:
    """The hexadecimal digest in `blake3:...`. Raises Refusal."""
    found = _HASH.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise invalid_request(f"{name} must be 'blake3:' and 64 lowercase hexadecimal digits")
    return found[1]


def read_content_type(text: str) -> str:
    """A media type without its parameters. Raises Refusal."""
    essence = text.partition(";")[0].strip().lower()
    if _CONTENT_TYPE.fullmatch(essence) is None:
        raise invalid_request(f"content_type must be like 'image/png', not '{text[:80]}'")
    return essence


def read_file_path(text: object) -> str:
    """A path in the namespace of uploads, normalised. Raises Refusal."""
    if not isinstance(text, str):
        raise invalid_request(f"file_path must be a text, not {type(text).__name__}")
    steps = [step for step in text.strip().split("/") if step not in {"", "."}]
    if text.strip().startswith("/") or ".." in steps or UNSEEN.search(text) or "\\" in text:
        raise invalid_request(
            f"file_path '{text[:80]}' must be relative, with '/' between its steps and without '..'"
        )
    if not steps or len(text.encode(errors="replace")) > _MOST_PATH_BYTES:
        raise invalid_request(f"file_path must have 1 to {_MOST_PATH_BYTES} bytes")
    if len(steps[-1].encode(errors="replace")) > _MOST_NAME_BYTES:
        raise invalid_request(f"the name in file_path must have at most {_MOST_NAME_BYTES} bytes")
    return "/".join(steps)


def read_expires_in(value: object) -> int | None:
    """Seconds to keep an upload, a number or its digits. Raises Refusal."""
    if value is None:
        return None
    least, most = _EXPIRES_IN_S
    text = "" if isinstance(value, bool) else str(value)
    is_number = text.isascii() and text.isdecimal() and len(text) < 10
    if not isinstance(value, int | str) or not is_number or not least <= int(text) <= most:
        raise invalid_request(f"expires_in must be a whole number of seconds, {least} to {most}")
    return int(text)


def read_tags(value: object) -> tuple[str, ...]:
    """Tags of an upload. Raises Refusal."""
    tags = () if value is None else value
    if not isinstance(tags, list | tuple) or len(tags) > _MOST_TAGS:
        raise invalid_request(f"tags must be a list of at most {_MOST_TAGS} texts")
    for tag in tags:
        if not isinstance(tag, str) or not 1 <= len(tag) <= _MOST_TAG_CHARACTERS:
            raise invalid_request(f"each tag must be a text of 1 to {_MOST_TAG_CHARACTERS}")
    return tuple(tags)


def _bad_filter(message: str) -> Refusal:
    return Refusal(400, "invalid_metadata_filter", message)
