"""The codes that the writers add themselves (those of findings come from the models). PS3.16; checked against pydicom's tables in tests."""

import re
from collections.abc import Sequence

from pydicom.dataset import Dataset

from radnode_inference.findings import Code, Finding, Kind, ModelIdentity


def dcm(value: str, meaning: str) -> Code:
    return Code(value=value, scheme="DCM", meaning=meaning)


def sct(value: str, meaning: str) -> Code:
    return Code(value=value, scheme="SCT", meaning=meaning)


BACKGROUND = dcm("125040", "Background")
CALCULATION = dcm("112187", "Unspecified method of calculation")
QUANTITY = sct("246205007", "Quantity")
SEGMENTATION = dcm("113076", "Segmentation")
SOURCE_IMAGE = dcm("121322", "Source image for image processing operation")
PROCESSING_EQUIPMENT = dcm("109102", "Processing Equipment")

# PS3.16 CID 7162 Surface Processing Algorithm Families / algorithm family of TID 4019
ARTIFICIAL_INTELLIGENCE = dcm("123110", "Artificial Intelligence")
MORPHOLOGICAL_OPERATIONS = dcm("123104", "Morphological Operations")

# PS3.16 CID 7150 Segmentation Property Category
ANATOMICAL_STRUCTURE = sct("91723000", "Anatomical Structure")
ABNORMAL_STRUCTURE = sct("49755003", "Morphologically Abnormal Structure")

# PS3.16 TID 1500
REPORT = dcm("126000", "Imaging Measurement Report")
IMAGING_MEASUREMENTS = dcm("126010", "Imaging Measurements")
QUALITATIVE_EVALUATIONS = Code(value="C0034375", scheme="UMLS", meaning="Qualitative Evaluations")
PROCEDURE_REPORTED = dcm("121058", "Procedure reported")
COMMENT = dcm("121106", "Comment")
IMAGE_LIBRARY = dcm("111028", "Image Library")
IMAGE_LIBRARY_GROUP = dcm("126200", "Image Library Group")
MODALITY = dcm("121139", "Modality")
LATERALITY = sct("272741003", "Laterality")
FINDING = dcm("121071", "Finding")
KEY_OBJECT_DESCRIPTION = dcm("113012", "Key Object Description")
DEVICE = dcm("121007", "Device")

# PS3.16 CID 7035 Actionable Finding Classification; no table of DICOM names the question that it answers
ACTIONABLE = Code(value="actionable-finding", scheme="99RADNODE", meaning="Actionable finding category")
ACR_CATEGORIES = {
    n: Code(value=f"RID{49479 + n}", scheme="RADLEX", meaning=f"ACR Category {n} Actionable Finding") for n in (1, 2, 3)
}

# PS3.16 CID 7010 Key Object Selection Document Titles
OF_INTEREST = dcm("113000", "Of Interest")
REJECTED_FOR_QUALITY = dcm("113001", "Rejected for Quality Reasons")
REJECTED_FOR_SAFETY = dcm("113037", "Rejected for Patient Safety Reasons")

# PS3.16 CID 7000 Diagnostic Imaging Report Document Titles, CID 7001 headings, CID 7002 elements
IMAGING_REPORT = Code(value="18748-4", scheme="LN", meaning="Diagnostic Imaging Report")
CONCLUSIONS = dcm("121076", "Conclusions")
CONCLUSION = dcm("121077", "Conclusion")

# PS3.16 CID 100 Quantitative Diagnostic Imaging Procedures, by modality
PROCEDURES = {
    "CT": Code(value="25045-6", scheme="LN", meaning="CT unspecified body region"),
    "MR": Code(value="25056-3", scheme="LN", meaning="MRI unspecified body region"),
}
OTHER_PROCEDURE = sct("363679005", "Imaging procedure")
MODALITIES = {"CT": dcm("CT", "Computed Tomography"), "MR": dcm("MR", "Magnetic Resonance")}

PERCENT = Code(value="%", scheme="UCUM", meaning="Percent")
PROBABILITY_OF_CANCER = dcm("111047", "Probability of cancer")
CERTAINTY_OF_FINDING = dcm("111012", "Certainty of Finding")
CANCERS = frozenset({"86049000", "363346000", "363358000", "254837009", "372064008", "367651003"})
"""SCT codes of malignant neoplasms (morphology and disorders) whose score is a probability of cancer."""

LONG_AXIS, SHORT_AXIS, AREA, LENGTH = "103339001", "103340004", "42798000", "410668003"
IN_PLANE = frozenset({LONG_AXIS, SHORT_AXIS, AREA, LENGTH, "131184002", "131187009"})
"""SCT codes of what is measured on one slice (CID 7470 and neighbours): they go to the planar group, the rest to the volume."""
VOLUME = "118565006"
VOLUME_CONCEPT = sct(VOLUME, "Volume")


