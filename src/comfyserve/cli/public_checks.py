"""What `doctor` looks at where a server is to be public: names, ports, certificates, Caddy."""

import errno
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

from comfyserve.cli.checks import Finding, Level
from comfyserve.cli.units import count_text, utc_now
from comfyserve.domain.errors import InvalidInput
from comfyserve.domain.public import Public, Tls
from comfyserve.settings import Settings

_WAIT_S = 5.0
_SOON_DAYS = 14
_ANY_LABEL = "comfyserve-doctor"


def check_public(settings: Settings, *, is_running: bool) -> Iterator[Finding]:
    """All that the public side needs; nothing where there is no domain."""
    try:
        public = settings.public
        settings.check()
    except InvalidInput as error:
        yield Finding("domain", Level.PROBLEM, error.message, "change the settings")
        return
    if public is None:
        return
    yield check_names(public)
    if public.tls is Tls.OFF:
        yield _check_proxy(settings)
        return
    if public.tls is not Tls.FILES:
        yield check_caddy()
    for port, option in ((public.https_port, "--https-port"), (public.http_port, "--http-port")):
        yield check_public_port(public.host, port, option, is_running=is_running)
    yield check_certificate(public, settings, is_running=is_running)


def check_names(public: Public) -> Finding:
    """Whether the domain, and any name in it, lead somewhere."""
    shown = []
    for host in (public.domain, f"{_ANY_LABEL}.{public.domain}"):
        try:
            found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except OSError as error:
            mend = (
                f"make DNS records (A, AAAA) for {public.domain} and *.{public.domain} that lead "
                "to this machine; a name that is only meant for this one goes into /etc/hosts"
            )
            return Finding("dns", Level.PROBLEM, f"{host}: {error.strerror or error}", mend)
        addresses = sorted({str(item[4][0]) for item in found})
        shown.append(f"{host.replace(_ANY_LABEL, '*')} is {', '.join(addresses)}")
    return Finding("dns", Level.OK, "; ".join(shown))


def check_caddy() -> Finding:
    """What has the certificates for tls auto and internal."""
    path = shutil.which("caddy")
    if path is None:
        mend = "install it: apt install caddy; or choose --tls files, or --tls off behind a proxy"
        return Finding("caddy", Level.PROBLEM, "there is no caddy on PATH", mend)
    try:
        done = subprocess.run(  # noqa: S603 - found on PATH
            [path, "version"], capture_output=True, text=True, timeout=_WAIT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return Finding("caddy", Level.PROBLEM, f"{path} cannot be run: {error}", "reinstall it")
    version = done.stdout.split()[0] if done.stdout.split() else "unknown"
    return Finding("caddy", Level.OK, f"{version} at {path}")


def check_public_port(host: str, port: int, option: str, *, is_running: bool) -> Finding:
    """Whether HTTPS could listen; `is_running`: a server of ours does, and has it."""
    name = f"port {port}"
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE and is_running:
                return Finding(name, Level.OK, "is the server's")
            if error.errno == errno.EACCES:
                mend = f"sysctl net.ipv4.ip_unprivileged_port_start={port}, or {option}"
                return Finding(name, Level.PROBLEM, "this user may not listen there", mend)
            why = "in use by another program" if error.errno == errno.EADDRINUSE else str(error)
            return Finding(name, Level.PROBLEM, why, f"stop that, or choose another with {option}")
    return Finding(name, Level.OK, "is free")


def check_certificate(public: Public, settings: Settings, *, is_running: bool) -> Finding:
    """How long the certificate lasts, and whether it has the names."""
    if public.tls is Tls.FILES:
        try:
            pem = Path(settings.cert).read_text("ascii")
            return _judge(ssl.PEM_cert_to_DER_cert(pem), public, "renew it, and put it there")
        except (OSError, ValueError) as error:
            return Finding("certificate", Level.PROBLEM, f"{settings.cert}: {error}", "see --cert")
    if not is_running:
        return Finding("certificate", Level.OK, "had by Caddy when a name is first asked for")
    context = ssl.create_default_context()
    # It is looked at, not believed.
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    address = (public.host or "127.0.0.1", public.https_port)
    try:
        with (
            socket.create_connection(address, timeout=_WAIT_S) as plain,
            context.wrap_socket(plain, server_hostname=public.domain) as link,
        ):
            der = link.getpeercert(binary_form=True) or b""
        return _judge(der, public, "Caddy renews by itself: its log lines (caddy_log) say why not")
    except OSError as error:
        mend = "look for caddy_log in the server's log: the authority has to reach ports 80 and 443"
        return Finding("certificate", Level.PROBLEM, f"{public.domain}: {error}", mend)


def _judge(der: bytes, public: Public, mend: str) -> Finding:
    from cryptography import x509

    certificate = x509.load_der_x509_certificate(der)
    began, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    days = (ends - utc_now()).days
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        names = set(extension.value.get_values_for_type(x509.DNSName))
    except x509.ExtensionNotFound:
        names = set()
    age = count_text((utc_now() - began).days, "day")
    detail = f"{age} old, for {', '.join(sorted(names)) or 'no name'}, until {ends:%Y-%m-%d}"
    wanted = {public.domain, f"*.{public.domain}"} if public.tls is Tls.FILES else {public.domain}
    if ends < utc_now():
        return Finding("certificate", Level.PROBLEM, f"has expired: {detail}", mend)
    if missing := sorted(wanted - names):
        why = f"lacks {' and '.join(missing)}: {detail}"
        return Finding("certificate", Level.WARNING, why, "have one made for both")
    # Caddy's own authority makes certificates of hours.
    if public.tls is not Tls.INTERNAL and days < _SOON_DAYS:
        return Finding("certificate", Level.WARNING, f"ends soon: {detail}", mend)
    return Finding("certificate", Level.OK, detail)


def _check_proxy(settings: Settings) -> Finding:
    if settings.trusted_proxies:
        return Finding("proxy", Level.OK, f"forwarded headers of {settings.trusted_proxies} count")
    mend = "name its address with --trusted-proxies, so that addresses are shown with https"
    return Finding("proxy", Level.WARNING, "no proxy is believed, and there is no HTTPS here", mend)
