"""URLs of callers: nothing that is not public is reachable, however it is spelled."""

import ipaddress
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from comfyserve.domain.errors import InvalidInput, UrlRefused
from comfyserve.domain.outside import OutsidePolicy

CLOSED = OutsidePolicy()
LOOPBACK = OutsidePolicy.of("127.0.0.0/8, ::1")
PRIVATE = [
    ipaddress.ip_network(text)
    for text in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16",
        "172.16.0.0/12", "192.0.2.0/24", "192.168.0.0/16", "192.88.99.0/24", "198.18.0.0/15",
        "224.0.0.0/4", "240.0.0.0/4",
    )
]  # fmt: skip
private_v4 = st.sampled_from(PRIVATE).flatmap(lambda net: st.ip_addresses(v=4, network=net))


def is_open(policy: OutsidePolicy, address: object) -> bool:
    try:
        policy.judge_address(str(address))
    except UrlRefused:
        return False
    return True


def embeddings(address: ipaddress.IPv4Address) -> list[str]:
    """IPv6 addresses that lead to an IPv4 one."""
    value = int(address)
    high, low = value >> 16, value & 0xFFFF
    return [
        f"::ffff:{address}",
        f"64:ff9b::{high:x}:{low:x}",
        f"2002:{high:x}:{low:x}::1",
        f"2606:4700::5efe:{high:x}:{low:x}",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "fe80::1", "fc00::1", "fec0::1", "ff02::1", "::", "::1", "::7f00:1", "::ffff:0:127.0.0.1",
        "64:ff9b:1::a00:1", "2001:db8::1", "3fff::1", "5f00::1", "100::1", "2001::1",
        "169.254.169.254", "168.63.129.16", "fd00:ec2::254", "100.100.100.200", "192.0.0.192",
    ],
)  # fmt: skip
def test_special_addresses_are_closed(text: str) -> None:
    assert not is_open(CLOSED, text)


@pytest.mark.parametrize("text", ["8.8.8.8", "1.1.1.1", "2606:4700:4700::1111", "2002:808:808::1"])
def test_public_addresses_are_open(text: str) -> None:
    assert is_open(CLOSED, text)


@given(private_v4)
def test_no_private_address_is_open_in_any_disguise(address: ipaddress.IPv4Address) -> None:
    assert not is_open(CLOSED, address)
    assert not any(is_open(CLOSED, text) for text in embeddings(address))


@given(st.ip_addresses(v=4))
def test_a_disguise_never_opens_more_than_the_address_itself(
    address: ipaddress.IPv4Address,
) -> None:
    assert {is_open(CLOSED, text) for text in embeddings(address)} == {is_open(CLOSED, address)}


@given(private_v4)
def test_odd_spellings_of_private_addresses_are_refused(address: ipaddress.IPv4Address) -> None:
    value = int(address)
    a, b, c, d = address.packed
    for host in (
        f"{value}", f"0x{value:x}", f"0{value:o}", f"{a}.{value & 0xFFFFFF}", f"{a}.{b}.{c << 8 | d}",
        f"0x{a:x}.{b}.{c}.{d}", f"0{a:o}.{b}.{c}.{d}", f"{address}.", f"[::ffff:{address}]",
        "".join(chr(0xFF10 + int(x)) if x.isdigit() else x for x in str(address)),
    ):  # fmt: skip
        with pytest.raises(UrlRefused):
            CLOSED.judge_url(f"http://{host}/")


@given(st.ip_addresses(), st.integers(0, 128))
def test_an_allowed_network_is_open_and_nothing_else_becomes_so(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address, bits: int
) -> None:
    width = min(bits, address.max_prefixlen)
    network = ipaddress.ip_network(f"{address}/{width}", strict=False)
    policy = OutsidePolicy((network,))
    for each in (network[0], network[-1]):
        is_plain = ipaddress.ip_address(each) == each and not is_disguise(each)
        assert is_open(policy, each) or is_open(CLOSED, each) or not is_plain
    other = ipaddress.ip_address("10.1.2.3")
    assert is_open(policy, other) is (other in network)


