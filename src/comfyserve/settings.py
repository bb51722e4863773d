"""What the operator sets: one table of (name, default, help), read from environment and file."""

import math
import os
import tomllib
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import platformdirs

from comfyserve.domain.errors import InvalidInput
from comfyserve.domain.outside import OutsidePolicy
from comfyserve.domain.public import Public, Tls, check_domain, parse_networks

ENV_PREFIX = "COMFYSERVE_"


def _option(
    default: Any,  # noqa: ANN401 - dataclass fields are typed at their use
    help_text: str,
    *,
    least: float = 0.0,
    choices: tuple[str, ...] = (),
) -> Any:  # noqa: ANN401 - as above
    metadata = {"help": help_text, "least": least, "choices": choices}
    if isinstance(default, dict):
        return field(default_factory=lambda: dict(default), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings of a server. The order is: option of the command, environment, file, default."""

    home: str = _option("", "directory of the database, blobs, replicas and logs")
    db: str = _option("", "database URL; empty: SQLite in the home directory")
    host: str = _option("127.0.0.1", "address to listen on")
    port: int = _option(8000, "port to listen on; 0 picks a free one")
    domain: str = _option(
        "", "NAME.domain addresses a deployment, and domain the server; public HTTPS as tls says"
    )
    tls: str = _option(
        "auto",
        "who serves HTTPS for the domain: auto or internal (Caddy, with a public or its own "
        "authority), files, or off",
        choices=("auto", "internal", "files", "off"),
    )
    cert: str = _option("", "certificate with its chain in PEM, for tls files")
    key: str = _option("", "key of that certificate in PEM")
    https_port: int = _option(443, "port of HTTPS", least=1)
    http_port: int = _option(80, "port that sends callers on to HTTPS", least=1)
    public_host: str = _option("", "address that HTTPS listens on; empty: all of this machine")
    acme_email: str = _option("", "where a public authority writes to, for tls auto")
    hsts_s: int = _option(
        0, "how long browsers shall insist on HTTPS for the domain; 0: they are not told"
    )
    trusted_proxies: str = _option(
        "", "addresses and networks whose X-Forwarded headers are believed, divided by commas"
    )
    url: str = _option("", "where the command line finds the server; empty: host and port")
    token: str = _option("", "credential that the command line sends")
    detach_replicas: bool = _option(
        default=False, help_text="leave replicas running when the server stops"
    )
    stop_timeout_s: float = _option(30.0, "longest wait for running jobs when the server stops")
    lease_s: float = _option(
        30.0, "a replica whose lease is not renewed for so long ends itself", least=0.1
    )
    probe_interval_s: float = _option(
        5.0, "how often a ready replica is asked whether it lives", least=0.01
    )
    probe_failures: int = _option(
        6, "probes in a row that may fail before a replica is replaced", least=1
    )
    start_failures: int = _option(3, "failed starts in a row after which queued jobs fail", least=1)
    temp_expiry_s: float = _option(3600.0, "how long temp outputs (previews) are kept")
    retention_s: float = _option(
        0.0, "how long ended jobs, their outputs and API uploads are kept; 0: for ever"
    )
    log_limit_bytes: int = _option(16 * 1024 * 1024, "size of the log kept of each replica")
    max_body_bytes: int = _option(32 * 1024 * 1024, "largest JSON body that is read")
    strict_prompts: bool = _option(
        default=False,
        help_text="refuse a prompt of which only a part would run; X-Comfyserve-Strict goes first",
    )
    upload_timeout_s: float = _option(
        600.0, "longest time in which the body of a call may arrive", least=0.1
    )
    confine: str = _option(
        "auto", "run engines in bubblewrap: auto, on or off", choices=("auto", "on", "off")
    )
    allow_private_urls: str = _option(
        "",
        "networks that are not public and yet may be reached by URLs of callers (webhooks, inputs): "
        "10.0.0.0/8, ... or all",
    )
    build_step_timeout_s: float = _option(
        3600.0, "longest step of a build; what runs longer is killed", least=1
    )
    models_cap_bytes: int = _option(
        0,
        "most bytes of model files that are kept; the least used that nothing deployed needs go; 0: no cap",
    )
    node_registry_url: str = _option(
        "https://api.comfy.org", "registry in which ids of custom node packs are looked up"
    )
    torch_backend: str = _option(
        "auto",
        "torch of built images: auto (the GPU's driver, else cpu), cpu, cu128, ...; index: what the "
        "package index has",
    )
    log_format: str = _option("console", "console or json", choices=("console", "json"))
    prices: Mapping[str, float] = _option(
        {}, "price per hour by GPU type, for receipts: {H100 = 2.5, cpu = 0.05, default = 0}"
    )

    @property
    def home_path(self) -> Path:
        """The home directory, absolute."""
        return Path(self.home or platformdirs.user_data_dir("comfyserve")).expanduser().absolute()

    @property
    def outside_policy(self) -> OutsidePolicy:
        """Where URLs of callers may lead. Raises InvalidInput."""
        return OutsidePolicy.of(self.allow_private_urls)

    @property
    def public(self) -> Public | None:
        """How the server is reached from outside; None without a domain. Raises InvalidInput."""
        if not self.domain:
            return None
        return Public(
            domain=check_domain(self.domain, Tls(self.tls)),
            tls=Tls(self.tls),
            https_port=self.https_port,
            http_port=self.http_port,
            host=self.public_host,
            email=self.acme_email,
        )

    def check(self) -> None:
        """Raise InvalidInput for what only shows when settings are used."""
        if (
            self.public is not None
            and self.public.tls is Tls.FILES
            and not (self.cert and self.key)
        ):
            raise InvalidInput("tls files needs a certificate and its key: --cert and --key")
        parse_networks(self.trusted_proxies)

    @property
    def server_url(self) -> str:
        """Where a client finds the server."""
        return self.url.rstrip("/") or f"http://{self.host}:{self.port}"


def load_settings(env: Mapping[str, str] | None = None, **overrides: object) -> Settings:
    """Read settings: `overrides` (None: not given) over environment over file over defaults.

    The file is TOML, named by COMFYSERVE_CONFIG, else `config.toml` in the user's configuration
    directory. Raises InvalidInput naming the setting that cannot be read.
    """
    env = os.environ if env is None else env
    values: dict[str, Any] = dict(_read_file(env))
    for option in fields(Settings):
        text = env.get(ENV_PREFIX + option.name.upper())
        if text is not None:
            values[option.name] = text
    values.update({name: value for name, value in overrides.items() if value is not None})
    known = {option.name: option for option in fields(Settings)}
    for name in values:
        if name not in known:
            raise InvalidInput(f"unknown setting '{name}'; known: {', '.join(known)}")
    base = Settings()
    typed = {
        name: _convert(known[name], value, getattr(base, name)) for name, value in values.items()
    }
    return replace(base, **typed)


def config_path(env: Mapping[str, str]) -> Path:
    """The configuration file: as COMFYSERVE_CONFIG names it, else the user's own."""
    named = env.get(ENV_PREFIX + "CONFIG")
    return (
        Path(named) if named else Path(platformdirs.user_config_dir("comfyserve")) / "config.toml"
    )


def _read_file(env: Mapping[str, str]) -> Mapping[str, Any]:
    path = config_path(env)
    if not path.is_file():
        if env.get(ENV_PREFIX + "CONFIG"):
            raise InvalidInput(f"{ENV_PREFIX}CONFIG names '{path}', which is not a file")
        return {}
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path} is not valid TOML: {error}") from error
    # Addresses of other servers, for clients: see `comfyserve.sdk.servers`.
    found.pop("profile", None)
    return found


