"""Load a handler from user code: only where the user's own process or replica does it."""

import importlib
import os
import sys
import traceback
from pathlib import Path
from types import TracebackType

from comfyserve.domain.errors import NotFound
from comfyserve.sdk.errors import ClientError
from comfyserve.sdk.source import Source

# Frames before the user's first one: ours, and those of the standard library.
_OURS = (str(Path(__file__).parents[1]), str(Path(os.__file__).parent), "<frozen ")


class HandlerFailed(ClientError):
    """User code raised while it was imported; the evidence is its traceback."""

    code = "handler_failed"


def load_handler(source: Source) -> object:
    """Import the module and return what the handler's name stands for.

    Raises NotFound naming what the module has, and HandlerFailed with the traceback.
    """
    directory = str(source.directory)
    if directory not in sys.path:
        sys.path.insert(0, directory)
    module_name, _, attribute = source.handler.partition(":")
    try:
        found: object = importlib.import_module(module_name)
    except Exception as error:
        lacks = isinstance(error, ImportError)
        hint = ". What only replicas have is best imported inside the handler" if lacks else ""
        raise HandlerFailed(
            f"{module_name} cannot be imported: {type(error).__name__}: {error}{hint}",
            evidence=trace_of(error),
        ) from error
    for name in attribute.split("."):
        if not hasattr(found, name):
            raise NotFound(
                f"{module_name} has no '{attribute}'; it has: {_names(found)}",
                code="handler_not_found",
            )
        found = getattr(found, name)
    return found


def trace_of(error: BaseException) -> list[str]:
    """The traceback without our own frames and those of the import system."""
    trace = error.__traceback__
    while trace is not None and _is_ours(trace):
        trace = trace.tb_next
    lines = "".join(traceback.format_exception(type(error), error, trace))
    return lines.rstrip("\n").splitlines()


def _is_ours(trace: TracebackType) -> bool:
    name = trace.tb_frame.f_code.co_filename
    return name.startswith(_OURS)


def _names(found: object) -> str:
    names = [name for name in vars(found) if name.isidentifier() and name[0] != "_"]
    return ", ".join(sorted(names)[:20]) or "nothing"
