"""Facts about jobs and their outputs that several doors show, each in its own shape."""

from comfyserve.domain.errors import NotFound
from comfyserve.domain.job import Job, JobState
from comfyserve.gateway.content_types import UNKNOWN, content_type_of
from comfyserve.gateway.context import Gateway
from comfyserve.runtime.jobs import Attempt
from comfyserve.store.assets import Asset

_KINDS = frozenset({"image", "video", "audio", "text"})


def attempt_at(gateway: Gateway, job: Job) -> Attempt | None:
    """The attempt under way at a job."""
    if job.is_terminal or job.state is JobState.QUEUED:
        return None
    try:
        return gateway.runtime.fleet(job.deployment_id).attempt_at(job.id)
    except NotFound:
        return None  # the deployment was deleted meanwhile


async def queue_position(gateway: Gateway, job: Job) -> int | None:
    """1 for the job that is next; None unless it is queued."""
    if job.state is not JobState.QUEUED:
        return None
    return await gateway.store.jobs.position(job.id) + 1


def output_content_type(asset: Asset) -> str:
    """What an output is: by its name, else as it was stored."""
    content_type = content_type_of(asset.name)
    return asset.content_type if content_type == UNKNOWN else content_type


def output_type(name: str, content_type: str) -> str:
    """What kind of thing an output is, in the words of the doors."""
    if name.endswith(".latent"):
        return "latent"
    kind = content_type.partition("/")[0]
    return kind if kind in _KINDS else "file"
