"""The body of a call, read: inputs by name, whether they came as JSON or as a form."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec
from python_multipart.multipart import parse_options_header
from starlette.requests import ClientDisconnect, Request

from comfyserve.domain.errors import InvalidInput
from comfyserve.gateway.context import read_body
from comfyserve.gateway.door import Call
from comfyserve.gateway.errors import Refusal
from comfyserve.gateway.typed.errors import invalid_request
from comfyserve.gateway.typed.forms import Upload, received_files
from comfyserve.workflow.interface import Interface, Kind

_FORM = b"multipart/form-data"
_JSON = (b"application/json", b"")


@dataclass(frozen=True, slots=True)
class Sent:
    """Inputs by name. A file that came with them is an `Upload`."""

    values: Mapping[str, Any]
    is_form: bool = False
    uploads: Mapping[str, Upload] = field(default_factory=dict)

    def digest(self, *more: str) -> str:
        """What tells this request from another one: texts as they came, files by content."""
        told = {
            name: f"blake3:{value.incoming.digest}" if isinstance(value, Upload) else value
            for name, value in self.values.items()
        }
        document = msgspec.json.encode([told, more], order="deterministic")
        return hashlib.blake2b(document, digest_size=16).hexdigest()


@asynccontextmanager
async def received(call: Call, interface: Interface) -> AsyncIterator[Sent]:
    """Read the body. Its files are there until the context is left.

    Raises Refusal, InvalidInput and PayloadTooLarge; a body that takes too long is refused with 408.
    """
    request, settings = call.request, call.gateway.settings
    kind = parse_options_header(request.headers.get("content-type"))[0].lower()
    if kind not in (_FORM, *_JSON):
        raise Refusal(
            415,
            "unsupported_media_type",
            f"inputs come as application/json or multipart/form-data, not as "
            f"'{kind.decode('latin-1')[:80]}'",
        )
    if kind == _FORM:
        limit = call.target.deployment.spec.limits.max_upload_bytes
        form = received_files(request, call.gateway.store.blobs, limit)
        texts, uploads = await in_time(form.__aenter__(), settings.upload_timeout_s)
        try:
            yield Sent({**_read_texts(texts, interface), **uploads}, is_form=True, uploads=uploads)
        finally:
            await form.__aexit__(None, None, None)
        return
    yield Sent(await read_json_object(request, settings.max_body_bytes, settings.upload_timeout_s))


async def read_json_object(request: Request, limit: int, timeout_s: float) -> dict[str, Any]:
    """Read a JSON object; no body at all is an empty one. Raises Refusal, InvalidInput, PayloadTooLarge."""
    try:
        body = await in_time(read_body(request, limit), timeout_s)
    except ClientDisconnect:
        raise InvalidInput("the client left before its body was complete") from None
    if not body.strip():
        return {}
    try:
        sent = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise Refusal(400, "invalid_json", f"the body is not JSON: {error}") from None
    if not isinstance(sent, dict):
        raise invalid_request(
            f"the body must be a JSON object of inputs by name, not {type(sent).__name__}"
        )
    return sent


async def in_time(work: Any, timeout_s: float) -> Any:  # noqa: ANN401 - whatever the work gives
    """Await the arrival of a body. Raises Refusal `upload_timeout`."""
    try:
        async with asyncio.timeout(timeout_s):
            return await work
    except TimeoutError:
        raise Refusal(
            408,
            "upload_timeout",
            f"the body did not arrive within {timeout_s:g} s (setting upload_timeout_s); "
            "nothing was accepted",
        ) from None


def _read_texts(texts: Mapping[str, str], interface: Interface) -> Mapping[str, Any]:
    """A form holds texts: those of inputs that take any JSON are read as such."""
    found: dict[str, Any] = dict(texts)
    for name, text in texts.items():
        each = interface.input(name)
        if each is not None and each.kind is Kind.JSON:
            try:
                found[name] = msgspec.json.decode(text)
            except msgspec.DecodeError:
                found[name] = text
    return found
