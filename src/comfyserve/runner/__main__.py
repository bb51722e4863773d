"""`python -m comfyserve.runner --app DIR MODULE:NAME`: serve a user's application in a replica.

With several workers this process holds the port and starts one process for each; when one of them
ends, so does all of it, and the supervisor of the replica sees to the rest.
"""

import argparse
import os
import signal
import socket
import sys
from pathlib import Path

from comfyserve.runner import libraries


def main() -> int:
    """Serve until told to stop; return the exit code."""
    libraries.add_missing()
    order = _read_arguments()
    if order.workers > 1 and order.fd is None:
        return _serve_with_workers(order)
    # Only now: what it imports may be among the libraries that were missing.
    from comfyserve.runner.application import serve  # noqa: PLC0415

    listener = _bind(order.host, order.port) if order.fd is None else socket.socket(fileno=order.fd)
    return serve(Path(order.app), order.handler, listener)


def _read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="comfyserve.runner")
    parser.add_argument("--app", required=True, help="the directory with the code")
    parser.add_argument("handler", help="the application in it, as module:attribute")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=0, help="port to listen on")
    parser.add_argument("--workers", type=int, default=1, help="processes that serve")
    parser.add_argument("--fd", type=int, help="a socket that listens already")
    return parser.parse_args()


def _bind(host: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, port))
    return listener


def _serve_with_workers(order: argparse.Namespace) -> int:
    """Start the workers on one socket; the first that ends decides for all."""
    listener = _bind(order.host, order.port)
    listener.set_inheritable(True)
    own = ["--app", order.app, order.handler, "--fd", str(listener.fileno())]
    argv = [sys.executable, "-u", "-m", "comfyserve.runner", *own]
    pids = [os.posix_spawn(argv[0], argv, os.environ) for _ in range(order.workers)]

    is_told_to_end = False

    def end(number: int, _: object = None) -> None:
        nonlocal is_told_to_end
        is_told_to_end = True
        for pid in pids:
            os.kill(pid, number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    first, status = os.wait()
    if is_told_to_end:
        status = 0
    pids.remove(first)
    end(signal.SIGTERM)
    for pid in list(pids):
        os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main())
