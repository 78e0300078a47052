"""What each destination gets of a result, and what not and why: its settings, and what it answered when it was asked. Pure."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from radnode.destinations import LABELMAP, NOTES, REJECTION, sop_class_name, takes
from radnode.settings import Destination
from radnode_inference.findings import Findings

SOP_CLASSES: Mapping[str, str] = {
    "sr": "1.2.840.10008.5.1.4.1.1.88.34",
    "seg": "1.2.840.10008.5.1.4.1.1.66.4",
    "key-image": "1.2.840.10008.5.1.4.1.1.7",
    "parametric-map": "1.2.840.10008.5.1.4.1.1.30",
    "pdf": "1.2.840.10008.5.1.4.1.1.104.1",
    "kos": "1.2.840.10008.5.1.4.1.1.88.59",
    "rtstruct": "1.2.840.10008.5.1.4.1.1.481.3",
    "status": "1.2.840.10008.5.1.4.1.1.88.11",
    REJECTION: "1.2.840.10008.5.1.4.1.1.88.59",
}
"""Which storage SOP class a kind of result needs at a PACS (PS3.4 table B.5-1)."""
NO_MAPS = "its images hold several phases each, and viewers would lay a map over the wrong ones"
ASKED = tuple(dict.fromkeys((*SOP_CLASSES.values(), LABELMAP)))


@dataclass(frozen=True, kw_only=True)
class Capability:
    """What a destination answered at `asked_at` (UTC epoch seconds): SOP class -> transfer syntaxes.

    tried_at: when it was asked last. error: why it could not be asked the last time; what it takes is then as it was before, or unknown (None).
    """

    destination: str
    asked_at: float
    taken: Mapping[str, tuple[str, ...]] | None
    tried_at: float = 0.0
    error: str = ""

    def refuses(self, sop_class_uid: str) -> bool:
        """Whether it is known not to take this SOP class; what was never asked is tried."""
        return self.taken is not None and sop_class_uid in ASKED and not self.taken.get(sop_class_uid)


@dataclass(frozen=True, kw_only=True)
class Omission:
    """A kind of result that a destination does not get, and why."""

    destination: str
    kind: str
    reason: str


Language = Literal["en", "zh-TW"]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What one destination is to get. labelled: segmentations as label maps. max_frames: of one object, 0 for no limit."""

    destination: str
    kinds: frozenset[str]
    labelled: bool = False
    max_frames: int = 0
    language: Language = "en"
    omissions: tuple[Omission, ...] = ()


def plan(address: Destination, answer: Capability | None) -> Plan:
    """The settings of a destination, without what it is known not to take."""
    wanted = takes(address)
    refused = {k for k in wanted if answer and k in SOP_CLASSES and answer.refuses(SOP_CLASSES[k])}
    said = [Omission(destination=address.name, kind=k, reason=why(SOP_CLASSES[k], answer)) for k in sorted(refused)]
    labelled = address.segmentation == "labelmap"
    if labelled and answer and answer.refuses(LABELMAP):
        labelled = False
        if "seg" not in refused:
            reason = f"it gets binary ones: {why(LABELMAP, answer)}"
            said.append(Omission(destination=address.name, kind="labelmap", reason=reason))
    if labelled and "seg" in refused:  # the label map's own SOP class is taken
        refused.discard("seg")
        said = [o for o in said if o.kind != "seg"]
    return Plan(
        destination=address.name,
        kinds=wanted - refused,
        labelled=labelled,
        max_frames=address.max_frames,
        language=address.language,
        omissions=tuple(said),
    )


def why(sop_class_uid: str, answer: Capability | None) -> str:
    """ "it does not take Segmentation Storage (asked 2026-11-22 09:00)"."""
    asked = f" (asked {datetime.fromtimestamp(answer.asked_at, UTC):%Y-%m-%d %H:%M} UTC)" if answer else ""
    return f"it does not take {sop_class_name(sop_class_uid)}{asked}"


def plans(destinations: Sequence[Destination], answers: Mapping[str, Capability]) -> tuple[Plan, ...]:
    return tuple(plan(address, answers.get(address.name)) for address in destinations)


def omissions(made_for: Sequence[Plan], findings: Findings, made: Collection[str]) -> tuple[Omission, ...]:
    """What is left out of this result: nothing is said of a kind that it has not. made: the kinds of its objects."""
    located = any(f.mask is not None for f in findings.items)
    absent = {"parametric-map"} if not findings.maps else set()
    if not located:
        absent |= {"seg", "labelmap", "key-image", "kos", "rtstruct"}
    if not findings.partial_because:
        absent.add("status")
    said = tuple(o for p in made_for for o in p.omissions if o.kind not in absent | NOTES)
    if not findings.maps or "parametric-map" in made:
        return said
    without = (p.destination for p in made_for if "parametric-map" in p.kinds)
    return said + tuple(Omission(destination=d, kind="parametric-map", reason=NO_MAPS) for d in without)
