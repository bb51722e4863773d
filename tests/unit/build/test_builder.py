"""Whole builds: what is reused, what is done again, and that a failure leaves nothing."""

import asyncio
import io
import os
import sys
import tarfile
from pathlib import Path

import pytest
from tests.unit.build.conftest import Yard
from tests.unit.build.supplies import COMFYUI, make_wheel

from comfyserve.build.executor import BuildFailed
from comfyserve.build.layers import SecretFound
from comfyserve.build.models import sha256_of
from comfyserve.domain.errors import InvalidInput
from comfyserve.domain.image_steps import (
    BuildSecrets,
    ComfyUIDir,
    Command,
    Env,
    LocalFiles,
    Packages,
)


def _trace(tmp_path: Path, word: str) -> Command:
    return Command(f"echo {word} >> {tmp_path}/trace")


async def _said(*argv: str | Path) -> str:
    process = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    return out.decode()


def _traces(tmp_path: Path) -> list[str]:
    path = tmp_path / "trace"
    return path.read_text().split() if path.exists() else []


async def test_an_image_is_an_interpreter_and_a_workspace(yard: Yard, tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, "greeter", "1.0", "def main():\n    print('hello')\n")
    artifact = await yard.build(
        Env({"PLACE": "world"}), Packages((str(wheel),)), Command('echo "$PLACE $PWD" > note')
    )
    said = await _said(artifact.python, "-c", "import greeter; greeter.main()")
    assert said == "hello\n"
    assert (artifact.workspace / "note").read_text() == f"world {artifact.workspace}\n"
    assert artifact.env == {"PLACE": "world"}
    assert yard.artifacts.find(artifact.digest) == artifact


async def test_an_unchanged_beginning_is_reused_and_only_the_rest_done(
    yard: Yard, tmp_path: Path
) -> None:
    wheel = make_wheel(tmp_path, "greeter", "1.1", "def main():\n    print('hello')\n")
    beginning = (_trace(tmp_path, "one"), Packages((str(wheel),)), _trace(tmp_path, "two"))
    first = await yard.build(*beginning, _trace(tmp_path, "three"))
    second = await yard.build(*beginning, _trace(tmp_path, "four"))
    assert _traces(tmp_path) == ["one", "two", "three", "four"]
    assert first.digest != second.digest
    assert [report.is_cached for report in yard.reports] == [True, True, True, False]
    # Scripts were made for another tree, and run in this one all the same.
    script = second.python.parent / "greeter"
    assert str(second.python) in script.read_text()
    assert await _said(script) == "hello\n"


async def test_the_same_image_again_is_there_at_once_and_fresh_if_asked(
    yard: Yard, tmp_path: Path
) -> None:
    first = await yard.build(_trace(tmp_path, "x"))
    assert await yard.build(_trace(tmp_path, "x")) == first
    assert _traces(tmp_path) == ["x"]
    fresh = await yard.build(_trace(tmp_path, "x"), is_fresh=True)
    assert _traces(tmp_path) == ["x", "x"]
    assert fresh.workspace != first.workspace
    assert first.workspace.is_dir(), "replicas may still run there"


async def test_a_failed_step_tells_why_and_leaves_nothing(yard: Yard) -> None:
    before = yard.trees
    with pytest.raises(BuildFailed, match=r"'echo oops >&2; exit 9' failed with exit code 9") as e:
        await yard.build(Command("touch half"), Command("echo oops >&2; exit 9"))
    assert e.value.log_tail == ("oops",)
    assert yard.trees == before
    assert yard.artifacts.digests() == ()
    assert "==> step 2/2: run echo oops" in yard.log.read_text()


async def test_steps_before_a_failed_one_are_not_done_again(yard: Yard, tmp_path: Path) -> None:
    for ending in ("exit 1", "true"):
        try:
            await yard.build(_trace(tmp_path, "slow"), Command(ending))
        except BuildFailed:
            continue
    assert _traces(tmp_path) == ["slow"]


async def test_a_package_that_is_not_there_is_refused_in_uvs_words(yard: Yard) -> None:
    with pytest.raises(BuildFailed, match=r"'uv pip install .*' failed with exit code 1") as failed:
        await yard.build(Packages(("--no-index", "no-such-package==9")))
    assert any("no-such-package" in line for line in failed.value.log_tail)


