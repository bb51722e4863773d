"""Jobs on engines that misbehave: what the engine keeps is the authority, news are only news."""

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest

from comfyserve.domain.events import EngineFrame, JobChanged, Preview
from comfyserve.domain.job import JobState
from comfyserve.domain.replica import Cause, ReplicaState
from comfyserve.domain.spec import DeploymentSpec, Limits
from comfyserve.testing.comfy import Conduct
from comfyserve.testing.comfy_classes import a_prompt
from comfyserve.testing.comfy_plays import NodeFailed, Stage, perform
from comfyserve.testing.rig import SPEC, Rig

SINGLE = replace(SPEC, limits=Limits(max_attempts=1))


def timed_out_after(seconds: float, *, stop_s: float = 0.2) -> DeploymentSpec:
    return replace(SPEC, timeouts=replace(SPEC.timeouts, job_s=seconds, stop_s=stop_s))


async def never_ends(stage: Stage) -> None:
    await stage.begin("1")
    await asyncio.Event().wait()


async def kept(rig: Rig, job_id: str) -> dict[str, Any]:
    """The history entry of a job, as `/history` shows it."""
    [deployment] = rig.runtime.deployments
    entry = await rig.store.jobs.history_entry(deployment.id, job_id)
    assert entry is not None
    decoded: dict[str, Any] = json.loads(entry)
    return decoded


async def test_the_story_of_a_job(rig: Rig) -> None:
    """Outputs are told once they are stored, the end once it is committed, in ComfyUI's order."""
    deployment = await rig.deploy()
    job = await rig.submit(deployment, prompt_id="theirs")
    done = await rig.ended(job)
    assert done.state is JobState.SUCCEEDED
    told = rig.messages(job)
    assert [message.kind for message in told] == [
        "execution_start",
        "execution_cached",
        *("executing", "progress"),
        *("executing", "progress", "executed"),
        "execution_success",
        "executing",
    ]
    assert {message.data["prompt_id"] for message in told} == {"theirs"}
    assert {message.client_id for message in told} == {"me"}
    [asset] = await rig.store.assets.of_job(job.id)
    picture = {"filename": asset.name, "subfolder": "", "type": "output"}
    executed = next(message for message in told if message.kind == "executed")
    assert executed.data["output"] == {"images": [picture]}
    assert await rig.store.blobs.read_bytes(asset.digest) == f"picture of {job.id}".encode()
    entry = await kept(rig, "theirs")
    assert entry["outputs"] == {"9": {"images": [picture]}}
    assert entry["prompt"][:3] == [0, "theirs", a_prompt()]
    assert entry["status"]["status_str"] == "success"
    assert {message[1]["prompt_id"] for message in entry["status"]["messages"]} == {"theirs"}


async def test_what_is_told_is_true_when_it_is_told(rig: Rig) -> None:
    deployment = await rig.deploy()
    seen: dict[str, Any] = {}

    async def look(job_id: str) -> None:
        with rig.bus.subscribe(deployment.id) as news:
            while "success" not in seen:
                event = await news.get()
                kind = getattr(event, "kind", "")
                if kind == "executed":
                    seen["assets"] = len(await rig.store.assets.of_job(job_id))
                if kind == "execution_success":
                    found = await rig.store.jobs.get(job_id)
                    seen["success"] = found is not None and found.state

    job_id = "6ad2ae5b-4f8f-4f6e-9e0e-0d5ad8c4b5d1"
    async with asyncio.TaskGroup() as group:
        group.create_task(look(job_id))
        await rig.ended(await rig.submit(deployment, id=job_id, prompt_id=job_id))
    assert seen == {"assets": 1, "success": JobState.SUCCEEDED}


async def test_what_the_engine_gets_is_the_prompt_under_our_id_with_its_secrets(rig: Rig) -> None:
    deployment = await rig.deploy()
    job = await rig.submit(deployment, prompt_id="theirs")
    await rig.ended(job)
    [supervisor] = rig.fleet(deployment).ready
    [body] = rig.engine(supervisor).submitted
    assert body["prompt_id"] == job.id
    assert body["prompt"] == a_prompt()
    assert body["extra_data"] == {}
    assert body["client_id"] not in {"", "me"}
    assert "partial_execution_targets" not in body


async def test_a_cut_socket_is_made_up_for_by_asking(rig: Rig) -> None:
    finish = asyncio.Event()

    async def cut_midway(stage: Stage) -> None:
        await stage.begin("1")
        stage.engine.cut_sockets()
        await finish.wait()
        await perform(stage)

    rig.engines.conduct = Conduct(cut_midway)
    deployment = await rig.deploy()
    job = await rig.submit(deployment)
    await rig.reaches(job, "running")
    finish.set()
    assert (await rig.ended(job)).state is JobState.SUCCEEDED
    kinds = [message.kind for message in rig.messages(job)]
    assert kinds.count("executed") == 1
    assert kinds[-2:] == ["execution_success", "executing"]
    assert len(await rig.store.assets.of_job(job.id)) == 1


