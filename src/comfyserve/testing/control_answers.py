"""Answers of the control API for the tests of its clients, made by the gateway's own models."""

from typing import Any

from comfyserve import __version__
from comfyserve.domain.deployment import Deployment, DeploymentState, Revision
from comfyserve.domain.errors import StartFailed
from comfyserve.domain.job import Job, JobError, JobState
from comfyserve.domain.replica import Cause, Replica, ReplicaState
from comfyserve.domain.spec import DeploymentSpec
from comfyserve.domain.usage import Receipt, Totals
from comfyserve.domain.webhook import (
    ENDINGS,
    Delivery,
    DeliveryState,
    Secret,
    Webhook,
    WebhookEvent,
)
from comfyserve.gateway import cost_models, models
from comfyserve.gateway.webhook_models import DeliveryModel, WebhookModel

NOW = 1_790_000_000.0
JOB_ID = "3f0c1a52-9d7e-4a0b-8a53-6f1f8b7f2c11"


def ready() -> dict[str, Any]:
    """`GET /health/ready`."""
    jobs = models.QueueModel(queued=1, running=0)
    return models.HealthModel(
        status="ok", version=__version__, home="/srv/home", deployments=1, replicas=0, jobs=jobs
    ).model_dump(mode="json")


def replica(state: ReplicaState = ReplicaState.READY, name: str = "demo") -> dict[str, Any]:
    """One replica."""
    record = Replica(
        id="rp_aaaaaaaaaaaaaaaaaaaa",
        deployment_id="dp_aaaaaaaaaaaaaaaaaaaa",
        revision_id="rv_aaaaaaaaaaaaaaaaaaaa",
        state=state,
        cause=Cause.STOPPED_BY_USER,
        since=NOW,
        created_at=NOW,
        host="machine",
        gpu="H100",
        pid=4711,
    )
    return models.ReplicaModel.of(record, name).model_dump(mode="json")


def deployment(
    name: str = "demo",
    *,
    url: str = "http://127.0.0.1:8000",
    number: int = 1,
    failure: StartFailed | None = None,
    warnings: tuple[str, ...] = (),
    spec: DeploymentSpec | None = None,
) -> dict[str, Any]:
    """One deployment, asleep (or failing)."""
    revision = Revision(
        id="rv_aaaaaaaaaaaaaaaaaaaa",
        deployment_id="dp_aaaaaaaaaaaaaaaaaaaa",
        number=number,
        spec=spec or DeploymentSpec(),
        engine_version="0.33.0",
        snapshot_digest="",
        created_at=NOW,
    )
    record = Deployment(revision.deployment_id, name, DeploymentState.ACTIVE, revision, NOW, NOW)
    jobs = models.QueueModel(queued=0, running=0)
    shown = models.DeploymentModel.of(record, f"{url}/d/{name}/", (), jobs, failure)
    return shown.model_copy(update={"warnings": list(warnings)}).model_dump(mode="json")


def receipt() -> Receipt:
    """A receipt whose parts add up."""
    return Receipt(
        queued_ms=20,
        wake_ms=400,
        load_ms=80,
        execute_ms=500,
        total_ms=1000,
        billed_ms=580,
        attempts=1,
        replica_id="rp_aaaaaaaaaaaaaaaaaaaa",
        gpu="H100",
        price_per_hour=2.5,
        cost=0.000403,
    )


def output(url: str, name: str = "a.png", **changes: object) -> models.OutputModel:
    """A file of a job; `url` is the server's."""
    given = {
        "id": "as_1",
        "node_id": "9",
        "name": name,
        "subfolder": "",
        "type": "output",
        "size_bytes": 5,
        "content_type": "image/png",
        "digest": "blake3:00",
        "url": f"{url}/d/demo/view?filename={name}&subfolder=&type=output",
    }
    return models.OutputModel.model_validate({**given, **changes})


def job(
    state: JobState = JobState.SUCCEEDED,
    *,
    error: JobError | None = None,
    outputs: tuple[models.OutputModel, ...] = (),
    position: int | None = None,
) -> dict[str, Any]:
    """One job; with a receipt if it has ended."""
    is_over = state not in {JobState.QUEUED, JobState.RUNNING, JobState.CANCELING}
    record = Job(
        id=JOB_ID,
        deployment_id="dp_aaaaaaaaaaaaaaaaaaaa",
        revision_id="rv_aaaaaaaaaaaaaaaaaaaa",
        prompt_id=JOB_ID,
        number=1.0,
        state=state,
        created_at=NOW,
        labels={"team": "film"},
        attempts=1,
        finished_at=NOW + 1 if is_over else None,
        error=error,
    )
    return models.JobModel.of(
        record,
        "demo",
        position=position,
        receipt=receipt() if is_over else None,
        outputs=outputs,
    ).model_dump(mode="json")


def usage() -> dict[str, Any]:
    """`GET /usage` with one deployment and one replica, added up by day too."""
    totals = Totals(starting_s=1.0, busy_s=60.0, idle_s=3600.0, draining_s=0.5, cost=2.5)
    rp = "rp_aaaaaaaaaaaaaaaaaaaa"
    return cost_models.UsageModel(
        totals=cost_models.TotalsModel.of(totals),
        deployments=[cost_models.DeploymentUsage.of(totals, name="demo")],
        replicas=[cost_models.ReplicaUsage.of(totals, id=rp, deployment="demo", gpu="H100")],
        groups=[cost_models.UsageGroup.of(totals, key="2026-11-29", name="")],
    ).model_dump(mode="json")


def token(secret: str | None = None) -> dict[str, Any]:
    """A token, at its creation with its secret."""
    return models.TokenModel(
        id="tk_aaaaaaaaaaaaaaaaaaaa",
        name="ci",
        scopes=["run"],
        deployment=None,
        created_at=NOW,
        secret=secret,
    ).model_dump(mode="json")


def webhook(secret: str | None = None) -> dict[str, Any]:
    """A webhook, at its creation with its secret."""
    made = Webhook(
        id="wh_1",
        deployment_id="dp_1",
        subject="dp_1",
        url="https://a.example/hook",
        events=ENDINGS,
        base_url="",
        principal="local",
        created_at=NOW,
        secrets=(Secret(secret or ""),),
    )
    shown = WebhookModel.of(made, "demo", None, shows_secret=secret is not None)
    return shown.model_dump(mode="json")


def delivery(delivery_id: str = "msg_1") -> dict[str, Any]:
    """A delivery that was given up, with its message."""
    made = Delivery(
        id=delivery_id,
        webhook_id="wh_1",
        deployment_id="dp_1",
        job_id="j1",
        event=WebhookEvent.SUCCEEDED,
        origin="https://a.example",
        state=DeliveryState.DEAD,
        created_at=NOW,
        queued_at=NOW,
        attempts=11,
        next_at=NOW,
        ended_at=NOW,
        error="it answered 500",
    )
    message = {"type": "job.succeeded"}
    return DeliveryModel.of(made, "demo", message).model_dump(mode="json")
