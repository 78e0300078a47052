"""The sentences that the node itself writes, in the languages of its destinations.

What a model says, and the names of findings, stay in English: their codes carry the meaning into any language.
"""

from dataclasses import dataclass
from typing import Literal

from radnode_inference.findings import Code

Language = Literal["en", "zh-TW"]
Outcome = Literal["declined", "failed", "partial"]


@dataclass(frozen=True, kw_only=True)
class Words:
    """language: for TID 1204. The rest by what it says."""

    language: Code
    not_verified: str
    demonstration: str
    nothing_found: str
    partial: str
    intended_use: str
    report: str
    findings: str
    examination: str
    notes: str
    images: str
    previous: str
    patient: str
    born: str
    study: str
    accession: str
    written: str
    draft: str
    final: str
    confirmed_by: str
    outcomes: dict[Outcome, str]


ENGLISH = Words(
    language=Code(value="en-US", scheme="RFC5646", meaning="English (United States)"),
    not_verified="AI, not verified by a radiologist",
    demonstration="DEMONSTRATION WEIGHTS TRAINED ON PHANTOMS: NOT FOR CLINICAL USE",
    nothing_found="The model looked at these images and reported no finding.",
    partial="PARTIAL",
    intended_use="Intended use",
    report="AI report",
    findings="Findings",
    examination="Whole examination",
    notes="Notes",
    images="Key images",
    previous="Earlier study",
    patient="Patient",
    born="born",
    study="Study",
    accession="Accession number",
    written="Written",
    draft="Draft text by AI, not confirmed by anybody",
    final="Report",
    confirmed_by="Confirmed by",
    outcomes={
        "declined": "The AI did not read this study: it declined.",
        "failed": "The AI did not read this study: it failed.",
        "partial": "The AI read only a part of this study.",
    },
)
TAIWAN = Words(
    language=Code(value="zh-TW", scheme="RFC5646", meaning="Chinese (Taiwan)"),
    not_verified="AI 結果，未經放射科醫師確認",
    demonstration="以假體訓練之展示用權重：不得用於臨床",
    nothing_found="模型已檢視這些影像，未報告任何發現。",
    partial="部分結果",
    intended_use="預期用途",
    report="AI 報告",
    findings="發現",
    examination="整體檢查",
    notes="說明",
    images="關鍵影像",
    previous="先前檢查",
    patient="病人",
    born="出生日期",
    study="檢查",
    accession="檢查單號",
    written="產生時間",
    draft="AI 草稿文字，尚無人確認",
    final="報告",
    confirmed_by="確認者",
    outcomes={
        "declined": "AI 未判讀此檢查：不符合模型的輸入條件。",
        "failed": "AI 未判讀此檢查：執行失敗。",
        "partial": "AI 只判讀了此檢查的一部分。",
    },
)


def words(language: Language) -> Words:
    return {"en": ENGLISH, "zh-TW": TAIWAN}[language]
