"""The steps into isolation, taken by a process of its own before any code of a bundle is read. Standard library only; Linux.

    python -m radnode_inference.bundles.isolation_child ORDER

ORDER is JSON (`isolation.Order`). New namespaces (no network, no other process, no shared memory), a new root that holds Python, its
libraries and the bundle, all read-only, and nothing else of this machine; limits; an unprivileged user without any capability; then the
program. Any step that fails ends the process with REFUSED and one sentence: nothing of a bundle runs half protected.
"""

import contextlib
import ctypes
import errno
import json
import os
import resource
import select
import signal
import struct
import sys
from pathlib import Path
from typing import Any

REFUSED = 97
"""Exit status: isolation could not be had."""
NEWNS, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET = 0x00020000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = (
    1,
    2,
    4,
    8,
    32,
    4096,
    16384,
    1 << 18,
)
MNT_DETACH = 2
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 1, 4, 22, 38
KEPT_FLAGS = {
    os.ST_NOSUID: MS_NOSUID,
    os.ST_NODEV: MS_NODEV,
    os.ST_NOEXEC: MS_NOEXEC,
    os.ST_NOATIME: 1024,
    os.ST_NODIRATIME: 2048,
}
OTHERS = 1_900_000_000
"""User ids from here on belong to nobody: as root, each run takes one of its own."""

libc = ctypes.CDLL(None, use_errno=True)


def main(order: dict[str, Any]) -> None:
    """Never returns.

    Three processes: this one, outside; the first one of the new namespace, which is ours, so that a bundle cannot keep it from dying with
    us; and the program. When the first ends, the kernel ends whatever else the program started.
    """
    try:
        enter(order)
        die_with(order["parent"])
        outside, held = os.pipe()
        first = os.fork()
        if first:
            ended(first)  # `held` stays open for as long as this process lives
        os.close(held)
        guard(outside)
        new_root(order)
        limit(order)
        program = os.fork()
        if program:
            ended(program)
        drop_privileges(order)
        os.execve(order["program"][0], order["program"], order["environment"])  # noqa: S606
    except OSError as e:
        refuse(f"{e.strerror} ({e.filename or 'a system call'})")


def refuse(sentence: str) -> None:
    os.write(2, f"{sentence}\n".encode())
    os._exit(REFUSED)


def enter(order: dict[str, Any]) -> None:
    """Into new namespaces; as an ordinary user through a user namespace of its own."""
    user, group = os.geteuid(), os.getegid()
    spaces = NEWNS | NEWNET | NEWPID | NEWIPC | NEWUTS
    checked(libc.unshare(spaces if user == 0 else spaces | NEWUSER), "unshare")
    if user != 0:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"65534 {user} 1")
        Path("/proc/self/gid_map").write_text(f"65534 {group} 1")


def die_with(parent: int) -> None:
    """Be ended when the node ends; end at once if it has ended already."""
    checked(libc.prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0), "prctl")
    if os.getppid() != parent:
        os._exit(REFUSED)


def guard(outside: int) -> None:
    """Die with the process outside, which holds the other end of a pipe; and no one of the same user may look into this one."""
    checked(libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0), "prctl")
    checked(libc.prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0), "prctl")
    if select.select([outside], [], [], 0)[0]:  # its end was closed: it died before the kernel was asked
        os._exit(REFUSED)
    os.close(outside)


def ended(child: int) -> None:
    """Wait for a child and end as it did, also when other orphans end here."""
    while True:
        pid, status = os.wait()
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            os._exit(code if code >= 0 else 128 - code)


def limit(order: dict[str, Any]) -> None:
    for name, value in order["limits"].items():
        resource.setrlimit(getattr(resource, name), (value, value))


def drop_privileges(order: dict[str, Any]) -> None:
    """An unprivileged user for good, and no descriptor but those that were asked for."""
    if os.geteuid() == 0:
        nobody = OTHERS + int(order["number"])
        os.setgroups([])
        os.setresgid(nobody, nobody, nobody)
        os.setresuid(nobody, nobody, nobody)
    checked(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl")
    no_shared_memory()
    for fd in range(3, resource.getrlimit(resource.RLIMIT_NOFILE)[0]):
        if fd not in order["descriptors"]:
            with contextlib.suppress(OSError):
                os.close(fd)


class Filter(ctypes.Structure):
    """A program that the kernel asks at each system call: struct sock_fprog of <linux/filter.h>."""

    _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_char_p))


def no_shared_memory() -> None:
    """No System V shared memory from now on: it would count for no process. Needs no right, unlike its limits in /proc/sys."""
    if os.uname().machine not in SHMGET:
        raise OSError(errno.ENOSYS, "shared memory cannot be forbidden on this processor")
    architecture, number = SHMGET[os.uname().machine]
    steps = (  # code, where to go on if so, if not, with what. <linux/seccomp.h>: data are the call's number, then the architecture
        (0x20, 0, 0, 4),
        (0x15, 0, 5, architecture),
        (0x20, 0, 0, 0),
        (0x35, 2, 0, 0x40000000),  # the numbers of x32
        (0x15, 1, 0, number),
        (0x06, 0, 0, 0x7FFF0000),  # allowed
        (0x06, 0, 0, 0x00050000 | errno.EPERM),
        (0x06, 0, 0, 0x80000000),  # another architecture's calls: ended
    )
    code = b"".join(struct.pack("=HBBI", *step) for step in steps)
    program = Filter(len(steps), code)
    checked(libc.prctl(PR_SET_SECCOMP, ctypes.c_ulong(2), ctypes.byref(program), 0, 0), "seccomp")


def new_root(order: dict[str, Any]) -> None:
    """Everything that is needed, bound read-only into an empty file system of bounded size, which becomes the root."""
    checked(libc.mount(None, b"/", None, MS_REC | MS_PRIVATE, None), "mount /")
    root = Path(order["root"])
    options = f"size={order['scratch_bytes']},nr_inodes=4096,mode=0755".encode()
    checked(libc.mount(b"tmpfs", os.fsencode(root), b"tmpfs", MS_NOSUID | MS_NODEV, options), "mount tmpfs")
    for source, target in order["binds"]:
        bind(Path(source), root / target.lstrip("/"))
    for source, target in order["links"]:
        (root / source.lstrip("/")).parent.mkdir(parents=True, exist_ok=True)
        (root / source.lstrip("/")).symlink_to(target)
    (root / "tmp").mkdir(exist_ok=True)
    (root / "tmp").chmod(0o1777)
    os.chdir(root)
    checked(libc.syscall(SYS_PIVOT_ROOT, b".", b"."), "pivot_root")
    checked(libc.umount2(b".", MNT_DETACH), "umount2")
    os.chdir("/tmp")  # noqa: S108  of the new root


def bind(source: Path, target: Path) -> None:
    """`source` read-only at `target`, without set-user-id programs and device files other than the ones bound by name."""
    if source.is_dir():
        target.mkdir(parents=True, exist_ok=True)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch()
    checked(libc.mount(os.fsencode(source), os.fsencode(target), None, MS_BIND, None), f"bind {source}")
    there = os.statvfs(target).f_flag
    flags = MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID
    for seen, kept in KEPT_FLAGS.items():
        flags |= kept if there & seen else 0
    if source.is_dir():
        flags |= MS_NODEV
    checked(libc.mount(None, os.fsencode(target), None, flags, None), f"read-only {source}")


SHMGET = {"x86_64": (0xC000003E, 29), "aarch64": (0xC00000B7, 194)}
"""Machine -> AUDIT_ARCH of <linux/audit.h>, and the number of shmget there."""
SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}.get(os.uname().machine, -1)


def checked(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
