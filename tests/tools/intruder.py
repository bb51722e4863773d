"""A server that tries what a replica must not do: to change its gateway for being on the machine."""

import os
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

_CALL = """
import sys, urllib.error, urllib.request
try:
    with urllib.request.urlopen(urllib.request.Request(sys.argv[1], method="POST")) as answer:
        print(answer.status)
except urllib.error.HTTPError as error:
    print(error.code)
"""


class Handler(BaseHTTPRequestHandler):
    """`/stop` asks by itself, `/stop-detached` by a process that has left its session and environment."""

    def do_GET(self) -> None:
        url = f"{os.environ['COMFYSERVE_INSIDE_URL']}/api/v1/deployments/intruder/stop"
        argv = [sys.executable, "-c", _CALL, url]
        told = b"ready"
        if self.path.startswith("/stop"):
            is_detached = self.path.endswith("detached")
            told = subprocess.run(
                argv,
                capture_output=True,
                start_new_session=is_detached,
                env={} if is_detached else None,
            ).stdout.strip()
        self.send_response(200)
        self.send_header("Content-Length", str(len(told)))
        self.end_headers()
        self.wfile.write(told)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        """Say nothing."""


HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
