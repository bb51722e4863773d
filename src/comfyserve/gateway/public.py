"""The public side of a server for as long as it runs: HTTPS by Caddy or from files, and redirects."""

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import structlog
from starlette.types import ASGIApp

from comfyserve.domain.public import Public, Tls, caddy_config, parse_networks
from comfyserve.gateway.certificates import CertificateFiles
from comfyserve.gateway.context import Gateway
from comfyserve.gateway.edge import ASK_PATH, LOOPBACK, Behind, Edge, Redirect
from comfyserve.gateway.listeners import bind
from comfyserve.runtime.caddy import Caddy
from comfyserve.runtime.tasks import TaskScope
from comfyserve.settings import Settings

log = structlog.get_logger()

_LOOPBACK = "127.0.0.1"
_ALL = "0.0.0.0"  # noqa: S104 - being reached from outside is what was asked for


def front(settings: Settings, app: ASGIApp) -> Edge:
    """The application with what stands in front of it on the server's own ports."""
    return Edge(app, parse_networks(settings.trusted_proxies), hsts_s=settings.hsts_s)


@asynccontextmanager
async def public_side(gateway: Gateway, app: ASGIApp) -> AsyncIterator[None]:
    """Serve over HTTPS what the settings ask for. Raises InvalidInput, Conflict and what Caddy fails with."""
    settings, public = gateway.settings, gateway.settings.public
    async with AsyncExitStack() as stack:
        if public is not None and public.tls is Tls.FILES:
            await stack.enter_async_context(_from_files(gateway, app, public))
        elif public is not None and public.tls is not Tls.OFF:
            behind = Behind(
                Edge(app, LOOPBACK, hsts_s=settings.hsts_s),
                public.domain,
                lambda: _names(gateway),
            )
            await stack.enter_async_context(_by_caddy(gateway, behind, public))
        yield


def _names(gateway: Gateway) -> Collection[str]:
    return frozenset(deployment.name for deployment in gateway.runtime.deployments)


@asynccontextmanager
async def _by_caddy(gateway: Gateway, app: ASGIApp, public: Public) -> AsyncIterator[None]:
    # A port of its own: what comes here was forwarded, whatever it says of itself.
    inner = bind(_LOOPBACK, 0)
    port = inner.getsockname()[1]
    await gateway.listeners.add(app, inner)
    directory: Path = gateway.settings.home_path / "tls"
    config = caddy_config(
        public,
        upstream=f"{_LOOPBACK}:{port}",
        ask=f"http://{_LOOPBACK}:{port}{ASK_PATH}",
        storage=str(directory),
    )
    async with Caddy(directory, config, port=public.https_port):
        yield


@asynccontextmanager
async def _from_files(gateway: Gateway, app: ASGIApp, public: Public) -> AsyncIterator[None]:
    settings = gateway.settings
    files = CertificateFiles(Path(settings.cert), Path(settings.key))
    context = await asyncio.to_thread(files.load)
    host = public.host or _ALL
    secure = bind(host, public.https_port, "--https-port")
    try:
        plain = bind(host, public.http_port, "--http-port")
    except BaseException:
        secure.close()
        raise
    # Nobody who comes this way is this machine's own user: a tunnel may end here.
    trusted = (*parse_networks(settings.trusted_proxies), *LOOPBACK)
    await gateway.listeners.add(Edge(app, trusted, hsts_s=settings.hsts_s), secure, context)
    await gateway.listeners.add(Redirect(public.domain, public.https_port), plain)
    async with TaskScope("certificates") as scope:
        scope.keep(lambda: files.follow(context), name="follow")
        yield
