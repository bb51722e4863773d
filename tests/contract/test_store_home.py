"""A home: one server at a time, and what is made in it."""

import asyncio
import os
import signal
import stat
import sys
from pathlib import Path

import pytest

from comfyserve.domain.errors import ComfyserveError, HomeInUse
from comfyserve.store import open_store
from comfyserve.store.home import HomeLock, read_holder

_HOLDER = """
import asyncio, sys
from pathlib import Path
from comfyserve.store.home import HomeLock

async def main():
    async with HomeLock(Path(sys.argv[1]), url="http://first", now=5.0):
        print("held", flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_a_second_server_is_refused_and_told_who_holds_it(tmp_path: Path) -> None:
    home = tmp_path / "new" / "home"
    async with HomeLock(home, url="", now=5.0) as lock:
        await lock.publish("http://127.0.0.1:8000")
        with pytest.raises(HomeInUse) as refused:
            async with HomeLock(home, url="http://other", now=6.0):
                pass
        assert f"process id {os.getpid()}" in refused.value.message
        assert "http://127.0.0.1:8000" in refused.value.message
        holder = await asyncio.to_thread(read_holder, home)
        assert holder is not None
        assert (holder.pid, holder.since) == (os.getpid(), 5.0)
    async with HomeLock(home, url="http://next", now=7.0):
        pass
    assert await asyncio.to_thread(read_holder, home) is None


async def test_a_killed_server_holds_nothing(tmp_path: Path) -> None:
    server = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _HOLDER, str(tmp_path), stdout=asyncio.subprocess.PIPE
    )
    assert server.stdout is not None
    assert await server.stdout.readline() == b"held\n"
    with pytest.raises(HomeInUse, match=f"process id {server.pid} on .* at http://first"):
        async with HomeLock(tmp_path, url="", now=6.0):
            pass
    server.send_signal(signal.SIGKILL)
    await server.wait()
    async with HomeLock(tmp_path, url="", now=7.0):
        pass


async def test_what_is_in_a_home_is_its_owners_alone(tmp_path: Path) -> None:
    home = tmp_path / "home"
    async with open_store(home):
        assert stat.S_IMODE(home.stat().st_mode) == 0o700
        for path in home.iterdir():
            if path.is_file():
                assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    key = (home / "secret.key").read_bytes()
    async with open_store(home):
        assert (home / "secret.key").read_bytes() == key


async def test_a_damaged_key_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "secret.key").write_bytes(b"short")
    with pytest.raises(ComfyserveError, match=r"secret\.key"):
        async with open_store(tmp_path):
            pass


async def test_another_database_can_be_named(tmp_path: Path) -> None:
    async with open_store(tmp_path / "home", f"sqlite:///{tmp_path / 'other.db'}"):
        pass
    assert (tmp_path / "other.db").is_file()
    assert not (tmp_path / "home" / "comfyserve.db").exists()
