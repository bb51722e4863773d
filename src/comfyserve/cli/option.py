"""How every option of a command is made."""

import functools

import click

option = functools.partial(click.option, show_envvar=True)
"""`click.option` whose help names the environment variable."""
