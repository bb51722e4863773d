"""What the operator sets: one table of (name, default, help), read from environment and file."""

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import platformdirs

from comfyserve.domain.errors import InvalidInput

ENV_PREFIX = "COMFYSERVE_"


def _option(default: Any, help_text: str) -> Any:  # noqa: ANN401 - dataclass fields are typed at their use
    metadata = {"help": help_text}
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
    domain: str = _option("", "NAME.domain addresses a deployment")
    url: str = _option("", "where the command line finds the server; empty: host and port")
    token: str = _option("", "credential that the command line sends")
    detach_replicas: bool = _option(
        default=False, help_text="leave replicas running when the server stops"
    )
    stop_timeout_s: float = _option(30.0, "longest wait for running jobs when the server stops")
    lease_s: float = _option(30.0, "a replica whose lease is not renewed for so long ends itself")
    probe_interval_s: float = _option(5.0, "how often a ready replica is asked whether it lives")
    probe_failures: int = _option(6, "probes in a row that may fail before a replica is replaced")
    start_failures: int = _option(3, "failed starts in a row after which queued jobs fail")
    temp_expiry_s: float = _option(3600.0, "how long temp outputs (previews) are kept")
    retention_s: float = _option(
        30 * 86400.0, "how long ended jobs, their outputs and API uploads are kept; 0: for ever"
    )
    log_limit_bytes: int = _option(16 * 1024 * 1024, "size of the log kept of each replica")
    max_body_bytes: int = _option(32 * 1024 * 1024, "largest JSON body that is read")
    confine: str = _option("auto", "run engines in bubblewrap: auto, on or off")
    log_format: str = _option("console", "console or json")
    prices: Mapping[str, float] = _option(
        {}, "price per hour by GPU type, for receipts: {H100 = 2.5, cpu = 0.05, default = 0}"
    )

    @property
    def home_path(self) -> Path:
        """The home directory, absolute."""
        return Path(self.home or platformdirs.user_data_dir("comfyserve")).expanduser().absolute()

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
    typed = {name: _convert(name, value, getattr(base, name)) for name, value in values.items()}
    return replace(base, **typed)


def _read_file(env: Mapping[str, str]) -> Mapping[str, Any]:
    named = env.get(ENV_PREFIX + "CONFIG")
    path = (
        Path(named) if named else Path(platformdirs.user_config_dir("comfyserve")) / "config.toml"
    )
    if not path.is_file():
        if named:
            raise InvalidInput(f"{ENV_PREFIX}CONFIG names '{named}', which is not a file")
        return {}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise InvalidInput(f"{path} is not valid TOML: {error}") from error


def _convert(name: str, value: object, default: object) -> Any:  # noqa: ANN401 - one of the field types
    try:
        match default:
            case bool():
                return _to_bool(value)
            case int():
                return int(str(value))
            case float():
                return float(str(value))
            case str():
                return str(value)
            case _:
                return _to_prices(value)
    except ValueError as error:
        raise InvalidInput(
            f"setting '{name}' cannot be '{value}': expected {type(default).__name__}"
        ) from error


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
