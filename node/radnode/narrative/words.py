"""The words of report texts in English and Traditional Chinese: names of what models find, units, and words that say nothing.

A statement may hold the words of its own finding and those in NEUTRAL; no other word has a place in it.
"""

from collections.abc import Mapping
from typing import Literal

from radnode_fhir import codes
from radnode_inference.findings import Code

Language = Literal["en", "zh-TW"]
ENGLISH, CHINESE = "en", "zh-TW"

NAMES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "39607008": ("肺", ("lung", "pulmonary")),
    "110726009": ("氣管與支氣管", ("trachea and bronchus", "airways")),
    "87433001": ("肺氣腫", ("pulmonary emphysema", "emphysema")),
    "118538004": ("質量", ("mass", "tissue mass")),
    "112181": ("平均衰減係數", ("mean attenuation coefficient", "mean attenuation", "mean density")),
    "LAA-950": ("低於 -950 HU 之肺體素比例", ("lung voxels below -950 HU", "LAA-950")),
    "LAA-910": ("低於 -910 HU 之肺體素比例", ("lung voxels below -910 HU", "LAA-910")),
    "PERC15": ("肺密度第 15 百分位數", ("15th percentile of lung density", "Perc15")),
    "76752008": ("乳房", ("breast",)),
    "C113842": ("顯影病灶", ("enhancing lesion",)),
    "113041": ("表觀擴散係數", ("apparent diffusion coefficient", "ADC")),
    "CURVE-TYPE": ("延遲期動力學曲線", ("kinetic curve, delayed phase", "kinetic curve", "delayed phase curve")),
    "130597": ("持續上升型（第 1 型）", ("persistent delayed phase: type 1 curve", "persistent", "type 1 curve")),
    "130598": ("平台型（第 2 型）", ("plateau delayed phase: type 2 curve", "plateau", "type 2 curve")),
    "130599": ("流失型（第 3 型）", ("washout delayed phase: type 3 curve", "washout", "type 3 curve")),
    "PE-PEAK": ("最大顯影百分比", ("peak percent enhancement", "peak enhancement")),
    "PE-EARLY": ("早期顯影百分比", ("early percent enhancement", "early enhancement")),
    "SER": ("訊號增強比", ("signal enhancement ratio", "SER")),
    "ENHANCING-VOLUME": ("顯影體積", ("enhancing volume",)),
    "BPE-MEDIAN": (
        "背景實質顯影百分比中位數",
        ("background parenchymal enhancement, median percent", "median background parenchymal enhancement"),
    ),
    "VDT": ("體積倍增時間", ("volume doubling time", "doubling time")),
    "118565006": ("體積", ("volume",)),
    "103339001": ("長徑", ("long axis", "longest diameter", "long diameter", "long axis diameter")),
    "103340004": ("短徑", ("short axis", "shortest diameter", "short diameter", "short axis diameter")),
    codes.CERTAINTY_OF_FINDING.value: ("發現確信度", ("certainty of finding", "certainty")),
    codes.PROBABILITY_OF_CANCER.value: ("惡性機率", ("probability of cancer",)),
    "27925004": ("結節", ("nodule",)),
    "4147007": ("腫塊", ("mass",)),
    "52988006": ("病灶", ("lesion",)),
    "86049000": ("原發性惡性腫瘤", ("malignant neoplasm, primary", "primary malignant neoplasm")),
    "363346000": ("惡性腫瘤", ("malignant neoplastic disease", "malignant neoplasm")),
    "59282003": ("肺栓塞", ("pulmonary embolism",)),
    "36118008": ("氣胸", ("pneumothorax",)),
    "1386000": ("顱內出血", ("intracranial hemorrhage", "intracranial haemorrhage")),
    "50960005": ("出血", ("hemorrhage", "haemorrhage")),
    "60046008": ("肋膜積液", ("pleural effusion",)),
    codes.FINDING.value: ("異常發現", ("abnormal finding", "abnormality", "finding")),
}
"""Code -> its name in Chinese, and its names in English; what is not here keeps the meaning that its model gave it."""

UNITS: Mapping[str, tuple[str, ...]] = {
    "mm": ("mm", "millimetres", "millimeters", "毫米", "公釐"),
    "cm": ("cm", "centimetres", "centimeters", "公分"),
    "ml": ("ml", "millilitres", "milliliters", "cm3", "毫升"),
    "l": ("l", "litres", "liters", "公升"),
    "mm3": ("mm3", "立方毫米"),
    "%": ("%", "percent", "per cent"),
    "[hnsf'u]": ("hu", "hounsfield units"),
    "g": ("g", "grams", "公克", "克"),
    "kg": ("kg",),
    "d": ("d", "days", "天", "日"),
    "mm2/s": ("mm2/s",),
    "/ml": ("/ml",),
}
"""UCUM code in small letters -> how people write it, after NFKC (mm² is mm2). A value keeps its unit."""

SIDES: Mapping[str, tuple[str, ...]] = {
    "left": ("left", "left sided", "左", "左側"),
    "right": ("right", "right sided", "右", "右側"),
    "bilateral": ("bilateral", "both", "雙側", "兩側", "雙"),
}
PLURALS: Mapping[str, tuple[str, ...]] = {"39607008": ("lungs",), "76752008": ("breasts",)}
"""For both sides."""

ABOUT_PLACES = {"within": 1, "內": -1}
"""Words that say where a finding is, and a bound beside a number: the part of the text that must be a place, after or before."""
LEADING = frozenset({"no", "not", "without", "無", "未", "沒有"})
"""Negations of what comes after them, as they stand before a name or a number."""
NEGATIONS = ("no", "not", "without", "none", "absent", "無", "未", "未見", "沒有", "未報告", "不存在")
"""Exactly one where a finding is absent, none elsewhere."""

ENGLISH_NEUTRAL = """a an the of in at with and is are it its this there which that has having located lies lying
seen noted identified reported detected described found measured measures measuring measurement shows showing demonstrates
gives given by value equals amounts ai model image images examination study report side"""
CHINESE_NEUTRAL = """於 位於 在 的 之 為 及 與 和 並 且 可見 見 發現 顯示 偵測到 測得 測量 測量值 數值 報告 影像 檢查 模型
一 個 一個 處 一處 其 該 此"""
NEUTRAL: Mapping[str, tuple[str, ...]] = {
    ENGLISH: tuple(ENGLISH_NEUTRAL.split()),
    CHINESE: tuple(CHINESE_NEUTRAL.split()),
}
"""Words that add nothing to a finding. Never one of degree, doubt, time, number, comparison or advice,
and none that with a negation asks instead of stating (是否, 有無)."""


def names(code: Code, language: str) -> tuple[str, ...]:
    """Every way in which a concept may be named, the usual one first. English names stand in Chinese texts as well."""
    chinese, english = NAMES.get(code.value, ("", ()))
    own = (code.meaning, *english)
    return (chinese, *own) if chinese and language == CHINESE else own


def name(code: Code, language: str) -> str:
    """The usual name within a sentence."""
    chinese, english = NAMES.get(code.value, ("", (codes.in_text(code),)))
    return chinese if chinese and language == CHINESE else english[0]


def unit(ucum: str) -> str:
    """As a text shows it; "" for a number without a unit."""
    shown = codes.unit(Code(value=ucum, scheme="UCUM", meaning=ucum))
    return "" if shown == "1" else shown
