"""What builds need from outside, for tests: a fetcher over a mapping, wheels, repositories."""

import base64
import hashlib
import subprocess
import zipfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from comfyserve.build.executor import BuildFailed
from comfyserve.build.models import DownloadBroken, Remote


@dataclass
class MappedFetcher:
    """Serves bytes by URL; `cut` ends the first answer of a URL after so many bytes."""

    pages: Mapping[str, bytes] = field(default_factory=dict)
    cut: dict[str, int] = field(default_factory=dict)
    asked: list[tuple[str, int, str | None]] = field(default_factory=list)

    @asynccontextmanager
    async def open(
        self, url: str, *, offset: int = 0, validator: str | None = None, bearer: str | None = None
    ) -> AsyncIterator[Remote]:
        """The bytes from `offset`, if the validator still holds."""
        self.asked.append((url, offset, bearer))
        if url not in self.pages:
            raise BuildFailed(f"'{url}' answered 404")
        data = self.pages[url]
        tag = hashlib.sha256(data).hexdigest()
        start = offset if validator == tag else 0
        yield Remote(start, len(data), tag, self._chunks(data[start:], self.cut.pop(url, None)))

    async def _chunks(self, data: bytes, end: int | None) -> AsyncIterator[bytes]:
        for at in range(0, len(data[:end]), 1000):
            yield data[:end][at : at + 1000]
        if end is not None:
            raise DownloadBroken("the connection broke off")


def make_wheel(directory: Path, name: str, version: str, source: str) -> Path:
    """A package of one module, as small as a wheel can be."""
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": source,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": f"[console_scripts]\n{name} = {name}:main\n",
    }
    lines = []
    path = directory / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for file, text in files.items():
            wheel.writestr(file, text)
            digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=")
            lines.append(f"{file},sha256={digest.decode()},{len(text.encode())}")
        wheel.writestr(f"{info}/RECORD", "\n".join([*lines, f"{info}/RECORD,,"]) + "\n")
    return path


def make_repository(directory: Path, files: Mapping[str, str], tag: str | None = None) -> Path:
    """A git repository with one more commit that has these files; its path."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(text)
    author = ("-c", "user.name=test", "-c", "user.email=test@example.com")
    commands: list[tuple[str, ...]] = [("init", "--quiet", "--initial-branch", "main")]
    commands += [("add", "--all"), (*author, "commit", "--quiet", "--message", "more")]
    if tag is not None:
        commands.append(("tag", tag))
    for command in commands:
        subprocess.run(["git", *command], cwd=directory, check=True, capture_output=True)
    return directory


COMFYUI = {
    "main.py": "import json, sys, nodes\nprint(json.dumps(sorted(nodes.NODE_CLASS_MAPPINGS)))\n",
    "nodes.py": "NODE_CLASS_MAPPINGS = {}\n",
    "comfy/__init__.py": "",
    "models/checkpoints/put_checkpoints_here": "",
}
"""What makes a directory look like ComfyUI."""
