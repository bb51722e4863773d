"""Jobs."""
from comfyserve.testing.rig import Rig
from comfyserve.domain.job import JobState

async def test_a_job_wakes_a_replica(rig: Rig) -> None:
    deployment = await rig.deploy()
    job = await rig.submit(deployment)
    done = await rig.ended(job)
    assert done.state is JobState.SUCCEEDED
    print([m.kind for m in rig.messages(job)])
