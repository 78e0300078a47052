"""DCMTK's programs as senders: by their full path, because pynetdicom installs scripts of the same names."""

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

FOLDER = Path("/usr/bin")
SECONDS = 120.0


def run(program: str, *arguments: str, timeout_s: float = SECONDS) -> subprocess.CompletedProcess[str]:
    """Run one of DCMTK's programs to its end. Raises FileNotFoundError when DCMTK is not installed."""
    return subprocess.run(
        [str(FOLDER / program), *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=timeout_s,
        check=False,
        # Without it each image waits about 45 ms on loopback for a delayed acknowledgement.
        env=os.environ | {"TCP_NODELAY": "1"},
    )


def storescu(
    port: int,
    files: Sequence[Path],
    *options: str,
    calling_ae: str = "TESTSCU",
    called_ae: str = "RADNODE",
    host: str = "127.0.0.1",
    timeout_s: float = SECONDS,
) -> subprocess.CompletedProcess[str]:
    """C-STORE files or folders (searched for *.dcm) in one association; exit code 0 when every answer was Success."""
    names = ("-aet", calling_ae, "-aec", called_ae, "+sd", "+r", *options)
    return run("storescu", *names, host, str(port), *(str(f) for f in files), timeout_s=timeout_s)


def echoscu(
    port: int, *options: str, calling_ae: str = "TESTSCU", called_ae: str = "RADNODE", host: str = "127.0.0.1"
) -> subprocess.CompletedProcess[str]:
    """C-ECHO; exit code 0 when it was answered."""
    return run("echoscu", "-aet", calling_ae, "-aec", called_ae, *options, host, str(port))
