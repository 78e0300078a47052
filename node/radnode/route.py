"""Which models read a study, and why; and which do not, and why not. Pure: no database, no files.

Everything is decided per series: a series that an exclusion meets is no input; a rule matches when all of its
conditions hold for one and the same remaining series (what belongs to the study stands in every series).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from radnode.rules import EXCLUSIONS, MODELS, by_cards
from radnode.settings import Condition, Rule
from radnode_inference.model import ModelCard

PRIVATE = frozenset({"PatientName", "PatientID"})
"""Attributes whose values never stand in a reason."""
SERIES_NAMED = 5
"""How many series a reason names before it says how many more there are."""


@dataclass(frozen=True, kw_only=True)
class SeriesFacts:
    """What rules may look at of one series: DICOM keyword (or Images, Orientation) -> its values, upper case not needed."""

    series_uid: str
    attributes: Mapping[str, tuple[str, ...]]

    def shown(self, attribute: str) -> str:
        return "\\".join(self.attributes.get(attribute, ())) or "absent"

    @property
    def label(self) -> str:
        """How people know the series: modality, number and description."""
        keywords = ("Modality", "SeriesNumber", "SeriesDescription")
        modality, number, description = ("\\".join(self.attributes.get(k, ())) for k in keywords)
        return " ".join(filter(None, (modality, number, f"'{description}'" if description else ""))) or self.series_uid


@dataclass(frozen=True, kw_only=True)
class StudyFacts:
    """What rules may look at of a study. generated: every image was marked by the node's own generator.

    called_aes: the AE titles of the node that images of it were sent to, each once.
    """

    study_uid: str
    calling_ae: str
    called_aes: tuple[str, ...]
    generated: bool
    series: tuple[SeriesFacts, ...]


@dataclass(frozen=True, kw_only=True)
class Route:
    """One decision. `model` is "" for the sentence about a study that no rule sends anywhere.

    shadow: the version of the weights that is to run unseen; "" for a decision about what is reported.
    """

    study_uid: str
    model: str
    urgency: int
    chosen: bool
    reason: str
    shadow: str = ""


def decide(study: StudyFacts, cards: Sequence[ModelCard], rules: Sequence[Rule] | None = None) -> tuple[Route, ...]:
    """Every decision about a study: one for each model, and one for the study when nothing at all matched.

    rules: those of the settings; None takes the defaults. A rule without models is an exclusion.
    """
    rules = MODELS if rules is None else rules
    exclusions = (*EXCLUSIONS, *(r for r in rules if not r.models))
    sending = [*(r for r in rules if r.models), *by_cards(cards, rules)]
    why_excluded = {s.series_uid: excluded_because(s, study, exclusions) for s in study.series}
    inputs = [s for s in study.series if not why_excluded[s.series_uid]]
    if not inputs:
        reason = "Nothing in this study may be read by a model: " + listed(
            [f"{s.label}: {why_excluded[s.series_uid]}" for s in study.series]
        )
        return (
            nothing(study.study_uid, reason),
            *(not_chosen(study.study_uid, c.identity.name, reason) for c in cards),
        )
    matched = [(rule, why) for rule in sending if (why := matches(rule, inputs, study))]
    names = dict.fromkeys([c.identity.name for c in cards] + [m for rule, _ in matched for m in rule.models])
    routes = tuple(one(study, name, cards, matched, sending, inputs) for name in names)
    if matched:
        return routes
    return (nothing(study.study_uid, f"No rule matched. Looked at {seen(inputs, sending)}."), *routes)


def one(
    study: StudyFacts,
    name: str,
    cards: Sequence[ModelCard],
    matched: Sequence[tuple[Rule, str]],
    sending: Sequence[Rule],
    inputs: Sequence[SeriesFacts],
) -> Route:
    """The decision about one model."""
    asking = [(rule, why) for rule, why in matched if name in rule.models]
    card = next((c for c in cards if c.identity.name == name), None)
    if not asking:
        own = [r.name for r in sending if name in r.models]
        lacking = card.unavailable_because(generated=study.generated) if card else None
        unnamed = "no rule names this model" + (f" ({lacking})" if lacking else "")
        rules = f"rule {' or '.join(own)} did not match" if own else unnamed
        return not_chosen(study.study_uid, name, f"{rules}. Looked at {seen(inputs, sending)}.")
    rule, why = max(asking, key=lambda pair: pair[0].urgency)
    reason = f"rule {rule.name}: {why}" + (f"; {rule.note}" if rule.note else "")
    if card is None:
        return not_chosen(study.study_uid, name, f"there is no model of this name here ({reason})")
    unavailable = card.unavailable_because(generated=study.generated)
    if unavailable:
        return not_chosen(study.study_uid, name, f"{unavailable} ({reason})")
    return Route(study_uid=study.study_uid, model=name, urgency=rule.urgency, chosen=True, reason=reason)


def excluded_because(series: SeriesFacts, study: StudyFacts, exclusions: Sequence[Rule] = EXCLUSIONS) -> str:
    """Why a series is no input of any model; "" when it may be one."""
    for rule in exclusions:
        why = matches(rule, [series], study, named=False)
        if why:
            return f"excluded by {rule.name}: {why}" + (f"; {rule.note}" if rule.note else "")
    return ""


def matches(rule: Rule, series: Sequence[SeriesFacts], study: StudyFacts, *, named: bool = True) -> str:
    """Why a rule matches one of these series; "" when it does not. named: say which series."""
    for candidate in series:
        found = [holds(c, candidate, study) for c in rule.when]
        if all(found) and not any(holds(c, candidate, study) for c in rule.unless):
            return ", ".join(found) + (f" in {candidate.label}" if named else "")
    return ""


def holds(condition: Condition, series: SeriesFacts, study: StudyFacts) -> str:
    """What makes a condition true for a series, in words; "" when it is false."""
    attributes = condition.attribute.split("|")
    if condition.test == "absent":
        empty = all(not any(values_of(a, series, study)) for a in attributes)
        return f"{' and '.join(attributes)} absent" if empty else ""
    for attribute in attributes:
        for value in values_of(attribute, series, study):
            wanted = next((w for w in condition.values if meets(condition.test, value, w)), None)
            if wanted is not None:
                shown = "" if attribute in PRIVATE or condition.test == "word" else f" '{value}'"
                return f"{attribute}{shown}" + words(condition.test, wanted)
    return ""


def meets(test: str, value: str, wanted: str) -> bool:
    value, wanted = value.casefold().strip(), wanted.casefold().strip()
    if test == "equals":
        return value == wanted
    if test == "contains":
        return wanted in value
    if test == "starts-with":
        return value.startswith(wanted)
    if test == "word":  # an underscore and a caret part words, a digit does not: patient IDs are full of letters
        return re.search(rf"(?<![^\W_]){re.escape(wanted)}(?![^\W_])", value) is not None
    return at_least(value, wanted)


def at_least(value: str, wanted: str) -> bool:
    try:
        return float(value) >= float(wanted)
    except ValueError:
        return False


def words(test: str, wanted: str) -> str:
    """How a reason says which value was met."""
    return {"equals": "", "contains": f" has {wanted}", "starts-with": "", "word": f" has the word {wanted}"}.get(
        test, f" is at least {wanted}"
    )


def values_of(attribute: str, series: SeriesFacts, study: StudyFacts) -> tuple[str, ...]:
    if attribute == "CallingAE":
        return (study.calling_ae,)
    if attribute == "CalledAE":
        return study.called_aes
    return series.attributes.get(attribute, ())


def attributes_of(rules: Sequence[Rule]) -> tuple[str, ...]:
    """Every attribute that rules look at, in order of first use."""
    conditions = (c for rule in rules for c in (*rule.when, *rule.unless))
    return tuple(dict.fromkeys(a for c in conditions for a in c.attribute.split("|")))


def seen(series: Sequence[SeriesFacts], rules: Sequence[Rule]) -> str:
    """What the rules saw, in words: of the attributes that they look at what all series have alike, then what is of each."""
    shown = [a for a in attributes_of(rules) if a not in PRIVATE and a not in ("CallingAE", "CalledAE")]
    own = [a for a in shown if len({s.shown(a) for s in series}) > 1]
    alike = "; ".join(f"{a} {series[0].shown(a)}" for a in shown if a not in own)
    each = listed(["; ".join(f"{a} {s.shown(a)}" for a in own) for s in series])
    return "; in its series: ".join(part for part in (alike, each) if part)


def listed(sentences: Sequence[str]) -> str:
    """Different sentences, the first few of them."""
    different = list(dict.fromkeys(sentences))
    more = len(different) - SERIES_NAMED
    return " | ".join(different[:SERIES_NAMED]) + (f" | and {more} more" if more > 0 else "")


def nothing(study_uid: str, reason: str) -> Route:
    """The sentence about a study that goes nowhere."""
    return not_chosen(study_uid, "", reason)


def not_chosen(study_uid: str, model: str, reason: str) -> Route:
    return Route(study_uid=study_uid, model=model, urgency=0, chosen=False, reason=reason)
