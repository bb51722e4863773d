"""A free port that nobody else is given, and the proof that our server is who listens on it."""

# The C module itself: `socket` adds enums and selectors that the shim has no use for.
import _socket
import os

_LISTEN = "0A"
_ANSWER_S = 0.05


class Port:
    """A port number, kept from others until `release`.

    A bound socket that does not listen, marked SO_REUSEADDR only after it was bound: the kernel
    then gives the port to nobody who asks for any free one, nor to an outgoing connection, while
    a server that sets SO_REUSEADDR itself (asyncio's, and so every usual one) can listen on it.
    One that does not set it fails with "address in use"; `is_held=False` suits those.
    """

    def __init__(self, host: str, *, is_held: bool) -> None:
        self._socket = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
        self._socket.bind((host, 0))
        self.number: int = self._socket.getsockname()[1]
        self._socket.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
        if not is_held:
            self.release()

    def release(self) -> None:
        """Stop keeping the port. Twice is fine."""
        self._socket.close()


def answers(host: str, port: int) -> bool:
    """Tell whether anybody listens there. Cheap, so that it can be asked often."""
    probe = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
    try:
        probe.settimeout(_ANSWER_S)
        return bool(probe.connect_ex((host, port)) == 0)
    finally:
        probe.close()


def is_served(port: int, pids: list[int]) -> bool:
    """Tell whether one of `pids` listens on `port`, not a stranger.

    The kernel walks its whole table of connections for this: milliseconds on a large host.
    """
    listeners = {f"socket:[{inode}]" for inode in _listening_inodes(port)}
    return bool(listeners) and any(_holds(listeners, pid) for pid in pids)


def _listening_inodes(port: int) -> list[str]:
    suffix = f":{port:04X}"
    inodes = []
    for family in ("tcp", "tcp6"):
        try:
            with open(f"/proc/net/{family}", encoding="ascii") as table:
                rows = [line.split() for line in table if suffix in line]
        except FileNotFoundError:
            continue  # this host has no IPv6
        inodes += [row[9] for row in rows if row[1].endswith(suffix) and row[3] == _LISTEN]
    return inodes


def _holds(files: set[str], pid: int) -> bool:
    directory = f"/proc/{pid}/fd"
    try:
        names = os.listdir(directory)
    except OSError:
        return False  # ended, or another user's
    return any(_target(f"{directory}/{name}") in files for name in names)


def _target(link: str) -> str:
    try:
        return os.readlink(link)
    except FileNotFoundError:
        return ""  # closed while we looked
