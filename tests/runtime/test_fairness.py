"""One card, two deployments: nobody waits until the other has run out of work."""

import asyncio
from dataclasses import replace
from pathlib import Path

from comfyserve.domain.job import JobState
from comfyserve.domain.spec import Resources
from comfyserve.runtime.gpus import Gpu
from comfyserve.testing.comfy import Conduct
from comfyserve.testing.comfy_classes import a_prompt
from comfyserve.testing.comfy_plays import Stage, perform
from comfyserve.testing.rig import SPEC, open_rig

L4 = Gpu(0, "GPU-4e1f", "L4", "NVIDIA L4", 23 * 1024**3)
ON_L4 = replace(SPEC, resources=Resources("L4", 1))


async def takes_a_moment(stage: Stage) -> None:
    await asyncio.sleep(0.1)
    await perform(stage)


async def test_a_busy_deployment_gives_its_card_up_between_two_jobs(home: Path) -> None:
    async with open_rig(home, gpus=(L4,)) as rig:
        busy, other = await rig.deploy("busy", ON_L4), await rig.deploy("other", ON_L4)
        rig.engines.conduct = Conduct(takes_a_moment)
        jobs = [await rig.submit(busy, a_prompt(seed)) for seed in range(25)]
        await rig.reaches(jobs[0], "running")
        waiting = await rig.submit(other)
        done = await rig.ended(waiting)
        counts = await rig.store.jobs.counts(busy.id)
        assert done.state is JobState.SUCCEEDED
        assert counts.queued > 0
