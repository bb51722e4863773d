"""Assets of Comfy API v2: identity by bytes and path, retention, ranges, signed URLs, refusals."""

import os
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3
from tests.e2e.server_process import picture
from tests.gateway.v2_door import Door, form, unused_port, v2_door

MISSING = "0f0f0f0f-0000-4000-8000-000000000000"


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    home = tmp_path_factory.mktemp("v2") / "home"
    with v2_door(home, unused_port(), limits={"max_upload_bytes": 200_000}) as door:
        yield door


def fresh() -> bytes:
    return os.urandom(300)


def hash_of(data: bytes) -> str:
    return f"blake3:{blake3(data).hexdigest()}"


def test_an_upload_is_known_by_its_bytes_at_once(door: Door) -> None:
    data = fresh()
    assert door.call("HEAD", f"/assets/by-hash/{hash_of(data)}").status == 404
    answer = door.upload(data, "photo.png", expected_hash=hash_of(data))
    assert answer.status == 201
    asset = answer.json
    assert asset["created_new"] is True
    assert asset["hash"] == hash_of(data)
    assert asset["size_bytes"] == len(data)
    assert asset["file_path"] == "photo.png"
    assert asset["job_id"] is None
    encoded = hash_of(data).replace(":", "%3A")
    assert door.call("HEAD", f"/assets/by-hash/{hash_of(data)}").status == 200
    assert door.call("HEAD", f"/assets/by-hash/{encoded}").status == 200
    assert door.fetch(asset["url"]).body == data
    again = door.call("GET", f"/assets/{asset['id']}").json
    assert {**again, "created_new": True, "url": "", "url_expires_at": ""} == {
        **asset,
        "url": "",
        "url_expires_at": "",
    }


def test_the_same_bytes_under_the_same_path_are_the_same_asset(door: Door) -> None:
    data = fresh()
    first = door.upload(data, "a/./b.png").json
    assert first["file_path"] == "a/b.png"
    second = door.upload(data, "a/b.png")
    other = door.upload(data, "c.png")
    assert (second.status, other.status) == (200, 200)
    assert second.json["id"] == first["id"]
    assert other.json["id"] != first["id"]
    assert second.json["created_new"] is other.json["created_new"] is False
    by_hash = door.call("POST", "/assets/from-hash", {"hash": hash_of(data), "file_path": "c.png"})
    minted = door.call("POST", "/assets/from-hash", {"hash": hash_of(data)})
    assert (by_hash.status, by_hash.json["id"]) == (200, other.json["id"])
    assert (minted.status, minted.json["file_path"]) == (201, None)
    assert minted.json["created_new"] is False


def test_a_reference_to_unknown_bytes_is_refused(door: Door) -> None:
    answer = door.call("POST", "/assets/from-hash", {"hash": hash_of(fresh())})
    assert answer.refusal == (404, "blob_not_found")


def test_the_wrong_hash_stores_nothing(door: Door) -> None:
    data = fresh()
    answer = door.upload(data, "x.png", expected_hash=hash_of(b"other"))
    assert answer.refusal == (409, "hash_mismatch")
    assert door.call("HEAD", f"/assets/by-hash/{hash_of(data)}").status == 404
    assert os.listdir(door.server.home / "blobs" / "incoming") == []


def test_retention_is_extended_and_never_shortened(door: Door) -> None:
    data = fresh()

    def expiry(answer: Any) -> float:
        return datetime.fromisoformat(answer.json["expires_at"]).timestamp()

    short = expiry(door.upload(data, "keep.png", expires_in=60))
    assert 50 < short - time.time() < 70
    long = expiry(door.upload(data, "keep.png", expires_in=604_800))
    assert long - short > 600_000
    assert expiry(door.upload(data, "keep.png", expires_in=60)) == long
    default = expiry(door.upload(data, "default.png"))
    assert default - time.time() > 29 * 86400


