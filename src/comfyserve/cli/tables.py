"""What the server answers, as tables for people."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

from rich.table import Table
from rich.text import Text

from comfyserve.cli.answers import (
    Budget,
    Deployment,
    Job,
    Replica,
    Token,
    Usage,
    UsageRow,
)
from comfyserve.cli.render import columns, facts
from comfyserve.cli.units import ago_text, duration_text, ms_text, size_text
from comfyserve.domain.usage import Receipt

_STYLES = {
    "ready": "green",
    "busy": "green",
    "succeeded": "green",
    "active": "green",
    "waking": "yellow",
    "starting": "yellow",
    "pending": "yellow",
    "running": "cyan",
    "queued": "yellow",
    "canceling": "yellow",
    "draining": "yellow",
    "stopping": "yellow",
    "failing": "bold red",
    "failed": "bold red",
    "expired": "red",
    "asleep": "blue",
}

_USAGE_NAMES = ("STARTING", "BUSY", "IDLE", "DRAINING", "AWAKE", "BILLED", "COST")
_SUMS = ("starting_s", "busy_s", "idle_s", "draining_s", "awake_s", "billed_s", "cost")


def deployments_table(deployments: Sequence[Deployment], now: datetime) -> Table:
    """One line a deployment: how awake it is, and what it has to do."""
    table = columns(
        "NAME", "STATUS", "ENGINE", "REPLICAS", "QUEUED", "RUNNING", "REV", "UPDATED", "URL",
        right=("REPLICAS", "QUEUED", "RUNNING", "REV"),
    )  # fmt: skip
    for item in deployments:
        table.add_row(
            Text(item.name, "bold"),
            _state(item.status),
            _engine(item),
            str(len(item.replicas)),
            str(item.jobs.queued),
            str(item.jobs.running),
            str(item.revision),
            ago_text(item.updated_at, now),
            Text(item.url),
        )
    return table


def deployment_facts(item: Deployment, now: datetime) -> Table:
    """Everything about one deployment but its replicas."""
    return facts(
        (
            ("name", Text(item.name, "bold")),
            ("status", _state(item.status)),
            ("url", item.url),
            ("engine", _engine(item)),
            ("revision", f"{item.revision}, {ago_text(item.updated_at, now)}"),
            ("jobs", f"{item.jobs.queued} queued, {item.jobs.running} running"),
            ("replicas", f"{len(item.replicas)} ({_bounds(item)})"),
            ("last start", _start_error(item)),
        )
    )


def replicas_table(replicas: Sequence[Replica], now: datetime) -> Table:
    """One line a replica: its state, why, and since when."""
    table = columns(
        "ID", "DEPLOYMENT", "STATE", "CAUSE", "SINCE", "GPU", "HOST", "PID", "MESSAGE",
        right=("PID",),
    )  # fmt: skip
    for item in replicas:
        message = item.message or ("" if item.exit_code is None else f"exit code {item.exit_code}")
        table.add_row(
            Text(item.id),
            Text(item.deployment),
            _state(item.state),
            Text(item.cause.replace("_", " ")),
            ago_text(item.since, now),
            Text(item.gpu or "cpu"),
            Text(item.host),
            "" if item.pid is None else str(item.pid),
            Text(message),
        )
    return table


def jobs_table(jobs: Sequence[Job], now: datetime) -> Table:
    """One line a job."""
    table = columns(
        "ID", "DEPLOYMENT", "STATE", "CREATED", "TOOK", "ATTEMPTS", "ERROR",
        right=("TOOK", "ATTEMPTS"),
    )  # fmt: skip
    for item in jobs:
        state = _state(item.state)
        if item.position:
            state.append(f", {item.position} before it", "dim")
        table.add_row(
            Text(item.id),
            Text(item.deployment),
            state,
            ago_text(item.created_at, now),
            _took(item),
            f"{item.attempts}/{item.max_attempts}",
            Text(item.error.message if item.error else ""),
        )
    return table


def job_facts(item: Job, now: datetime) -> Table:
    """Everything about one job but its outputs and receipt."""
    error = item.error
    where = f"node {error.node_id} ({error.class_type})" if error and error.node_id else ""
    return facts(
        (
            ("job", Text(item.id, "bold")),
            ("deployment", item.deployment),
            ("state", _state(item.state)),
            ("before it", str(item.position) if item.position else ""),
            (
                "created",
                f"{item.created_at:%Y-%m-%d %H:%M:%S} UTC, {ago_text(item.created_at, now)}",
            ),
            ("took", _took(item)),
            ("attempts", f"{item.attempts} of {item.max_attempts}"),
            ("replica", item.replica or ""),
            ("labels", ", ".join(f"{key}={value}" for key, value in item.labels.items())),
            ("error", Text(error.message, "red") if error else ""),
            ("where", where),
        )
    )


def outputs_table(item: Job) -> Table:
    """The files of a job."""
    table = columns("NODE", "FILE", "TYPE", "SIZE", "URL", right=("SIZE",))
    for output in item.outputs:
        name = str(Path(output.subfolder) / output.name)
        size = size_text(output.size_bytes)
        table.add_row(output.node_id, Text(name), output.content_type, size, Text(output.url))
    return table


def receipt_table(receipt: Receipt) -> Table:
    """Where a job's time went, and what it cost."""
    table = columns("RECEIPT", "TIME", "SHARE", right=("TIME",))
    parts = (
        ("queued", receipt.queued_ms),
        ("wake", receipt.wake_ms),
        ("load", receipt.load_ms),
        ("execute", receipt.execute_ms),
    )
    for name, milliseconds in parts:
        table.add_row(name, ms_text(milliseconds), _bar(milliseconds, receipt.total_ms))
    table.add_row(Text("total", "bold"), Text(ms_text(receipt.total_ms), "bold"), "")
    where = receipt.gpu or "cpu"
    cost = f"{receipt.cost:.6f} at {receipt.price_per_hour:g} an hour on {where}"
    unpriced = f"on {where}, which has no price"
    billed = Text(cost if receipt.price_per_hour else unpriced, "dim")
    table.add_row("billed", ms_text(receipt.billed_ms), billed)
    return table


