"""The drafted text of a report: a template for each model, in English and Traditional Chinese, filled from its facts. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from radnode.narrative.check import Statement, labelled, wrong
from radnode.narrative.facts import Fact, Kind, Slot, Told
from radnode.narrative.words import CHINESE, ENGLISH, name, unit
from radnode.verdicts import Ruling, Verdict
from radnode_fhir import codes
from radnode_inference.weights_tasks import network_of


@dataclass(frozen=True, kw_only=True)
class Template:
    """title: what was examined, in each language. first: codes of the measurements that are told first, in order."""

    title: Mapping[str, str]
    first: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Phrases:
    """The sentences around the findings. Places are filled by `str.format`."""

    by: str
    findings: str
    measurements: str
    limits: str
    rejected: str
    corrected: str
    added: str
    none_left: str
    demonstration: str
    compared: str


SURE = (codes.CERTAINTY_OF_FINDING.value, codes.PROBABILITY_OF_CANCER.value)
LESION = (*SURE, "103339001", "103340004", "118565006", "CURVE-TYPE", "PE-EARLY", "PE-PEAK", "SER", "113041")
LUNGS = (*SURE, "118565006", "118538004", "112181", "LAA-950", "LAA-910", "PERC15")
TEMPLATES: Mapping[str, Template] = {
    "ct-lung": Template(
        title={ENGLISH: "CT of the chest: lungs and airways", CHINESE: "胸部電腦斷層：肺與氣道"}, first=LUNGS
    ),
    "ct-voco": Template(
        title={ENGLISH: "CT examination", CHINESE: "電腦斷層檢查"}, first=LESION
    ),  # of what its card says
    "mr-breast-kinetics": Template(
        title={ENGLISH: "MRI of the breasts: enhancement after contrast", CHINESE: "乳房磁振造影：對比劑顯影動力學"},
        first=LESION,
    ),
    "mr-breast-mome": Template(
        title={ENGLISH: "MRI of the breasts: probability of malignancy", CHINESE: "乳房磁振造影：惡性機率"}
    ),
    "mr-breast-mome-subtype": Template(
        title={ENGLISH: "MRI of the breasts: molecular subtype", CHINESE: "乳房磁振造影：分子亞型"}
    ),
    "mr-breast-mome-response": Template(
        title={ENGLISH: "MRI of the breasts: response to therapy", CHINESE: "乳房磁振造影：治療反應"}
    ),
}
OTHER = Template(title={ENGLISH: "Imaging examination", CHINESE: "影像檢查"}, first=LESION)
"""Of a model that the site brought itself."""
PHRASES: Mapping[str, Phrases] = {
    ENGLISH: Phrases(
        by="{title} (read by the AI model {model})",
        findings="Findings",
        measurements="Measurements",
        limits="Notes",
        rejected="Not confirmed by the reader: the AI reported: {said}",
        corrected="Corrected by the reader: {comment} (The AI reported: {said})",
        added="Added by the reader: {comment}",
        none_left="No finding of the AI is confirmed.",
        demonstration="Made with demonstration weights trained on phantoms: not for clinical use.",
        compared="Compared with an earlier study: {said}",
    ),
    CHINESE: Phrases(
        by="{title}（由 AI 模型 {model} 判讀）",
        findings="發現",
        measurements="量測",
        limits="備註",
        rejected="判讀者未確認：AI 報告：{said}",
        corrected="判讀者更正：{comment}（AI 報告：{said}）",
        added="判讀者補充：{comment}",
        none_left="AI 之發現均未獲確認。",
        demonstration="以假體訓練之展示用權重產生：不得用於臨床。",
        compared="與先前檢查比較：{said}",
    ),
}
WHERE: Mapping[str, str] = {
    "left": " in the left {0}", "right": " in the right {0}", "bilateral": ", {0}, bilateral", "": " in the {0}",
}  # fmt: skip
SIDES_CHINESE: Mapping[str, str] = {"left": "左側", "right": "右側", "bilateral": "雙側", "": ""}


def template_of(told: Told) -> Template:
    """Of the model, or of the network whose task it is."""
    return TEMPLATES.get(network_of(told.model), OTHER)


def statements(told: Told, language: str) -> tuple[Statement, ...]:
    """The template's sentence for each fact, under its label."""
    first = template_of(told).first
    return tuple(
        Statement(label=label, text=sentence(fact, language, first)) for label, fact in labelled(told.facts).items()
    )


