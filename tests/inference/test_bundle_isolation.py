"""What a hostile bundle tries, and that none of it works: each attempt for itself, and all of it from inside a bundle's configuration."""

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from support.bundles import bundle, evil
from support.studies import Sample, small_chest

from radnode_inference.bundles import isolation, store
from radnode_inference.bundles.bundle_model import BundleAnswerError, BundleModel
from radnode_inference.bundles.isolation import Ended, IsolationError, Limits, NoIsolationError, run
from radnode_inference.study import Study

NOBODY: frozenset[str] = frozenset()
SMALL = Limits(memory_mb=300, scratch_mb=64, processes=16, seconds=250.0)
PYTHON = [sys.executable, "-I", "-S", "-c"]
OWN = f".{os.getpid():07}"  # seconds by which what this run left is told from what another one on this machine runs


def tried(code: str, limits: Limits = SMALL, **more: object) -> Ended:
    """The end of a short program in isolation."""
    program = [*PYTHON, textwrap.dedent(code)]
    asked = {"shown": (), "hidden": (), "descriptors": (), "look": lambda: None} | more
    return run(program, limits=limits, **asked)  # type: ignore[arg-type]


@pytest.fixture
def listener() -> Iterator[tuple[int, list[object]]]:
    """A port of this machine that notes who connects."""
    came: list[object] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept() -> None:
            try:
                while True:
                    came.append(server.accept()[1])
            except OSError:
                return

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield server.getsockname()[1], came
        server.shutdown(socket.SHUT_RDWR)
        thread.join(60)


@pytest.fixture
def secrets(tmp_path: Path) -> list[Path]:
    """What a node has lying about: settings, database, another study."""
    places = [tmp_path / name for name in ("radnode.toml", "data/radnode.db", "data/objects/secret-study.dcm")]
    for place in places:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text("SECRET")
        place.chmod(0o644)
    return places


OURS = sorted({p.parts[2] for p in map(Path, (sys.prefix, __file__)) if p.parts[:2] == ("/", "tmp")})
"""What leads to radnode's own code, should it have been checked out below /tmp: the one thing that is seen there."""


def test_a_program_sees_python_and_an_empty_machine() -> None:
    ended = tried("import os; print(os.getuid() not in (0,), sorted(os.environ), os.listdir('/tmp'), os.getpid())")
    assert ended.status == 0, ended.said
    assert ended.said.startswith("True ['HOME', 'LANG'")
    assert ended.said.rstrip().endswith(f"{OURS} 2")
    assert "RADNODE" not in ended.said


def test_the_network_is_not_there(listener: tuple[int, list[object]]) -> None:
    port, came = listener
    ended = tried(f"""
        import socket
        for family, kind, to in ((2, 1, ("127.0.0.1", {port})), (2, 2, ("127.0.0.1", {port})), (2, 2, ("192.0.2.1", 53))):
            try:
                s = socket.socket(family, kind)
                s.connect(to); s.send(b"x")
                print("REACHED", to)
            except OSError as e:
                print(e)
        try:
            print("REACHED", socket.getaddrinfo("example.org", 80))
        except OSError as e:
            print(e)
    """)
    assert ended.status == 0, ended.said
    assert "REACHED" not in ended.said
    assert came == []


def test_an_abstract_socket_of_the_machine_is_not_there() -> None:
    name = f"\0radnode-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(name)
        server.listen()
        ended = tried(f"import socket; socket.socket(socket.AF_UNIX).connect({name!r}); print('REACHED')")
    assert ended.status == 1
    assert "REACHED" not in ended.said


def test_settings_database_and_other_studies_cannot_be_read(secrets: list[Path]) -> None:
    ended = tried(f"""
        import os, pathlib
        for place in {[str(p) for p in secrets] + ["/etc/passwd", "/proc/1/environ", "/proc/self/mountinfo"]!r}:
            try:
                print("READ", pathlib.Path(place).read_bytes())
            except OSError as e:
                print(e)
        found = [os.path.join(d, f) for d, _, fs in os.walk("/") for f in fs if f in ("radnode.toml", "radnode.db", "secret-study.dcm")]
        print("FOUND", found)
    """)
    assert "READ" not in ended.said
    assert "FOUND []" in ended.said