def test_bytes_come_whole_and_in_ranges(door: Door) -> None:
    data = fresh()
    path = f"/assets/{door.upload(data, 'r.bin', content_type='video/mp4').json['id']}/content"
    whole = door.call("GET", path)
    assert (whole.status, whole.body) == (200, data)
    assert whole.headers["content-type"] == "video/mp4"
    part = door.call("GET", path, headers={"Range": "bytes=10-19"})
    assert (part.status, part.body) == (206, data[10:20])
    assert part.headers["content-range"] == f"bytes 10-19/{len(data)}"
    assert door.call("GET", path, headers={"Range": "bytes=-5"}).body == data[-5:]
    assert door.call("GET", path, headers={"Range": f"bytes={len(data)}-"}).status == 416
    head = door.call("HEAD", path)
    assert (head.status, head.headers["content-length"]) == (200, str(len(data)))


def test_what_a_browser_would_run_comes_as_a_download(door: Door) -> None:
    page = b"<script>alert(1)</script>" + fresh()
    asset = door.upload(page, "page.html", content_type="text/html").json
    answer = door.call("GET", f"/assets/{asset['id']}/content")
    assert answer.body == page
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-disposition"].startswith("attachment")
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_a_deleted_asset_is_gone_and_its_urls_with_it(door: Door) -> None:
    data = fresh()
    asset = door.upload(data, "gone.png").json
    other = door.upload(data, "stays.png").json
    assert door.call("DELETE", f"/assets/{asset['id']}").status == 204
    assert door.call("DELETE", f"/assets/{asset['id']}").refusal == (404, "not_found")
    assert door.call("GET", f"/assets/{asset['id']}").refusal == (404, "not_found")
    assert door.fetch(asset["url"]).refusal == (404, "not_found")
    assert door.fetch(other["url"]).body == data


def test_an_asset_of_another_deployment_is_unknown(door: Door) -> None:
    door.server.deploy("other")
    other = Door(door.server, "/d/other/api/v2")
    data = fresh()
    asset = door.upload(data, "mine.png").json
    for method, path in (
        ("GET", f"/assets/{asset['id']}"),
        ("GET", f"/assets/{asset['id']}/content"),
        ("DELETE", f"/assets/{asset['id']}"),
    ):
        assert other.call(method, path).refusal == (404, "not_found")
    assert other.call("HEAD", f"/assets/by-hash/{hash_of(data)}").status == 404
    answer = other.call("POST", "/assets/from-hash", {"hash": hash_of(data)})
    assert answer.refusal == (404, "blob_not_found")
    theirs = other.upload(data, "mine.png")
    assert (theirs.status, theirs.json["created_new"]) == (201, True)
    assert theirs.json["url"].startswith(f"{door.server.url}/d/other/api/v2/assets/")
    assert door.fetch(theirs.json["url"]).body == data


@pytest.mark.parametrize(
    ("fields", "data"),
    [
        ({"file_path": None}, b"x"),
        ({"content_type": None}, b"x"),
        ({}, None),
        ({"file_path": "../up.png"}, b"x"),
        ({"file_path": "a/../../b"}, b"x"),
        ({"file_path": "/etc/passwd"}, b"x"),
        ({"file_path": "a\x00b"}, b"x"),
        ({"file_path": "."}, b"x"),
        ({"file_path": "n" * 300}, b"x"),
        ({"file_path": "d/" * 600 + "x"}, b"x"),
        ({"content_type": "nonsense"}, b"x"),
        ({"content_type": "image/png\r\nX-Evil: 1"}, b"x"),
        ({"expected_hash": "sha256:00"}, b"x"),
        ({"expected_hash": "blake3:" + "A" * 64}, b"x"),
        ({"expires_in": "59"}, b"x"),
        ({"expires_in": "604801"}, b"x"),
        ({"expires_in": "soon"}, b"x"),
        ({"tags": [f"t{number}" for number in range(33)]}, b"x"),
        ({"tags": ["t" * 200]}, b"x"),
    ],
)
def test_a_field_that_makes_no_sense_is_refused(
    door: Door, fields: dict[str, Any], data: bytes | None
) -> None:
    sent = {"content_type": "image/png", "file_path": "x.png", **fields}
    body, content_type = form(sent, data, "x.png")
    answer = door.call("POST", "/assets", body, {"Content-Type": content_type})
    assert answer.refusal == (422, "invalid_request")


