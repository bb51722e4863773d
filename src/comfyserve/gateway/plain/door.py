"""The plain door: who may come in, what is checked before anything wakes, and how errors look."""

from collections.abc import Mapping
from typing import Any

import msgspec
from starlette.types import Receive, Scope, Send

from comfyserve.domain.errors import ComfyserveError, EngineFailure, InvalidInput
from comfyserve.gateway.admission import admit
from comfyserve.gateway.answers import json_response
from comfyserve.gateway.auth import ADMIN, RUN
from comfyserve.gateway.context import Gateway, decode_json
from comfyserve.gateway.errors import control_error, headers_of, status_of
from comfyserve.gateway.plain.call import Call
from comfyserve.gateway.plain.http import Exchange, proxy_http
from comfyserve.gateway.plain.inbound import Inbound
from comfyserve.gateway.plain.socket import proxy_socket
from comfyserve.runtime.inputs import InputsSchema

_WITH_INPUTS = frozenset({"POST", "PUT", "PATCH"})
_MOST_SCHEMAS = 256


class WrongInputs(InvalidInput):
    """A body that an application's schema does not allow, with all that is wrong with it."""

    code = "invalid_inputs"

    def __init__(self, name: str, findings: list[Mapping[str, Any]]) -> None:
        super().__init__(f"the body is not what '{name}' takes: {len(findings)} findings")
        self.findings = findings


class PlainDoor:
    """Serves deployments that are no ComfyUI."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._schemas: dict[str, InputsSchema] = {}

    async def __call__(self, call: Call, receive: Receive, send: Send) -> None:
        """Serve one exchange or WebSocket. Whatever goes wrong is answered here."""
        try:
            await self._serve(call, receive, send)
        except ComfyserveError as error:
            await self._refuse(error, call, receive, send)

    async def _serve(self, call: Call, receive: Receive, send: Send) -> None:
        deployment = call.deployment
        call.principal.require(RUN, deployment.id)
        await admit(self._gateway, deployment, call.principal)
        fleet, session = self._gateway.runtime.fleet(deployment.id), self._gateway.upstream
        if call.scope["type"] == "websocket":
            await proxy_socket(call, fleet, session, receive, send)
            return
        inbound = Inbound(receive)
        exchange = Exchange(call, fleet, session, inbound, send, self._check_of(call))
        await proxy_http(exchange)

    def _check_of(self, call: Call) -> "InputsCheck | None":
        """What is to be held against the body, if anything."""
        inputs, method = call.deployment.spec.inputs, call.scope["method"]
        if inputs is None or method not in _WITH_INPUTS:
            return None
        revision_id = call.deployment.revision.id
        if revision_id not in self._schemas:
            if len(self._schemas) >= _MOST_SCHEMAS:
                self._schemas.clear()
            self._schemas[revision_id] = InputsSchema(inputs)
        limit = self._gateway.settings.max_body_bytes
        return InputsCheck(self._schemas[revision_id], call.deployment.name, limit)

    async def _refuse(
        self, error: ComfyserveError, call: Call, receive: Receive, send: Send
    ) -> None:
        if call.scope["type"] == "websocket":
            await _refuse_socket(error, call.scope, send)
            return
        if isinstance(error, WrongInputs):
            body = {"code": error.code, "message": error.message}
            answer = json_response({"error": body, "detail": error.findings}, 422)
        elif isinstance(error, EngineFailure) and ADMIN not in call.principal.scopes:
            # The end of a log is the operator's: it may hold anything.
            bare = {"code": error.code, "message": error.message, "details": {}}
            answer = json_response({"error": bare}, status_of(error), headers_of(error))
        else:
            answer = control_error(error)
        await answer(call.scope, receive, send)


class InputsCheck:
    """A schema to hold against one body, before anything wakes for it."""

    def __init__(self, schema: InputsSchema, name: str, limit_bytes: int) -> None:
        self._schema = schema
        self._name = name
        self._limit_bytes = limit_bytes

    async def check(self, inbound: Inbound) -> None:
        """Raises WrongInputs with every finding, PayloadTooLarge, and InvalidInput for no JSON."""
        body = decode_json(await inbound.read(self._limit_bytes) or b"null")
        findings = self._schema.findings(body)
        if findings:
            # As FastAPI words it, which clients know.
            raise WrongInputs(
                self._name,
                [
                    {"loc": ["body", *finding.where], "msg": finding.message, "type": "value_error"}
                    for finding in findings
                ],
            )


async def _refuse_socket(error: ComfyserveError, scope: Scope, send: Send) -> None:
    """Before it is accepted a WebSocket can be answered as a request is."""
    if "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close", "code": 1008, "reason": error.message[:120]})
        return
    body = msgspec.json.encode({"error": {"code": error.code, "message": error.message}})
    headers = [(b"content-type", b"application/json")]
    headers += [(k.lower().encode(), v.encode()) for k, v in headers_of(error).items()]
    status = status_of(error)
    await send({"type": "websocket.http.response.start", "status": status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": body})
