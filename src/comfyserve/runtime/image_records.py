"""What a built image's engine says about itself: asked once, for every deployment of the image."""

import asyncio
import shutil

from comfyserve.build.artifacts import Artifact
from comfyserve.build.log import BuildLog
from comfyserve.domain.spec import DeploymentSpec, EngineKind, EngineSpec
from comfyserve.runtime.builds import Recorded
from comfyserve.runtime.deploy import Deployer
from comfyserve.runtime.engines import import_times
from comfyserve.runtime.runtime import Runtime
from comfyserve.store.builds import ImageRecord


class ImageRecorder:
    """Starts a built image once and keeps its answers."""

    def __init__(self, runtime: Runtime, deployer: Deployer) -> None:
        self._runtime = runtime
        self._deployer = deployer

    async def record(self, artifact: Artifact, log: BuildLog, *, is_new: bool) -> Recorded:
        """Record an image that holds a ComfyUI, unless that was done. Raises DeployFailed."""
        parts = self._runtime.parts
        if artifact.comfyui_dir is None:
            return Recorded()
        before = await parts.store.builds.recorded(artifact.digest)
        if before is not None and not is_new:
            return Recorded(before.warnings, before.import_times)
        await asyncio.to_thread(log.write, ["==> start its ComfyUI once, to see that it works"])
        spec = DeploymentSpec(engine=EngineSpec(kind=EngineKind.COMFYUI, image=artifact.digest))
        look = await self._deployer.look(f"image-{artifact.digest[:12]}", spec)
        directory = self._runtime.launching.directory(look.deployment_id)
        await asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True)
        times = import_times(look.lines)
        blob = await parts.store.blobs.put_bytes(look.snapshot.encode())
        await parts.store.builds.record_image(
            ImageRecord(
                artifact.digest,
                blob.digest,
                look.snapshot.version,
                parts.clock.now(),
                look.warnings,
                times,
            )
        )
        said = [f"    {len(look.snapshot.classes)} node classes"]
        said += [f"    {seconds:.1f} s to import {name}" for name, seconds in times.items()]
        await asyncio.to_thread(log.write, said)
        return Recorded(look.warnings, times)
