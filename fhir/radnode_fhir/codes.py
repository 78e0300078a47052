"""DICOM codes as FHIR codings, and the codes of FHIR itself (HL7 terminology, R4)."""

import re
from typing import Any

from radnode_inference.findings import Code, Finding, Kind

Json = dict[str, Any]

SYSTEMS = {
    "SCT": "http://snomed.info/sct",
    "LN": "http://loinc.org",
    "DCM": "http://dicom.nema.org/resources/ontology/DCM",
    "UCUM": "http://unitsofmeasure.org",
    "UMLS": "http://www.nlm.nih.gov/research/umls",
    "RADLEX": "http://radlex.org",
    "NCIt": "http://ncicb.nci.nih.gov/xml/owl/EVS/Thesaurus.owl",
}
"""PS3.16 table 8-1: coding scheme designator to URI."""
SCHEMES = {uri: scheme for scheme, uri in SYSTEMS.items()}
PRIVATE = "urn:radnode:coding-scheme:"

AI_ASSERTED = {
    "system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue",
    "code": "AIAST",
    "display": "Artificial Intelligence asserted",
}
RADIOLOGY = {"system": "http://terminology.hl7.org/CodeSystem/v2-0074", "code": "RAD", "display": "Radiology"}
IMAGING = {
    "system": "http://terminology.hl7.org/CodeSystem/observation-category",
    "code": "imaging",
    "display": "Imaging",
}
ABNORMAL = {
    "system": "http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation",
    "code": "A",
    "display": "Abnormal",
}
CRITICAL = {**ABNORMAL, "code": "AA", "display": "Critical abnormal"}
ASSEMBLER = {
    "system": "http://terminology.hl7.org/CodeSystem/provenance-participant-type",
    "code": "assembler",
    "display": "Assembler",
}
IDENTIFIER_TYPES = "http://terminology.hl7.org/CodeSystem/v2-0203"

FINDING = Code(value="121071", scheme="DCM", meaning="Finding")
LATERALITY = Code(value="272741003", scheme="SCT", meaning="Laterality")
PERCENT = Code(value="%", scheme="UCUM", meaning="%")
PROBABILITY_OF_CANCER = Code(value="111047", scheme="DCM", meaning="Probability of cancer")
CERTAINTY_OF_FINDING = Code(value="111012", scheme="DCM", meaning="Certainty of Finding")
COMPARISON = Code(value="COMPARISON", scheme="99RADNODE", meaning="Comparison with an earlier study")
VOLUME, LONG_AXIS = "118565006", "103339001"

PROCEDURES = {
    ("CT", "CHEST"): Code(value="24627-2", scheme="LN", meaning="CT Chest"),
    ("CT", ""): Code(value="25045-6", scheme="LN", meaning="CT Unspecified body region"),
    ("MR", ""): Code(value="25056-3", scheme="LN", meaning="MR Unspecified body region"),
}
OTHER_PROCEDURE = Code(value="18748-4", scheme="LN", meaning="Diagnostic imaging study")

CANCERS = frozenset({"86049000", "363346000", "363358000", "254837009", "372064008", "367651003"})
"""SCT codes of malignant neoplasms, whose score is a probability of cancer."""


def coding(code: Code) -> Json:
    return {
        "system": SYSTEMS.get(code.scheme, PRIVATE + code.scheme),
        "code": code.value,
        "display": code.meaning,
    }


def concept(*codes: Code, text: str = "") -> Json:
    """A CodeableConcept; its text is the first meaning unless given."""
    return {"coding": [coding(c) for c in codes], "text": text or codes[0].meaning}


def code_of(coding: Json) -> Code:
    """A coding read back: known systems by their DICOM designator, others by their URI."""
    system = str(coding.get("system", ""))
    scheme = SCHEMES.get(system, system.removeprefix(PRIVATE))
    value = str(coding.get("code", ""))
    return Code(value=value, scheme=scheme, meaning=str(coding.get("display", value)))


def procedure(modality: str, body_part: str) -> Code:
    """The LOINC code of the examination; of no body region in particular where the header does not say."""
    return PROCEDURES.get((modality, body_part)) or PROCEDURES.get((modality, ""), OTHER_PROCEDURE)


def probability_concept(finding: Finding) -> Code:
    """What the model's score is a probability of: cancer for a malignant concept, else that the finding is there."""
    return PROBABILITY_OF_CANCER if finding.concept.value in CANCERS else CERTAINTY_OF_FINDING


def site(finding: Finding) -> Code | None:
    """Where a finding is; an organ is its own site."""
    return finding.site or (finding.concept if finding.kind is Kind.ANATOMY else None)


def in_text(code: Code) -> str:
    """A meaning within a sentence: its first letter small, unless it begins with an abbreviation."""
    meaning = code.meaning
    return meaning if meaning[1:2].isupper() else meaning[:1].lower() + meaning[1:]


def unit(code: Code) -> str:
    """A UCUM unit as people write it: annotations left out, Hounsfield units as HU."""
    return "HU" if code.value == "[hnsf'U]" else re.sub(r"\{.*?\}", "", code.value).replace("mm3", "mm³")


def place(finding: Finding) -> str:
    """Side and site in words: "left lung"; "" where neither is known."""
    where = site(finding)
    words = [c.meaning for c in (finding.laterality, where) if c]
    if finding.laterality and where and finding.laterality.meaning.lower() in where.meaning.lower():
        words = [where.meaning]
    return " ".join(words).lower()
