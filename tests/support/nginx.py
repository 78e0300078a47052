"""nginx of Debian with a configuration of deploy/, under a user without rights, on ports that the system gave."""

import os
import re
import shutil
import socket
import ssl
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

MAIN = """daemon off;
pid {folder}/pid;
error_log {folder}/main.log;
events {{}}
http {{
  access_log {folder}/access.log;
  {paths}
  include {file};
}}
"""
TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
NOBODY = 65534
START_S = 120.0


@dataclass(frozen=True, kw_only=True)
class Nginx:
    """ports: what stands for each port of the configuration. folder: its logs and other files."""

    ports: Mapping[int, int]
    folder: Path


@contextmanager
def nginx(configuration: Path, changes: Mapping[str, str], files: Mapping[str, Path]) -> Iterator[Nginx]:
    """Run with `changes` made in the configuration, each of which has to be there, and with other ports and folders.

    files: what lies in /etc/nginx besides, by name. The sockets are opened here and inherited (nginx's own way to change its
    program while it runs), so that no other process can take a port in between.
    """
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        pytest.fail("nginx is not installed: apt-get install nginx-light")
    with ExitStack() as stack:
        # not below pytest's folder, which only its own user may enter
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="radnode-nginx-")))
        text = configuration.read_text()
        sockets = {
            int(p): stack.enter_context(listening()) for p in re.findall(r"^\s*listen (\d+)", text, re.MULTILINE)
        }
        ports = {p: s.getsockname()[1] for p, s in sockets.items()}
        text = re.sub(r"(?m)^(\s*listen) (\d+)", lambda m: f"{m[1]} 127.0.0.1:{ports[int(m[2])]}", text)
        for old, new in changes.items():
            assert old in text, old
            text = text.replace(old, new)
        for place in ("/etc/nginx/", "/var/log/nginx/", "/dev/std"):
            text = text.replace(place, f"{folder}/")
        for name, file in files.items():
            shutil.copyfile(file, folder / name)
        (folder / "tried.conf").write_text(text)
        paths = " ".join(f"{name}_temp_path {folder}/{name};" for name in TEMPORARY)
        (folder / "nginx.conf").write_text(MAIN.format(folder=folder, paths=paths, file=folder / "tried.conf"))
        user = NOBODY if os.geteuid() == 0 else None
        for path in (folder, *folder.iterdir()):
            if user is not None:
                os.chown(path, user, user)
        inherited = "".join(f"{s.fileno()};" for s in sockets.values())
        process = subprocess.Popen(
            [program, "-e", str(folder / "main.log"), "-c", str(folder / "nginx.conf"), "-p", str(folder)],
            env=os.environ | {"NGINX": inherited}, pass_fds=[s.fileno() for s in sockets.values()],
            user=user, group=user, extra_groups=[] if user else None,
        )  # fmt: skip
        try:
            wait(process, folder)
            yield Nginx(ports=ports, folder=folder)
        finally:
            process.terminate()
            process.wait(START_S)


def listening() -> socket.socket:
    made = socket.create_server(("127.0.0.1", 0))
    made.setblocking(False)
    return made


def wait(process: subprocess.Popen[bytes], folder: Path) -> None:
    """Until its configuration is read, which its pid says. Raises AssertionError with what it complained of."""
    end = time.monotonic() + START_S
    while not (folder / "pid").exists() or not (folder / "pid").read_text():
        said = (folder / "main.log").read_text() if (folder / "main.log").exists() else ""
        assert process.poll() is None and time.monotonic() < end, said
        time.sleep(0.02)


def protocol(port: int, ca: Path) -> str | None:
    """What a browser that can speak HTTP/2 would speak there."""
    context = ssl.create_default_context(cafile=str(ca))
    context.set_alpn_protocols(["h2", "http/1.1"])
    with (
        socket.create_connection(("127.0.0.1", port)) as raw,
        context.wrap_socket(raw, server_hostname="localhost") as s,
    ):
        return s.selected_alpn_protocol()
