"""Studies as they arrive at a reading room: described by a few numbers, or as the node recorded them."""

import random
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from radnode import triage
from radnode.settings import PatientClass, TriageRule
from radnode.triage import OTHERS, RANK, Context, Level, Priority, verdict
from radnode_fhir.read import Abnormality
from radnode_inference.findings import Code

Share = Annotated[float, Field(ge=0, le=1)]
PerHour = Annotated[float, Field(ge=0, le=10_000)]
NOTHING = Priority(level=Level.ROUTINE, reason="", hierarchy=OTHERS)


@dataclass(kw_only=True, slots=True, eq=False)
class Arrival:
    """One study. at_s: when its last image came and it can be read. flag: where it stands from `flagged_at_s` on, when the AI has answered.

    before: where it stands until then, as its order or its patient's class says. since_s: from when on it waits, its first
    image; None: `at_s`. steps: (from when, where it stands), in order of time, where that changed more than once; `flag` is
    then the highest that it reached.
    diseased: None where nobody knows (recorded traffic). reading_s: how long a reader takes. patient_class: "" for none.
    """

    at_s: float
    reading_s: float
    flag: Priority = NOTHING
    flagged_at_s: float = 0.0
    diseased: bool | None = None
    before: Priority = NOTHING
    patient_class: str = ""
    since_s: float | None = None
    steps: Sequence[tuple[float, Priority]] = ()
    left_s: float = field(init=False)

    def __post_init__(self) -> None:
        self.left_s = self.reading_s
        self.steps = self.steps or ((self.flagged_at_s, self.flag),)

    @property
    def waits_from_s(self) -> float:
        return self.at_s if self.since_s is None else self.since_s


class Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Condition(Part):
    """A finding that a model looks for. code: as it stands in the policy (empty: any abnormality)."""

    name: str = "finding"
    code: str = ""
    prevalence: Share = 0.1
    sensitivity: Share = 0.9
    specificity: Share = 0.832
    probability: Share = 0.9  # what the model says of what it flags
    volume_ml: float | None = None


class Patients(Part):
    """Part of the studies: of a class, as an order says it, and of an ordered priority; neither changes who is diseased."""

    share: Share
    patient_class: PatientClass | Literal[""] = ""
    ordered: Level | None = None


class Description(Part):
    """A reading room in numbers. Load is arrivals per hour × minutes per study / (60 × readers).

    per_hour: the mean, or 24 values for the hours of the day; None: what gives `load`.
    classes: who the patients are; the rest has no class and no ordered priority. No model has a name here and none agrees
    with another: rules that ask for that take effect on recorded traffic only.
    """

    readers: int = Field(default=1, ge=1, le=200)
    load: float = Field(default=0.8, gt=0, lt=1)
    per_hour: PerHour | tuple[PerHour, ...] | None = None
    reading_min: float = Field(default=10.0, gt=0, le=1440)
    reading_times: Literal["exponential", "lognormal", "constant"] = "exponential"
    ai_latency_min: float = Field(default=0.0, ge=0, le=1440)
    conditions: tuple[Condition, ...] = (Condition(),)
    classes: tuple[Patients, ...] = ()

    @model_validator(mode="after")
    def no_more_than_all(self) -> "Description":
        if sum(c.share for c in self.classes) > 1 + 1e-9:
            raise ValueError("the shares of the classes of patients are together more than 1")
        return self

    def rates(self) -> tuple[float, ...]:
        """Arrivals per second for each hour of the day."""
        given = self.per_hour if self.per_hour is not None else self.load * self.readers * 60 / self.reading_min
        hours = given if isinstance(given, tuple) else (given,) * 24
        if len(hours) != 24 or min(hours) < 0 or max(hours) <= 0:
            raise ValueError("per_hour is one number, or 24 that are not negative and not all zero")
        return tuple(value / 3600 for value in hours)

    @property
    def solved(self) -> bool:
        """Whether the closed form applies: a steady room, of whose patients only the flag of one condition is known."""
        steady = len(set(self.rates())) == 1 and self.reading_times == "exponential"
        return steady and len(self.conditions) == 1 and not self.classes


