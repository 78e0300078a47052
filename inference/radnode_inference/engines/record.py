"""What was measured of each engine with some weights on some machine, and what follows from it. No torch here.

A faster engine is used only where a record says that it agreed with torch in single precision: on these weights, with these versions,
on this hardware. The records of weights stand in `<weights folder>/.engines/<key>/`, beside the converted network; the key
(`WeightsFile.engines_key`) also holds how the card feeds the network: a converted network takes windows of one size only.
"""

import json
import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Protocol, runtime_checkable

from radnode_inference.study import Study

REFERENCE = "torch-fp32"
FASTER = ("torch-bf16", "openvino-fp32", "openvino-bf16")
FASTER_ON_GPU = ("torch-bf16",)
LOWEST_DICE = 0.99
LARGEST_DELTA_P = 0.01
GAIN = 1.1
"""An engine less than a tenth faster is not worth another way of computing."""
FOLDER, RECORDS = ".engines", "records.json"
INSTRUCTIONS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """One engine beside torch-fp32 on the check inputs of some weights.

    windows: how many inputs. dice: the lowest over the classes that either sees in more than a few voxels. classes: how many there are,
    background aside, that both see so; both None for a network that tells something of the whole image. delta_p: the largest difference of
    a class's mean probability. seconds, reference_s: per input. converted_sha256: of the converted network, "" where there is none.
    failed: why the engine could not be tried, or "".
    """

    engine: str
    version: str
    hardware: str
    windows: int
    dice: float | None
    classes: int | None
    delta_p: float
    seconds: float
    reference_s: float
    converted_sha256: str = ""
    failed: str = ""

    @property
    def refused_because(self) -> str:
        """Why the engine is not used, "" when it may be."""
        if self.failed:
            return f"could not be tried: {self.failed}"
        if self.classes == 0:
            return "nothing to compare: the check inputs show no class but background to both"
        if self.dice is not None and self.dice < LOWEST_DICE:
            return f"Dice {self.dice:.4f} against {REFERENCE} is below {LOWEST_DICE}"
        if self.delta_p > LARGEST_DELTA_P:
            return f"probabilities differ by up to {self.delta_p:.4f} from {REFERENCE}, more than {LARGEST_DELTA_P}"
        if self.seconds * GAIN > self.reference_s:
            return f"not faster ({self.seconds:.2f} s an input, {REFERENCE} {self.reference_s:.2f} s)"
        return ""

    @property
    def told(self) -> str:
        if self.failed or self.classes == 0:
            return self.engine
        dice = "" if self.dice is None else f"Dice {self.dice:.4f} and "
        return (
            f"{self.engine}: {dice}Δp {self.delta_p:.4f} against {REFERENCE} on {self.windows} check inputs, "
            f"{self.reference_s / max(self.seconds, 1e-9):.1f} times as fast"
        )

    @property
    def verdict(self) -> str:
        """All of it in one line."""
        return f"{self.told}; {f'not used: {self.refused_because}' if self.refused_because else 'may be used'}"


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The engine to use, and in one sentence why. failed: why it could not be used to the end after all."""

    engine: str
    reason: str
    agreement: Agreement | None = None
    failed: str = ""

    @property
    def statements(self) -> tuple[str, ...]:
        """What a result must say: nothing for the reference."""
        if self.failed:
            return (gave_way(self.engine, self.failed),)
        return () if self.engine == REFERENCE else (f"Computed with {self.reason}.",)


@runtime_checkable
class Tunable(Protocol):
    """A model whose network other engines can compute. weights: the folder of the site's weights, where the records are."""

    def choose_engine(self, weights: Path) -> None:
        """Take the engine that the records allow; without records torch-fp32."""
        ...

    def check_engines(self, study: Study, weights: Path, tell: Callable[[str], None]) -> tuple[Agreement, ...]:
        """Compare every engine on windows of `study` and record it. `tell` is given each engine's name before it is tried."""
        ...


def place(weights: Path, key: str) -> Path:
    """The folder of the records of some weights as a card feeds them."""
    return weights / FOLDER / key


def read(folder: Path) -> tuple[Agreement, ...]:
    """What is recorded in a `place`; nothing when the file is missing or cannot be understood (then it is measured again)."""
    try:
        given = json.loads((folder / RECORDS).read_text(encoding="utf-8"))
        return tuple(Agreement(**entry) for entry in given)
    except (OSError, ValueError, TypeError):
        return ()


def write(folder: Path, agreements: tuple[Agreement, ...]) -> None:
    """Replace the records that were made on the same hardware; those of other machines stay."""
    here = {a.hardware for a in agreements}
    kept = [a for a in read(folder) if a.hardware not in here]
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = folder / f"{RECORDS}.new"
    unfinished.write_text(json.dumps([asdict(a) for a in (*kept, *agreements)], indent=1), encoding="utf-8")
    unfinished.replace(folder / RECORDS)


def choose(weights: Path, key: str, hardware: str) -> Choice:
    """The fastest engine that agreed on this hardware in its present version, else torch-fp32."""
    found = [a for a in read(place(weights, key)) if a.hardware == hardware] if key else []
    if not found:
        return Choice(engine=REFERENCE, reason="no faster engine was compared with it on this hardware")
    current = [a for a in found if a.version == version(a.engine)]
    good = sorted((a for a in current if not a.refused_because), key=lambda a: a.seconds)
    if good:
        return Choice(engine=good[0].engine, reason=good[0].told, agreement=good[0])
    stale = [f"{a.engine} was compared in another version ({a.version})" for a in found if a not in current]
    refused = [f"{a.engine} {a.refused_because}" for a in current]
    return Choice(engine=REFERENCE, reason="; ".join([*refused, *stale]))


def why(error: BaseException) -> str:
    """The first line of an engine's error, which may be pages of its insides."""
    return (str(error).splitlines() or [type(error).__name__])[0][:300]


def gave_way(engine: str, failed: str) -> str:
    """The sentence of a result whose faster engine failed on the way."""
    return f"The engine {engine} failed ({failed}); computed with {REFERENCE} in its place."


def version(engine: str) -> str:
    """The versions that an agreement holds for; "" where a part is not installed."""
    try:
        own = f", openvino {metadata.version('openvino')}" if engine.startswith("openvino") else ""
        return f"torch {metadata.version('torch')}{own}"
    except metadata.PackageNotFoundError:
        return ""


@cache
def cpu() -> str:
    """This machine's processor and those of its instructions that change how networks are computed."""
    name, flags = platform.processor() or platform.machine(), ""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                name = value.strip()
            elif key.strip() == "flags":
                flags = " ".join(f for f in INSTRUCTIONS if f in value.split())
                break
    except OSError:
        pass  # not Linux
    return f"{name} {flags}".strip()
