"""Certificates from files: read at the start, and again when they were renewed."""

import asyncio
import os
import ssl
from dataclasses import dataclass
from pathlib import Path

import structlog

from comfyserve.domain.errors import InvalidInput

log = structlog.get_logger()

_LOOK_EACH_S = 30.0


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """A certificate with its chain, and its key, both in PEM."""

    certificate: Path
    key: Path

    def load(self) -> ssl.SSLContext:
        """A context for a server. Raises InvalidInput saying which file is wrong. Blocks."""
        for name, path in (("cert", self.certificate), ("key", self.key)):
            if not path.is_file():
                raise InvalidInput(
                    f"--tls files needs --{name}: there is no file '{path}'", code="invalid_cert"
                )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        self.load_into(context)
        return context

    def load_into(self, context: ssl.SSLContext) -> None:
        """Let new connections have what the files hold now. Raises InvalidInput. Blocks."""
        try:
            # Without a password callback a key that has one would ask on the terminal.
            context.load_cert_chain(self.certificate, self.key, password=_no_password)
        except (OSError, ssl.SSLError) as error:
            raise InvalidInput(
                f"'{self.certificate}' and '{self.key}' are not a certificate and its key in PEM "
                f"without a password: {error}",
                code="invalid_cert",
            ) from error

    def changed_at(self) -> tuple[int, ...]:
        """When each file was changed; 0 for one that is not there at the moment. Blocks."""
        return tuple(_changed_ns(path) for path in (self.certificate, self.key))

    async def follow(self, context: ssl.SSLContext, look_each_s: float = _LOOK_EACH_S) -> None:
        """Read the files again when they change; a pair that does not fit leaves the old one."""
        seen = await asyncio.to_thread(self.changed_at)
        while True:
            await asyncio.sleep(look_each_s)
            now = await asyncio.to_thread(self.changed_at)
            if now == seen:
                continue
            try:
                # First on trial: a pair that does not fit would spoil the context that serves.
                await asyncio.to_thread(self.load)
                await asyncio.to_thread(self.load_into, context)
            except InvalidInput as error:
                log.warning(
                    "A renewed certificate cannot be used.",
                    event_key="certificate_unusable",
                    error=error.message,
                )
            else:
                log.info("A renewed certificate is used.", event_key="certificate_renewed")
            seen = now


def _no_password() -> str:
    raise ssl.SSLError("the key has a password")


def _changed_ns(path: Path) -> int:
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return 0
