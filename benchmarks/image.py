"""The image of deploy/ built step by step, and run as compose.yaml has it, where there is neither Docker nor its hub.

python benchmarks/image.py FOLDER [--volume HOST:IMAGE:ro ...]      as root; Debian's mmdebstrap, buildah and crun

FOLDER keeps the layers, so that a second run is quick. --volume: what pip needs to see while the image is built (a mirror).

What stands for what: python:3.11-slim-bookworm is Debian 12 with its own Python 3.11.2 (mmdebstrap); Docker is buildah, each
step of the Dockerfile in a chroot, and crun with compose.yaml's restrictions (Docker's seccomp profile and docker-init are
not there: radnode is process 1); postgres:17 and orthancteam/orthanc are Debian's PostgreSQL and Orthanc under the names,
ports, settings and script of compose.yaml. OHIF and the `front` are not part of this (tests/system/test_proxy.py).

Exit code 0 only when the node becomes healthy, a study sent to Orthanc is routed, read, and its results lie in Orthanc, the
page shows it to who signs in, a backup is made, the node ends in order at SIGTERM, starts again on the same volume with nothing
to do, then, after SIGKILL and from the backup after all was wiped, and says why without its database.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import yaml

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from support.orthanc import Orthanc  # noqa: E402
from support.postgres import Postgres  # noqa: E402
from support.studies import small_breast  # noqa: E402

COMPOSE = ROOT / "deploy" / "compose"
BASE = "docker.io/library/python:3.11-slim-bookworm"
INCLUDE = "python3,python3-venv,ca-certificates,netbase,tzdata"
HOSTS = "127.0.0.1 localhost node database orthanc\n"
HEALTHY_S, READ_S, END_S = 180.0, 180.0, 30.0
BACKUP = "/var/backups/radnode/monday.tar"
PAGE = "http://127.0.0.1:8080"


class Images:
    """buildah with its own store, so that nothing of this machine's is touched."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        store = ["--root", str(folder / "store"), "--runroot", str(folder / "run")]
        self._buildah = ["buildah", "--storage-driver", "overlay", *store]

    def __call__(self, *arguments: str) -> str:
        """What buildah says on its output; its errors go where ours go. Raises CalledProcessError."""
        done = subprocess.run([*self._buildah, *arguments], stdout=subprocess.PIPE, text=True, check=True)
        return done.stdout.strip()

    def base(self) -> None:
        """Debian 12 with its Python, under the name that the Dockerfile asks for."""
        tar = self.folder / "base.tar"
        subprocess.run(
            ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={INCLUDE}", "bookworm", str(tar)], check=True
        )
        made = self("from", "scratch")
        self("add", "--quiet", made, str(tar), "/")
        for name in ("python", "python3.11"):
            self("run", "--isolation", "chroot", made, "--", "ln", "-s", "/usr/bin/python3", f"/usr/local/bin/{name}")
        self("commit", "--quiet", made, BASE)
        self("rm", made)
        tar.unlink()

    def build(self, volumes: list[str]) -> None:
        given = [part for volume in volumes for part in ("--volume", volume)]
        file = str(COMPOSE / "Dockerfile")
        self("bud", "--quiet", "--format", "docker", "--isolation", "chroot", "--layers", "--pull-never", *given, "-f", file, "-t", "radnode", str(ROOT))  # fmt: skip

    def config(self) -> dict[str, Any]:
        """What the image says of itself: User, Env, Entrypoint, Cmd, Healthcheck, StopSignal."""
        found: dict[str, Any] = json.loads(self("inspect", "--type", "image", "localhost/radnode"))["Docker"]["config"]
        return found

    def mounted(self) -> Path:
        """The image's files, as a folder; they stay mounted."""
        return Path(self("mount", self("from", "localhost/radnode")))


