"""What lies around a replica that may be any server: its image, code, volumes and environment."""

import asyncio
import os
import shutil
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from comfyserve.domain.errors import InvalidInput
from comfyserve.domain.spec import DeploymentSpec
from comfyserve.store.blobs import BlobStore

_MOST_ENTRIES = 100_000
_MOST_BYTES = 4 * 1024**3


class Image(Protocol):
    """A built image on this host."""

    @property
    def python(self) -> Path:
        """The interpreter of its virtual environment."""
        ...

    @property
    def workspace(self) -> Path:
        """Where its build steps worked; what they left there, a replica finds as its own."""
        ...

    @property
    def env(self) -> Mapping[str, str]:
        """Variables that the image sets."""
        ...

    @property
    def comfyui_dir(self) -> Path | None:
        """The ComfyUI that it holds, if it holds one."""
        ...

    @property
    def readable(self) -> Sequence[Path]:
        """What a confined replica must see of it."""
        ...


class Images(Protocol):
    """Finds built images."""

    def find(self, digest: str) -> Image | None:
        """The image with this digest, if it is built. Reads the disk."""
        ...


class NoImages:
    """A host on which nothing is ever built."""

    def find(self, digest: str) -> Image | None:  # noqa: ARG002
        """Nothing."""
        return None


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a launch needs besides the spec."""

    image: Image | None = None
    source: Path | None = None
    env: Mapping[str, str] = field(default_factory=dict)


def find_image(images: Images, spec: DeploymentSpec) -> Image | None:
    """The image that a spec names. Raises InvalidInput if it is not built here. Reads the disk."""
    digest = spec.engine.image
    if digest is None:
        return None
    found = images.find(digest)
    if found is None:
        raise InvalidInput(
            f"image '{digest[:80]}' is not built on this server (or its build was pruned); "
            "build it first, with `comfyserve build` or by deploying from code",
            code="image_not_found",
        )
    return found


async def unpack_source(home: Path, blobs: BlobStore, spec: DeploymentSpec) -> Path | None:
    """The directory with an application's code, unpacked once for each digest.

    Raises InvalidInput `source_not_found` or `invalid_source`.
    """
    app = spec.engine.app
    if app is None:
        return None
    directory = home / "apps" / app.source
    if await asyncio.to_thread(directory.is_dir):
        return directory
    archive = blobs.path_of(app.source)
    if not await asyncio.to_thread(archive.is_file):
        raise InvalidInput(
            f"the code of {app.handler} ({app.source[:12]}) is not on this server: upload it "
            "again (`comfyserve deploy` does so by itself)",
            code="source_not_found",
        )
    await asyncio.to_thread(_unpack, archive, directory)
    return directory


def _unpack(archive: Path, directory: Path) -> None:
    """Unpack beside the directory and move it there, so that it is whole or not there at all."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=".partial-", dir=directory.parent))
    try:
        _extract(archive, partial)
        os.replace(partial, directory)
    except (tarfile.TarError, EOFError) as error:
        raise InvalidInput(
            f"the code of the application is not a usable tar file: {error}", code="invalid_source"
        ) from error
    except OSError:
        if not directory.is_dir():  # Another one was quicker: that is as good.
            raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _extract(archive: Path, into: Path) -> None:
    with tarfile.open(archive) as tar:
        members = []
        size = 0
        for member in tar:
            members.append(member)
            size += member.size
            if len(members) > _MOST_ENTRIES or size > _MOST_BYTES:
                raise tarfile.TarError(
                    f"it holds more than {_MOST_ENTRIES} files or {_MOST_BYTES >> 30} GiB"
                )
        # The filter refuses what would lie outside, links that lead out, and devices.
        tar.extractall(into, members, filter="data")
