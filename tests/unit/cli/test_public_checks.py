"""What `doctor` says about the public side, where it is right and where it is not."""

import socket
from pathlib import Path

import pytest
from tests.gateway.https_client import Authority
from tests.gateway.v2_door import unused_port

from comfyserve.cli.checks import Finding, Level
from comfyserve.cli.public_checks import (
    check_caddy,
    check_certificate,
    check_names,
    check_public,
    check_public_port,
)
from comfyserve.domain.public import Public, Tls
from comfyserve.settings import Settings

LOCAL = Public("localhost", Tls.INTERNAL, host="127.0.0.1")


def files(directory: Path, domain: str) -> tuple[Public, Settings]:
    public = Public(domain, Tls.FILES)
    cert, key = str(directory / "cert.pem"), str(directory / "key.pem")
    return public, Settings(domain=domain, tls="files", cert=cert, key=key)


def test_names_that_lead_nowhere_say_which_records_to_make() -> None:
    found = check_names(Public("gpu.invalid", Tls.INTERNAL))
    assert found.level is Level.PROBLEM
    assert "gpu.invalid" in found.detail
    assert "*.gpu.invalid" in found.mend


def test_ports_are_free_ours_or_somebodys() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert check_public_port("127.0.0.1", port, "--https-port", is_running=True).level == "ok"
        found = check_public_port("127.0.0.1", port, "--https-port", is_running=False)
    assert (found.level, found.name) == (Level.PROBLEM, f"port {port}")
    assert "--https-port" in found.mend
    free = check_public_port("127.0.0.1", unused_port(), "--https-port", is_running=False)
    assert free.level is Level.OK


def test_a_certificate_is_judged_by_its_age_and_names(tmp_path: Path) -> None:
    public, settings = files(tmp_path, "gpu.test")

    def judged() -> Finding:
        return check_certificate(public, settings, is_running=False)

    assert judged().level is Level.PROBLEM, "no file"
    authority = Authority(tmp_path)
    authority.issue(tmp_path, "gpu.test", "*.gpu.test")
    assert judged().level is Level.OK
    assert "1 day old, for *.gpu.test, gpu.test, until 20" in judged().detail
    authority.issue(tmp_path, "gpu.test", "*.gpu.test", days=3)
    assert (judged().level, judged().detail[:9]) == (Level.WARNING, "ends soon")
    authority.issue(tmp_path, "gpu.test")
    assert (judged().level, judged().detail[:16]) == (Level.WARNING, "lacks *.gpu.test")
    authority.issue(tmp_path, "gpu.test", "*.gpu.test", days=0)
    assert (judged().level, judged().detail[:11]) == (Level.PROBLEM, "has expired")
    (tmp_path / "cert.pem").write_text("nothing")
    assert judged().level is Level.PROBLEM


def test_what_caddy_serves_is_asked_of_it() -> None:
    assert check_certificate(LOCAL, Settings(), is_running=False).level is Level.OK
    nobody = Public("localhost", Tls.INTERNAL, host="127.0.0.1", https_port=unused_port())
    found = check_certificate(nobody, Settings(), is_running=True)
    assert found.level is Level.PROBLEM
    assert "caddy_log" in found.mend


def test_caddy_is_missed_where_it_is_not(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert check_caddy().level is Level.PROBLEM
    fake = tmp_path / "caddy"
    fake.write_text("#!/bin/sh\necho v2.9.1 h1:abc\n")
    fake.chmod(0o755)
    assert check_caddy().detail == f"v2.9.1 at {fake}"


def test_each_kind_of_public_side_has_its_checks(tmp_path: Path) -> None:
    def names(settings: Settings) -> list[str]:
        return [found.name for found in check_public(settings, is_running=False)]

    assert names(Settings()) == []
    assert names(Settings(domain="gpu.test")) == ["domain"], "no public certificate for that"
    assert names(Settings(domain="gpu.invalid", tls="off")) == ["dns", "proxy"]
    proxied = Settings(domain="gpu.invalid", tls="off", trusted_proxies="10.0.0.7")
    assert [found.level for found in check_public(proxied, is_running=False)][1] is Level.OK
    _, settings = files(tmp_path, "gpu.invalid")
    assert names(settings) == ["dns", "port 443", "port 80", "certificate"]
    assert "caddy" in names(Settings(domain="gpu.invalid", tls="internal"))
