"""What a command can end with: the errors that only the command line has, and the exit codes.

ClientError                 what a client can meet: see `comfyserve.sdk.errors`
├── CommandError            a command could not do its work
└── Interrupted             the user pressed Ctrl-C
"""

from enum import IntEnum

from comfyserve.sdk.errors import (
    ClientError,
    ConnectionLost,
    JobFailed,
    PromptRefused,
    Refused,
    ServerFailed,
    TimedOut,
    Unavailable,
    Unreachable,
)

__all__ = [
    "ClientError",
    "CommandError",
    "ConnectionLost",
    "ExitCode",
    "Interrupted",
    "JobFailed",
    "PromptRefused",
    "Refused",
    "ServerFailed",
    "TimedOut",
    "Unavailable",
    "Unreachable",
]


class ExitCode(IntEnum):
    """Why a command ended, for scripts."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    REFUSED = 4
    TIMED_OUT = 124
    INTERRUPTED = 130


class CommandError(ClientError):
    """A command could not do its work."""


class Interrupted(ClientError):
    """The user pressed Ctrl-C; the message says what goes on without them."""

    code = "interrupted"
