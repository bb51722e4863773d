"""Which server a client means: told, a profile's, or the one on this machine."""

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from comfyserve.domain.errors import InvalidInput
from comfyserve.sdk.local_server import find_local
from comfyserve.settings import Settings, config_path, load_settings


@dataclass(frozen=True, slots=True)
class Server:
    """Where a server is, and what to show it."""

    url: str
    token: str = ""


def find_server(
    url: str | None = None, token: str | None = None, env: Mapping[str, str] | None = None
) -> Server | None:
    """The server that is meant; None where none is named and none runs on this home.

    The order: what is given here, COMFYSERVE_URL, the profile that COMFYSERVE_PROFILE names, `url`
    of the configuration file, the server that holds the home. A profile's token goes to the
    profile's address only. Raises InvalidInput.
    """
    env = os.environ if env is None else env
    settings = load_settings(env, url=url, token=token)
    profile = env.get("COMFYSERVE_PROFILE")
    if profile and not url and not env.get("COMFYSERVE_URL"):
        return _of_profile(profile, token or env.get("COMFYSERVE_TOKEN"), env)
    if settings.url:
        return Server(settings.server_url, settings.token)
    running = find_local(settings.home_path)
    return Server(running.url, settings.token) if running is not None and running.url else None


def expected_server(url: str | None = None, token: str | None = None) -> Server:
    """As `find_server`; where nothing runs, the address at which a server would listen."""
    found = find_server(url, token)
    if found is not None:
        return found
    settings: Settings = load_settings(url=url, token=token)
    return Server(settings.server_url, settings.token)


def _of_profile(name: str, token: str | None, env: Mapping[str, str]) -> Server:
    path = config_path(env)
    profiles = _profiles(path)
    profile = profiles.get(name)
    if not isinstance(profile, Mapping):
        there_is = ", ".join(sorted(profiles)) or "none"
        raise InvalidInput(
            f"there is no profile '{name}' in {path}; there is: {there_is}. Write\n"
            f'[profile.{name}]\nurl = "https://HOST"\ntoken = "SECRET"',
            code="unknown_profile",
        )
    url, kept = profile.get("url"), profile.get("token", "")
    if not isinstance(url, str) or not url or not isinstance(kept, str):
        raise InvalidInput(
            f"profile '{name}' in {path} needs a url, and may have a token, both in quotes",
            code="invalid_profile",
        )
    return Server(url.rstrip("/"), token or kept)


def _profiles(path: Path) -> Mapping[str, object]:
    try:
        found = tomllib.loads(path.read_text("utf-8")).get("profile", {})
    except FileNotFoundError:
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path} is not valid TOML: {error}") from error
    return found if isinstance(found, dict) else {}
