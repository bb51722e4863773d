"""A free port that nobody else is given, and the proof that our server is who listens on it."""

# The C modules themselves: `socket` adds enums and selectors that the shim has no use for.
import _socket
import os
import struct

_FAMILIES = (_socket.AF_INET, _socket.AF_INET6)
_LISTEN = 10  # the state's number in <net/tcp_states.h>

# <linux/netlink.h>, <linux/sock_diag.h> and <linux/inet_diag.h>
_AF_NETLINK, _NETLINK_SOCK_DIAG, _SOCK_DIAG_BY_FAMILY = 16, 4, 20
_REQUEST_ALL, _ERROR, _DONE = 0x301, 2, 3
_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_QUESTION = struct.Struct("=BBBBI")  # family, protocol, extensions, padding, states
_INODE_AT = _HEADER.size + 68
_ANSWER_S = 1.0


class Port:
    """A port number, kept from others until `release`.

    A bound socket that does not listen, marked SO_REUSEADDR only after it was bound: the kernel
    then gives the port to nobody who asks for any free one, nor to an outgoing connection, while
    a server that sets SO_REUSEADDR itself (asyncio's, and so every usual one) can listen on it.
    One that does not set it fails with "address in use"; `is_held=False` suits those.
    A `number` that is not 0 asks for that one: OSError if somebody listens there.
    """

    def __init__(self, host: str, *, is_held: bool, number: int = 0) -> None:
        self._socket = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
        if number:  # What was connected there before, and lingers, is no reason to refuse.
            self._socket.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
        try:
            self._socket.bind((host, number))
        except OSError:
            self._socket.close()
            raise
        self.number: int = self._socket.getsockname()[1]
        self._socket.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
        if not is_held:
            self.release()

    def release(self) -> None:
        """Stop keeping the port. Twice is fine."""
        self._socket.close()


def find_listeners(port: int) -> set[int]:
    """Return the inodes of the sockets that listen on `port`, on any address."""
    try:
        return _ask_kernel(port)
    except OSError:
        return read_listeners(port)  # a kernel without socket diagnosis


def read_listeners(port: int) -> set[int]:
    """As `find_listeners`, by a way that is always there but walks all connections of the host."""
    suffix = f":{port:04X}"
    inodes: set[int] = set()
    for family in ("tcp", "tcp6"):
        try:
            with open(f"/proc/net/{family}", encoding="ascii") as table:
                rows = [line.split() for line in table if suffix in line]
        except FileNotFoundError:
            continue  # this host has no IPv6
        inodes.update(
            int(row[9]) for row in rows if row[1].endswith(suffix) and int(row[3], 16) == _LISTEN
        )
    return inodes


def holds_one(pid: int, inodes: set[int]) -> bool:
    """Tell whether a process has one of these sockets open."""
    wanted = {f"socket:[{inode}]" for inode in inodes}
    directory = f"/proc/{pid}/fd"
    try:
        names = os.listdir(directory)
    except OSError:
        return False  # ended, or another user's
    return any(_target(f"{directory}/{name}") in wanted for name in names)


def _ask_kernel(port: int) -> set[int]:
    inodes: set[int] = set()
    netlink = _socket.socket(_AF_NETLINK, _socket.SOCK_RAW, _NETLINK_SOCK_DIAG)
    netlink.settimeout(_ANSWER_S)
    try:
        for family in _FAMILIES:
            question = _QUESTION.pack(family, _socket.IPPROTO_TCP, 0, 0, 1 << _LISTEN)
            question += struct.pack("!H", port) + bytes(46)  # the local port; any address
            size = _HEADER.size + len(question)
            netlink.send(_HEADER.pack(size, _SOCK_DIAG_BY_FAMILY, _REQUEST_ALL, 1, 0) + question)
            while _read_answer(netlink.recv(1 << 16), inodes):
                pass
    finally:
        netlink.close()
    return inodes


def _read_answer(data: bytes, inodes: set[int]) -> bool:
    """Add the inodes of one datagram; tell whether another one follows."""
    while data:
        size, kind, *_ = _HEADER.unpack_from(data)
        if kind == _DONE:
            return False
        if kind == _ERROR:
            raise OSError("the kernel does not diagnose sockets")
        inodes.update(struct.unpack_from("=I", data, _INODE_AT))
        data = data[(size + 3) & ~3 :]
    return True


def _target(link: str) -> str:
    try:
        return os.readlink(link)
    except FileNotFoundError:
        return ""  # closed while we looked
