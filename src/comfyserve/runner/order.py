"""What a launcher orders from the shim, and what the shim reports back.

The order arrives on standard input, so that no secret of the server's environment is ever written
to disk: `name=value` fields, each ended by a NUL, a name repeated for each value of a list. The
report is `status.json`, replaced as a whole at every change. Plain classes, because `dataclasses`
alone would double the shim's start time.
"""

import os
import time

_ESCAPES = {code: f"\\u{code:04x}" for code in (*range(32), ord('"'), ord("\\"))}


class Order:
    """One replica to look after; see `comfyserve.runtime.launchers.base.LaunchSpec`."""

    def __init__(self, fields: dict[str, list[str]]) -> None:
        def text(name: str) -> str:
            return fields.get(name, [""])[0]

        self.id = text("id")
        self.pool = text("pool")
        self.spec_digest = text("spec_digest")
        self.directory = text("directory")
        self.notices = text("notices")
        self.host = text("host")
        self.started_at = float(text("started_at") or time.clock_gettime(time.CLOCK_REALTIME))
        self.argv = fields.get("arg", [])
        self.env = dict(pair.split("=", 1) for pair in fields.get("env", []))
        self.secrets = dict(pair.split("=", 1) for pair in fields.get("secret", []))
        self.cwd = text("cwd")
        self.gpus = fields.get("gpu", [])
        self.writable = fields.get("writable", [])
        self.readable = fields.get("readable", [])
        self.hidden = fields.get("hidden", [])
        self.confine = text("confine") or "off"
        self.bwrap = text("bwrap")
        self.memory_bytes = int(text("memory_bytes") or 0)
        self.log_limit_bytes = int(text("log_limit_bytes") or 0)
        self.port = int(text("port") or 0)
        self.links = list(zip(fields.get("link", []), fields.get("link_to", []), strict=True))
        self.copies = list(zip(fields.get("copy", []), fields.get("copy_to", []), strict=True))

    def path(self, name: str) -> str:
        """Return the path of one of the replica's own files."""
        return os.path.join(self.directory, name)


def read_order(fd: int) -> Order:
    """Read an order up to the end of the file."""
    raw = b""
    while chunk := os.read(fd, 1 << 16):
        raw += chunk
    fields: dict[str, list[str]] = {}
    for field in os.fsdecode(raw).split("\0")[:-1]:
        name, _, value = field.partition("=")
        fields.setdefault(name, []).append(value)
    return Order(fields)


class Report:
    """The state of a replica as its shim sees it; times are seconds since the epoch."""

    def __init__(self, order: Order, *, shim_start: int, boot_id: str) -> None:
        self._order = order
        self._shim_start = shim_start
        self._boot_id = boot_id
        self._ended_at: float | None = None
        self.state = "starting"
        self.reason: str | None = None
        self.message = ""
        self.port: int | None = None
        self.pid: int | None = None
        self.exit_code: int | None = None
        self.term_signal: int | None = None
        self.confined_by: str | None = None

    def end(self, reason: str, message: str) -> None:
        """Note that the replica and all that it started are gone."""
        self.state, self.reason, self.message = "gone", reason, message
        self._ended_at = time.clock_gettime(time.CLOCK_REALTIME)

    def publish(self) -> None:
        """Replace the status file and tell a launcher, if one listens.

        A full disk must not end a replica that works: the file then keeps the older report, which
        a launcher corrects by what it sees of the processes.
        """
        path = self._order.path("status.json")
        try:
            with open(f"{path}.new", "w", encoding="utf-8", errors="backslashreplace") as file:
                file.write(self._as_json())
            os.replace(f"{path}.new", path)
        except OSError as error:
            os.write(2, f"cannot write {path}: {error}\n".encode())
        self._notify()

    def _as_json(self) -> str:
        order = self._order
        fields: dict[str, object] = {
            "id": order.id,
            "pool": order.pool,
            "spec_digest": order.spec_digest,
            "state": self.state,
            "reason": self.reason,
            "message": self.message,
            "host": order.host,
            "port": self.port,
            "gpus": order.gpus,
            "confined_by": self.confined_by,
            "started_at": order.started_at,
            "ended_at": self._ended_at,
            "pid": self.pid,
            "exit_code": self.exit_code,
            "term_signal": self.term_signal,
            "shim_pid": os.getpid(),
            "shim_start": self._shim_start,
            "boot_id": self._boot_id,
        }
        lines = (f'"{name}": {_to_json(value)}' for name, value in fields.items())
        return "{" + ",\n ".join(lines) + "}\n"

    def _notify(self) -> None:
        try:
            fd = os.open(self._order.notices, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:
            return  # nobody listens; the next launcher reads the file
        try:
            os.write(fd, f"{self._order.id}\n".encode())
        except OSError:
            return  # a launcher that lags reads every file again
        finally:
            os.close(fd)


def _to_json(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, list):
        return "[" + ", ".join(map(_to_json, value)) + "]"
    if isinstance(value, str):
        return '"' + value.translate(_ESCAPES) + '"'
    return repr(value)