async def test_the_environment_of_a_step_is_clean(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMFYSERVE_TOKEN", "of the operator")
    artifact = await yard.build(Command("env > seen; pwd >> seen; which python pip uv >> seen"))
    seen = (artifact.workspace / "seen").read_text()
    assert "of the operator" not in seen
    assert f"HOME={artifact.workspace}\n" in seen
    assert f"{artifact.python}\n{artifact.python.parent}/pip\n" in seen


async def test_a_secret_is_there_for_the_step_and_nowhere_later(yard: Yard) -> None:
    secret = {"KEY": "s3cr3t-value"}
    reads = Command('echo "got $KEY"; test "$KEY" = s3cr3t-value')
    artifact = await yard.build(BuildSecrets(("KEY",)), reads, secrets=secret)
    assert "got ***" in yard.log.read_text()
    kept = [p for p in yard.home.rglob("*") if p.is_file() and not p.is_symlink()]
    assert not any(b"s3cr3t-value" in p.read_bytes() for p in kept)
    assert "KEY" not in artifact.env
    with pytest.raises(SecretFound):
        await yard.build(BuildSecrets(("KEY",)), Command("echo $KEY > file"), secrets=secret)


async def test_another_value_of_a_secret_builds_again(yard: Yard, tmp_path: Path) -> None:
    steps = (BuildSecrets(("KEY",)), _trace(tmp_path, "x"))
    await yard.build(*steps, secrets={"KEY": "value-one"})
    await yard.build(*steps, secrets={"KEY": "value-two"})
    assert _traces(tmp_path) == ["x", "x"]


async def test_a_secret_that_is_not_stored_is_named(yard: Yard) -> None:
    with pytest.raises(BuildFailed, match="there is no secret 'KEY'; store it with"):
        await yard.build(BuildSecrets(("KEY",)), Command("true"))


async def test_local_files_come_as_an_archive(yard: Yard, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "files.tar", "w") as archive:
        entry = tarfile.TarInfo("sub/a.txt")
        entry.size = 1
        archive.addfile(entry, io.BytesIO(b"a"))
    yard.archives["ab" * 32] = tmp_path / "files.tar"
    artifact = await yard.build(LocalFiles("ab" * 32, "app"))
    assert (artifact.workspace / "app" / "sub" / "a.txt").read_text() == "a"


async def test_an_archive_cannot_reach_out_of_the_workspace(yard: Yard, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "evil.tar", "w") as archive:
        archive.addfile(tarfile.TarInfo("../../evil"))
    yard.archives["cd" * 32] = tmp_path / "evil.tar"
    with pytest.raises(BuildFailed, match="cannot be unpacked"):
        await yard.build(LocalFiles("cd" * 32, "app"))


@pytest.mark.slow
async def test_a_python_that_is_not_there_is_refused_with_those_that_are(yard: Yard) -> None:
    own = ".".join(map(str, sys.version_info[:3]))
    with pytest.raises(InvalidInput, match=rf"no Python 3\.99 on this machine.*{own}") as refused:
        await yard.build(python_version="3.99")
    assert refused.value.code == "python_not_found"
    artifact = await yard.build(python_version=own.rsplit(".", 1)[0])
    assert artifact.python.is_file()


async def test_what_a_crash_left_is_removed_with_its_processes(yard: Yard) -> None:
    await yard.build(Command("true"))
    half_done = yard.home / "builds" / "trees" / ("bd_" + "z" * 20)
    half_done.mkdir()
    orphan = await asyncio.create_subprocess_exec(
        "sleep", "600", env={"COMFYSERVE_BUILD": str(half_done)}
    )
    assert await yard.builder.open() == 1
    assert await orphan.wait() == -9
    assert not half_done.exists()
    assert len(yard.trees) == 1


async def test_an_installation_is_used_as_it_is(yard: Yard, tmp_path: Path) -> None:
    for name, text in COMFYUI.items():
        (tmp_path / "ComfyUI" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "ComfyUI" / name).write_text(text)
    (tmp_path / "ComfyUI" / "venv" / "bin").mkdir(parents=True)
    (tmp_path / "ComfyUI" / "venv" / "bin" / "python").symlink_to(sys.executable)
    artifact = await yard.build(ComfyUIDir(str(tmp_path / "ComfyUI")), Env({"A": "1"}))
    assert artifact.is_installation
    assert artifact.comfyui_dir == tmp_path / "ComfyUI"
    assert artifact.python == tmp_path / "ComfyUI" / "venv" / "bin" / "python"
    assert artifact.env == {"A": "1"}
    with pytest.raises(InvalidInput, match="is not a ComfyUI directory"):
        await yard.build(ComfyUIDir(str(tmp_path)))


async def test_a_moved_home_finds_nothing_rather_than_something_broken(yard: Yard) -> None:
    artifact = await yard.build(Command("true"))
    moved = yard.home.with_name("moved")
    os.rename(yard.home, moved)
    try:
        assert Yard(moved).artifacts.find(artifact.digest) is None
    finally:
        os.rename(moved, yard.home)


async def test_a_hash_is_what_other_programs_say_too(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"x" * 5_000_000)
    assert (await _said("sha256sum", tmp_path / "f")).split()[0] == sha256_of(tmp_path / "f")