def test_what_lies_beside_the_environment_is_not_shown() -> None:
    ended = tried(f"""
        import os
        print("SEEN", *os.listdir({sys.prefix!r}))
    """)
    shown = set(ended.said.split()[1:])
    assert {"bin", "lib"} <= shown <= {"bin", "lib", "lib64", "pyvenv.cfg"}


def test_what_must_stay_hidden_is_never_shown() -> None:
    with pytest.raises(NoIsolationError, match="which a bundle has to see"):
        tried("print(1)", hidden=(Path(sys.prefix) / "lib" / "node-data",))


def test_nothing_outside_its_scratch_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    ended = tried(
        """
        import os
        for place in ("/bundle/x", "/usr/lib/x", "/x", os.path.dirname(os.__file__) + "/x"):
            try:
                open(place, "w"); print("WROTE", place)
            except OSError as e:
                print(e)
        open("/tmp/x", "w").write("mine")
        """,
        shown=((tmp_path / "b", "/bundle"),),
    )
    assert ended.status == 0, ended.said
    assert "WROTE" not in ended.said
    assert list((tmp_path / "b").iterdir()) == []


def test_it_cannot_become_another_user_or_touch_another_process() -> None:
    ended = tried(f"""
        import os
        for name, attempt in (("root", lambda: os.setuid(0)), ("kill", lambda: os.kill({os.getpid()}, 0)),
                              ("chroot", lambda: os.chroot("/tmp")), ("descriptors", lambda: [os.fstat(n) for n in (3, 4, 5)])):
            try:
                attempt(); print("DID", name)
            except OSError as e:
                print(name, e)
    """)
    assert ended.status == 0, ended.said
    assert "DID" not in ended.said


def test_a_fork_bomb_stops_at_its_limit_and_leaves_nothing() -> None:
    ended = tried("""
        import os, time
        n = 0
        try:
            while True:
                if os.fork() == 0:
                    time.sleep(600)
                n += 1
        except OSError:
            print("FORKED", n)
    """)
    assert ended.said.startswith("FORKED"), ended.said
    assert int(ended.said.split()[1]) < SMALL.processes
    assert running("n += 1") == []


@pytest.mark.parametrize(
    "code",
    [
        "x = [bytearray(20_000_000) for _ in range(100)]",
        """
        import os, time
        for _ in range(10):
            if os.fork() == 0:
                x = bytearray(b"x") * 60_000_000
                time.sleep(60)
        time.sleep(60)
        """,
        """
        import os, time
        for _ in range(20):
            os.write(os.memfd_create("x"), b"x" * 50_000_000)
        time.sleep(60)
        """,
    ],
    ids=["one process", "many processes", "files in memory"],
)
def test_memory_is_bounded(code: str) -> None:
    try:
        assert tried(code).status != 0
    except IsolationError as e:
        assert "memory" in str(e)


def test_memory_that_its_processes_share_and_none_of_them_touched_is_bounded_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(isolation, "OTHERS", 0)
    filled_by_one_that_ended = """
        import mmap, os, time
        told, tell = os.pipe()
        for _ in range(6):  # one after the other, so that no two are seen at once
            if os.fork() == 0:
                held = mmap.mmap(-1, 60 << 20)
                if os.fork() == 0:
                    for place in range(0, 60 << 20, 4096):
                        held[place] = 1
                    os._exit(0)
                os.wait()
                os.write(tell, b"x")
                time.sleep(120)
                os._exit(0)
            os.read(told, 1)
        time.sleep(120)
    """
    with pytest.raises(IsolationError, match="more than the 200 MiB"):
        tried(filled_by_one_that_ended, Limits(memory_mb=200, seconds=250.0))


def test_the_disk_is_not_filled() -> None:
    ended = tried("""
        for name in range(100):
            with open(f"/tmp/{name}", "wb") as f:
                for _ in range(60):
                    f.write(b"x" * 1_000_000)
    """)
    assert ended.status != 0
    assert "No space left" in ended.said


def test_shared_memory_that_counts_for_nobody_cannot_be_made() -> None:
    ended = tried("import ctypes; print('GOT', ctypes.CDLL(None).shmget(0, 100_000_000, 0o1600))")
    assert "GOT -1" in ended.said


