"""What a client of a server can meet: the errors above those of the domain.

ComfyserveError
└── ClientError             carries evidence: lines that say more, such as the end of a log
    ├── Refused             the server understood and said no
    │   └── PromptRefused   ... to a workflow, naming what is wrong with each node
    ├── ServerFailed        the server tried and could not
    │   └── Unavailable     ... yet: it may work later
    ├── Unreachable         there is no server, or none of ours
    │   └── ConnectionLost  ... any more
    ├── TimedOut            it took longer than the caller wanted to wait
    └── JobFailed           a job came to an end that is not success
"""

from collections.abc import Mapping, Sequence
from typing import Any

from comfyserve.domain.errors import ComfyserveError


class ClientError(ComfyserveError):
    """An error with evidence: the lines that say more, such as the end of a log."""

    code = "failed"

    def __init__(
        self, message: str, *, code: str | None = None, evidence: Sequence[str] = ()
    ) -> None:
        super().__init__(message, code=code)
        self.evidence = tuple(evidence)
        for line in self.evidence:
            self.add_note(f"  {line}")  # shown below the message where nobody catches it


class Refused(ClientError):
    """The server understood and said no (4xx)."""

    code = "refused"


class PromptRefused(Refused):
    """A workflow was not accepted. `body` is ComfyUI's own JSON."""

    code = "invalid_prompt"

    def __init__(self, message: str, *, body: Mapping[str, Any], evidence: Sequence[str]) -> None:
        super().__init__(message, evidence=evidence)
        self.body = body


class ServerFailed(ClientError):
    """The server tried and could not (5xx), or answered what no comfyserve answers."""

    code = "server_failed"


class Unavailable(ServerFailed):
    """The server, or what is in front of it, cannot do it now but may later (502 to 504)."""

    code = "unavailable"


class Unreachable(ClientError):
    """Nothing answers at the address."""

    code = "unreachable"


class ConnectionLost(Unreachable):
    """The server was there and broke the connection."""

    code = "connection_lost"


class TimedOut(ClientError):
    """It took longer than the caller wanted to wait."""

    code = "timed_out"


class JobFailed(ClientError):
    """A job ended in a state other than succeeded."""

    code = "job_failed"
