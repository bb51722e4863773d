"""What a command can end with: the errors that only the command line has, and the exit codes.

ComfyserveError
└── CommandError            carries evidence: lines that are shown below the message
    ├── Refused             the server understood and said no
    │   └── PromptRefused   ... to a workflow, naming what is wrong with each node
    ├── ServerFailed        the server tried and could not
    │   └── Unavailable     ... yet: it may work later
    ├── Unreachable         there is no server, or none of ours
    │   └── ConnectionLost  ... any more
    ├── TimedOut            it took longer than the caller wanted to wait
    ├── JobFailed           the job came to an end that is not success
    └── Interrupted         the user pressed Ctrl-C
"""

from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import Any

from comfyserve.domain.errors import ComfyserveError


class ExitCode(IntEnum):
    """Why a command ended, for scripts."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    REFUSED = 4
    TIMED_OUT = 124
    INTERRUPTED = 130


class CommandError(ComfyserveError):
    """An error with evidence: the lines that say more, such as the end of a log."""

    code = "failed"

    def __init__(
        self, message: str, *, code: str | None = None, evidence: Sequence[str] = ()
    ) -> None:
        super().__init__(message, code=code)
        self.evidence = tuple(evidence)


class Refused(CommandError):
    """The server understood and said no (4xx)."""

    code = "refused"


class PromptRefused(Refused):
    """A workflow was not accepted. `body` is ComfyUI's own JSON."""

    code = "invalid_prompt"

    def __init__(self, message: str, *, body: Mapping[str, Any], evidence: Sequence[str]) -> None:
        super().__init__(message, evidence=evidence)
        self.body = body


class ServerFailed(CommandError):
    """The server tried and could not (5xx), or answered what no comfyserve answers."""

    code = "server_failed"


class Unavailable(ServerFailed):
    """The server, or what is in front of it, cannot do it now but may later (502 to 504)."""

    code = "unavailable"


class Unreachable(CommandError):
    """Nothing answers at the address."""

    code = "unreachable"


class ConnectionLost(Unreachable):
    """The server was there and broke the connection."""

    code = "connection_lost"


class TimedOut(CommandError):
    """It took longer than the caller wanted to wait."""

    code = "timed_out"


class JobFailed(CommandError):
    """A job ended in a state other than succeeded."""

    code = "job_failed"


class Interrupted(CommandError):
    """The user pressed Ctrl-C; the message says what goes on without them."""

    code = "interrupted"
