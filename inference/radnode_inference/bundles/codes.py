"""The names that bundles give their classes, as coded concepts. SNOMED CT codes and meanings of PS3.16 (a test asks pydicom's tables).

A name that is not here gets a code of the scheme 99RADNODE made from the name itself: a reader sees the bundle's own word.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from radnode_inference.findings import Code, Kind

BACKGROUND = frozenset(("background", "bg", "unlabeled", "unlabelled", "other"))
ABNORMAL = re.compile(
    r"tumou?rs?|lesions?|nodules?|cancer|carcinoma|metastas[ei]s|h(?:a)?emorrhage|edema|oedema|necrosis|necrotic|effusion|infarct"
    r"|aneurysm|stenosis|fracture|cyst|stone|covid|pneumonia|opacity|enhancing"
)
SIDES = {"left": ("7771000", "Left"), "right": ("24028007", "Right")}
ANATOMY = {
    "spleen": ("78961009", "Spleen"),
    "kidney": ("64033007", "Kidney"),
    "gallbladder": ("28231008", "Gallbladder"),
    "esophagus": ("32849002", "Esophagus"),
    "liver": ("10200004", "Liver"),
    "stomach": ("69695003", "Stomach"),
    "aorta": ("15825003", "Aorta"),
    "inferior vena cava": ("64131007", "Inferior vena cava"),
    "portal vein": ("32764006", "Portal vein"),
    "pancreas": ("15776009", "Pancreas"),
    "adrenal gland": ("23451007", "Adrenal gland"),
    "duodenum": ("38848004", "Duodenum"),
    "colon": ("71854001", "Colon"),
    "small bowel": ("30315005", "Small intestine"),
    "urinary bladder": ("89837001", "Bladder"),
    "prostate": ("41216001", "Prostate"),
    "heart": ("80891009", "Heart"),
    "lung": ("39607008", "Lung"),
    "trachea": ("44567001", "Trachea"),
    "brain": ("12738006", "Brain"),
    "breast": ("76752008", "Breast"),
    "bone": ("272673000", "Bone"),
    "vertebra": ("51282000", "Vertebra"),
    "tumor": ("108369006", "Neoplasm"),
    "lesion": ("52988006", "Lesion"),
    "nodule": ("27925004", "Nodule"),
    "edema": ("79654002", "Edema"),
    "hemorrhage": ("50960005", "Hemorrhage"),
    "necrosis": ("6574001", "Necrosis"),
}
SAME = {
    "oesophagus": "esophagus", "inferior vena cava ivc": "inferior vena cava", "ivc": "inferior vena cava",
    "postcava": "inferior vena cava", "bladder": "urinary bladder", "adrenal": "adrenal gland", "tumour": "tumor",
    "neoplasm": "tumor", "lung nodule": "nodule", "haemorrhage": "hemorrhage", "oedema": "edema", "kidneys": "kidney",
    "lungs": "lung", "bones": "bone", "cancer": "tumor", "gall bladder": "gallbladder", "small intestine": "small bowel",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Segment:
    """One class of a bundle. channel: its number in `channel_def`. kind None: background."""

    channel: int
    name: str
    kind: Kind | None
    concept: Code
    laterality: Code | None = None


def segments(channel_def: Mapping[str, str]) -> tuple[Segment, ...]:
    """The classes of a bundle's output, in the order of their channels. Raises ValueError for a channel that is no number."""
    return tuple(
        segment(int(channel), str(name)) for channel, name in sorted(channel_def.items(), key=lambda c: int(c[0]))
    )


def segment(channel: int, name: str) -> Segment:
    """A class by its name: `Left_Kidney`, `kidney (left)` and `left kidney` are the same."""
    words = re.sub(r"[^a-z0-9]+", " ", name.lower()).strip()
    if words in BACKGROUND:
        return Segment(channel=channel, name=name, kind=None, concept=local(words))
    side = next((s for s in SIDES if s in words.split()), None)
    bare = " ".join(w for w in words.split() if w != side)
    known = ANATOMY.get(SAME.get(bare, bare))
    return Segment(
        channel=channel,
        name=name,
        kind=Kind.ABNORMALITY if ABNORMAL.search(words) else Kind.ANATOMY,
        concept=Code(value=known[0], scheme="SCT", meaning=known[1]) if known else local(bare or words),
        laterality=Code(value=SIDES[side][0], scheme="SCT", meaning=SIDES[side][1]) if side else None,
    )


def local(words: str) -> Code:
    """A code of our own: at most 16 characters (PS3.5 SH), the meaning at most 64 (LO)."""
    value = re.sub(r"[^A-Z0-9]+", "_", words.upper()).strip("_")[:16] or "UNNAMED"
    return Code(value=value, scheme="99RADNODE", meaning=(words[:1].upper() + words[1:])[:64] or "Unnamed")