def test_a_form_that_is_none_or_cut_off_or_too_large_is_refused(door: Door) -> None:
    fields = {"content_type": "image/png", "file_path": "x.png"}
    assert door.call("POST", "/assets", {"file": "x"}).refusal == (422, "invalid_request")
    body, content_type = form(fields, b"x" * 100, "x.png", cut=60)
    cut = door.call("POST", "/assets", body, {"Content-Type": content_type})
    assert cut.refusal == (422, "invalid_form")
    body, content_type = form(fields, b"x" * 300_000, "x.png")
    large = door.call("POST", "/assets", body, {"Content-Type": content_type})
    assert large.refusal == (413, "payload_too_large")
    assert os.listdir(door.server.home / "blobs" / "incoming") == []


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"hash": 5},
        {"hash": "blake3:short"},
        {"hash": "blake3:" + "0" * 64, "file_path": 5},
        {"hash": "blake3:" + "0" * 64, "expires_in": True},
        {"hash": "blake3:" + "0" * 64, "expires_in": 1},
        {"hash": "blake3:" + "0" * 64, "tags": "x"},
        {"hash": "blake3:" + "0" * 64, "size": 5},
        [],
    ],
)
def test_a_reference_that_makes_no_sense_is_refused(door: Door, body: Any) -> None:
    assert door.call("POST", "/assets/from-hash", body).refusal == (422, "invalid_request")


def test_an_idempotency_key_is_good_for_one_upload(door: Door) -> None:
    data = fresh()
    bad = door.upload(data, "k.png", key="once", expected_hash=hash_of(b"other"))
    assert bad.refusal == (409, "hash_mismatch")
    assert door.upload(data, "k.png", key="once").status == 201
    assert door.upload(data, "k.png", key="once").refusal == (422, "idempotency_key_reuse")
    assert door.upload(data, "k.png", key="é").refusal == (422, "invalid_request")
    # Keys of jobs are others.
    headers = {"Idempotency-Key": "once"}
    assert door.call("POST", "/jobs", {"workflow": picture(1)}, headers).status == 201


def test_unknown_paths_and_methods_have_the_envelope(door: Door) -> None:
    for path in ("/assets/nope", f"/assets/{MISSING}", "/jobs/nope/more/x", "/assets/../../x"):
        assert door.call("GET", path).refusal == (404, "not_found")
    assert door.call("PUT", "/jobs").refusal == (405, "method_not_allowed")
    assert door.call("GET", f"/assets/by-hash/{hash_of(b'')}").refusal == (
        405,
        "method_not_allowed",
    )


def test_urls_are_signed_for_one_asset_and_a_while(home: Path, free_port: int) -> None:
    with v2_door(home, free_port) as door:
        made = door.server.post("/api/v1/tokens", {"name": "t", "scopes": ["run"]}).json
        mine = Door(door.server, "/api/v2", made["secret"])
        asset = mine.upload(b"secret", "s.txt", content_type="text/plain").json
        forwarded = {"X-Forwarded-For": "203.0.113.9"}
        content = f"/assets/{asset['id']}/content"
        signed = asset["url"].split("/api/v2", 1)[1]
        assert door.call("GET", signed, headers=forwarded).body == b"secret"
        assert door.call("HEAD", signed, headers=forwarded).status == 200
        for path in (
            content,
            signed.replace("exp=", "exp=1"),
            signed[:-1] + ("A" if signed[-1] != "A" else "B"),
            signed.replace(asset["id"], MISSING),
            signed.replace("/content", ""),
            f"{content}?exp=99999999999&sig=",
            f"{content}?exp=-1&sig=x",
        ):
            refused = door.call("GET", path, headers=forwarded)
            assert refused.refusal == (401, "unauthorized")
        refused = door.call("DELETE", signed, headers=forwarded)
        assert refused.refusal == (401, "unauthorized")
