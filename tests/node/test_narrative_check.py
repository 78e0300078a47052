"""The text of a report against the findings it states: the honest one passes, each lie is caught and named."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from support.fhir_reports import reports

from radnode.narrative.check import Statement, check, read_answer
from radnode.narrative.facts import Fact, Kind, Slot, Told, told
from radnode.narrative.template import draft, number, recognised, statements
from radnode.verdicts import Ruling, Verdict
from radnode_inference.findings import Code
from radnode_inference.measure import HU, LONG_AXIS, ML, MM, PERCENT, SHORT_AXIS, VOLUME
from radnode_inference.models.breast_mri.kinetics_codes import CURVE, ENHANCING_LESION, WASHOUT
from radnode_inference.models.chest_ct.lung_codes import LAA_950, LUNG, MEAN_DENSITY

NODULE = Code(value="27925004", scheme="SCT", meaning="Nodule")
CERTAINTY = Code(value="111012", scheme="DCM", meaning="Certainty of Finding")
BREAST = Code(value="76752008", scheme="SCT", meaning="Breast")
EMBOLISM = Code(value="59282003", scheme="SCT", meaning="Pulmonary embolism")
NODULE_FACT = Fact(
    uid="1.1", kind=Kind.ABNORMALITY, concept=NODULE, side="left", site=LUNG,
    slots=(
        Slot(name=CERTAINTY, value=81.25, unit=PERCENT.value),
        Slot(name=VOLUME, value=3.0536, unit=ML.value),
        Slot(name=LONG_AXIS, value=18.0, unit=MM.value),
        Slot(name=SHORT_AXIS, value=17.1, unit=MM.value),
    ),
)  # fmt: skip
LUNG_FACT = Fact(
    uid="1.2", kind=Kind.ANATOMY, concept=LUNG, side="left",
    slots=(Slot(name=MEAN_DENSITY, value=-850.4, unit=HU.value), Slot(name=LAA_950, value=2.41, unit=PERCENT.value)),
)  # fmt: skip
LESION_FACT = Fact(
    uid="1.3", kind=Kind.ABNORMALITY, concept=ENHANCING_LESION, side="right", site=BREAST,
    slots=(Slot(name=CURVE, answer=WASHOUT), Slot(name=LONG_AXIS, value=12.3, unit=MM.value)),
)  # fmt: skip
ABSENT_FACT = Fact(uid="1.4", kind=Kind.EXAMINATION, concept=EMBOLISM, absent=True)
FACTS = (NODULE_FACT, LUNG_FACT, LESION_FACT, ABSENT_FACT)
TOLD = Told(model="ct-lung", version="1.2.0", demonstration=False, facts=FACTS, limits=("The slices are thick.",))

HONEST = {
    "F1": "A nodule is seen within the left lung with a certainty of 81 %; its volume measures 3.05 mL, its longest diameter "
    "18 mm and its short-axis diameter 17.1 mm.",
    "F2": "The left lung shows a mean density of −850 HU, LAA-950 2.4 percent.",
    "F3": "Right breast: enhancing lesion with a kinetic curve of washout; long axis 12.3 millimetres.",
    "F4": "Pulmonary embolism is not seen.",
}
CHINESE = {
    "F1": "左側肺可見一個結節，發現確信度為 81%，體積 3.05 ml，長徑 18 毫米，短徑 17.1 mm。",
    "F2": "左肺之平均衰減係數為 -850 HU，低於 -950 HU 之肺體素比例為 2.41 %。",
    "F3": "右側乳房顯影病灶：延遲期動力學曲線為流失型（第 1 型），長徑 12.3 mm。",
    "F4": "未見肺栓塞。",
}
LIES = {
    "adds a finding": ("F1", "a mass is seen as well", "{0} A mass is seen as well.", "'mass'"),
    "adds a finding of the study elsewhere": ("F1", "", "{0} There is pulmonary embolism.", "'embolism'"),
    "flips a side": ("F1", "left", "right", "another side"),
    "names both sides": ("F1", "left", "left and right", "another side"),
    "drops the side": ("F1", "the left lung", "the lung", "leaves out 'the side'"),
    "changes the place": ("F1", "lung", "breast", "'breast'"),
    "drops the place": ("F3", "Right breast", "Right side", "leaves out 'Breast'"),
    "changes a number": ("F1", "18 mm", "19 mm", "'19 mm' is not the value"),
    "changes a number by its sign": ("F2", "−850", "850", "is not the value"),
    "rounds too far": ("F2", "2.4 percent", "2 percent", "is not the value"),
    "moves the point": ("F1", "3.05", "30.5", "is not the value"),
    "swaps two numbers": ("F1", "18 mm and its short-axis diameter 17.1", "17.1 mm and its short-axis diameter 18", "is not"),
    "changes a unit": ("F1", "18 mm", "18 cm", "is not the value"),
    "converts a unit": ("F1", "18 mm", "1.8 cm", "is not the value"),
    "drops a unit": ("F1", "18 mm", "18", "is not the value"),
    "drops a number": ("F1", " and its short-axis diameter 17.1 mm", "", "leaves out 'Short Axis'"),
    "says a number twice": ("F1", "18 mm", "18 mm, long axis 18 mm", "is not the value"),
    "adds a number of its own": ("F1", "A nodule", "2 nodule", "follows no name"),
    "makes several of one": ("F1", "A nodule", "Nodules", "'nodules'"),
    "counts": ("F1", "A nodule", "Two nodule", "'two'"),
    "flips a negation": ("F1", "is seen", "is not seen", "adds or repeats 'the negation'"),
    "flips an absence": ("F4", "is not seen", "is seen", "leaves out 'the negation'"),
    "denies the absence": ("F4", "is not seen", "is not absent", "adds or repeats 'the negation'"),
    "changes an answer": ("F3", "washout", "plateau", "'plateau'"),
    "adds doubt": ("F1", "is seen", "is possibly seen", "'possibly'"),
    "adds a diagnosis": ("F1", "A nodule", "A malignant nodule", "'malignant'"),
    "adds a change": ("F1", "A nodule", "A larger nodule", "'larger'"),
    "adds a recommendation": ("F4", "seen.", "seen. Follow-up CT in 3 months is recommended.", "'follow'"),
    "adds a name": ("F4", "Pulmonary", "Mr Lin: pulmonary", "'mr'"),
    "adds markup": ("F4", "seen.", "seen. <b>", "'<'"),
    "asks instead": ("F4", "seen.", "seen?", "'?'"),
    "hides characters": ("F4", "seen.", "seen.\u200b", "nobody sees"),
    "says a range": ("F1", "18 mm", "18-19 mm", "is not the value"),
    "raises a digit": ("F1", "3.05 mL", "3.0⁵ mL", "raised or lowered number"),
    "makes a number a bound": ("F1", "diameter 18 mm", "diameter within 18 mm", "'within'"),
    "writes thousands": ("F1", "18 mm", "18,000 mm", "'18'"),
}  # fmt: skip


def said(texts: dict[str, str]) -> tuple[Statement, ...]:
    return tuple(Statement(label=label, text=text) for label, text in texts.items())


def test_an_honest_text_in_other_words_is_accepted() -> None:
    assert check(said(HONEST), FACTS, "en") == ()
    assert check(said(dict(reversed(HONEST.items()))), FACTS, "en") == (), "the order is free"


def test_an_honest_chinese_text_is_accepted_and_a_wrong_answer_in_it_is_not() -> None:
    wrong_type = check(said(CHINESE), FACTS, "zh-TW")
    assert len(wrong_type) == 1
    assert wrong_type[0].startswith("F3: ")
    right = CHINESE | {"F3": CHINESE["F3"].replace("（第 1 型）", "（第 3 型）")}
    assert check(said(right), FACTS, "zh-TW") == ()
    for old, new in (
        ("左側肺", "右側肺"),
        ("結節", "腫塊"),
        ("18 毫米", "18 公分"),
        ("可見", "未見"),
        ("一個", "兩個"),
        ("。", "，建議追蹤。"),
        ("左側肺", "左側肺內側"),
        ("一個結節", "一側結節"),
        ("18 毫米", "18 毫米內"),
    ):
        changed = right | {"F1": right["F1"].replace(old, new)}
        assert check(said(changed), FACTS, "zh-TW"), new
    for text in ("可見肺栓塞。", "是否肺栓塞。", "有無肺栓塞。"):
        assert check(said(right | {"F4": text}), FACTS, "zh-TW"), text


def test_a_negation_at_a_number_leaves_the_finding_standing() -> None:
    absent = replace(ABSENT_FACT, slots=(Slot(name=CERTAINTY, value=95.0, unit=PERCENT.value),))
    honest = (
        "No pulmonary embolism, certainty 95 %.",
        "Pulmonary embolism is not seen, certainty 95 %.",
        "Certainty of finding 95 %: pulmonary embolism absent.",
    )
    for text in honest:
        assert check(said({"F1": text}), (absent,), "en") == (), text
    assert check(said({"F1": "未見肺栓塞，發現確信度 95 %。"}), (absent,), "zh-TW") == ()
    for text in (
        "Pulmonary embolism is seen with certainty not 95 %.",
        "Pulmonary embolism, not certainty 95 %.",
        "Pulmonary embolism, certainty 95 % none.",
    ):
        assert any("negation" in p or "at a number" in p for p in check(said({"F1": text}), (absent,), "en")), text
    assert check(said({"F1": "可見肺栓塞，發現確信度未 95 %。"}), (absent,), "zh-TW")


@pytest.mark.parametrize("lie", LIES)
def test_a_text_that_lies_is_caught_and_the_lie_named(lie: str) -> None:
    label, old, new, named = LIES[lie]
    text = new.format(HONEST[label]) if "{0}" in new else HONEST[label].replace(old, new)
    assert text != HONEST[label]
    problems = check(said(HONEST | {label: text}), FACTS, "en")
    assert problems, lie
    assert all(p.startswith(f"{label}: ") for p in problems)
    assert named in "; ".join(problems)


def test_every_finding_is_stated_exactly_once() -> None:
    fewer = {k: v for k, v in HONEST.items() if k != "F2"}
    assert check(said(fewer), FACTS, "en") == ("it leaves out F2 (Lung)",)
    assert "it states 'F9', which is no finding" in check(said(HONEST | {"F9": "A nodule."}), FACTS, "en")
    twice = (*said(HONEST), Statement(label="F4", text=HONEST["F4"]))
    assert check(twice, FACTS, "en") == ("it states F4 twice",)
    swapped = HONEST | {"F1": HONEST["F2"], "F2": HONEST["F1"]}
    assert check(said(swapped), FACTS, "en")
    assert check((), FACTS, "en")


@pytest.mark.parametrize(
    "answer",
    [
        "Certainly! Here is the report.",
        "[]",
        '{"statements": {}}',
        '{"statements": [], "impression": "Cancer."}',
        '{"statements": [{"finding": "F1"}]}',
        '{"statements": [{"finding": "F1", "text": "x", "note": "y"}]}',
        '{"statements": [{"finding": 1, "text": "x"}]}',
        "[" * 100_000,
        "",
    ],
)
def test_what_is_no_list_of_statements_is_refused(answer: str) -> None:
    with pytest.raises(ValueError, match=r"it is no|statement"):
        read_answer(answer)


def test_statements_are_read() -> None:
    answer = json.dumps({"statements": [{"finding": k, "text": v} for k, v in HONEST.items()]})
    assert read_answer(answer) == said(HONEST)


def test_the_templates_pass_the_same_check_in_both_languages(tmp_path: Path) -> None:
    made = [told(b) for b in reports(tmp_path, 60)]
    assert {f.kind for t in made for f in t.facts} == set(Kind)
    for one in (*made, TOLD):
        for language in ("en", "zh-TW"):
            assert check(statements(one, language), one.facts, language) == ()


@pytest.mark.parametrize("model", ["ct-voco", "ct-voco-abdomen"])
def test_a_network_whose_card_says_what_it_reads_is_not_said_to_read_the_chest(model: str) -> None:
    said = replace(TOLD, model=model)
    assert draft(said, statements(said, "en"), {}, "en").startswith(
        f"CT examination (read by the AI model {model} 1.2.0)"
    )
    assert draft(said, statements(said, "zh-TW"), {}, "zh-TW").startswith(
        f"電腦斷層檢查（由 AI 模型 {model} 1.2.0 判讀）"
    )


def test_a_draft_tells_everything_and_follows_what_people_ruled() -> None:
    text = draft(TOLD, statements(TOLD, "en"), {}, "en")
    assert text.splitlines() == [
        "CT of the chest: lungs and airways (read by the AI model ct-lung 1.2.0)",
        "",
        "Findings",
        "- Nodule in the left lung: certainty of finding 81.2 %, volume 3.05 mL, long axis 18 mm, short axis 17.1 mm.",
        "- Enhancing lesion in the right breast: kinetic curve, delayed phase: washout delayed phase: type 3 curve, "
        "long axis 12.3 mm.",
        "",
        "Measurements",
        "- Left lung: mean attenuation coefficient -850 HU, lung voxels below -950 HU 2.41 %.",
        "- No pulmonary embolism is reported.",
        "",
        "Notes",
        "- The slices are thick.",
    ]
    ruled = {"1.1": verdict("1.1", Ruling.REJECTED), "1.3": verdict("1.3", Ruling.EDITED, "it is a vessel")}
    text = draft(TOLD, statements(TOLD, "en"), ruled, "en")
    assert "- Not confirmed by the reader: the AI reported: Nodule in the left lung" in text
    assert "- Corrected by the reader: it is a vessel (The AI reported: Enhancing lesion" in text
    ruled["1.3"] = verdict("1.3", Ruling.REJECTED)
    assert "- No finding of the AI is confirmed." in draft(TOLD, statements(TOLD, "en"), ruled, "en")
    assert "- AI 之發現均未獲確認。" in draft(TOLD, statements(TOLD, "zh-TW"), ruled, "zh-TW")


def verdict(uid: str, ruling: Ruling, comment: str = "") -> Verdict:
    return Verdict(
        study_uid="1", model="ct-lung", tracking_uid=uid, said="", ruling=ruling, comment=comment, who="Dr Lin", at=1.0
    )


def test_only_lines_that_hold_nothing_but_a_finding_are_recognised_again() -> None:
    text = draft(TOLD, statements(TOLD, "en"), {}, "en").replace("- Left lung:", "- Mr Doe's left lung:")
    assert [f.uid for f, _ in recognised(TOLD, text, "en")] == ["1.1", "1.3", "1.4"]


def test_numbers_keep_three_digits_and_no_exponent() -> None:
    values = [2412.34, 99.96, 18.0, 3.0536, 0.00112, 0.0000123, -850.4, 0.0]
    assert [number(v) for v in values] == ["2412", "100", "18", "3.05", "0.00112", "0.0000123", "-850", "0"]
