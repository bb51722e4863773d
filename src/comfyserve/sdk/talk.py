"""What the SDK tells its user while it works: one line at a time, on stderr."""

import sys


def say(text: str) -> None:
    """Tell the user something. Stdout is theirs."""
    sys.stderr.write(f"comfyserve: {text}\n")
    sys.stderr.flush()
