"""The confinement of a server: bubblewrap's command line, made from an order.

The server sees the machine read-only, writes only where it was told to, sees no process but its
own and none of the hidden directories, holds no capability, and has a `/tmp` and `/dev/shm` that
end with it. The network stays: a replica is reached over loopback. Devices: the harmless ones and
those of GPUs. What the command names below `/tmp` stays visible there, for programs that live in it.
"""

import os

from comfyserve.runner.order import Order

_NVIDIA_MODPROBE = "/usr/bin/nvidia-modprobe"
_GPU_DEVICES = ("dri", "kfd", "dxg")
_TMP = "/tmp"  # noqa: S108 - the server's own, private one
_OPTIONS = (
    "--die-with-parent",
    "--new-session",
    "--unshare-pid",
    "--unshare-ipc",
    "--cap-drop",
    "ALL",
    "--ro-bind",
    "/",
    "/",
    "--dev",
    "/dev",
    "--proc",
    "/proc",
    "--tmpfs",
    _TMP,
)


def confine(order: Order, argv: list[str], status_fd: int) -> list[str]:
    """Wrap `argv` so that it runs confined; bubblewrap reports on `status_fd`."""
    wrapped = [order.bwrap, *_OPTIONS]
    for path in _named_below_tmp([*argv, order.cwd, *order.env.values()]):
        wrapped += ["--ro-bind", path, path]
    if order.gpus:
        _make_uvm_device()
        for device in _gpu_devices():
            wrapped += ["--dev-bind", device, device]
    for directory in _outermost_first(order.hidden):
        wrapped += ["--tmpfs", directory]
    for option, paths in (("--ro-bind", order.readable), ("--bind", order.writable)):
        for path in _outermost_first(paths):
            wrapped += [option, path, path]
    wrapped += ["--chdir", order.cwd, "--json-status-fd", str(status_fd), "--"]
    return wrapped + argv


def _outermost_first(paths: list[str]) -> list[str]:
    return sorted(filter(os.path.exists, paths), key=len)


def _named_below_tmp(texts: list[str]) -> list[str]:
    """Return the top-level entries of `/tmp` that arguments and variables lead into."""
    found = set()
    for text in texts:
        for part in text.replace("=", ":").split(":"):
            if part.startswith(f"{_TMP}/"):
                found.add(f"{_TMP}/{part.split('/')[2]}")
    return sorted(path for path in found if os.path.exists(path) and path != f"{_TMP}/")


def _make_uvm_device() -> None:
    """Do what CUDA's first use after a boot does by itself, but no confined program can."""
    if not os.path.exists("/dev/nvidia-uvm") and os.path.exists(_NVIDIA_MODPROBE):
        argv = [_NVIDIA_MODPROBE, "-u", "-c=0"]
        os.waitpid(os.posix_spawn(argv[0], argv, {}), 0)


def _gpu_devices() -> list[str]:
    return [
        f"/dev/{name}"
        for name in sorted(os.listdir("/dev"))
        if name.startswith("nvidia") or name in _GPU_DEVICES
    ]
