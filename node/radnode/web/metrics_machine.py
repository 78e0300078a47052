"""What /metrics tells of the machine: memory of each role, GPUs, disk."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import version

import psutil
from prometheus_client.core import GaugeMetricFamily

from radnode import tls
from radnode.settings import Settings

MB = 1_000_000
ASK_GPU = ("nvidia-smi", "--query-gpu=index,memory.used,memory.total,utilization.gpu", "--format=csv,noheader,nounits")
GPU_EVERY_S = 10.0


class Gpus:
    """What nvidia-smi says, asked every ten seconds at most; nothing where there is none."""

    def __init__(self) -> None:
        self._asked_at = float("-inf")
        self._lines: list[list[str]] = []

    def families(self) -> Iterator[GaugeMetricFamily]:
        if time.monotonic() - self._asked_at > GPU_EVERY_S:
            self._asked_at, self._lines = time.monotonic(), ask_gpus()
        used = GaugeMetricFamily("radnode_gpu_memory_used_bytes", "Memory of each GPU in use.", labels=["gpu"])
        total = GaugeMetricFamily("radnode_gpu_memory_total_bytes", "Memory of each GPU.", labels=["gpu"])
        busy = GaugeMetricFamily("radnode_gpu_utilization_ratio", "How busy each GPU is.", labels=["gpu"])
        for gpu, mib_used, mib_total, percent in self._lines:
            used.add_metric([gpu], float(mib_used) * 2**20)
            total.add_metric([gpu], float(mib_total) * 2**20)
            with suppress(ValueError):  # "[N/A]" on some cards
                busy.add_metric([gpu], float(percent) / 100)
        yield from (used, total, busy)


def ask_gpus() -> list[list[str]]:
    if shutil.which(ASK_GPU[0]) is None:
        return []
    try:
        said = subprocess.run(ASK_GPU, capture_output=True, text=True, timeout=5, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    lines = [[part.strip() for part in line.split(",")] for line in said.splitlines()]
    return [line for line in lines if len(line) == 4]


def families(settings: Settings) -> Iterator[GaugeMetricFamily]:
    """Everything but the GPUs."""
    info = GaugeMetricFamily("radnode_info", "The version that runs.", labels=["version"])
    info.add_metric([version("radnode")], 1.0)
    yield info
    memory = GaugeMetricFamily("radnode_memory_bytes", "Resident memory of each role on this machine.", labels=["role"])
    for role, size in sorted(memory_by_role().items()):
        memory.add_metric([role], size)
    yield memory
    with suppress(OSError):
        disk = shutil.disk_usage(settings.data)
        yield GaugeMetricFamily("radnode_disk_free_bytes", "Free space of the data folder.", value=disk.free)
        yield GaugeMetricFamily("radnode_disk_total_bytes", "Size of its disk.", value=disk.total)
    least = float(settings.receive.disk_free_min_mb * MB)
    yield GaugeMetricFamily("radnode_disk_watermark_bytes", "Below this, images are refused.", value=least)
    ends = GaugeMetricFamily(
        "radnode_certificate_ends_seconds", "When a certificate ends, UTC.", labels=["certificate"]
    )
    for found in tls.certificates(settings):
        ends.add_metric([found.what], found.ends_at)
    yield ends


def memory_by_role() -> dict[str, float]:
    """Of every process below the supervisor, with the children of a role counted to it; of this process alone without one."""
    me = psutil.Process(os.getpid())
    parent = me.parent()
    supervisor = parent if parent is not None and "serve" in command(parent) else None
    if supervisor is None:
        return {"web": float(me.memory_info().rss)}
    sizes: dict[str, float] = {"serve": float(supervisor.memory_info().rss)}
    for role in supervisor.children():
        name = next((word for word in command(role)[3:4]), "other")
        for process in (role, *below(role)):
            with suppress(psutil.Error):
                sizes[name] = sizes.get(name, 0.0) + process.memory_info().rss
    return sizes


def below(process: psutil.Process) -> list[psutil.Process]:
    with suppress(psutil.Error):
        return list(process.children(recursive=True))
    return []


def command(process: psutil.Process) -> list[str]:
    with suppress(psutil.Error):
        return list(process.cmdline())
    return []