def bundle(folder: Path, image: dict[str, Any], root: Path, service: dict[str, Any], hosts: Path) -> None:
    """A container for crun (OCI runtime specification): the image under the restrictions of the service in compose.yaml."""
    assert (
        service["read_only"] and service["cap_drop"] == ["ALL"] and "no-new-privileges:true" in service["security_opt"]
    )
    environment = {k: re.sub(r"\$\{[^}]*\}", "secret", v) for k, v in service["environment"].items()}
    user, group = (int(n) for n in image["User"].split(":"))
    quiet = ["nosuid", "noexec", "nodev"]
    mounts = [mount("/proc", "proc"), mount("/dev", "tmpfs", "nosuid", "mode=755")]
    mounts += [mount("/dev/shm", "tmpfs", *quiet, "mode=1777", "size=65536k")]
    mounts += [mount(place, "tmpfs", *quiet, "mode=1777") for place in service["tmpfs"]]
    mounts.append({"destination": "/etc/hosts", "source": str(hosts), "options": ["bind", "ro"]})
    for volume in service["volumes"]:
        source, place, *only = volume.split(":")
        path = COMPOSE / source if source.startswith(".") else folder.parent / source
        if not path.exists():  # Docker fills a new volume with what the image has there, owner and rights included
            subprocess.run(["cp", "-a", str(root) + place, str(path)], check=True)
        mounts.append({"destination": place, "source": str(path), "options": ["bind", *only]})
    process = {
        "user": {"uid": user, "gid": group},
        "args": [*image["Entrypoint"], *image["Cmd"]],
        "env": [*image["Env"], *(f"{k}={v}" for k, v in environment.items())],
        "cwd": image["WorkingDir"],
        "capabilities": {},
        "noNewPrivileges": True,
    }
    spaces = [{"type": kind} for kind in ("pid", "mount", "ipc", "uts")]
    hidden = ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/scsi", "/sys/firmware"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({
        "ociVersion": "1.0.0", "process": process, "root": {"path": str(root), "readonly": True}, "hostname": "node",
        "mounts": mounts, "linux": {"namespaces": spaces, "maskedPaths": hidden, "readonlyPaths": ["/proc/sys"]},
    }))  # fmt: skip


def mount(place: str, kind: str, *options: str) -> dict[str, Any]:
    return {"destination": place, "type": kind, "source": kind, "options": list(options)}


