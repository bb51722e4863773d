"""A disk that is really full: uploads and the page's files are refused whole, and go on afterwards."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

_SCRIPT = """
import asyncio, os, sys
from pathlib import Path
from comfyserve.testing.file_door import file_door

home = Path(sys.argv[1])

async def main():
    async with file_door(home) as door:
        kept = await door.upload(b"k" * 10_000, "kept.png")
        assert kept.status == 200, kept
        await door.ask("POST", "/settings/Kept", data=b"true")
        free = os.statvfs(home)
        (home / "reserve").write_bytes(bytes(free.f_bavail * free.f_frsize - 300_000))

        for kind in ("input", "output"):
            refused = await door.upload(b"x" * 900_000, "big.png", type=kind)
            assert refused.status == 507, refused
            assert refused.json()["error"]["type"] == "storage_full"
        refused = await door.ask("POST", "/userdata/big.json", data=b"x" * 900_000)
        assert refused.status == 507, refused
        refused = await door.ask("POST", "/settings/Big", data=b'"' + b"x" * 900_000 + b'"')
        assert refused.status == 507, refused
        assert os.listdir(home / "blobs" / "incoming") == []
        assert os.listdir(door.input_dir) == ["kept.png"]
        assert os.listdir(door.directory / "user" / "default") == ["comfy.settings.json"]
        assert (await door.get("/settings")).json() == {"Kept": True}
        assert (await door.get("/view?filename=kept.png&type=input")).body == b"k" * 10_000

        (home / "reserve").unlink()
        assert (await door.upload(b"x" * 900_000, "big.png")).status == 200
        assert (await door.ask("POST", "/userdata/big.json", data=b"x" * 900_000)).status == 200
    print("went on")

asyncio.run(main())
"""


@pytest.mark.e2e
def test_a_full_disk_refuses_and_goes_on(tmp_path: Path) -> None:
    mount = 'mount -t tmpfs -o size=16m none "$1" && exec "$2" -c "$3" "$1"'
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount, "sh"]
    if (
        not shutil.which("unshare")
        or subprocess.run([*command[:4], "true"], check=False, capture_output=True).returncode
    ):
        pytest.skip("this machine gives no mount namespace to make a small disk in")
    home = tmp_path / "disk"
    home.mkdir()
    done = subprocess.run(
        [*command, str(home), sys.executable, _SCRIPT],
        check=False,
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert (done.returncode, done.stdout.strip()) == (0, "went on"), done.stderr[-3000:]
