"""Tokens of claims: they name the machine and the process, so that what a process left behind is known at once."""

import os
import socket
import uuid

import psutil


def own_machine() -> str:
    """How every token of this machine begins."""
    return f"{socket.gethostname()[:64]}:"


def new_token() -> str:
    """A token that nobody else has, of this process."""
    return f"{own_machine()}{os.getpid()}:{uuid.uuid4().hex}"


def is_alive(token: str) -> bool:
    """Whether another living process of this machine holds `token`."""
    pid = int(token.split(":")[1])
    return pid != os.getpid() and psutil.pid_exists(pid)