def test_what_it_says_is_cut_and_made_printable() -> None:
    ended = tried("import sys\nfor _ in range(300): sys.stdout.write('x' * 100_000)\nprint('\\x1b[2J end')")
    assert ended.status == 0
    assert len(ended.said) <= 4096
    assert ended.said.endswith(" [2J end\n")


def test_it_ends_when_its_time_is_over_and_when_the_run_is_stopped() -> None:
    with pytest.raises(IsolationError, match="longer than 1 s"):
        tried("import time; time.sleep(600)", Limits(seconds=1.0))

    def stop() -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        tried("import time; time.sleep(600)", look=stop)


def test_what_it_leaves_running_ends_with_it() -> None:
    ended = tried(f"import os, time\nif os.fork() == 0:\n    os.setsid(); time.sleep(777{OWN})\nprint('left')")
    assert ended.status == 0
    assert running(f"time.sleep(777{OWN})") == []


def test_it_cannot_stop_or_look_into_the_process_that_guards_it() -> None:
    ended = tried("""
        import ctypes, os, signal
        libc = ctypes.CDLL(None, use_errno=True)
        print("ATTACHED" if libc.ptrace(16, 1, 0, 0) == 0 else os.strerror(ctypes.get_errno()))
        try:
            os.kill(1, signal.SIGKILL)
        except OSError as e:
            print(e)
        print("still here")
    """)
    assert "ATTACHED" not in ended.said
    assert ended.said.endswith("still here\n")


RUN = """
from radnode_inference.bundles.isolation import run, Limits
import sys
print(run([sys.executable, "-I", "-S", "-c", {code!r}], shown=(), hidden=(), descriptors=(), limits=Limits(), look=lambda: None))
"""


CLINGING = f"import ctypes, time; ctypes.CDLL(None).prctl(1, 0, 0, 0, 0); time.sleep(888{OWN})"
"""It asks not to die with its parent (PR_SET_PDEATHSIG)."""


def test_it_ends_when_the_node_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", RUN.format(code=CLINGING)]) as node:
        try:
            wait(
                lambda: any(
                    "-I -S -c import ctypes" in w and "isolation_child" not in w for _, w in running(f"sleep(888{OWN})")
                )
            )
        finally:
            node.kill()
    wait(lambda: running(f"time.sleep(888{OWN})") == [])


@pytest.mark.parametrize("after_s", [0.0, 0.03, 0.06, 0.1, 0.2])
def test_it_ends_when_the_node_is_killed_on_the_way_into_isolation(after_s: float) -> None:
    with subprocess.Popen([sys.executable, "-c", RUN.format(code=CLINGING.replace("sleep(888", "sleep(999"))]) as node:
        try:
            wait(lambda: any(p.pid != node.pid and "isolation_child {" in w for p, w in running(f"sleep(999{OWN})")))
            time.sleep(after_s)  # no state to wait for: the kill is to fall between two steps
        finally:
            node.kill()
    time.sleep(0.3)
    wait(lambda: running(f"sleep(999{OWN})") == [])


def running(mark: str) -> list[tuple[psutil.Process, str]]:
    """Every process of this machine with `mark` in its command line."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            words = " ".join(process.cmdline())
            found += [(process, words)] if mark in words else []
    return found


def wait(met: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not met():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_an_ordinary_user_isolates_too() -> None:
    code = "import os, socket; print(os.getuid(), *os.listdir('/tmp')); socket.create_connection(('127.0.0.1', 1))"
    user = ["unshare", "--user", "--map-user=1000", "--map-group=1000"]
    found = subprocess.run(
        [*user, sys.executable, "-c", "import os; assert os.geteuid() == 1000\n" + RUN.format(code=code)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert f"{' '.join(['65534', *OURS])}\\n" in found.stdout, found.stdout + found.stderr
    assert "unreachable" in found.stdout


ANOTHER = """
import ctypes, os, sys
sys.path[:] = {path!r}
from radnode_inference.bundles import isolation_child
if os.getuid() == 0:
    os.setgroups([]); os.setresgid(12345, 12345, 12345); os.setresuid(12345, 12345, 12345)
    ctypes.CDLL(None).prctl(isolation_child.PR_SET_DUMPABLE, 1, 0, 0, 0)
