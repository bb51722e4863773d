"""The control API and the native door as methods: typed answers, nothing cached."""

import json
import mimetypes
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

import msgspec

from comfyserve.cli import answers
from comfyserve.cli import webhook_answers as hooks
from comfyserve.cli.answers import Answer
from comfyserve.cli.errors import ServerFailed
from comfyserve.cli.events import JobEvent, read_events
from comfyserve.cli.revisions import Revisions
from comfyserve.domain.budget import BudgetKind
from comfyserve.sdk.servers import expected_server
from comfyserve.sdk.transport import Query, Request, Transport

T = TypeVar("T")

_API = "/api/v1"
HEARTBEATS_S = 45.0
"""Three heartbeats of a stream (one each 15 s): after that the connection is lost."""


def connect(url: str | None = None, token: str | None = None) -> "Client":
    """Return a client for the server that is meant: see `comfyserve.sdk.servers`."""
    server = expected_server(url, token)
    return Client(Transport(server.url, server.token))


class Client:
    """One server. Every method raises the errors of `Transport.send`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    @property
    def url(self) -> str:
        """Where the server is."""
        return self._transport.url

    @property
    def transport(self) -> Transport:
        """What sends to it, for what is streamed."""
        return self._transport

    def ask(
        self,
        method: str,
        path: str,
        kind: type[T],
        *,
        query: Query | None = None,
        body: Mapping[str, Any] | None = None,
        timeout_s: float = 60.0,
    ) -> Answer[T]:
        """One exchange with the control API, for nouns whose commands know their own routes."""
        data = None if body is None else json.dumps(body).encode()
        headers = {} if data is None else {"Content-Type": "application/json"}
        request = Request(method, _API + path, query or {}, data, headers, timeout_s=timeout_s)
        return self._decode(path, self._transport.send(request) or b"null", kind)

    def ready(self, timeout_s: float = 30.0) -> Answer[answers.Ready]:
        """The server's own state."""
        return self._get("/health/ready", answers.Ready, timeout_s=timeout_s)

    def deployments(self) -> Answer[answers.Deployments]:
        """All deployments."""
        return self._get("/deployments", answers.Deployments)

    def deployment(self, name: str) -> Answer[answers.Deployment]:
        """One deployment."""
        return self._get(f"/deployments/{quote(name, safe='')}", answers.Deployment)

    def deploy(
        self, name: str, spec: Mapping[str, Any], timeout_s: float
    ) -> Answer[answers.Deployment]:
        """Create a deployment or give it a new revision; the engine starts once meanwhile."""
        path = f"/deployments/{quote(name, safe='')}"
        return self._call("PUT", path, answers.Deployment, body=spec, timeout_s=timeout_s)

    def change_deployment(
        self, name: str, verb: str, body: Mapping[str, Any] | None = None, timeout_s: float = 60.0
    ) -> Answer[answers.Deployment]:
        """Apply `stop`, `start`, `warm` or `rollback`."""
        path = f"/deployments/{quote(name, safe='')}/{verb}"
        return self._call("POST", path, answers.Deployment, body=body, timeout_s=timeout_s)

    def revisions(self, name: str) -> Answer[Revisions]:
        """All revisions of a deployment."""
        return self._get(f"/deployments/{quote(name, safe='')}/revisions", Revisions)

    def delete_deployment(self, name: str) -> None:
        """Delete a deployment; its open jobs are canceled, its replicas stop."""
        self._transport.send(Request("DELETE", f"{_API}/deployments/{quote(name, safe='')}"))

    def publish(
        self, name: str, body: Mapping[str, Any], deployment: str | None
    ) -> Answer[answers.Endpoint]:
        """Make a workflow the next version of an endpoint."""
        path, query = f"/endpoints/{quote(name, safe='')}", {"deployment": deployment}
        return self._call("PUT", path, answers.Endpoint, body=body, query=query)

    def endpoints(self, deployment: str | None) -> Answer[answers.Endpoints]:
        """The endpoints of one deployment, or all."""
        return self._get("/endpoints", answers.Endpoints, {"deployment": deployment})

    def endpoint(self, name: str, deployment: str | None) -> Answer[answers.Endpoint]:
        """One endpoint, and whether it fits its deployment."""
        path = f"/endpoints/{quote(name, safe='')}"
        return self._get(path, answers.Endpoint, {"deployment": deployment})

    def endpoint_versions(
        self, name: str, deployment: str | None
    ) -> Answer[answers.EndpointVersions]:
        """All versions of an endpoint."""
        path = f"/endpoints/{quote(name, safe='')}/versions"
        return self._get(path, answers.EndpointVersions, {"deployment": deployment})

    def use_version(
        self, name: str, number: int, deployment: str | None
    ) -> Answer[answers.Endpoint]:
        """Make a version the current one."""
        path = f"/endpoints/{quote(name, safe='')}/versions/{number}/use"
        return self._call("POST", path, answers.Endpoint, query={"deployment": deployment})

    def delete_endpoint(self, name: str, deployment: str | None) -> None:
        """Delete an endpoint with its versions."""
        path = f"{_API}/endpoints/{quote(name, safe='')}"
        self._transport.send(Request("DELETE", path, {"deployment": deployment}))

    def replicas(
        self, *, deployment: str | None = None, ended: bool = False
    ) -> Answer[answers.Replicas]:
        """Replicas that live, with `ended` those that do not any more too."""
        query = {"deployment": deployment, "all": "true" if ended else None}
        return self._get("/replicas", answers.Replicas, query)

    def stop_replica(self, replica_id: str) -> Answer[answers.Replica]:
        """Stop one replica."""
        path = f"/replicas/{quote(replica_id, safe='')}/stop"
        return self._call("POST", path, answers.Replica)

    def logs(self, kind: str, name: str, *, tail: int, follow: bool) -> Iterator[bytes]:
        """Yield the log of a replica (`kind` replicas) or a deployment's newest (deployments)."""
        query = {"tail": tail, "follow": "true" if follow else None}
        path = f"{_API}/{kind}/{quote(name, safe='')}/logs"
        # A log that is followed may be silent for as long as its engine is.
        timeout_s = 24 * 3600.0 if follow else 30.0
        return self._transport.chunks(Request("GET", path, query, timeout_s=timeout_s))

    def jobs(self, query: Query) -> Answer[answers.JobPage]:
        """One page of jobs; `query` takes deployment, state, label, limit and cursor."""
        return self._get("/jobs", answers.JobPage, query)

    def job(self, job_id: str) -> Answer[answers.Job]:
        """One job with outputs and receipt."""
        return self._get(f"/jobs/{quote(job_id, safe='')}", answers.Job)

    def cancel_job(self, job_id: str) -> Answer[answers.Job]:
        """Cancel a job; one that has ended stays as it is."""
        return self._call("POST", f"/jobs/{quote(job_id, safe='')}/cancel", answers.Job)

    def job_events(
        self, job_id: str, waits: Callable[[], float] = lambda: HEARTBEATS_S
    ) -> Iterator[JobEvent | None]:
        """Yield a job's events until it ends, None for a heartbeat; `waits` bounds each wait."""
        path = f"{_API}/jobs/{quote(job_id, safe='')}/events"
        request = Request("GET", path, headers={"Accept": "text/event-stream"}, timeout_s=waits())
        try:
            yield from read_events(self._transport.lines(request, waits))
        except msgspec.MsgspecError as error:
            raise self._unexpected(path, error) from error

    def usage(self, query: Query) -> Answer[answers.Usage]:
        """The ledger; `query` takes deployment, since, until and by."""
        return self._get("/usage", answers.Usage, query)

    def usage_csv(self, query: Query) -> bytes:
        """The groups of the ledger as a table; `query` as for `usage`."""
        return self._transport.send(Request("GET", f"{_API}/usage.csv", query))

    def estimate(self, deployment: str, workflow: bytes) -> Answer[answers.Estimate]:
        """What a workflow would take and cost, by what has run."""
        path = f"/deployments/{quote(deployment, safe='')}/workflows:estimate"
        request = Request("POST", _API + path, body=workflow, timeout_s=60.0)
        return self._decode(path, self._transport.send(request), answers.Estimate)

    def budgets(self) -> Answer[answers.Budgets]:
        """All monthly caps."""
        return self._get("/budgets", answers.Budgets)

    def put_budget(
        self, kind: BudgetKind, name: str, monthly_cost: float
    ) -> Answer[answers.Budget]:
        """Cap a deployment, by name, or a token, by id."""
        path = f"/budgets/{kind}/{quote(name, safe='')}"
        return self._call("PUT", path, answers.Budget, body={"monthly_cost": monthly_cost})

    def delete_budget(self, kind: BudgetKind, name: str) -> None:
        """Lift a cap."""
        self._transport.send(Request("DELETE", f"{_API}/budgets/{kind}/{quote(name, safe='')}"))

    def tokens(self) -> Answer[answers.Tokens]:
        """All tokens, without their secrets."""
        return self._get("/tokens", answers.Tokens)

    def create_token(
        self, name: str, scopes: Sequence[str], deployment: str | None
    ) -> Answer[answers.Token]:
        """Make a token; only this answer has its secret."""
        body = {"name": name, "scopes": list(scopes), "deployment": deployment}
        return self._call("POST", "/tokens", answers.Token, body=body)

    def revoke_token(self, token_id: str) -> None:
        """Make a token worthless."""
        self._transport.send(Request("DELETE", f"{_API}/tokens/{quote(token_id, safe='')}"))

    def webhooks(self, deployment: str | None) -> Answer[hooks.Webhooks]:
        """The webhooks of one deployment, or all."""
        return self._get("/webhooks", hooks.Webhooks, {"deployment": deployment})

    def webhook(self, webhook_id: str) -> Answer[hooks.Webhook]:
        """One webhook."""
        return self._get(f"/webhooks/{quote(webhook_id, safe='')}", hooks.Webhook)

    def create_webhook(self, body: Mapping[str, Any]) -> Answer[hooks.Webhook]:
        """Make a webhook; only this answer has its secret."""
        return self._call("POST", "/webhooks", hooks.Webhook, body=body)

    def rotate_webhook(self, webhook_id: str) -> Answer[hooks.Webhook]:
        """Give a webhook a new secret; only this answer has it."""
        path = f"/webhooks/{quote(webhook_id, safe='')}/rotate"
        return self._call("POST", path, hooks.Webhook)

    def try_webhook(self, webhook_id: str) -> Answer[hooks.Trial]:
        """Send a test message."""
        path = f"/webhooks/{quote(webhook_id, safe='')}/test"
        return self._call("POST", path, hooks.Trial)

    def delete_webhook(self, webhook_id: str) -> None:
        """Remove a webhook with its deliveries."""
        self._transport.send(Request("DELETE", f"{_API}/webhooks/{quote(webhook_id, safe='')}"))

    def webhook_secret(self) -> Answer[hooks.WebhookSecret]:
        """What signs the webhooks of the caller's own jobs."""
        return self._get("/webhook-secret", hooks.WebhookSecret)

    def deliveries(self, query: Query) -> Answer[hooks.Deliveries]:
        """One page of deliveries; `query` takes what `webhook deliveries` takes."""
        return self._get("/webhook-deliveries", hooks.Deliveries, query)

    def delivery(self, delivery_id: str) -> Answer[hooks.Delivery]:
        """One delivery with its message."""
        path = f"/webhook-deliveries/{quote(delivery_id, safe='')}"
        return self._get(path, hooks.Delivery)

    def replay_delivery(self, delivery_id: str) -> Answer[hooks.Delivery]:
        """Deliver it again."""
        path = f"/webhook-deliveries/{quote(delivery_id, safe='')}/replay"
        return self._call("POST", path, hooks.Delivery)

    def submit(
        self, deployment: str | None, body: Mapping[str, Any], key: str
    ) -> answers.Submitted:
        """Send a prompt through the native door. `key` makes it safe to send again."""
        path = f"{native_prefix(deployment)}/prompt"
        headers = {"Content-Type": "application/json", "Idempotency-Key": key}
        document = json.dumps(body).encode()
        data = self._transport.send(Request("POST", path, body=document, headers=headers))
        return self._decode(path, data, answers.Submitted).value

    def upload(self, deployment: str | None, file: Path) -> answers.Uploaded:
        """Store an input file; the server keeps an equal one and renames one that differs."""
        path = f"{native_prefix(deployment)}/upload/image"
        boundary = uuid.uuid4().hex
        kind = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
        # Quotes and line ends in a file name are percent-encoded, as browsers do.
        name = file.name.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
        head = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="{name}"\r\n'
            f"Content-Type: {kind}\r\n\r\n"
        )
        body = b"".join((head.encode(), file.read_bytes(), f"\r\n--{boundary}--\r\n".encode()))
        headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
        request = Request("POST", path, body=body, headers=headers, timeout_s=300)
        return self._decode(path, self._transport.send(request), answers.Uploaded).value

    def fetch(self, url: str) -> Iterator[bytes]:
        """Yield the bytes behind a path of the server, or behind a whole URL to it."""
        parts = urlsplit(url)
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        return self._transport.chunks(Request("GET", path))

    def object_info(self, deployment: str | None) -> Mapping[str, Any]:
        """The node classes of a deployment, through the native door."""
        path = f"{native_prefix(deployment)}/object_info"
        return self._decode(path, self.native(path), dict[str, Any]).value

    def native(self, path: str) -> bytes:
        """Read a path of the native door."""
        return self._transport.send(Request("GET", path))

    def _get(
        self, path: str, kind: type[T], query: Query | None = None, timeout_s: float = 30.0
    ) -> Answer[T]:
        request = Request("GET", _API + path, query or {}, timeout_s=timeout_s)
        return self._decode(path, self._transport.send(request), kind)

    def _call(
        self,
        method: str,
        path: str,
        kind: type[T],
        *,
        body: Mapping[str, Any] | None = None,
        query: Query | None = None,
        timeout_s: float = 60.0,
    ) -> Answer[T]:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"} if data is not None else {}
        request = Request(
            method, _API + path, query or {}, body=data, headers=headers, timeout_s=timeout_s
        )
        return self._decode(path, self._transport.send(request), kind)

    def _decode(self, path: str, data: bytes, kind: type[T]) -> Answer[T]:
        try:
            document = msgspec.json.decode(data)
            return Answer(msgspec.convert(document, kind), document)
        except msgspec.MsgspecError as error:
            raise self._unexpected(path, error) from error

    def _unexpected(self, path: str, error: Exception) -> ServerFailed:
        return ServerFailed(
            f"{self.url} is not a comfyserve that this command knows: {path} answered something "
            f"else ({error}); check COMFYSERVE_URL and the versions"
        )


def native_prefix(deployment: str | None) -> str:
    """The path in front of ComfyUI's routes; none addresses the default deployment."""
    return f"/d/{quote(deployment, safe='')}" if deployment else ""