UNKNOWN = Patients(share=0)
"""Patients of whom no order says anything."""


def read_description(file: Path) -> Description:
    """A described reading room from TOML. Raises ValueError with one sentence."""
    try:
        return Description.model_validate(tomllib.loads(file.read_text(encoding="utf-8")))
    except ValidationError as e:
        where = ".".join(str(part) for part in e.errors()[0]["loc"])
        raise ValueError(f"{file}: {where}: {e.errors()[0]['msg']}") from e
    except (OSError, ValueError) as e:
        raise ValueError(f"{file} cannot be read: {e}") from e


def described(room: Description, policy: Sequence[TriageRule], studies: int, seed: int) -> list[Arrival]:
    """Random traffic of a reading room, the same for the same seed whatever the policy and whoever the patients are."""
    chance, whose = random.Random(seed), random.Random(f"{seed} classes")  # noqa: S311
    rates, seen = room.rates(), {who: worth(room, policy, who) for who in (*room.classes, UNKNOWN)}
    fastest, now = max(rates), 0.0
    made: list[Arrival] = []
    while len(made) < studies:
        now += chance.expovariate(fastest)
        if chance.random() * fastest >= rates[int(now // 3600) % 24]:  # thinning: the rate follows the hour
            continue
        reading = reading_time(room, chance)
        draws = [(chance.random(), chance.random()) for _ in room.conditions]
        present = [d < c.prevalence for c, (d, _) in zip(room.conditions, draws, strict=True)]
        flagged = [
            f < (c.sensitivity if p else 1 - c.specificity)
            for c, p, (_, f) in zip(room.conditions, present, draws, strict=True)
        ]
        who = patients(room, whose)
        before, found = seen[who]
        flags = [flag for flag, raised in zip(found, flagged, strict=True) if raised]
        flag = min(flags, key=lambda p: (RANK[p.level], p.hierarchy, -(p.probability or 0.0)), default=NOTHING)
        if before is not NOTHING:
            flag = replace(triage.raised(flag, before), given=before.given)
        made.append(
            Arrival(
                at_s=now, reading_s=reading, flag=flag, flagged_at_s=now + room.ai_latency_min * 60,
                diseased=any(present), before=before, patient_class=who.patient_class,
            )
        )  # fmt: skip
    return made


def patients(room: Description, chance: random.Random) -> Patients:
    """Who the next patient is."""
    if not room.classes:
        return UNKNOWN
    weights = [c.share for c in room.classes]
    [drawn] = chance.choices((*room.classes, UNKNOWN), [*weights, max(0.0, 1 - sum(weights))])
    return drawn


def worth(room: Description, policy: Sequence[TriageRule], who: Patients) -> tuple[Priority, list[Priority]]:
    """Where the policy puts these patients before any report, and what it makes of a flag of each condition in them."""
    normal = triage.normal_place(policy, Context(patient_class=who.patient_class, ordered=who.ordered))
    before = NOTHING if normal is None else replace(normal, given=normal.level)
    return before, [flag_of(c, policy, who.patient_class) for c in room.conditions]


def flag_of(condition: Condition, policy: Sequence[TriageRule], patient_class: str = "") -> Priority:
    """What the policy makes of a study in which this condition was flagged."""
    finding = Abnormality(
        concept=Code(value=condition.code, scheme="SCT", meaning=condition.name),
        probability=condition.probability,
        volume_ml=condition.volume_ml,
        long_axis_mm=None,
        laterality="",
        site="",
        tracking_uid="",
        critical=False,
    )
    said = verdict(finding, policy, patient_class)
    return Priority(
        level=said.level,
        reason=condition.name,
        probability=condition.probability,
        abnormal=True,
        hierarchy=said.hierarchy,
        rule=said.rule,
    )


def reading_time(room: Description, chance: random.Random) -> float:
    mean = room.reading_min * 60
    if room.reading_times == "exponential":
        return chance.expovariate(1 / mean)
    return mean if room.reading_times == "constant" else mean * chance.lognormvariate(-0.125, 0.5)