binds = [[p, p] for p in ("/usr/bin", "/usr/lib", "/lib", "/lib64") if os.path.isdir(p)]
isolation_child.main({{
    "parent": os.getppid(), "root": {root!r}, "scratch_bytes": 1 << 20, "number": 1, "binds": binds, "links": [],
    "limits": {{}}, "descriptors": [], "environment": {{}}, "program": ["/usr/bin/id", "-u"],
}})
"""


def test_a_user_without_any_right_isolates_too() -> None:
    """Not root seen as somebody else: the node of a service, which may change nothing in /proc/sys."""
    with tempfile.TemporaryDirectory() as root:
        if os.getuid() == 0:
            os.chown(root, 12345, 12345)
        code = ANOTHER.format(path=sys.path, root=root)
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "65534\n", "")


def test_without_namespaces_nothing_is_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A name space limit of none, as some containers have it."""
    limited = "import os\nopen('/proc/sys/user/max_net_namespaces', 'w').write('0')\n" + RUN.format(code="print('RAN')")
    found = subprocess.run(
        ["unshare", "--user", "--map-root-user", sys.executable, "-c", limited],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "NoIsolationError" in found.stderr
    assert "unshare" in found.stderr
    assert "RAN" not in found.stdout


@pytest.fixture(scope="module")
def chest(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    return small_chest(tmp_path_factory.mktemp("chest"), seed=6)


def read(tmp_path: Path, made: Path, chest: Sample) -> None:
    model = BundleModel(store.add(made, tmp_path / "weights", taken=NOBODY), Limits(seconds=120))
    model.read(Study.from_files(chest.files), lambda part, words: None)


def test_the_code_of_a_bundle_brings_nothing_away(
    tmp_path: Path,
    chest: Sample,
    secrets: list[Path],
    listener: tuple[int, list[object]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An evaluated expression imports a script of the bundle, which tries everything; what it got stands in the failure."""
    port, came = listener
    monkeypatch.setenv("RADNODE_SECRET", "SECRET")
    wanted = [str(p) for p in (*secrets, *chest.files[:1])]
    made = evil(
        tmp_path / "evil",
        f"""
import os, pathlib, socket, subprocess
got = [k for k in os.environ if "RADNODE" in k]
for place in {wanted!r}:
    try: got.append(pathlib.Path(place).read_bytes()[:9])
    except OSError: pass
try: got.append(socket.create_connection(("127.0.0.1", {port}), 2))
except OSError: pass
try: pathlib.Path({str(tmp_path / "mark")!r}).touch(); got.append("mark")
except OSError: pass
try: os.truncate(4, 0); got.append("truncated its input")
except OSError: pass
got.append(os.getuid() == 0)
return got
""",
    )
    with pytest.raises(BundleAnswerError, match=r"LOOT \[False\]"):
        read(tmp_path, made, chest)
    assert came == []
    assert not (tmp_path / "mark").exists()


def test_a_named_target_of_the_standard_library_does_nothing_outside(tmp_path: Path, chest: Sample) -> None:
    mark = tmp_path / "mark"
    command = {"_target_": "os.system", "command": f"touch {mark}; touch /tmp/inside; kill -9 -1"}
    with pytest.raises(BundleAnswerError, match="failed"):
        read(tmp_path, bundle(tmp_path / "evil", inference={"network_def": command}), chest)
    assert not mark.exists()
    assert not Path("/tmp/inside").exists()


def test_an_answer_written_past_the_node_s_own_code_is_refused(tmp_path: Path, chest: Sample) -> None:
    """The bundle writes numbers that mean nothing into the shared memory itself, calls that its result, and ends."""
    body = """
import json, mmap, os, sys
mask, answer = int(sys.argv[3]), int(sys.argv[4])
mmap.mmap(mask, os.fstat(mask).st_size)[:8] = b"\\xff" * 8
os.pwrite(answer, json.dumps({"encoding": "labels"}).encode(), 0)
os._exit(0)
"""
    with pytest.raises(BundleAnswerError, match="answered 65535, and its classes end at 2"):
        read(tmp_path, evil(tmp_path / "evil", body), chest)
