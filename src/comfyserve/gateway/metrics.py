"""`/metrics` for Prometheus: counted from the store at the moment of asking."""

from collections import Counter

from starlette.responses import Response

from comfyserve.domain.replica import LIVE
from comfyserve.domain.usage import SegmentKind, total
from comfyserve.gateway.context import Gateway


async def metrics(gateway: Gateway) -> Response:
    """Queues, replicas and metered seconds of each deployment; every label value always there."""
    # Not before somebody asks: it takes an HTTP server of its own along.
    from prometheus_client import CollectorRegistry, Gauge, generate_latest  # noqa: PLC0415
    from prometheus_client.exposition import CONTENT_TYPE_LATEST  # noqa: PLC0415

    registry = CollectorRegistry()
    jobs = Gauge("comfyserve_jobs", "Open jobs.", ["deployment", "state"], registry=registry)
    replicas = Gauge(
        "comfyserve_replicas", "Live replicas.", ["deployment", "state"], registry=registry
    )
    seconds = Gauge(
        "comfyserve_replica_seconds_total",
        "Seconds of replicas by what they did.",
        ["deployment", "kind"],
        registry=registry,
    )
    cost = Gauge("comfyserve_cost_total", "Price of it.", ["deployment"], registry=registry)
    counts, now = await gateway.store.jobs.all_counts(), gateway.clock.now()
    for deployment in gateway.runtime.deployments:
        name, found = deployment.name, counts.get(deployment.id)
        jobs.labels(name, "queued").set(found.queued if found else 0)
        jobs.labels(name, "running").set(found.active if found else 0)
        states = Counter(s.state for s in gateway.runtime.fleet(deployment.id).supervisors)
        for state in sorted(LIVE):
            replicas.labels(name, state).set(states[state])
        sums = total(await gateway.store.usage.segments(deployment_id=deployment.id), now)
        by_kind = {
            SegmentKind.STARTING: sums.starting_s,
            SegmentKind.BUSY: sums.busy_s,
            SegmentKind.IDLE: sums.idle_s,
            SegmentKind.DRAINING: sums.draining_s,
        }
        for kind, value in by_kind.items():
            seconds.labels(name, kind).set(value)
        cost.labels(name).set(sums.cost)
    deliveries = Gauge(
        "comfyserve_webhook_deliveries", "Messages of webhooks.", ["state"], registry=registry
    )
    for delivery_state, count in (await gateway.store.outbox.counts()).items():
        deliveries.labels(delivery_state).set(count)
    tries = Gauge(
        "comfyserve_webhook_tries_total",
        "Messages sent since the server began, by whether the receiver took them.",
        ["outcome"],
        registry=registry,
    )
    for outcome, count in gateway.courier.tries.items():
        tries.labels(outcome).set(count)
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)
