"""Idempotency keys: what was sent once is known for a day, whatever became of it."""

from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, delete, insert, select

from comfyserve.domain.errors import Conflict
from comfyserve.store.tables import idempotency

KEY_LIFETIME_S = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class UsedKey:
    """A key and whose it is: two callers may send the same one."""

    deployment_id: str
    principal: str
    key: str

    @property
    def values(self) -> dict[str, object]:
        """Parameters of a statement."""
        return {
            "deployment_id": self.deployment_id,
            "principal": self.principal,
            "key": self.key,
        }


@dataclass(frozen=True, slots=True)
class FirstAnswer:
    """What a replay says again: the subject's id, what was asked, and the node errors (JSON)."""

    subject_id: str
    request_digest: str = ""
    node_errors: str = "{}"


_FIRST = select(
    idempotency.c.job_id, idempotency.c.request_digest, idempotency.c.node_errors
).where(
    idempotency.c.deployment_id == bindparam("deployment_id"),
    idempotency.c.principal == bindparam("principal"),
    idempotency.c.key == bindparam("key"),
)
_INSERT = insert(idempotency)
_DROP_OLD = delete(idempotency).where(idempotency.c.created_at <= bindparam("before"))
_IS_USED = select(idempotency.c.created_at).where(
    idempotency.c.deployment_id == bindparam("deployment_id"),
    idempotency.c.principal == bindparam("principal"),
    idempotency.c.key == bindparam("key"),
)


def drop_old_keys(connection: Connection, now: float) -> None:
    """Forget the keys of more than a day ago."""
    connection.execute(_DROP_OLD, {"before": now - KEY_LIFETIME_S})


def is_used(connection: Connection, key: UsedKey, now: float) -> bool:
    """Whether a key was used in the last 24 hours."""
    used_at = connection.execute(_IS_USED, key.values).scalar()
    return used_at is not None and used_at > now - KEY_LIFETIME_S


def find_first_answer(connection: Connection, key: UsedKey) -> FirstAnswer | None:
    """What was answered to a key."""
    row = connection.execute(_FIRST, key.values).one_or_none()
    return None if row is None else FirstAnswer(*row)


def refuse_used(connection: Connection, key: UsedKey) -> None:
    """Raise Conflict `idempotency_key_reuse` if the key is there; call `drop_old_keys` before."""
    if connection.execute(_IS_USED, key.values).scalar() is not None:
        raise key_reuse()


def record_key(connection: Connection, key: UsedKey, answer: FirstAnswer, now: float) -> None:
    """Remember a key with what was answered to it."""
    values = {
        **key.values,
        "job_id": answer.subject_id,
        "request_digest": answer.request_digest,
        "node_errors": answer.node_errors,
        "created_at": now,
    }
    connection.execute(_INSERT, values)


def key_reuse() -> Conflict:
    """What a single-use key gets the second time."""
    return Conflict(
        "This idempotency key was used in the last 24 hours; each request needs a fresh one. "
        "Whether the first request made a job can be seen in the list of jobs, by label.",
        code="idempotency_key_reuse",
    )
