"""What the bus carries: each event knows whose it is."""

from comfyserve.domain.events import JobChanged, ReplicaChanged
from comfyserve.domain.job import Job, JobState
from comfyserve.domain.replica import Cause, Replica, ReplicaState


def test_a_change_belongs_to_the_deployment_of_its_record() -> None:
    job = Job("j", "dp_1", "rv_1", "p", 1.0, JobState.QUEUED, created_at=1.0)
    replica = Replica("rp_1", "dp_2", "rv_2", ReplicaState.READY, Cause.WORK, 1.0, 1.0)
    assert JobChanged(job).deployment_id == "dp_1"
    assert ReplicaChanged(replica).deployment_id == "dp_2"