class Container:
    """`docker run`, `exec` and `stop` of one bundle; use as a context manager."""

    def __init__(self, folder: Path, image: dict[str, Any]) -> None:
        self.folder, self.image = folder, image
        self._crun = ["crun", "--root", str(folder / "state"), "--cgroup-manager=disabled"]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()[-6000:]

    def __enter__(self) -> "Container":
        with (self.folder / "log").open("ab") as log:
            command = [*self._crun, "run", "--bundle", str(self.folder), "node"]
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        return self

    def __exit__(self, *_: object) -> None:
        subprocess.run([*self._crun, "delete", "--force", "node"], capture_output=True, check=False)
        assert self._process is not None
        self._process.wait(END_S)

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """As the user of the image, like `docker exec`."""
        within = [*self._crun, "exec", "--user", self.image["User"], "node"]
        return subprocess.run([*within, *command], capture_output=True, text=True, check=False)

    def once(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`docker compose run --rm node ARGUMENTS`."""
        given = json.loads((self.folder / "config.json").read_text())
        given["process"]["args"] = [*self.image["Entrypoint"], *arguments]
        (self.folder / "once").mkdir()
        (self.folder / "once" / "config.json").write_text(json.dumps(given))
        command = [*self._crun, "run", "--bundle", str(self.folder / "once"), "once"]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def healthy(self) -> bool:
        """Whether the HEALTHCHECK of the image says so."""
        kind, *command = self.image["Healthcheck"]["Test"]
        assert kind == "CMD"
        return self.run(*command).returncode == 0

    def stop(self) -> int:
        """Send the image's STOPSIGNAL; the exit code."""
        assert self._process is not None
        subprocess.run([*self._crun, "kill", "node", self.image["StopSignal"]], check=True)
        return self._process.wait(END_S)

    def kill(self) -> None:
        assert self._process is not None
        subprocess.run([*self._crun, "kill", "node", "KILL"], check=True)
        self._process.wait(END_S)

    def ended(self) -> int | None:
        assert self._process is not None
        return self._process.poll()


def wait(what: str, met: Callable[[], object], seconds: float, container: Container) -> float:
    """Seconds until it was so. Raises SystemExit with the log of the container."""
    begun = time.monotonic()
    while not met():
        if time.monotonic() - begun > seconds or container.ended() is not None:
            raise SystemExit(f"in vain after {time.monotonic() - begun:.0f} s: {what}\n{container.log}")
        time.sleep(0.2)
    return time.monotonic() - begun


def pacs_settings() -> dict[str, Any]:
    """compose's orthanc.json for an Orthanc that is not in its image."""
    given: dict[str, Any] = json.loads((COMPOSE / "orthanc.json").read_text())
    del given["Name"], given["DicomWeb"]  # the test's own name, and plugin
    return given | {"LuaScripts": [str(COMPOSE / Path(name).name) for name in given["LuaScripts"]], "HttpPort": 8042}


def try_it(folder: Path, image: dict[str, Any], root: Path) -> None:
    """In a network and mounts of its own (`unshare`)."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    subprocess.run(["mount", "-t", "cgroup2", "none", "/sys/fs/cgroup"], check=True)  # crun knows no mixed ones
    for old in ("node-data", "node-backups", "node", "pacs", "images"):
        shutil.rmtree(folder / old, ignore_errors=True)
    hosts = folder / "hosts"
    hosts.write_text(HOSTS)
    subprocess.run(["mount", "--bind", str(hosts), "/etc/hosts"], check=True)
    bundle(
        folder / "node", image, root, yaml.safe_load((COMPOSE / "compose.yaml").read_text())["services"]["node"], hosts
    )
    container = Container(folder / "node", image)
    with container:
        begun = time.monotonic()
        while container.ended() is None and time.monotonic() - begun < HEALTHY_S:
            time.sleep(0.2)
        print(
            f"without its database it ends with {container.ended()} after {time.monotonic() - begun:.1f} s: {last_line(container.log)}"
        )
        assert container.ended() == 1 and "database" in container.log, container.log
    database, pacs = Postgres(), Orthanc(folder / "pacs", pacs_settings())
    database.port, pacs.http_port, pacs.dicom_port, pacs.url = 5432, 8042, 4242, "http://127.0.0.1:8042"
    pacs.http.base_url = httpx.URL(pacs.url)
    with database, pacs:
        to_it = ("-h", "127.0.0.1", "-p", "5432", "-U", "radnode")
        database._run("createdb", *to_it, "radnode")
        first_start(container, pacs, folder)
        start_again(container, pacs, "an orderly end")
        start_again(container, pacs, "SIGKILL")
        database._run("dropdb", *to_it, "radnode")
        database._run("createdb", *to_it, "radnode")
        for path in (folder / "node-data").iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        restored = container.once("restore", BACKUP)
        assert restored.returncode == 0, restored
        start_again(container, pacs, "everything was wiped and restored from the backup")
    print("Everything holds.")


def first_start(container: Container, pacs: Orthanc, folder: Path) -> None:
    with container:
        print(
            f"healthy {wait('to be healthy', container.healthy, HEALTHY_S, container):.1f} s after the first start (migrations included)"
        )
        listed = container.run("radnode", "peers", "list")
        assert listed.returncode == 0 and "ORTHANC" in listed.stdout, listed
        assert container.run("touch", "/opt/radnode/here").returncode != 0, "the root is read-only"
        sample = small_breast(folder / "images", seed=7)
        for file in sample.files:
            pacs.upload(file.read_bytes())
        took = wait(
            "results in Orthanc", lambda: {"SR", "SEG"} <= modalities(pacs, sample.study_uid), READ_S, container
        )
        print(
            f"{len(sample.files)} images sent to Orthanc; {took:.1f} s later it has {sorted(modalities(pacs, sample.study_uid))}"
        )
        said = container.run("radnode", "study", sample.study_uid)
        assert said.returncode == 0, said
        page(container, sample.study_uid)
        saved = container.run("radnode", "backup", BACKUP)
        assert saved.returncode == 0, saved
        begun = time.monotonic()
        code = container.stop()
        print(f"ended with {code} in {time.monotonic() - begun:.1f} s at {container.image['StopSignal']}")
        assert code == 0, container.log


def page(container: Container, study_uid: str) -> None:
    """Sign in with the token of the log, and see the study with a picture, which a process of its own decodes."""
    found = re.search(r"^rn_\S+$", container.log, re.MULTILINE)
    assert found, "the token for the first administrator is in the log"
    password = "a long enough passphrase"
    form = {"token": found.group(), "name": "adam", "password": password, "again": password}
    with httpx.Client(base_url=PAGE, headers={"origin": PAGE}, follow_redirects=True, timeout=60) as client:
        assert client.post("/first", data=form).url.path == "/"
        shown = client.get(f"/studies/{study_uid}").text
        picture = re.search(r'src="(/studies/[^"]+/thumbnail\.png[^"]*)"', shown)
        assert picture and client.get(picture.group(1)).content.startswith(b"\x89PNG"), shown
    print("the study is shown to who signed in, with a picture")


def start_again(container: Container, pacs: Orthanc, after: str) -> None:
    before = pacs.http.get("/statistics").json()["CountInstances"]
    with container:
        print(f"healthy again {wait('to be healthy', container.healthy, HEALTHY_S, container):.1f} s after {after}")
        (study_uid,) = (s["MainDicomTags"]["StudyInstanceUID"] for s in pacs.http.get("/studies?expand").json())
        told = container.run("radnode", "study", study_uid)
        assert told.returncode == 0 and "mr-breast-kinetics" in told.stdout, told
        time.sleep(5)
        assert pacs.http.get("/statistics").json()["CountInstances"] == before, "something was sent twice"
        container.kill()


def last_line(log: str) -> str:
    return (log.strip().splitlines() or ["nothing"])[-1][:300]


def modalities(pacs: Orthanc, study_uid: str) -> set[str]:
    found = pacs.http.post(
        "/tools/find", json={"Level": "Series", "Expand": True, "Query": {"StudyInstanceUID": study_uid}}
    )
    return {s["MainDicomTags"]["Modality"] for s in found.json()}


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("folder", type=Path)
    asked.add_argument("--volume", action="append", default=[])
    asked.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    asked.add_argument("--root", type=Path, help=argparse.SUPPRESS)
    given = asked.parse_args()
    folder = given.folder.resolve()
    images = Images(folder)
    if given.inside:
        try_it(folder, images.config(), given.root)
        return
    folder.mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()
    if BASE.partition("/library/")[2] not in images("images", "--format", "{{.Name}}:{{.Tag}}").replace(
        "docker.io/library/", ""
    ):
        images.base()
        print(f"the base: {time.monotonic() - begun:.0f} s")
    begun = time.monotonic()
    images.build(given.volume)
    root = images.mounted()
    size = images("images", "--format", "{{.Size}}", "localhost/radnode")
    print(f"the image: {size}, built in {time.monotonic() - begun:.0f} s (what was built before is kept)")
    try:
        own = [sys.executable, __file__, str(folder), "--inside", "--root", str(root)]
        code = subprocess.run(["unshare", "--net", "--mount", "--ipc", *own], check=False).returncode
    finally:
        images("umount", "--all")
        images("rm", "--all")
    sys.exit(code)


if __name__ == "__main__":
    os.umask(0o022)
    main()
