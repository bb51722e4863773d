"""The launcher protocol, kept by the fake and by the launcher of this host."""

import os
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from comfyserve.runtime.launchers.base import Confine, Launcher, LaunchSpec, LaunchStatus
from comfyserve.runtime.launchers.local import LocalLauncher
from comfyserve.testing.launcher_contract import LauncherBench, LauncherContract, opened
from comfyserve.testing.launchers import (
    DIES_AT_ONCE,
    NEVER_READY,
    WELL_BEHAVED,
    Behaviour,
    FakeHost,
    FakeLauncher,
)
from comfyserve.testing.local_servers import IGNORE_SIGTERM, L4, LISTEN, WAIT, environ, python


@dataclass
class FakeBench:
    host: FakeHost

    def launcher(self) -> FakeLauncher:
        return FakeLauncher(self._behaviour, host=self.host)

    def serving(self) -> LaunchSpec:
        return LaunchSpec("rv_test", ("serve", "{port}"))

    def stubborn(self) -> LaunchSpec:
        return LaunchSpec("rv_test", ("ignore-sigterm", "{port}"))

    def silent(self) -> LaunchSpec:
        return LaunchSpec("rv_test", ("never-listen",))

    def failing(self) -> LaunchSpec:
        return LaunchSpec("rv_test", ("fail",))

    async def crash(self, launcher: Launcher, status: LaunchStatus) -> None:
        assert isinstance(launcher, FakeLauncher)
        await launcher.crash(status.id)

    def _behaviour(self, spec: LaunchSpec) -> Behaviour:
        return {
            "serve": WELL_BEHAVED,
            "ignore-sigterm": replace(WELL_BEHAVED, ignores_sigterm=True),
            "never-listen": NEVER_READY,
            "fail": replace(DIES_AT_ONCE, exit_code=3, output=b"first\nlast\n"),
        }[spec.argv[0]]


@dataclass
class LocalBench:
    root: Path
    confine: Confine = Confine.OFF

    def launcher(self) -> LocalLauncher:
        return LocalLauncher(self.root, environ=environ(), gpus=[L4])

    def serving(self) -> LaunchSpec:
        return python(LISTEN + WAIT, confine=self.confine)

    def stubborn(self) -> LaunchSpec:
        return python(IGNORE_SIGTERM + LISTEN + WAIT, confine=self.confine)

    def silent(self) -> LaunchSpec:
        return python(WAIT, confine=self.confine)

    def failing(self) -> LaunchSpec:
        code = "import sys\nprint('first')\nprint('last')\nsys.exit(3)"
        return python(code, confine=self.confine)

    async def crash(self, launcher: Launcher, status: LaunchStatus) -> None:
        assert status.pid is not None
        os.kill(status.pid, signal.SIGKILL)


@pytest.fixture
async def launcher(bench: LauncherBench) -> AsyncIterator[Launcher]:
    async with opened(bench.launcher()) as launcher:
        yield launcher


class TestFake(LauncherContract):
    @pytest.fixture
    def bench(self) -> FakeBench:
        return FakeBench(FakeHost([L4]))


class TestLocal(LauncherContract):
    @pytest.fixture
    def bench(self, tmp_path: Path) -> LocalBench:
        return LocalBench(tmp_path / "replicas")


class TestLocalConfined(LauncherContract):
    @pytest.fixture
    def bench(self, tmp_path: Path) -> LocalBench:
        return LocalBench(tmp_path / "replicas", Confine.ON)