def usage_table(usage: Usage) -> Table:
    """The ledger by deployment and by replica."""
    table = columns("WHAT", "GPU", *_USAGE_NAMES, right=_USAGE_NAMES)
    for row in _by_name(usage.deployments):
        _add_usage(table, Text(row.name or "(deleted)", "bold" if row.name else "dim"), row)
        for part in usage.replicas:
            if part.deployment == row.name:
                _add_usage(table, Text(f"  {part.id}"), part)
    table.add_section()
    _add_usage(table, Text("total", "bold"), usage.totals)
    return table


def usage_groups_table(usage: Usage, by: str) -> Table:
    """The ledger, added up in one way."""
    table = columns(by.upper(), *_USAGE_NAMES, right=_USAGE_NAMES)
    for row in usage.groups:
        table.add_row(Text(row.name or row.key or "(deleted)", "bold"), *_usage_cells(row))
    table.add_section()
    table.add_row(Text("total", "bold"), *_usage_cells(usage.totals))
    return table


def budgets_table(budgets: Sequence[Budget]) -> Table:
    """One line a cap: how much of it is spent."""
    names = ("SPENT", "OF", "SHARE")
    table = columns("WHOSE", "NAME", *names, "UNTIL", right=names)
    for item in budgets:
        share = item.spent / item.monthly_cost if item.monthly_cost else 1.0
        style = "bold red" if item.is_spent else ""
        table.add_row(
            item.kind,
            Text(item.name or item.id, "bold"),
            f"{item.spent:.2f}",
            f"{item.monthly_cost:.2f}",
            Text(f"{share:.0%}", style),
            f"{item.until:%Y-%m-%d}",
        )
    return table


def tokens_table(tokens: Sequence[Token], now: datetime) -> Table:
    """One line a token, without its secret."""
    table = columns("ID", "NAME", "SCOPES", "DEPLOYMENT", "CREATED", "REVOKED")
    for item in tokens:
        table.add_row(
            item.id,
            Text(item.name),
            ", ".join(item.scopes),
            Text(item.deployment or "all"),
            ago_text(item.created_at, now),
            ago_text(item.revoked_at, now),
        )
    return table


def _by_name(rows: Sequence[UsageRow]) -> Iterator[UsageRow]:
    """Those without a name (deleted, or never deployed) are one: nobody can tell them apart."""
    nameless = [row for row in rows if not row.name]
    yield from (row for row in rows if row.name)
    if nameless:
        yield UsageRow(**{name: sum(getattr(row, name) for row in nameless) for name in _SUMS})


def _add_usage(table: Table, what: Text, row: UsageRow) -> None:
    table.add_row(what, Text(row.gpu), *_usage_cells(row))


def _usage_cells(row: UsageRow) -> Iterator[str]:
    seconds = (row.starting_s, row.busy_s, row.idle_s, row.draining_s, row.awake_s, row.billed_s)
    yield from map(duration_text, seconds)
    yield f"{row.cost:.4f}"


def _state(state: str) -> Text:
    return Text(state, _STYLES.get(state, "dim"))


def _engine(item: Deployment) -> str:
    return f"{item.engine} {item.engine_version}".strip()


def _bounds(item: Deployment) -> str:
    scaling = item.spec.get("scaling") or {}
    low, high = scaling.get("min_replicas", 0), scaling.get("max_replicas", 1)
    return f"{low} to {high}, asleep after {scaling.get('idle_timeout_s', 60):g} s without work"


def _start_error(item: Deployment) -> Text | str:
    return Text(item.last_start_error.message, "red") if item.last_start_error else ""


def _took(item: Job) -> str:
    if item.finished_at is None:
        return ""
    return duration_text((item.finished_at - item.created_at).total_seconds())


def _bar(part: int, whole: int, width: int = 24) -> Text:
    share = part / whole if whole else 0.0
    return Text.assemble(("━" * round(share * width), "cyan"), f" {share:.0%}")