async def test_an_output_that_only_the_history_has_is_not_missed(rig: Rig) -> None:
    async def silent(stage: Stage) -> None:
        await stage.report("9", {"images": [stage.write(b"unheard of")]}, aloud=False)

    rig.engines.conduct = Conduct(silent)
    deployment = await rig.deploy()
    job = await rig.submit(deployment)
    assert (await rig.ended(job)).state is JobState.SUCCEEDED
    [asset] = await rig.store.assets.of_job(job.id)
    assert await rig.store.blobs.read_bytes(asset.digest) == b"unheard of"
    assert [m.data["node"] for m in rig.messages(job) if m.kind == "executed"] == ["9"]


async def test_what_is_said_twice_counts_once(rig: Rig) -> None:
    rig.engines.conduct = Conduct(says_everything_twice=True)
    deployment = await rig.deploy()
    job = await rig.submit(deployment)
    assert (await rig.ended(job)).state is JobState.SUCCEEDED
    assert len(await rig.store.assets.of_job(job.id)) == 1
    assert [each.state for each in rig.story(job)].count(JobState.SUCCEEDED) == 1
    assert [m.kind for m in rig.messages(job)].count("execution_success") == 1


async def test_messages_of_other_prompts_are_not_ours(rig: Rig) -> None:
    async def babbles(stage: Stage) -> None:
        for kind in ("execution_error", "execution_success", "executed", "executing"):
            data: dict[str, Any] = {"prompt_id": "another", "node": None, "output": {}}
            await stage.engine.send(stage.client_id, kind, data)
        await stage.engine.send(stage.client_id, "custom.event", {"value": 7})
        await perform(stage)

    rig.engines.conduct = Conduct(babbles)
    deployment = await rig.deploy()
    job = await rig.submit(deployment)
    assert (await rig.ended(job)).state is JobState.SUCCEEDED
    kinds = [message.kind for message in rig.messages(job)]
    assert kinds[:2] == ["custom.event", "execution_start"]
    assert len(kinds) == 10


async def test_a_cached_run_gives_the_new_job_assets_of_its_own(rig: Rig) -> None:
    deployment = await rig.deploy()
    first = await rig.ended(await rig.submit(deployment))
    second = await rig.ended(await rig.submit(deployment))
    assert second.state is JobState.SUCCEEDED
    [one] = await rig.store.assets.of_job(first.id)
    [other] = await rig.store.assets.of_job(second.id)
    assert one.digest == other.digest
    assert one.name != other.name
    entry = await kept(rig, second.id)
    assert entry["outputs"]["9"]["images"][0]["filename"] == other.name


async def test_equal_names_of_two_replicas_do_not_clash(rig: Rig) -> None:
    """Every engine begins to count at one; the public name is unique in the deployment."""
    deployment = await rig.deploy()
    first = await rig.ended(await rig.submit(deployment))
    [supervisor] = rig.fleet(deployment).ready
    supervisor.stop(Cause.STOPPED_BY_USER)
    await rig.asleep(deployment)
    second = await rig.ended(await rig.submit(deployment))
    [one] = await rig.store.assets.of_job(first.id)
    [other] = await rig.store.assets.of_job(second.id)
    assert {one.name, other.name} == {"ComfyUI_00001_.png", "ComfyUI_00002_.png"}


async def test_outputs_of_every_key_are_kept_and_a_missing_file_is_only_named(rig: Rig) -> None:
    async def odd(stage: Stage) -> None:
        nested = {"deep": [{"file": stage.write(b"scroll", subfolder="a/b", kind="temp")}]}
        gone = {"filename": "gone.png", "subfolder": "", "type": "output"}
        await stage.report("9", {"scrolls": [nested], "images": [gone], "text": ["hi"], "n": 1.5})

    rig.engines.conduct = Conduct(odd)
    deployment = await rig.deploy()
    job = await rig.submit(deployment)
    assert (await rig.ended(job)).state is JobState.SUCCEEDED
    [asset] = await rig.store.assets.of_job(job.id)
    assert (asset.subfolder, asset.type) == ("a/b", "temp")
    assert asset.expires_at is not None
    output = (await kept(rig, job.id))["outputs"]["9"]
    assert output["scrolls"][0]["deep"][0]["file"]["filename"] == asset.name
    assert output["images"][0]["filename"] == "gone.png"
    assert (output["text"], output["n"]) == (["hi"], 1.5)


