"""Where a URL that a caller gave may lead: judged by its text, and by the address behind it.

The server sits inside somebody's network, and a caller must not reach that network through it. So a
URL leads to public addresses only, unless the operator allows networks. The text is judged when it
comes in, to refuse early and clearly; what counts is the judgement of the address that is connected
to, since a name can lead anywhere, and elsewhere the next time.
"""

import ipaddress
import re
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit, urlunsplit

from comfyserve.domain.errors import InvalidInput, UrlRefused

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

LONGEST_URL = 2048
DEFAULT_PORTS = {"http": 80, "https": 443}
_EVERYWHERE: tuple[Network, ...] = (
    ipaddress.IPv4Network("0.0.0.0/0"),
    ipaddress.IPv6Network("::/0"),
)
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_TEREDO = ipaddress.IPv6Network("2001::/32")
_SIX_TO_FOUR_RELAY = ipaddress.IPv4Network("192.88.99.0/24")
_DOCUMENTATION = ipaddress.IPv6Network("3fff::/20")
_ISATAP = frozenset({0x00005EFE, 0x02005EFE})
# They hand out the credentials of the machine; one of them is a public address.
_METADATA = frozenset(
    ipaddress.ip_address(text)
    for text in (
        "169.254.169.254",
        "169.254.170.2",
        "100.100.100.200",
        "168.63.129.16",
        "192.0.0.192",
        "fd00:ec2::254",
        "fd20:ce::254",
    )
)
# Ports of other protocols, which a crafted request could speak; the list that browsers keep.
_FOREIGN_PORTS = frozenset((
    1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95, 101, 102,
    103, 104, 109, 110, 111, 113, 115, 117, 119, 123, 135, 137, 139, 143, 161, 179, 389, 427, 465,
    512, 513, 514, 515, 526, 530, 531, 532, 540, 548, 554, 556, 563, 587, 601, 636, 989, 990, 993,
    995, 1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060, 5061, 6000, 6566, 6665, 6666, 6667, 6668,
    6669, 6679, 6697, 10080,
))  # fmt: skip
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?", re.ASCII)
_LIKE_A_NUMBER = re.compile(r"\d+|0x[0-9a-f]*", re.ASCII)
_LONGEST_HOST = 253


@dataclass(frozen=True, slots=True)
class OutsidePolicy:
    """Which networks that are not public a URL may lead to all the same."""

    allowed: tuple[Network, ...] = ()

    @classmethod
    def of(cls, setting: str) -> "OutsidePolicy":
        """Read the setting: networks or addresses, separated by commas, or `all`.

        Raises InvalidInput naming what cannot be read.
        """
        allowed: list[Network] = []
        for text in filter(None, (part.strip() for part in setting.split(","))):
            if text == "all":
                allowed += _EVERYWHERE
                continue
            try:
                allowed.append(ipaddress.ip_network(text))
            except ValueError as error:
                raise InvalidInput(
                    f"setting 'allow_private_urls' cannot hold '{text}' ({error}): write networks "
                    "as 10.0.0.0/8, separated by commas, or all"
                ) from None
        return cls(tuple(allowed))

    def judge_address(self, text: str, *, host: str = "") -> None:
        """Raise UrlRefused unless a connection may be made to this address."""
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            raise UrlRefused(f"'{text}' is not an IP address.") from None
        for each in _meanings(address):
            if not self._is_open(each):
                is_named = host not in {"", text}
                leads = f"'{host}' leads to {address}, which" if is_named else f"{address}"
                raise UrlRefused(
                    f"{leads} is not a public address. URLs lead to public addresses only; "
                    "the operator can allow a network with the setting allow_private_urls."
                )

    def judge_url(self, url: str) -> str:
        """The URL as it is to be used, without its fragment. Raises UrlRefused, saying why."""
        parts = _split(url)
        host, port = parts.hostname or "", _port_of(parts)
        literal = _literal(host)
        if literal is None:
            host = _name(host)
            if host == "localhost" or host.endswith(".localhost"):
                self.judge_address("127.0.0.1", host=host)
        else:
            self.judge_address(str(literal))
            host = f"[{literal}]" if literal.version == 6 else str(literal)
        shown = host if port == DEFAULT_PORTS[parts.scheme] else f"{host}:{port}"
        return urlunsplit((parts.scheme, shown, parts.path or "/", parts.query, ""))

    def judge_redirect(self, url: str, previous: str) -> str:
        """The same for where an answer sends us: never from https back to http."""
        judged = self.judge_url(url)
        if previous.startswith("https:") and not judged.startswith("https:"):
            raise UrlRefused(f"'{previous}' redirects from https to http, which is not followed.")
        return judged

    def _is_open(self, address: Address) -> bool:
        naming = [network for network in self.allowed if address in network]
        if address in _METADATA:
            return any(network.num_addresses == 1 for network in naming)
        return bool(naming) or _is_public(address)


