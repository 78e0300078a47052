"""Secrets from where they lie: a file or the environment, never the settings, the database or a log."""

import os
from pathlib import Path


class SecretError(Exception):
    """A secret cannot be had; the message never holds one."""


def secret(where: str) -> str:
    """What "file:PATH" or "env:NAME" leads to. Raises SecretError."""
    kind, _, name = where.partition(":")
    if kind == "env" and os.environ.get(name):
        return os.environ[name].strip()
    if kind == "file":
        try:
            return Path(name).read_text().strip()
        except (OSError, UnicodeDecodeError) as e:
            raise SecretError(f"the secret {where} cannot be read: {type(e).__name__}") from e
    if kind == "env":
        raise SecretError(f"the environment variable {name} is not set")
    raise SecretError("a secret is written as file:PATH or env:NAME, never in the settings themselves")
