"""`python -m comfyserve.engine --port N`: run the embedded engine until it is told to end."""

import asyncio
import errno
import logging
import os
import shutil
import sys
from pathlib import Path

# aiohttp reads all certificates of the system when it is imported, for TLS connections that an engine
# never makes. Without them it is there a tenth of a second earlier.
os.environ["SSL_CERT_FILE"] = os.devnull
os.environ["SSL_CERT_DIR"] = os.devnull

from comfyserve.engine import COMFYUI_VERSION, ENGINE_VERSION
from comfyserve.engine.app import serve
from comfyserve.engine.logs import start_logging
from comfyserve.engine.options import parse_options
from comfyserve.engine.state import Engine

_log = logging.getLogger("comfyserve.engine")


def main() -> int:
    """Run the engine; return its exit code: 0 told to end, 1 could not start."""
    options = parse_options(sys.argv[1:], Path.cwd())
    book = start_logging()
    _log.info("comfyserve engine %s (follows ComfyUI %s)", ENGINE_VERSION, COMFYUI_VERSION)
    if options.ignored:
        _log.info("ignored options, they mean nothing here: %s", " ".join(options.ignored))
    engine = Engine.create(options, book)
    temp = options.directories.temp
    try:
        shutil.rmtree(temp, ignore_errors=True)
        engine.folders.create()
        engine.faults.before_listening(options.port)
        asyncio.run(serve(engine))
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            _log.error(
                "Port %d is already in use: close the other one or use --port.", options.port
            )
        else:
            _log.exception("cannot start")
        return 1
    shutil.rmtree(temp, ignore_errors=True)
    return 0


if __name__ == "__main__":
    code = main()
    logging.shutdown()
    # The worker thread may be in the middle of a node: nothing waits for it.
    os._exit(code)