async def test_previews_and_other_frames_are_passed_on_whole(rig: Rig) -> None:
    picture = bytes(range(256)) * 4096 * 8  # 8 MiB

    async def shows(stage: Stage) -> None:
        await stage.show("1", picture)
        await stage.send_frame(b"\0\0\0\3\0\0\0\0011text")
        await perform(stage)

    rig.engines.conduct = Conduct(shows)
    deployment = await rig.deploy()
    job = await rig.submit(deployment, prompt_id="theirs")
    assert (await rig.ended(job)).state is JobState.SUCCEEDED
    [preview] = rig.heard(Preview)
    assert (preview.job_id, preview.client_id, preview.image) == (job.id, "me", picture)
    assert preview.metadata["prompt_id"] == "theirs"
    [frame] = rig.heard(EngineFrame)
    assert frame.payload == b"\0\0\0\3\0\0\0\0011text"


async def test_a_failing_node_fails_the_job_with_its_own_words(rig: Rig) -> None:
    async def fails(stage: Stage) -> None:
        await stage.begin("1")
        raise NodeFailed("1", "no such colour", kind="builtins.KeyError")

    rig.engines.conduct = Conduct(fails)
    deployment = await rig.deploy()
    failed = await rig.ended(await rig.submit(deployment))
    assert (failed.state, failed.attempts) == (JobState.FAILED, 1)
    assert failed.error is not None
    assert (failed.error.code, failed.error.message) == ("node_execution_error", "no such colour")
    assert (failed.error.node_id, failed.error.class_type) == ("1", "FakeImage")
    assert failed.error.exception_type == "builtins.KeyError"
    assert failed.error.traceback == ("  File nodes.py, line 1\n",)
    assert (await kept(rig, failed.id))["status"]["status_str"] == "error"
    assert [s.state for s in rig.fleet(deployment).supervisors] == [ReplicaState.READY]


async def test_an_error_that_quotes_a_secret_is_told_without_it(rig: Rig) -> None:
    await rig.store.secrets.put("API_KEY", "sk-0123/456", 1.0)
    deployment = await rig.deploy()

    async def refused(stage: Stage) -> None:
        await stage.begin("1")
        raise NodeFailed("1", "401 for https://api.test/?key=sk-0123%2F456 (sk-0123/456)")

    rig.engines.conduct = Conduct(refused)
    job = await rig.submit(deployment)
    failed = await rig.ended(job)
    assert failed.error is not None
    assert failed.error.message == "401 for https://api.test/?key=*** (***)"
    entry = await rig.store.jobs.history_entry(deployment.id, job.prompt_id)
    told = f"{failed.error}{entry!r}{rig.messages(job)}"
    assert "sk-0123" not in told


async def test_running_out_of_memory_is_told_apart(rig: Rig) -> None:
    async def fails(stage: Stage) -> None:
        raise NodeFailed("1", "CUDA out of memory", kind="torch.OutOfMemoryError")

    rig.engines.conduct = Conduct(fails)
    failed = await rig.ended(await rig.submit(await rig.deploy()))
    assert failed.error is not None
    assert failed.error.code == "out_of_memory"


async def test_text_that_no_json_can_hold_does_not_stop_a_job(rig: Rig) -> None:
    """Python's json writes half a surrogate pair, as in the name of a file that is not UTF-8."""

    async def fails(stage: Stage) -> None:
        await stage.report("9", {"text": ["caf\udce9"], "value": [float("nan")]})
        raise NodeFailed("1", "no file 'caf\udce9.png'")

    rig.engines.conduct = Conduct(fails)
    failed = await rig.ended(await rig.submit(await rig.deploy(spec=SINGLE)))
    assert failed.state is JobState.FAILED
    assert failed.error is not None
    assert failed.error.message.startswith("no file 'caf")


async def test_a_prompt_that_the_engine_refuses_fails_with_its_reasons(rig: Rig) -> None:
    detail = {"message": "Value not in list", "details": "name: 'x' not in []"}
    rig.engines.conduct = Conduct(
        refusal={
            "error": {"type": "prompt_outputs_failed_validation", "message": "failed validation"},
            "node_errors": {"1": {"errors": [detail], "class_type": "FakeImage"}},
        }
    )
    deployment = await rig.deploy()
    failed = await rig.ended(await rig.submit(deployment))
    assert (failed.state, failed.attempts) == (JobState.FAILED, 1)
    assert failed.error is not None
    assert failed.error.code == "engine_rejected"
    assert "400" in failed.error.message
    assert "failed validation" in failed.error.message
    assert failed.error.node_id == "1"
    assert failed.error.traceback == ("Value not in list: name: 'x' not in []",)
    assert [s.state for s in rig.fleet(deployment).supervisors] == [ReplicaState.READY]


