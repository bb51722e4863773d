"""What the disk refuses, told as errors that a caller can act on."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from comfyserve.domain.errors import InvalidInput, StorageFull

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
# What a name can be guilty of: too long, a directory, a step that is a file or a link.
_NAME = frozenset(
    {errno.ENAMETOOLONG, errno.EISDIR, errno.ENOTDIR, errno.ELOOP, errno.EEXIST, errno.EINVAL}
)


@contextmanager
def explained(name: str) -> Iterator[None]:
    """Raise StorageFull for a full disk and InvalidInput for a `name` that no file can have."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise StorageFull(
                "the disk of this server is full; nothing was stored. Free some space and try again"
            ) from error
        if error.errno in _NAME:
            raise InvalidInput(
                f"'{name[:80]}' cannot be stored under that name: {error.strerror}",
                code="invalid_filename",
            ) from error
        raise
