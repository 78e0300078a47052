"""What MOME's probabilities become: a finding or a statement, with the contribution of each modality, by the card's task."""

from collections.abc import Mapping
from dataclasses import dataclass

from radnode_inference.findings import Code, Evaluation, Finding, Kind, Measurement, ModelIdentity, tracking_uid
from radnode_inference.measure import BILATERAL, PERCENT
from radnode_inference.models.breast_mri.mome_settings import FINDS, MomeSettings, Task

TITLES = {"dce": "DCE", "dwi": "DWI", "t2": "T2"}
BREAST = Code(value="76752008", scheme="SCT", meaning="Breast")
ONLY_FOR_KNOWN_CANCER = (
    "It holds only for a breast with a cancer that is proven; the node cannot tell whether there is one."
)


def local(value: str, meaning: str) -> Code:
    return Code(value=value, scheme="99RADNODE", meaning=meaning)


QUESTIONS = {
    Task.SUBTYPE: local("PRED-SUBTYPE", "Predicted molecular subtype"),
    Task.RESPONSE: local("PRED-RESPONSE", "Predicted response to neoadjuvant therapy"),
}


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the networks say of one examination, probabilities 0..1.

    by_class: mean over folds and views; deviation: standard deviation of the chosen class over the folds, None for one
    network. chosen: the class that is told. shares: modality -> Shapley value of the chosen class's probability.
    nothing: its probability without any image.
    """

    by_class: tuple[float, ...]
    deviation: float | None
    folds: tuple[float, ...]
    chosen: int
    shares: Mapping[str, float]
    nothing: float

    @property
    def probability(self) -> float:
        return self.by_class[self.chosen]


def finding(settings: MomeSettings, answer: Answer, study_uid: str, model: ModelIdentity) -> Finding:
    """An abnormality when a finding's probability is above the threshold, else what is said of the examination."""
    s, chosen = settings, settings.classes[answer.chosen]
    found = s.task in FINDS and answer.probability > s.threshold and chosen.concept is not None
    about = chosen.name if s.task in FINDS | {Task.RESPONSE} else "molecular subtype"
    tracking_id = f"{about}, whole examination"
    return Finding(
        tracking_id=tracking_id,
        tracking_uid=tracking_uid(study_uid, model, tracking_id),
        kind=Kind.ABNORMALITY if found else Kind.EXAMINATION,
        concept=chosen.concept if found and chosen.concept else s.site or BREAST,
        site=s.site if found else None,
        laterality=None if found else BILATERAL,
        probability=answer.probability if found else None,
        measurements=measurements(s, answer, found=found),
        evaluations=evaluations(s, answer),
    )


def measurements(s: MomeSettings, answer: Answer, *, found: bool) -> tuple[Measurement, ...]:
    """Probabilities that the finding does not carry itself, their spread, and the contributions; all in per cent."""
    chosen = s.classes[answer.chosen]
    made = []
    if s.task is Task.SUBTYPE:
        made = [
            measured(f"P-CLASS-{n}", f"Probability of {c.name}", p)
            for n, (c, p) in enumerate(zip(s.classes, answer.by_class, strict=True))
        ]
    elif not found:
        made = [measured("PROBABILITY", f"Probability of {chosen.name}", answer.probability)]
    if answer.deviation is not None:
        made.append(
            measured("PROBABILITY-SD", "Standard deviation of the probability over the networks", answer.deviation)
        )
    made += [
        measured(f"SHAPLEY-{TITLES[m]}", f"Contribution of {TITLES[m]} to the probability", v)
        for m, v in answer.shares.items()
    ]
    return tuple(made)


def measured(value: str, meaning: str, part: float) -> Measurement:
    return Measurement(concept=local(value, meaning), value=100 * part, unit=PERCENT)


def evaluations(s: MomeSettings, answer: Answer) -> tuple[Evaluation, ...]:
    """The predicted subtype or response as a code; none when its probability is not above the threshold."""
    concept = s.classes[answer.chosen].concept
    if s.task not in QUESTIONS or concept is None or answer.probability <= s.threshold:
        return ()
    return (Evaluation(concept=QUESTIONS[s.task], value=concept),)


def told(s: MomeSettings, answer: Answer) -> tuple[str, ...]:
    """The result in sentences."""
    name = s.classes[answer.chosen].name
    likeliest = "Likeliest molecular subtype: " if s.task is Task.SUBTYPE else "Probability of "
    relation = "above" if answer.probability > s.threshold else "not above"
    return (
        f"{likeliest}{name} {percent(answer.probability)}, {relation} the reporting threshold of {percent(s.threshold)}.",
        *((ONLY_FOR_KNOWN_CANCER,) if s.task in QUESTIONS else ()),
        *spread(s, answer),
        contributions(answer),
    )


def spread(s: MomeSettings, answer: Answer) -> tuple[str, ...]:
    """How many networks and views were averaged, and how far the networks are apart; nothing for one of each."""
    views = len(s.augmentations)
    seen = f"each over {views} views" if views > 1 else ""
    if answer.deviation is None:
        return (f"The mean over {views} views of the images (test-time augmentation).",) if seen else ()
    low, high = percent(min(answer.folds)), percent(max(answer.folds))
    return (
        f"The mean of {len(answer.folds)} networks{', ' if seen else ''}{seen}: from {low} to {high}, standard deviation "
        f"{100 * answer.deviation:.1f} percentage points.",
    )


def contributions(answer: Answer) -> str:
    parts = ", ".join(f"{TITLES[m]} {100 * v:+.1f}" for m, v in answer.shares.items())
    return (
        "Contributions in percentage points (Shapley values over all coalitions of the modalities, from "
        f"{percent(answer.nothing)} without any image): {parts}."
    )


def percent(part: float) -> str:
    return f"{100 * part:.1f} %"


def missing_sentences(missing: Mapping[str, str]) -> tuple[str, ...]:
    """Modality -> why it was not there, as sentences; modalities with the same reason in one."""
    reasons = dict.fromkeys(missing.values())
    return tuple(
        f"Read without {' and '.join(TITLES[m] for m in missing if missing[m] == why)}: {why}." for why in reasons
    )
