"""The names that bundles give their classes, as coded concepts. SNOMED CT codes and meanings of PS3.16 (a test asks pydicom's tables).

A name that is not here gets a code of the scheme 99RADNODE made from the name itself: a reader sees the bundle's own word.
"""

import hashlib
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, replace

from radnode_inference.findings import Code, Kind

BACKGROUND = frozenset(("background", "bg", "unlabeled", "unlabelled", "other"))
ABNORMAL = re.compile(
    r"tumou?rs?|lesions?|nodules?|cancer|carcinoma|metastas[ei]s|h(?:a)?emorrhag|edema|oedema|necrosis|necrotic|effusion|infarct"
    r"|aneurysm|stenosis|fracture|\bcysts?\b|stone|covid|pneumonia|opacit|enhancing|embol|thromb|pneumothora|h(?:a)?emothora|h(?:a)?ematoma"
    r"|bleed|dissection|abscess|consolidation|atelecta|emphysema|isch(?:a)?emi|stroke|calcif|calculus|calculi|plaque|polyp|\bmass(?:es)?\b"
    r"|neoplasm|neoplasia|malignan|adenoma|sarcoma|glioma|lymphoma|perforation|rupture|pneumoperitoneum|free air|contusion|laceration"
    r"|腫瘤|肿瘤|病灶|病變|病变|結節|结节|出血|癌|骨折|氣胸|气胸|栓塞|積液|积液|梗塞|水腫|水肿|囊腫|囊肿"
)
"""Words of what is not there in health. A class that none of them names is anatomy, unless the site says otherwise when it adds the bundle."""
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
    "pulmonary embolism": ("59282003", "Pulmonary embolism"),
    "pneumothorax": ("36118008", "Pneumothorax"),
    "intracranial hemorrhage": ("1386000", "Intracranial hemorrhage (disorder)"),
    "hematoma": ("35566002", "Hematoma"),
}
INTRACRANIAL = (
    "intracranial haemorrhage", "intracerebral hemorrhage", "intracerebral haemorrhage", "brain hemorrhage", "brain haemorrhage",
    "cerebral hemorrhage", "cerebral haemorrhage", "cerebral bleed", "brain bleed", "ich", "subdural hemorrhage", "subdural haemorrhage",
    "subarachnoid hemorrhage", "subarachnoid haemorrhage", "epidural hemorrhage", "epidural haemorrhage", "intraventricular hemorrhage",
    "intraventricular haemorrhage", "intraparenchymal hemorrhage", "intraparenchymal haemorrhage",
)  # fmt: skip
SAME = {
    "oesophagus": "esophagus", "inferior vena cava ivc": "inferior vena cava", "ivc": "inferior vena cava",
    "postcava": "inferior vena cava", "bladder": "urinary bladder", "adrenal": "adrenal gland", "tumour": "tumor",
    "neoplasm": "tumor", "lung nodule": "nodule", "haemorrhage": "hemorrhage", "oedema": "edema", "kidneys": "kidney",
    "lungs": "lung", "bones": "bone", "cancer": "tumor", "gall bladder": "gallbladder", "small intestine": "small bowel",
    "pulmonary embolus": "pulmonary embolism", "pulmonary emboli": "pulmonary embolism", "lung embolism": "pulmonary embolism",
    "haematoma": "hematoma", **dict.fromkeys(INTRACRANIAL, "intracranial hemorrhage"),
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


def told_apart(found: tuple[Segment, ...], kinds: Mapping[str, str]) -> tuple[Segment, ...]:
    """The classes with the kinds that the site gave some of them by name. Raises ValueError for a name or a kind that is none."""
    if unknown := sorted(set(kinds) - {s.name for s in found if s.kind}):
        raise ValueError(f"it has no class {unknown[0]!r}; it has {', '.join(s.name for s in found if s.kind)}")
    return tuple(replace(s, kind=Kind(kinds[s.name])) if s.name in kinds else s for s in found)


def segment(channel: int, name: str) -> Segment:
    """A class by its name: `Left_Kidney`, `kidney (left)` and `left kidney` are the same."""
    words = plain(name)
    if words in BACKGROUND:
        return Segment(channel=channel, name=name, kind=None, concept=local(name))
    side = next((s for s in SIDES if s in words.split()), None)
    bare = " ".join(w for w in words.split() if w != side)
    known = ANATOMY.get(SAME.get(bare, bare))
    return Segment(
        channel=channel,
        name=name,
        kind=Kind.ABNORMALITY if ABNORMAL.search(words) else Kind.ANATOMY,
        concept=Code(value=known[0], scheme="SCT", meaning=known[1]) if known else local(name, side),
        laterality=Code(value=SIDES[side][0], scheme="SCT", meaning=SIDES[side][1]) if side else None,
    )


def plain(name: str) -> str:
    """A name in small letters without accents, its words parted by single spaces."""
    bare = "".join(c for c in unicodedata.normalize("NFKD", name) if not unicodedata.combining(c))
    return " ".join(re.split(r"[\W_]+", bare.lower())).strip()


def local(name: str, side: str | None = None) -> Code:
    """A code of our own for a name but for its side: at most 16 characters (PS3.5 SH), the meaning at most 64 (LO).

    A name that loses something in its code (letters that are not Latin, all beyond the 16th) has a part of its SHA-256 there: two
    names never share a code.
    """
    said = " ".join(w for w in re.split(r"[\W_]+", name) if w and w.lower() != side) or name.strip() or "unnamed"
    words = plain(said)
    value = re.sub(r"[^A-Z0-9]+", "_", words.upper()).strip("_")
    if len(value) > 16 or value.replace("_", " ").lower() != words:
        value = f"{value[:9].rstrip('_') or 'CLASS'}_{hashlib.sha256(words.encode()).hexdigest()[:6].upper()}"
    return Code(value=value, scheme="99RADNODE", meaning=(said[:1].upper() + said[1:])[:64])