@pytest.mark.parametrize(
    "route",
    ["POST /prompt", "GET /history/{prompt_id}", "GET /view", "GET /ws"],
)
async def test_an_engine_that_answers_nonsense_is_replaced(
    rig: Rig, route: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("comfyserve.runtime.jobs._LOST_VERDICT_S", 0.05)
    deployment = await rig.deploy()
    rig.engines.conduct = Conduct(broken=frozenset({route}))
    job = await rig.submit(deployment)
    supervisor = await rig.replica(deployment, ReplicaState.READY)
    rig.engines.conduct = Conduct()
    done = await rig.ended(job)
    if route == "POST /prompt":  # that is an answer: it refused the prompt
        assert done.state is JobState.FAILED
        assert done.error is not None
        assert done.error.code == "engine_rejected"
        return
    assert (done.state, done.attempts) == (JobState.SUCCEEDED, 2)
    assert done.replica_id != supervisor.id
    assert supervisor.replica.cause is Cause.UNRESPONSIVE
    assert len(await rig.store.assets.of_job(job.id)) == 1


async def test_an_engine_that_forgets_what_it_ran_loses_the_attempt(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("comfyserve.runtime.jobs._LOST_VERDICT_S", 0.05)
    rig.engines.conduct = Conduct(keeps_history=False)
    failed = await rig.ended(await rig.submit(await rig.deploy(spec=SINGLE)))
    assert failed.state is JobState.FAILED
    assert failed.error is not None
    assert failed.error.code == "replica_lost"
    assert "no longer knows the prompt" in failed.error.message


async def test_a_job_that_takes_too_long_is_interrupted_and_its_replica_replaced(rig: Rig) -> None:
    rig.engines.conduct = Conduct(never_ends)
    deployment = await rig.deploy(spec=timed_out_after(0.3, stop_s=30.0))
    job = await rig.submit(deployment)
    supervisor = await rig.replica(deployment, ReplicaState.READY)
    engine = rig.engine(supervisor)
    failed = await rig.ended(job)
    assert (failed.state, failed.attempts) == (JobState.FAILED, 1)
    assert failed.error is not None
    assert failed.error.code == "job_timeout"
    assert "0.3 s" in failed.error.message
    assert engine.interrupted == [job.id]
    await rig.asleep(deployment)
    assert supervisor.replica.cause is Cause.JOB_TIMEOUT
    rig.engines.conduct = Conduct()
    again = await rig.ended(await rig.submit(deployment))
    assert again.state is JobState.SUCCEEDED


@pytest.mark.parametrize(
    "conduct",
    [
        Conduct(never_ends, heeds_interrupt=False),
        Conduct(never_ends, hung=frozenset({"POST /interrupt"})),
        Conduct(never_ends, hung=frozenset({"POST /queue", "POST /interrupt"})),
        Conduct(never_ends, broken=frozenset({"POST /queue", "POST /interrupt"})),
    ],
    ids=["deaf", "hangs", "hangs at once", "answers 500"],
)
async def test_a_job_that_cannot_be_interrupted_goes_with_its_replica(
    rig: Rig, conduct: Conduct
) -> None:
    rig.engines.conduct = conduct
    deployment = await rig.deploy(spec=timed_out_after(0.2, stop_s=0.2))
    job = await rig.submit(deployment)
    supervisor = await rig.replica(deployment, ReplicaState.READY)
    async with asyncio.timeout(5.0):
        failed = await rig.ended(job)
    assert failed.state is JobState.FAILED
    assert failed.error is not None
    assert failed.error.code == "job_timeout"
    await rig.asleep(deployment)
    assert supervisor.replica.cause is Cause.JOB_TIMEOUT
    assert [m.kind for m in rig.messages(job)][-2:] == ["execution_error", "executing"]


@pytest.mark.parametrize("route", ["GET /ws", "GET /view", "POST /prompt"])
async def test_no_route_that_hangs_keeps_a_job_beyond_its_time(rig: Rig, route: str) -> None:
    rig.engines.conduct = Conduct(hung=frozenset({route}))
    deployment = await rig.deploy(spec=timed_out_after(0.3, stop_s=0.2))
    async with asyncio.timeout(5.0):
        failed = await rig.ended(await rig.submit(deployment))
    assert failed.state is JobState.FAILED
    assert failed.error is not None
    assert failed.error.code == "job_timeout"


async def test_a_fresh_client_id_for_each_job(rig: Rig) -> None:
    """A client id that was used before can be deaf."""
    deployment = await rig.deploy()
    for seed in range(3):
        await rig.ended(await rig.submit(deployment, a_prompt(seed)))
    [supervisor] = rig.fleet(deployment).ready
    assert len({body["client_id"] for body in rig.engine(supervisor).submitted}) == 3
    assert len(rig.heard(JobChanged)) == 9
