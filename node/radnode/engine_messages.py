"""What the engine and its children say to each other. Pickled, so it stands in a module that neither runs as its main."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from radnode.profiles import Omission, Plan
from radnode.results import Previous, StoredResult
from radnode.settings import Rule, TriageRule
from radnode.triage import DEFAULT_POLICY
from radnode_inference.model import ModelCard


@dataclass(frozen=True, kw_only=True)
class Spec:
    """Which model to hold. reporter: "module:callable" that makes results of findings."""

    card: ModelCard
    device: str
    weights: Path
    reporter: str


@dataclass(frozen=True, kw_only=True)
class Task:
    """One study to read. files: relative to `data`, all of them and no others. shadow: say what was found, make no results.

    plans: what each destination is to get. priors: the files of earlier studies of the patient, the newest first.
    provisional: what other systems say is still missing of the study, in words.
    """

    data: Path
    files: tuple[str, ...]
    previous: tuple[Previous, ...]
    rules: tuple[Rule, ...] | None
    policy: tuple[TriageRule, ...] = DEFAULT_POLICY
    shadow: bool = False
    plans: tuple[Plan, ...] = ()
    priors: tuple[tuple[str, ...], ...] = ()
    provisional: str = ""


@dataclass(frozen=True, kw_only=True)
class Progressed:
    part: float
    words: str


@dataclass(frozen=True, kw_only=True)
class Done:
    """The results are durable; nobody knows of them yet. read_s: how long the model itself took.

    reasons: what it took each series for.
    shadow: of a run in shadow, what was found (`radnode.shadow.summary`), by the weights with that digest.
    """

    stored: tuple[StoredResult, ...]
    read_s: float = 0.0
    shadow: tuple[dict[str, Any], ...] = ()
    weights_sha256: str = ""
    omissions: tuple[Omission, ...] = ()
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Held:
    """Results were made that contradict themselves, the findings or the images. folder: where they lie, in `data`."""

    reasons: tuple[str, ...]
    folder: str


@dataclass(frozen=True, kw_only=True)
class Declined:
    gate: str
    sentence: str
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Failed:
    """sentence: for people; details: the traceback, for the log."""

    sentence: str
    details: str = ""


Answer = Done | Held | Declined | Failed