def draft(told: Told, said: Sequence[Statement], rulings: Mapping[str, Verdict], language: str) -> str:
    """The whole text. said: one statement for each fact, checked before. rulings: by tracking UID, those that hold.

    A rejected finding is named as rejected, a corrected or added one in the words of the person.
    """
    words = PHRASES[language]
    title = template_of(told).title[language]
    lines = [words.by.format(title=title, model=f"{told.model} {told.version}".strip())]
    lines += [words.demonstration] if told.demonstration else []
    texts = {s.label: s.text for s in said}
    facts = [(fact, texts[label]) for label, fact in labelled(told.facts).items()]
    found = [f for f in facts if f[0].kind in (Kind.ABNORMALITY, Kind.NOTHING)]
    ruled = [line for fact, text in found for line in as_ruled(fact, text, rulings.get(fact.uid), words)]
    gone = found and all(f.uid in rulings and rulings[f.uid].ruling is Ruling.REJECTED for f, _ in found)
    added = [words.added.format(comment=v.comment) for v in rulings.values() if v.ruling is Ruling.ADDED]
    lines += section(words.findings, [*([words.none_left] if gone else []), *ruled, *added])
    others = [line for fact, text in facts if (fact, text) not in found for line in as_ruled(fact, text, None, words)]
    lines += section(words.measurements, others)
    return "\n".join([*lines, *section(words.limits, told.limits)])


def section(heading: str, sentences: Sequence[str]) -> list[str]:
    return ["", heading, *(f"- {s}" for s in sentences)] if sentences else []


def as_ruled(fact: Fact, text: str, ruling: Verdict | None, words: Phrases) -> list[str]:
    """The lines of one finding after what a person said of it."""
    if ruling is not None and ruling.ruling is Ruling.REJECTED:
        return [words.rejected.format(said=text)]
    if ruling is not None and ruling.ruling is Ruling.EDITED:
        return [words.corrected.format(comment=ruling.comment, said=text)]
    return [text, *([words.compared.format(said=fact.compared)] if fact.compared else [])]


def sentence(fact: Fact, language: str, first: Sequence[str] = ()) -> str:
    """One finding in one sentence."""
    slots = sorted(fact.slots, key=lambda s: first.index(s.name.value) if s.name.value in first else len(first))
    if language == CHINESE:
        return chinese(fact, [value(s, language) for s in slots])
    return english(fact, [value(s, language) for s in slots])


def english(fact: Fact, values: Sequence[str]) -> str:
    called = name(fact.concept, ENGLISH)
    place = WHERE[own_side(fact)].format(name(fact.site, ENGLISH)) if fact.site else ""
    side = "" if fact.site else own_side(fact)
    said = f"no {called}{place} is reported" if fact.absent else f"{f'{side} ' if side else ''}{called}{place}"
    said = f"{said}: {', '.join(values)}." if values else f"{said}."
    return said[:1].upper() + said[1:]


def chinese(fact: Fact, values: Sequence[str]) -> str:
    place = joined([SIDES_CHINESE[own_side(fact)], *(name(c, CHINESE) for c in (fact.site, fact.concept) if c)])
    said = f"未報告{place}" if fact.absent else place
    return f"{said}：{'，'.join(values)}。" if values else f"{said}。"


def joined(parts: Sequence[str]) -> str:
    """Chinese names in a row; a blank on each side of an English one."""
    latin = any(c.isascii() and c.isalpha() for p in parts for c in p)
    return (" " if latin else "").join(p for p in parts if p)


def own_side(fact: Fact) -> str:
    """The side, unless a name says it already."""
    inside = " ".join(c.meaning.lower() for c in (fact.concept, fact.site) if c)
    return "" if fact.side and fact.side in inside else fact.side


def value(slot: Slot, language: str) -> str:
    """ "long axis 18 mm", "kinetic curve, delayed phase: washout"."""
    called = name(slot.name, language)
    if slot.answer is not None:
        return f"{called}{'：' if language == CHINESE else ': '}{name(slot.answer, language)}"
    shown = unit(slot.unit)
    return f"{called} {number(slot.value or 0.0)}{f' {shown}' if shown else ''}"


def number(value: float) -> str:
    """Three digits, all before the point; no exponent."""
    size = abs(value)
    if size >= 100:
        return f"{value:.0f}"
    decimals = f"{value:.1f}" if size >= 10 else f"{value:.2f}" if size >= 1 else format(Decimal(f"{value:.3g}"), "f")
    return decimals.rstrip("0").rstrip(".") if "." in decimals else decimals


def recognised(told: Told, text: str, language: str) -> tuple[tuple[Fact, str], ...]:
    """The facts of a text that a person confirmed, each with the line that states it and nothing else.

    Only such lines can be shown to a language model as examples: they hold no word that is not of a finding.
    """
    lines = [line.strip().removeprefix("- ").strip() for line in text.splitlines()]
    found = ((f, next((li for li in lines if li and not wrong(li, f, language)), "")) for f in told.facts)
    return tuple((fact, line) for fact, line in found if line)