def origin_of(url: str) -> str:
    """Scheme, host and port of a judged URL: what shares one receiver's fate."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _split(url: str) -> SplitResult:
    if len(url) > LONGEST_URL:
        raise UrlRefused(f"A URL may have {LONGEST_URL} characters; this one has {len(url)}.")
    if not url or any(ord(char) <= 0x20 or ord(char) == 0x7F or char == "\\" for char in url):
        raise UrlRefused(
            f"{url!r} is not a URL: it is empty, or holds spaces or control characters."
        )
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise UrlRefused(f"{url!r} is not a URL: {error}.") from None
    if parts.scheme not in DEFAULT_PORTS:
        raise UrlRefused(f"{url!r} must begin with http:// or https://.")
    if "@" in parts.netloc:
        raise UrlRefused("A URL must not carry a user name or password.")
    if not parts.hostname:
        raise UrlRefused(f"{url!r} names no host.")
    return parts


def _port_of(parts: SplitResult) -> int:
    try:
        port = parts.port
    except ValueError:
        raise UrlRefused(f"'{parts.netloc}' has no port from 1 to 65535.") from None
    if port is None:
        return DEFAULT_PORTS[parts.scheme]
    if port == 0 or port in _FOREIGN_PORTS:
        raise UrlRefused(f"Port {port} is not one that HTTP is served on.")
    return port


def _literal(host: str) -> Address | None:
    """The address that a host is, in its usual spelling; None for a name."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.scope_id is not None:
        raise UrlRefused(f"'{host}' is an address of one link only.")
    return address


def _name(host: str) -> str:
    """A host name as DNS has it. What systems read as a number in an odd spelling is none."""
    name = host.removesuffix(".")
    try:
        name = name.encode("idna").decode("ascii").lower()
    except UnicodeError:
        raise UrlRefused(f"'{host}' is not a host name.") from None
    labels = name.split(".")
    if len(name) > _LONGEST_HOST or not all(_LABEL.fullmatch(label) for label in labels):
        raise UrlRefused(f"'{host}' is not a host name.")
    if _LIKE_A_NUMBER.fullmatch(labels[-1]):
        raise UrlRefused(f"'{host}' is not an address in its usual spelling, as 192.0.2.1.")
    return name


def _meanings(address: Address) -> Iterator[Address]:
    """Every address at which a connection to this one can end up."""
    if isinstance(address, ipaddress.IPv4Address):
        yield address
        return
    value = int(address)
    if address.ipv4_mapped is not None:
        yield address.ipv4_mapped
        return
    if address in _NAT64:
        yield ipaddress.IPv4Address(value & 0xFFFFFFFF)
        return
    yield ipaddress.IPv6Address(value)
    if address.sixtofour is not None:
        yield address.sixtofour
    if address in _TEREDO and address.teredo is not None:
        yield from address.teredo
    if (value >> 32) & 0xFFFFFFFF in _ISATAP:
        yield ipaddress.IPv4Address(value & 0xFFFFFFFF)


def _is_public(address: Address) -> bool:
    if address.is_multicast or address.is_reserved or address.is_unspecified:
        return False
    if isinstance(address, ipaddress.IPv4Address):
        return address.is_global and address not in _SIX_TO_FOUR_RELAY
    if address not in _GLOBAL_UNICAST or address in _DOCUMENTATION:
        return False
    return address.is_global or address.sixtofour is not None
