"""Secrets: `secret list|create|modify|delete`."""

import getpass
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import NoneType
from typing import Any
from urllib.parse import quote

import click
from rich.text import Text

from comfyserve.cli import render
from comfyserve.cli.client import Client
from comfyserve.cli.option import option
from comfyserve.cli.options import confirm, gather, json_option, server_options, yes_option
from comfyserve.cli.units import ago_text, utc_now
from comfyserve.domain.secret import LARGEST_VALUE_BYTES, check_secret_name, check_secret_value


@dataclass(frozen=True, slots=True)
class Shown:
    """What the server tells of a secret."""

    name: str
    created_at: datetime
    updated_at: datetime
    deployments: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Secrets:
    """All secrets."""

    secrets: tuple[Shown, ...]


@dataclass(frozen=True, slots=True)
class Source:
    """Where the value of a secret comes from; none of them: a prompt, or stdin where it is piped."""

    name: str
    from_file: Path | None
    from_env: str | None
    value: str | None


def _source_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for decorate in (
        option(
            "--value",
            metavar="TEXT",
            envvar="COMFYSERVE_SECRET_VALUE",
            help="The value itself. Other users of this machine can read it while the command runs.",
        ),
        option("--from-env", metavar="NAME", help="Read the value from this variable."),
        option(
            "--from-file",
            metavar="FILE",
            type=click.Path(path_type=Path, dir_okay=False),
            help="Read the value from a file, without its last line end.",
        ),
        click.argument("name"),
    ):
        command = decorate(command)
    return command


@click.group(short_help="Set, list and delete secrets.")
def secret() -> None:
    """Secrets: values that reach an engine's environment, and nobody else."""


@secret.command("list", short_help="List the secrets, without their values.")
@json_option
@server_options
def list_secrets(client: Client, *, as_json: bool) -> None:
    """List all secrets and who uses them. No command shows a value."""
    answer = client.ask("GET", "/secrets", Secrets)
    if as_json:
        render.emit_json(answer.json)
        return
    if not answer.value.secrets:
        render.say("no secrets; make one with `comfyserve secret create NAME`")
        return
    now = utc_now()
    table = render.columns("NAME", "CHANGED", "CREATED", "DEPLOYMENTS")
    for item in answer.value.secrets:
        table.add_row(
            Text(item.name),
            ago_text(item.updated_at, now),
            ago_text(item.created_at, now),
            Text(", ".join(item.deployments)),
        )
    render.show(table)


@secret.command("create", short_help="Make a secret.")
@_source_options
@server_options
@gather(Source)
def create_secret(client: Client, source: Source) -> None:
    """Make the secret NAME, which has to be new.

    Its value is asked for, or read from stdin where that is no terminal.
    """
    _put(client, source, "new")
    render.say(f"{source.name} is set; use it with `comfyserve deploy ... --secret {source.name}`")


@secret.command("modify", short_help="Give a secret another value.")
@_source_options
@server_options
@gather(Source)
def modify_secret(client: Client, source: Source) -> None:
    """Give the secret NAME, which has to exist, another value.

    It takes effect at the next start of each replica; those that run keep the old one.
    """
    _put(client, source, "existing")
    render.say(f"{source.name} is changed, from the next start of each replica on")


@secret.command("delete", short_help="Delete a secret.")
@click.argument("name")
@yes_option
@server_options
def delete_secret(client: Client, *, name: str, yes: bool) -> None:
    """Delete the secret NAME, which no deployment may use."""
    confirm(f"Delete the secret '{name}'?", yes=yes)
    client.ask("DELETE", _path(name), NoneType)
    render.say(f"{name} is deleted")


def _put(client: Client, source: Source, expect: str) -> None:
    name = check_secret_name(source.name)
    body = {"value": check_secret_value(_read(source, os.environ))}
    client.ask("PUT", _path(name), NoneType, query={"expect": expect}, body=body)


def _read(source: Source, environ: Mapping[str, str]) -> str:
    given = [item for item in (source.from_file, source.from_env, source.value) if item is not None]
    if len(given) > 1:
        raise click.UsageError("give one of --from-file, --from-env and --value")
    if source.value is not None:
        return source.value
    if source.from_env is not None:
        if source.from_env not in environ:
            raise click.UsageError(f"there is no variable '{source.from_env}'")
        return environ[source.from_env]
    if source.from_file is not None:
        with source.from_file.open("rb") as file:
            return _text(file.read(LARGEST_VALUE_BYTES + 2))
    if sys.stdin.isatty():
        return getpass.getpass(f"value of {source.name} (not shown): ")
    return _text(sys.stdin.buffer.read(LARGEST_VALUE_BYTES + 2))


def _text(data: bytes) -> str:
    """The value in a file or pipe: what editors and `echo` put at its end does not belong to it."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise click.UsageError("a secret must be text in UTF-8; put a file on a volume") from None
    return text.removesuffix("\n").removesuffix("\r")


def _path(name: str) -> str:
    return f"/secrets/{quote(name, safe='')}"
