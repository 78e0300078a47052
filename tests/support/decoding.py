"""What a decoder may do to the process that it runs in; importable there."""

import os
import signal


def process_id() -> bytes:
    return str(os.getpid()).encode()


def crash() -> bytes:
    os.kill(os.getpid(), signal.SIGSEGV)
    return b""


def stall() -> bytes:
    signal.alarm(1)  # the proper limit, sooner
    signal.pause()
    return b""


def swell() -> bytes:
    return bytes(1 << 40)


def refuse() -> bytes:
    raise ValueError("this is no image")
