"""The public side: names, whom a server believes, and what Caddy is told."""

import pytest

from comfyserve.domain.errors import InvalidInput
from comfyserve.domain.public import (
    Public,
    Tls,
    caddy_config,
    check_domain,
    client_of,
    is_within,
    names_deployment,
    parse_networks,
)

TRUSTED = parse_networks("10.0.0.0/8, 127.0.0.1,fd00::/8,")


@pytest.mark.parametrize("domain", ["gpu.example.com", "a.b", "x-1.example.org"])
def test_a_domain_is_a_host_name(domain: str) -> None:
    assert check_domain(domain, Tls.AUTO) == domain


@pytest.mark.parametrize(
    "domain",
    ["GPU.example.com", "https://a.b", "a.b:443", "*.a.b", "a..b", "-a.b", "a_b.c", "x" * 200],
)
def test_what_is_no_domain_is_refused(domain: str) -> None:
    with pytest.raises(InvalidInput, match="host name in lower case"):
        check_domain(domain, Tls.OFF)


@pytest.mark.parametrize(
    "domain", ["localhost", "gpu.localhost", "gpu.test", "box.lan", "10.0.0.1"]
)
def test_for_a_private_name_there_is_no_public_certificate(domain: str) -> None:
    assert check_domain(domain, Tls.INTERNAL) == domain
    with pytest.raises(InvalidInput, match="--tls internal"):
        check_domain(domain, Tls.AUTO)


def test_networks_are_addresses_too_and_wrong_ones_are_named() -> None:
    assert parse_networks("") == ()
    for address in ("10.1.2.3", "127.0.0.1", "::ffff:10.1.2.3", "fd12::1"):
        assert is_within(address, TRUSTED)
    for address in ("11.0.0.1", "127.0.0.2", "::1", "", "host", "10.0.0.1:80"):
        assert not is_within(address, TRUSTED)
    for wrong in ("10.0.0.1/8", "all", "10.0.0.0/33"):
        with pytest.raises(InvalidInput, match="is no address and no network"):
            parse_networks(f"10.0.0.7,{wrong}")


@pytest.mark.parametrize(
    ("chain", "client"),
    [
        (["203.0.113.9"], "203.0.113.9"),
        (["203.0.113.9, 10.0.0.2"], "203.0.113.9"),
        (["127.0.0.1, 203.0.113.9, 10.0.0.2"], "203.0.113.9"),
        (["10.9.9.9", "203.0.113.9"], "203.0.113.9"),
        (["127.0.0.1"], ""),
        (["10.0.0.1, 127.0.0.1"], ""),
        (["203.0.113.9, unknown"], ""),
        ([""], ""),
        (["2001:db8::7"], "2001:db8::7"),
    ],
)
def test_the_client_is_the_last_address_that_no_trusted_proxy_has(
    chain: list[str], client: str
) -> None:
    assert client_of(chain, TRUSTED) == client


def test_only_names_that_exist_may_have_certificates() -> None:
    def may(host: str) -> bool:
        return names_deployment(host, "gpu.test", {"demo"})

    assert may("gpu.test")
    assert may("demo.gpu.test")
    assert may("DEMO.gpu.test")
    for host in ("other.gpu.test", "a.demo.gpu.test", "demo.gpu.test.evil.com", "evilgpu.test", ""):
        assert not may(host)


def test_addresses_show_the_port_where_it_is_another() -> None:
    assert Public("gpu.test", Tls.INTERNAL).url_of("demo") == "https://demo.gpu.test"
    assert Public("gpu.test", Tls.FILES, https_port=8443).url == "https://gpu.test:8443"
    assert Public("gpu.test", Tls.OFF).url == ""


def test_caddy_is_told_everything_at_its_start() -> None:
    public = Public("gpu.example.com", Tls.AUTO, email="ops@example.com")
    config = caddy_config(
        public, upstream="127.0.0.1:9", ask="http://127.0.0.1:9/ask", storage="/s"
    )
    assert config["admin"] == {"disabled": True}
    tls = config["apps"]["tls"]["automation"]
    assert tls["on_demand"] == {"ask": "http://127.0.0.1:9/ask"}
    (policy,) = tls["policies"]
    assert policy["on_demand"]
    assert policy["issuers"] == [{"module": "acme", "email": "ops@example.com"}]
    servers = config["apps"]["http"]["servers"]
    assert servers["https"]["listen"] == [":443"]
    (route,) = servers["http"]["routes"]
    assert route["handle"][0]["headers"]["Location"] == [
        "https://{http.request.host}{http.request.uri}"
    ]
    own = caddy_config(Public("a.b", Tls.INTERNAL), upstream="", ask="", storage="")
    assert own["apps"]["tls"]["automation"]["policies"][0]["issuers"] == [{"module": "internal"}]
