"""The place in which the steps of one build run: its tree, its tools, their environment."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from comfyserve.build.executor import MARK

_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# What tells programs of the operator's network: proxies, indexes, certificates.
_PASSED_PREFIXES = ("PIP_", "UV_", "SSL_", "HF_ENDPOINT", "GIT_SSL_", "GIT_CONFIG_")
_PASSED = frozenset(
    {"REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "http_proxy", "https_proxy", "no_proxy", "all_proxy"}
)


@dataclass(frozen=True, slots=True)
class Workshop:
    """Where steps run. `tree` holds `venv` and `workspace`; nothing else is kept of it.

    `host_env` is the server's environment, of which only what concerns the network is passed on.
    """

    tree: Path
    cache: Path
    uv: str
    timeout_s: float
    host_env: Mapping[str, str] = field(repr=False)
    extra: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def python(self) -> Path:
        """The interpreter of the environment."""
        return self.tree / "venv" / "bin" / "python"

    @property
    def workspace(self) -> Path:
        """HOME and working directory of the steps."""
        return self.tree / "workspace"

    def outside_env(self) -> Mapping[str, str]:
        """The environment of our own tools, before there is a virtual environment."""
        passed = {
            name: value
            for name, value in self.host_env.items()
            if name.startswith(_PASSED_PREFIXES) or name in _PASSED or name.lower() in _PASSED
        }
        return {
            **passed,
            "PATH": f"{Path(self.uv).parent}:{self.host_env.get('PATH', '')}:{_SYSTEM_PATH}",
            "HOME": str(self.workspace),
            "LANG": "C.UTF-8",
            "TMPDIR": str(self.tree / "tmp"),
            "PIP_CACHE_DIR": str(self.cache / "pip"),
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PIP_NO_INPUT": "1",
            "UV_CACHE_DIR": str(self.cache / "uv"),
            "UV_LINK_MODE": "copy",  # A link into the cache could be written through.
            "UV_PYTHON_DOWNLOADS": "never",
            "UV_COMPILE_BYTECODE": "1",  # Else the first start of each replica would.
            "UV_NO_PROGRESS": "1",
            "GIT_TERMINAL_PROMPT": "0",
            "DEBIAN_FRONTEND": "noninteractive",
            MARK: str(self.tree),
        }

    def env(self, more: Mapping[str, str] | None = None) -> Mapping[str, str]:
        """The environment of a step."""
        path = f"{self.tree / 'venv' / 'bin'}:{Path(self.uv).parent}:{_SYSTEM_PATH}"
        return {
            **self.outside_env(),
            "PYTHONUNBUFFERED": "1",
            **self.extra,
            **(more or {}),
            "PATH": path,
            "VIRTUAL_ENV": str(self.tree / "venv"),
        }
