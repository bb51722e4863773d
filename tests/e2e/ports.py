"""Ports for servers that start together."""

import socket


def two_free_ports() -> tuple[int, int]:
    """Two TCP ports of the loopback that nobody listened on a moment ago."""
    with socket.socket() as first, socket.socket() as second:
        first.bind(("127.0.0.1", 0))
        second.bind(("127.0.0.1", 0))
        return first.getsockname()[1], second.getsockname()[1]
