"""The error tree: every error that a caller can see, with its stable code.

ComfyserveError
├── InvalidInput            what was sent cannot be used
│   ├── UrlRefused          a URL must not be followed
│   └── FetchFailed         a URL was followed, and what it leads to cannot be had
├── Unauthorized            no or unknown credentials
├── Forbidden               known, but not allowed
├── NotFound                no such deployment, job, replica, file
├── Conflict                clashes with what exists
│   └── HomeInUse           another server holds this home
├── Gone                    existed, was removed for good
├── PayloadTooLarge         over a stated limit
├── BudgetSpent             the month's cap is reached; carries when it begins anew
├── QueueFull               come back in `retry_after_s`
├── NotReady                cannot be done now, may work later
├── EngineFailure           something went wrong in an engine; carries the end of its log
│   ├── DeployFailed        the engine did not start or is not what was said
│   ├── StartFailed                 a replica did not become ready
│   └── EngineError             a replica answered what it should not
├── StorageFull             the disk of the home is full
└── IllegalTransition       a state table was asked for a step that it does not have
"""

from collections.abc import Sequence


class ComfyserveError(Exception):
    """Base of all errors. `code` is stable, the message says what happened and what to do."""

    code = "internal_error"

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code

    @property
    def message(self) -> str:
        """What happened and what to do, for a person."""
        return str(self)


class InvalidInput(ComfyserveError):
    """What was sent cannot be used; the message names the field and what is allowed."""

    code = "invalid_input"


class UrlRefused(InvalidInput):
    """A URL that a caller gave must not be followed."""

    code = "url_refused"


class FetchFailed(InvalidInput):
    """What a caller's URL leads to cannot be had, or is not what was asked for."""

    code = "fetch_failed"


class Unauthorized(ComfyserveError):
    """No credentials, or none that are known."""

    code = "unauthorized"


class Forbidden(ComfyserveError):
    """The caller is known but this is not allowed to it."""

    code = "forbidden"


class NotFound(ComfyserveError):
    """There is no such thing, or it is not the caller's."""

    code = "not_found"


class Conflict(ComfyserveError):
    """It clashes with what exists."""

    code = "conflict"


class HomeInUse(Conflict):
    """Another server holds this home directory."""

    code = "home_in_use"


class Gone(ComfyserveError):
    """It existed and was removed for good."""

    code = "gone"


class PayloadTooLarge(ComfyserveError):
    """The body or file is over its limit."""

    code = "payload_too_large"


class BudgetSpent(ComfyserveError):
    """The budget of a deployment or token is spent for this month: no new work is taken.

    `until` is when the next month begins, in seconds since the epoch.
    """

    code = "budget_spent"

    def __init__(self, message: str, *, until: float) -> None:
        super().__init__(message)
        self.until = until


class QueueFull(ComfyserveError):
    """The deployment's queue is at its limit."""

    code = "queue_full"

    def __init__(self, message: str, *, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class NotReady(ComfyserveError):
    """It cannot be done now but may work later."""

    code = "not_ready"


class EngineFailure(ComfyserveError):
    """Something went wrong in an engine; carries the end of its log."""

    code = "engine_failure"

    def __init__(
        self, message: str, *, code: str | None = None, log_tail: Sequence[str] = ()
    ) -> None:
        super().__init__(message, code=code)
        self.log_tail = tuple(log_tail)


class DeployFailed(EngineFailure):
    """A deployment was refused because its engine does not start or is not what was said."""

    code = "deploy_failed"


class StartFailed(EngineFailure):
    """A replica did not become ready."""

    code = "start_failed"


class EngineError(EngineFailure):
    """A replica answered what it should not, or stopped answering."""

    code = "engine_error"


class StorageFull(ComfyserveError):
    """The disk that holds the home is full; nothing was changed."""

    code = "storage_full"


class IllegalTransition(ComfyserveError):
    """A state table was asked for a step that it does not have: a defect, never user input."""

    code = "illegal_transition"

    def __init__(self, subject: str, state: str, event: str) -> None:
        super().__init__(f"{subject} cannot take '{event}' in state '{state}'")
        self.subject, self.state, self.event = subject, state, event
