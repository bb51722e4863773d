"""Whether a connection on this host comes from inside a replica: told by who holds its other end.

To be on the machine is enough for its owner, not for what runs in a replica: custom nodes and pods
come from anywhere. A confined process has the host's network too, so its address tells nothing.
"""

import os
from collections.abc import Iterator

from comfyserve.runtime.launchers.local_spawn import REPLICA_MARK

_TABLES = ("/proc/net/tcp", "/proc/net/tcp6")
_MARK = f"{REPLICA_MARK}=".encode()


def is_from_replica(client_port: int, server_port: int) -> bool:
    """Whether a process of a replica holds the client's end of a loopback connection.

    Every process below a shim counts: the shim is the parent of whatever its server lets go.
    Where replicas run, a connection whose end nobody holds any more counts too. Reads `/proc`;
    takes some milliseconds.
    """
    members = _members()
    if not members:
        return False
    sockets = {f"socket:[{inode}]" for inode in _inodes(client_port, server_port)}
    return not sockets or any(_holds(pid, sockets) for pid in members)


def _inodes(client_port: int, server_port: int) -> Iterator[int]:
    ends = (f":{client_port:04X}", f":{server_port:04X}")
    for table in _TABLES:
        try:
            with open(table, encoding="ascii") as file:
                rows = [line.split() for line in file][1:]
        except OSError:
            continue  # no IPv6 on this host
        for row in rows:
            if row[1].endswith(ends[0]) and row[2].endswith(ends[1]) and row[9] != "0":
                yield int(row[9])


def _members() -> set[int]:
    """All processes that carry the mark of a replica, and all below one."""
    children: dict[int, list[int]] = {}
    found: set[int] = set()
    for pid in (int(entry) for entry in os.listdir("/proc") if entry.isdigit()):
        try:
            with open(f"/proc/{pid}/stat", "rb") as file:
                parent = int(file.read().rpartition(b")")[2].split()[1])
            with open(f"/proc/{pid}/environ", "rb") as file:
                is_marked = any(item.startswith(_MARK) for item in file.read().split(b"\0"))
        except OSError:
            continue  # another user's, or it has ended
        children.setdefault(parent, []).append(pid)
        if is_marked:
            found.add(pid)
    below = list(found)
    while below:
        new = [pid for pid in children.get(below.pop(), ()) if pid not in found]
        found.update(new)
        below += new
    return found


def _holds(pid: int, sockets: set[str]) -> bool:
    # As in runner/ports.py, which the server does not import: that is code of the replicas' side.
    place = f"/proc/{pid}/fd"
    try:
        numbers = os.listdir(place)
    except OSError:
        return False  # it has ended
    return any(_target(f"{place}/{number}") in sockets for number in numbers)


def _target(link: str) -> str:
    try:
        return os.readlink(link)
    except OSError:
        return ""  # closed while we looked: the others still count