def _convert(option: Field[Any], value: object, default: object) -> Any:  # noqa: ANN401 - one of the field types
    try:
        match default:
            case bool():
                return _to_bool(value)
            case int():
                return _to_number(int(str(value)), option)
            case float():
                return _to_number(float(str(value)), option)
            case str():
                return _to_text(str(value), option)
            case _:
                return _to_prices(value)
    except (ValueError, TypeError) as error:
        expected = type(default).__name__
        raise InvalidInput(
            f"setting '{option.name}' cannot be '{value}': "
            f"expected {expected} ({option.metadata['help']})"
        ) from error


def _to_number(number: float, option: Field[Any]) -> float:
    if not option.metadata["least"] <= number < math.inf:
        raise ValueError(number)
    return number


def _to_text(text: str, option: Field[Any]) -> str:
    if option.metadata["choices"] and text not in option.metadata["choices"]:
        raise ValueError(text)
    return text


def _to_bool(value: object) -> bool:
    text = str(value).lower()
    if text in {"1", "true", "yes", "on"}:
        return True
    if text in {"0", "false", "no", "off", ""}:
        return False
    raise ValueError(text)


def _to_prices(value: object) -> Mapping[str, float]:
    if isinstance(value, str):
        pairs = (item.split("=", 1) for item in value.split(",") if item.strip())
        return {key.strip(): float(price) for key, price in pairs}
    if isinstance(value, Mapping):
        return {str(key): float(price) for key, price in value.items()}
    raise ValueError(value)
