"""A process that fetches one file from a Hugging Face hub; its progress goes to stdout as JSON.

`huggingface_hub` resumes and retries by itself. Where the server stands is HF_ENDPOINT, and a
credential comes in HF_TOKEN.
"""

import argparse
import json
import shutil
import sys
import threading
from pathlib import Path

from comfyserve.build.models import RESERVE_BYTES

PREFIX = "\x1ehub "
"""Begins the lines that are meant for the builder."""
_PAUSE_S = 0.5


def main() -> int:
    """Fetch; exit with 1 and one line of why if it cannot be."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("repo", "file", "revision", "directory"):
        parser.add_argument(name)
    given = parser.parse_args()
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url  # noqa: PLC0415

    revision = given.revision or None
    try:
        about = get_hf_file_metadata(hf_hub_url(given.repo, given.file, revision=revision))
        _tell(size=about.size, commit=about.commit_hash, etag=about.etag)
        directory, done = Path(given.directory), threading.Event()
        _check_space(directory, about.size or 0)
        watcher = threading.Thread(target=_watch, args=(directory, done), daemon=True)
        watcher.start()
        path = hf_hub_download(
            given.repo, given.file, revision=about.commit_hash or revision, local_dir=directory
        )
        done.set()
        watcher.join()
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the answer
        print(f"{type(error).__name__}: {str(error).splitlines()[0]}")  # noqa: T201
        return 1
    _tell(path=path)
    return 0


def _check_space(directory: Path, needed_bytes: int) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    here = sum(part.stat().st_size for part in directory.rglob("*.incomplete"))
    free = shutil.disk_usage(directory).free - RESERVE_BYTES
    if needed_bytes - here > free:
        raise OSError(
            f"it needs {(needed_bytes - here) / 1e9:.2f} GB more, and the disk of {directory} has "
            f"{max(0, free) / 1e9:.2f} GB for it; free some space (`comfyserve build prune`)"
        )


def _watch(directory: Path, done: threading.Event) -> None:
    while not done.wait(_PAUSE_S):
        parts = directory.rglob("*.incomplete")
        _tell(bytes=max((part.stat().st_size for part in parts if part.exists()), default=0))


def _tell(**facts: object) -> None:
    print(PREFIX + json.dumps(facts), flush=True)  # noqa: T201 - this is the answer


if __name__ == "__main__":
    sys.exit(main())