def item(code: Code) -> Dataset:
    """An item of a code sequence (PS3.3 section 8.8), with the attribute that fits the length of the value."""
    ds = Dataset()
    if len(code.value) > 16:
        ds.LongCodeValue = code.value
    else:
        ds.CodeValue = code.value
    ds.CodingSchemeDesignator = code.scheme[:16]
    ds.CodeMeaning = code.meaning[:64]
    return ds


def family(model: ModelIdentity) -> Code:
    """Artificial Intelligence when weights were learned, otherwise what thresholds and connected components are."""
    return ARTIFICIAL_INTELLIGENCE if model.weights_sha256 else MORPHOLOGICAL_OPERATIONS


def category(finding: Finding) -> Code:
    return ANATOMICAL_STRUCTURE if finding.kind is Kind.ANATOMY else ABNORMAL_STRUCTURE


def site(finding: Finding) -> Code | None:
    """Where a finding is; an organ is its own site."""
    return finding.site or (finding.concept if finding.kind is Kind.ANATOMY else None)


def probability_concept(finding: Finding) -> Code:
    """What the model's score is a probability of: cancer for a malignant concept, else that the finding is there."""
    return PROBABILITY_OF_CANCER if finding.concept.value in CANCERS else CERTAINTY_OF_FINDING


def place(finding: Finding) -> str:
    """Side and site in words: "left lung"; "" where neither is known."""
    where, side = site(finding), finding.laterality
    if where and side and side.meaning.lower() in where.meaning.lower():
        return where.meaning.lower()
    return " ".join(c.meaning for c in (side, where) if c).lower()


def label(finding: Finding) -> str:
    """A finding in words: "Left lung" for an organ, "Nodule, left lung" for what is found in one; at most 64 characters."""
    where = place(finding)
    if finding.kind is Kind.ANATOMY:
        return (where[:1].upper() + where[1:])[:64].strip()
    return ", ".join(w for w in (finding.concept.meaning, where) if w)[:64].strip(" ,")


def in_text(code: Code) -> str:
    """A meaning within a sentence: its first letter small, unless it begins with an abbreviation."""
    meaning = code.meaning
    return meaning if meaning[1:2].isupper() else meaning[:1].lower() + meaning[1:]


def unit(code: Code) -> str:
    """A UCUM unit as people write it: annotations left out, Hounsfield units as HU."""
    return "HU" if code.value == "[hnsf'U]" else re.sub(r"\{.*?\}", "", code.value).replace("mm3", "mm³")


COLOURS: dict[Kind, Sequence[tuple[int, int, int]]] = {
    Kind.ABNORMALITY: ((230, 40, 40), (255, 150, 0), (240, 60, 180), (255, 215, 0), (200, 90, 40)),
    Kind.ANATOMY: ((70, 130, 220), (60, 180, 120), (120, 200, 230), (150, 110, 210), (90, 160, 90)),
    Kind.EXAMINATION: ((200, 200, 200),),
}


def colour(finding: Finding, position: int) -> tuple[int, int, int]:
    """The sRGB colour (0..255) of the finding at `position`: its own, or warm for abnormalities, cool for organs."""
    if finding.colour is not None:
        return finding.colour
    palette = COLOURS[finding.kind]
    return palette[position % len(palette)]


UNPAIRED_SITES = frozenset(
    [
        "10200004",
        "12738006",
        "15776009",
        "15825003",
        "28231008",
        "32849002",
        "44567001",
        "69695003",
        "71854001",
        "78961009",
        "80891009",
        "30315005",
        "818981001",
    ]
)
"""SCT codes of liver, brain, pancreas, aorta, gallbladder, oesophagus, trachea, stomach, colon, spleen, heart, small bowel, abdomen."""

UNPAIRED = frozenset(
    [
        "ABDOMEN",
        "ABDOMENPELVIS",
        "AORTA",
        "BLADDER",
        "BRAIN",
        "CHEST",
        "CHESTABDOMEN",
        "CHESTABDPELVIS",
        "COCCYX",
        "COLON",
        "CSPINE",
        "CTSPINE",
        "DUODENUM",
        "ESOPHAGUS",
        "GALLBLADDER",
        "HEAD",
        "HEADNECK",
        "HEART",
        "JAW",
        "LARYNX",
        "LIVER",
        "LSPINE",
        "LSSPINE",
        "MEDIASTINUM",
        "MOUTH",
        "NECK",
        "NECKCHEST",
        "NECKCHESTABDOMEN",
        "NECKCHESTABDPELV",
        "NOSE",
        "PANCREAS",
        "PELVIS",
        "PROSTATE",
        "RECTUM",
        "SKULL",
        "SPINE",
        "SPLEEN",
        "SSPINE",
        "STERNUM",
        "STOMACH",
        "THYMUS",
        "TLSPINE",
        "TRACHEA",
        "TSPINE",
        "UTERUS",
        "WHOLEBODY",
    ]
)
"""Body parts of PS3.16 annex L without a side, for which Laterality (0020,0060) may not be present (PS3.3 C.7.3.1)."""
