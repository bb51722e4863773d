"""File inputs: an upload, a data URL, a stored asset, a URL, or a file that lies there already.

Each becomes stored bytes with a copy in the input directory, whose name the prompt gets.
"""

import asyncio
import base64
import binascii
import re
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from comfyserve.domain.errors import ComfyserveError, PayloadTooLarge
from comfyserve.domain.ids import is_canonical_uuid
from comfyserve.gateway.content_types import content_type_of
from comfyserve.gateway.door import Call
from comfyserve.gateway.stored_inputs import find_asset, lay_down
from comfyserve.gateway.typed.forms import Upload
from comfyserve.runtime.outside import FetchLimits
from comfyserve.store.blobs import Incoming
from comfyserve.store.references import NewReference
from comfyserve.workflow import NodeCatalog, Problem
from comfyserve.workflow.input_files import exists
from comfyserve.workflow.interface import InterfaceInput, Kind
from comfyserve.workflow.media_kinds import media_of
from comfyserve.workflow.nearest import Nearest
from comfyserve.workflow.problems import Code, shortened

_DATA_URL = re.compile(r"data:([^;,]{0,100})((?:;[^;,]{1,100})*),(.*)", re.DOTALL)
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
_STEM_CHARACTERS = 60
_FETCH_S = 60.0
_HEAD_BYTES = 64
_FOLDER = "run"
TAKEN = (
    "a file in a form, a data URL (data:image/png;base64,...), a URL, the id of an asset, or the "
    "name of a file in the input directory"
)


class Unusable(Exception):
    """A file that cannot be used; the text says why, and `hint` what would do."""

    def __init__(self, why: str, hint: str = "", nearest: tuple[str, ...] = ()) -> None:
        super().__init__(why)
        self.hint = hint
        self.nearest = nearest


@dataclass(frozen=True, slots=True)
class Resolved:
    """A file input as the prompt gets it, and as the job shows it."""

    name: str
    asset_id: str | None
    digest: str | None


async def resolve_file(
    call: Call, each: InterfaceInput, value: object, catalog: NodeCatalog
) -> Resolved | Problem:
    """Have the file of an input where the engine looks for it; or the reason why that cannot be."""
    try:
        return await _resolve(call, each, value, catalog)
    except Unusable as unusable:
        why, hint, nearest = str(unusable), unusable.hint, unusable.nearest
    except PayloadTooLarge as error:
        why, hint, nearest = error.message, "Give a smaller file.", ()
    except ComfyserveError as error:
        if error.code not in {"url_refused", "fetch_failed"}:
            raise
        why, hint, nearest = error.message, "Send the file itself, in a form or as a data URL.", ()
    shown = value.filename if isinstance(value, Upload) else shortened(str(value), 200)
    return Problem(
        Code.VALUE_REFUSED,
        f"The file of '{each.name}' cannot be used: {why}",
        input_name=each.name,
        given=shown,
        allowed=TAKEN,
        nearest=nearest,
        hint=hint or f"Give '{each.name}' {TAKEN}.",
    )


async def _resolve(
    call: Call, each: InterfaceInput, value: object, catalog: NodeCatalog
) -> Resolved:
    if isinstance(value, Upload):
        return await _keep(call, each, value.incoming, value.head, value.filename)
    if not isinstance(value, str) or not value:
        raise Unusable(f"it is {type(value).__name__}, not a text")
    if value.startswith("data:"):
        return await _from_data(call, each, value)
    if value.startswith(("http://", "https://")):
        return await _from_url(call, each, value)
    if is_canonical_uuid(value):
        asset = await find_asset(call, value)
        if asset is None:
            raise Unusable(f"there is no asset '{value}'", "Upload it again.")
        return Resolved(await lay_down(call, asset), asset.id, asset.digest)
    files = catalog.input_files or frozenset()
    if not exists(value, files):
        nearest = Nearest().of(value, files)
        hint = f"Did you mean '{nearest[0]}'?" if nearest else ""
        raise Unusable(f"there is no file '{value[:100]}' in the input directory", hint, nearest)
    return Resolved(value, None, None)


async def _from_data(call: Call, each: InterfaceInput, value: str) -> Resolved:
    # In a thread: it may be long, and others are not to be kept waiting.
    data = await asyncio.to_thread(_decode, value)
    incoming = call.gateway.store.blobs.begin()
    try:
        await asyncio.to_thread(incoming.write, data)
        return await _keep(call, each, incoming, data[:_HEAD_BYTES], each.name)
    finally:
        await asyncio.to_thread(incoming.discard)


def _decode(value: str) -> bytes:
    found = _DATA_URL.fullmatch(value)
    if found is None:
        raise Unusable("this is no data URL", "Write data:image/png;base64,... .")
    try:
        if found[2].lower().endswith(";base64"):
            return base64.b64decode(unquote(found[3]), validate=True)
        return unquote(found[3], errors="strict").encode("latin-1")
    except (binascii.Error, ValueError):
        raise Unusable("its data is not valid base64", "Encode the bytes as base64.") from None


async def _from_url(call: Call, each: InterfaceInput, value: str) -> Resolved:
    limits = FetchLimits(
        size_bytes=call.target.deployment.spec.limits.max_upload_bytes, timeout_s=_FETCH_S
    )
    incoming, head = call.gateway.store.blobs.begin(), b""
    try:
        async with call.gateway.outside.fetch(value, limits) as fetched:
            async for chunk in fetched.chunks():
                head = head or chunk[:_HEAD_BYTES]
                await asyncio.to_thread(incoming.write, chunk)
        name = unquote(urlsplit(fetched.url).path).rpartition("/")[2]
        return await _keep(call, each, incoming, head, name)
    finally:
        await asyncio.to_thread(incoming.discard)


async def _keep(
    call: Call, each: InterfaceInput, incoming: Incoming, head: bytes, name: str
) -> Resolved:
    """Store bytes that are what the input takes, and lay them down."""
    filename = _file_name(each, head, name)
    store = call.gateway.store
    blob = await asyncio.to_thread(store.blobs.place, incoming)
    referenced = await store.references.refer(
        NewReference(
            deployment_id=call.deployment_id,
            digest=blob.digest,
            file_path=f"{_FOLDER}/{filename}",
            expires_at=call.now + call.retention_s if call.retention_s else None,
            size_bytes=blob.size_bytes,
            content_type=content_type_of(filename),
        ),
        call.now,
    )
    asset = referenced.asset
    return Resolved(await lay_down(call, asset), asset.id, asset.digest)


def _file_name(each: InterfaceInput, head: bytes, name: str) -> str:
    """A name whose ending is that of the content. Raises Unusable for other content."""
    if not head:
        raise Unusable("it is empty")
    stem, dot, ending = name.replace("\\", "/").rpartition("/")[2].rpartition(".")
    if not dot:
        stem, ending = ending, ""
    if each.kind is not Kind.MODEL:
        media = media_of(head)
        if media is None or each.kind.value not in media.kinds:
            article = "an" if each.kind.value[0] in "aeiou" else "a"
            raise Unusable(
                f"its content is not {article} {each.kind.value}",
                f"Give '{each.name}' {article} {each.kind.value} file.",
            )
        ending = media.ending.removeprefix(".")
    safe = _UNSAFE.sub("_", stem).strip("._-")[:_STEM_CHARACTERS] or "file"
    kept = _UNSAFE.sub("", ending)[:12]
    return f"{safe}.{kept}" if kept else safe
