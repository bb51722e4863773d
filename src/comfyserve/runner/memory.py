"""Main memory: a limit where the host lets us set one, and the evidence of running out."""

import os

_V1, _V2 = "/sys/fs/cgroup/memory", "/sys/fs/cgroup"
_WORDS = (b"out of memory", b"outofmemory", b"memoryerror", b"cannot allocate memory", b"bad_alloc")


class MemoryGroup:
    """The control group of one replica's server; `path` is empty where there is none."""

    def __init__(self, path: str = "") -> None:
        self.path = path

    def oom_kills(self) -> int:
        """Return how many processes the kernel has killed for memory: here, or on all the host."""
        for source in (f"{self.path}/memory.events", f"{self.path}/memory.oom_control"):
            if self.path and os.path.exists(source):
                return _counter(source)
        return _counter("/proc/vmstat")

    def remove(self) -> None:
        """Remove the group once its processes are gone. Twice is fine."""
        if not self.path:
            return
        try:
            os.rmdir(self.path)
        except OSError:
            return  # nothing but a name is left behind
        self.path = ""


def limit_memory(name: str, limit_bytes: int) -> MemoryGroup:
    """Make a control group called `name` with a limit; one without a path if the host forbids it."""
    for parent, limit_file in _places():
        path = f"{parent}/{name}"
        try:
            os.mkdir(path)
        except OSError:
            continue
        try:
            with open(f"{path}/{limit_file}", "w", encoding="ascii") as file:
                file.write(str(limit_bytes))
        except OSError:
            os.rmdir(path)
            continue
        return MemoryGroup(path)
    return MemoryGroup()


def is_out_of_memory(text: bytes) -> bool:
    """Tell whether the end of a log says that memory, of the host or a GPU, ran out."""
    lowered = text.lower()
    return any(word in lowered for word in _WORDS)


def _places() -> list[tuple[str, str]]:
    """Return where a group could be made, best first, and the name of its limit."""
    places = []
    with open("/proc/self/cgroup", encoding="utf-8") as file:
        lines = file.read().splitlines()
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            places.append((f"{_V1}{path}".rstrip("/"), "memory.limit_in_bytes"))
        elif not controllers:
            # A group with processes cannot have limited children; its parent often can.
            own = f"{_V2}{path}".rstrip("/")
            places += [(own, "memory.max"), (os.path.dirname(own), "memory.max")]
    return [(place, limit) for place, limit in places if place.startswith(_V2)]


def _counter(path: str) -> int:
    try:
        with open(path, encoding="ascii") as file:
            for line in file:
                if line.startswith("oom_kill "):
                    return int(line.split()[1])
    except OSError:
        return 0
    return 0