def is_disguise(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Whether it leads on to another address, or to a cloud's metadata."""
    if isinstance(address, ipaddress.IPv4Address):
        return str(address).startswith(("169.254.", "168.63.", "192.0.0.", "100.100."))
    low = int(address) >> 32 & 0xFFFFFFFF
    return (
        address.ipv4_mapped is not None
        or address.sixtofour is not None
        or address.teredo is not None
        or address in ipaddress.ip_network("64:ff9b::/96")
        or low in {0x5EFE, 0x2005EFE}
        or address in ipaddress.ip_network("fd00::/8")
    )


def test_metadata_services_open_only_by_their_very_address() -> None:
    assert not is_open(OutsidePolicy.of("all"), "169.254.169.254")
    assert not is_open(OutsidePolicy.of("169.254.0.0/16"), "169.254.169.254")
    assert not is_open(OutsidePolicy.of("169.254.0.0/16"), "::ffff:169.254.169.254")
    assert is_open(OutsidePolicy.of("169.254.169.254"), "169.254.169.254")
    assert is_open(OutsidePolicy.of("all"), "10.0.0.1")


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("ftp://example.com/", "must begin with http"),
        ("file:///etc/passwd", "must begin with http"),
        ("//example.com/", "must begin with http"),
        ("http:///path", "names no host"),
        ("http://user:pw@example.com/", "user name or password"),
        ("http://example.com\\@10.0.0.1/", "control characters"),
        ("http://example.com/a b", "control characters"),
        ("http://exam\tple.com/", "control characters"),
        ("", "empty"),
        ("http://example.com:0/", "Port 0"),
        ("http://example.com:25/", "Port 25"),
        ("http://example.com:65536/", "no port"),
        ("http://example.com:x/", "no port"),
        ("http://[::1/", "not a URL"),
        ("http://[fe80::1%25eth0]/", "one link only"),
        ("http://exa%6dple.com/", "not a host name"),
        ("http://-a.example/", "not a host name"),
        ("http://a..example/", "not a host name"),
        ("http://localhost:8000/", "'localhost' leads to 127.0.0.1"),
        ("http://db.localhost/", "not a public address"),
        ("http://2130706433/", "usual spelling"),
        ("http://0x7f.1/", "usual spelling"),
        ("http://example.com/" + "a" * 2048, "2048 characters"),
    ],
)
def test_a_refusal_says_why(url: str, why: str) -> None:
    with pytest.raises(UrlRefused, match=why):
        CLOSED.judge_url(url)


@pytest.mark.parametrize(
    ("url", "judged"),
    [
        ("HTTPS://Example.COM", "https://example.com/"),
        ("https://example.com:443/x?y=1#z", "https://example.com/x?y=1"),
        ("http://example.com.:8080/", "http://example.com:8080/"),
        ("http://bücher.example/", "http://xn--bcher-kva.example/"),
        ("http://[2606:4700:0::1]/", "http://[2606:4700::1]/"),
    ],
)
def test_a_url_is_brought_into_one_spelling(url: str, judged: str) -> None:
    assert CLOSED.judge_url(url) == judged
    assert CLOSED.judge_url(judged) == judged


@given(st.text(st.characters(min_codepoint=33, max_codepoint=0x2FFF), max_size=40))
def test_whatever_passes_means_the_same_host_to_the_client(text: str) -> None:
    """Two parsers that read a URL differently are how such guards are usually passed."""
    try:
        judged = CLOSED.judge_url(f"http://{text}")
    except UrlRefused:
        return
    assert URL(judged).raw_host == urlsplit(judged).hostname
    assert CLOSED.judge_url(judged) == judged


def test_loopback_by_setting() -> None:
    assert LOOPBACK.judge_url("http://localhost:8000/") == "http://localhost:8000/"
    assert LOOPBACK.judge_url("http://[::1]:8000/") == "http://[::1]:8000/"
    with pytest.raises(UrlRefused):
        LOOPBACK.judge_url("http://10.0.0.1/")


def test_a_redirect_never_leaves_https() -> None:
    with pytest.raises(UrlRefused, match="from https to http"):
        CLOSED.judge_redirect("http://example.com/", "https://example.com/")
    assert CLOSED.judge_redirect("https://a.example", "http://b.example/") == "https://a.example/"


@pytest.mark.parametrize("text", ["10.0.0.1/8", "loopback", "300.0.0.0/8"])
def test_a_network_that_cannot_be_read_is_named(text: str) -> None:
    with pytest.raises(InvalidInput, match=text):
        OutsidePolicy.of(f"127.0.0.0/8,{text}")
