"""The public side of a server: which names it has, whom it believes, and how Caddy is told so."""

import ipaddress
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Any

from comfyserve.domain.errors import InvalidInput

_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_DOMAIN = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_IPV4 = re.compile(r"(?:^|\.)\d+$")
_PRIVATE = frozenset(
    {"localhost", "local", "localdomain", "internal", "test", "invalid", "lan", "home", "arpa"}
)
HTTPS_PORT = 443

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Tls(StrEnum):
    """Who has the certificates: Caddy from a public authority or its own, files, or nobody here."""

    AUTO = "auto"
    INTERNAL = "internal"
    FILES = "files"
    OFF = "off"


@dataclass(frozen=True, slots=True)
class Public:
    """How a server is reached from outside. `host` is the address to listen on, empty for all."""

    domain: str
    tls: Tls
    https_port: int = HTTPS_PORT
    http_port: int = 80
    host: str = ""
    email: str = ""

    @property
    def url(self) -> str:
        """The address of the control host, empty where this server has no HTTPS."""
        return self.url_of("") if self.tls is not Tls.OFF else ""

    def url_of(self, name: str) -> str:
        """The address of a deployment."""
        host = f"{name}.{self.domain}" if name else self.domain
        return f"https://{host}{port_suffix(self.https_port)}"


def port_suffix(port: int) -> str:
    """How an HTTPS address shows its port."""
    return "" if port == HTTPS_PORT else f":{port}"


def check_domain(domain: str, tls: Tls) -> str:
    """Return `domain` if it is a host name that can have such certificates, else raise InvalidInput."""
    if not _DOMAIN.fullmatch(domain) or len(domain) > 190:
        raise InvalidInput(
            f"'{domain[:80]}' is not a domain: give a host name in lower case, as in "
            "gpu.example.com, without scheme, port and '*'",
            code="invalid_domain",
        )
    is_private = "." not in domain or domain.rpartition(".")[2] in _PRIVATE or _IPV4.search(domain)
    if tls is Tls.AUTO and is_private:
        raise InvalidInput(
            f"no public authority has certificates for '{domain}': choose --tls internal (Caddy's "
            "own authority), --tls files (your own), or --tls off (plain HTTP)",
            code="invalid_domain",
        )
    return domain


def parse_networks(text: str) -> tuple[Network, ...]:
    """Read addresses and networks, divided by commas. Raises InvalidInput naming the wrong one."""
    found = []
    for part in filter(None, (item.strip() for item in text.split(","))):
        try:
            found.append(ipaddress.ip_network(part))
        except ValueError:
            raise InvalidInput(
                f"'{part[:80]}' in trusted_proxies is no address and no network: write 10.0.0.7 or "
                "10.0.0.0/8",
                code="invalid_trusted_proxies",
            ) from None
    return tuple(found)


@lru_cache(maxsize=1024)
def is_within(address: str, networks: tuple[Network, ...]) -> bool:
    """Whether an address lies in one of the networks; what is no address does not."""
    try:
        sought = ipaddress.ip_address(address)
    except ValueError:
        return False
    mapped = sought.ipv4_mapped if isinstance(sought, ipaddress.IPv6Address) else None
    return any((mapped or sought) in network for network in networks)


def client_of(forwarded_for: Sequence[str], trusted: tuple[Network, ...]) -> str:
    """The client behind trusted proxies: the last address that none of them has.

    Each proxy adds the address that it saw at the end, so what stands before the first one that
    is not trusted was written by anybody. Empty if that is no address.
    """
    chain = [item.strip() for line in forwarded_for for item in line.split(",")]
    client = next((item for item in reversed(chain) if not is_within(item, trusted)), "")
    return client if is_within(client, (_ALL_V4, _ALL_V6)) else ""


_ALL_V4, _ALL_V6 = ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0")


def names_deployment(host: str, domain: str, names: Collection[str]) -> bool:
    """Whether a certificate may be had for `host`: the domain itself, or a deployment's name in it."""
    host = host.lower()
    return host == domain or (host.endswith(f".{domain}") and host[: -len(domain) - 1] in names)


def caddy_config(public: Public, *, upstream: str, ask: str, storage: str) -> dict[str, Any]:
    """Caddy's JSON: HTTPS in front of `upstream`, certificates only for names that `ask` agrees to."""
    hosts = [public.domain, f"*.{public.domain}"]
    proxy = {
        "handler": "reverse_proxy",
        "upstreams": [{"dial": upstream}],
        # Events and previews go on as they come.
        "flush_interval": -1,
    }
    location = f"https://{{http.request.host}}{port_suffix(public.https_port)}{{http.request.uri}}"
    redirect = {
        "handler": "static_response", "status_code": 308, "headers": {"Location": [location]},
    }  # fmt: skip
    match = [{"host": hosts}]
    return {
        # What it does is fixed when it starts, so nobody needs to talk to it.
        "admin": {"disabled": True},
        "logging": {"logs": {"default": {"encoder": {"format": "json"}, "level": "INFO"}}},
        "storage": {"module": "file_system", "root": storage},
        "apps": {
            "http": {
                "http_port": public.http_port,
                "https_port": public.https_port,
                "servers": {
                    "https": {
                        "listen": [f"{public.host}:{public.https_port}"],
                        "routes": [{"match": match, "handle": [proxy], "terminal": True}],
                        "tls_connection_policies": [{}],
                        "automatic_https": {"disable": True},
                        "protocols": ["h1", "h2"],
                    },
                    "http": {
                        "listen": [f"{public.host}:{public.http_port}"],
                        "routes": [{"match": match, "handle": [redirect], "terminal": True}],
                        "automatic_https": {"disable": True},
                        "protocols": ["h1"],
                    },
                },
            },
            "tls": {
                "automation": {
                    "policies": [{"on_demand": True, "issuers": [_issuer(public)]}],
                    "on_demand": {"ask": ask},
                }
            },
            "pki": {"certificate_authorities": {"local": {"install_trust": False}}},
        },
    }


def _issuer(public: Public) -> Mapping[str, Any]:
    if public.tls is Tls.INTERNAL:
        return {"module": "internal"}
    return {"module": "acme", **({"email": public.email} if public.email else {})}
