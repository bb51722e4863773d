"""The server as a replica reaches it: told to it in its environment, good for its own outputs only."""

import os
from collections.abc import Mapping

from comfyserve.domain.inside import TOKEN_VARIABLE, URL_VARIABLE
from comfyserve.sdk.transport import Transport


def inside(env: Mapping[str, str] | None = None) -> Transport | None:
    """A connection to the server that started this replica; None outside of one."""
    env = os.environ if env is None else env
    url, token = env.get(URL_VARIABLE), env.get(TOKEN_VARIABLE)
    return Transport(url, token) if url and token else None
