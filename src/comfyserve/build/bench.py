"""What the steps of one build have at hand, and how they say what they do."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from comfyserve.build.executor import BuildFailed, Run, run
from comfyserve.build.log import BuildLog
from comfyserve.build.models import Fetcher, ModelStore
from comfyserve.build.workshop import Workshop

OpenArchive = Callable[[str], Awaitable[Path]]
"""Where the archive with this digest lies. Raises NotFound."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a build is: step `number` of `total`, and bytes where it loads something."""

    number: int
    total: int
    title: str
    is_cached: bool = False
    done_bytes: int = 0
    total_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Supplies:
    """What builds take from outside, the same for all of them.

    `torch_backend` is what uv chooses torch by: `auto` (the driver of the GPU), `cpu`, `cu128`, or
    empty for what the package index has.
    """

    fetcher: Fetcher
    models: ModelStore
    archive: OpenArchive
    registry_url: str
    torch_backend: str = ""
    downloads_at_once: int = 4


@dataclass(frozen=True, slots=True)
class Bench:
    """Where and with what one step is done. `env` is that of the image so far."""

    workshop: Workshop
    supplies: Supplies
    log: BuildLog
    report: Callable[[Progress], None]
    env: Mapping[str, str] = field(repr=False)
    secrets: Mapping[str, str] = field(repr=False)
    is_fresh: bool = False

    async def say(self, text: str) -> None:
        """Write a line into the log."""
        await asyncio.to_thread(self.log.write, [f"    {text}"])

    async def run(
        self,
        argv: Sequence[str],
        cwd: Path | None = None,
        *,
        shown: str = "",
        takes: Callable[[str], bool] = lambda _: False,
        more_env: Mapping[str, str] | None = None,
    ) -> list[str]:
        """Run a program in the workspace; return the last lines of its output. Raises BuildFailed."""
        env = self.workshop.env({**self.env, **(more_env or {})})
        place = cwd or self.workshop.workspace
        order = Run(argv, place, env, self.workshop.timeout_s, shown, takes)
        return await run(order, self.log)

    async def install(self, arguments: Sequence[str], *, with_torch: bool = False) -> None:
        """Install packages by uv into the environment. Raises BuildFailed with uv's own message."""
        python = str(self.workshop.python)
        argv = [self.workshop.uv, "pip", "install", "--python", python, *arguments]
        if with_torch and self.supplies.torch_backend:
            argv += ["--torch-backend", self.supplies.torch_backend]
        await self.run(argv, shown=f"uv pip install {' '.join(arguments)}")

    def secret(self, name: str) -> str:
        """The value of a secret. Raises BuildFailed."""
        try:
            return self.secrets[name]
        except KeyError:
            raise BuildFailed(f"there is no secret '{name}'", code="secret_not_found") from None
