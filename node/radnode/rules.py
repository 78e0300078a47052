"""The default rules, as data: what never is a model's input, and which studies go to which models.

Read by `radnode.route`. A site replaces MODELS in its settings; EXCLUSIONS always hold.
"""

from collections.abc import Sequence

from radnode.settings import Condition, Rule
from radnode_inference.model import ModelCard

TEXTS = "BodyPartExamined|StudyDescription|SeriesDescription|ProtocolName"
CHEST = ("CHEST", "THORAX", "TORAX", "LUNG", "PULMON", "POUMON", "BRUSTKORB", "CTPA", "TÓRAX", "TORACE", "胸部", "胸腔")
BREAST = ("BREAST", "MAMMA", "MAMMO", "BRUSTDRUESE", "BRUSTDRÜSE", "MAMA", "SEIN", "乳房", "乳腺")
OTHER_PARTS = (
    "HEAD", "BRAIN", "SKULL", "CEREBR", "NECK", "ABDOM", "PELVI", "LIVER", "KIDNEY", "COLON", "SPINE", "KNEE", "HIP",
    "SHOULDER", "ANKLE", "FOOT", "HAND", "WRIST", "ELBOW", "EXTREMITY", "SINUS", "ORBIT", "DENTAL",
)  # fmt: skip
QA_WORDS = ("PHANTOM", "PHANTOMS", "QA", "QC", "ACR", "DAILYQA", "CATPHAN")
NOT_IMAGES = ("SR", "SEG", "PR", "KO", "DOC", "REG", "RTSTRUCT", "RTPLAN", "RTDOSE", "PLAN", "FID", "RWV", "ECG", "AU")
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"  # and .1 to .4, multi-frame. PS3.4 table B.5-1


def when(attribute: str, test: str, *values: str) -> Condition:
    return Condition.model_validate({"attribute": attribute, "test": test, "values": values})


EXCLUSIONS: tuple[Rule, ...] = (
    Rule(
        name="localizer",
        when=(when("ImageType", "equals", "LOCALIZER", "SCOUT", "TOPOGRAM"),),
        note="a localizer is no diagnostic image",
    ),
    Rule(
        name="secondary-capture",
        when=(when("SOPClassUID", "starts-with", SECONDARY_CAPTURE + "."),),
        note="a secondary capture has no geometry",
    ),
    Rule(
        name="secondary-capture-single",
        when=(when("SOPClassUID", "equals", SECONDARY_CAPTURE),),
        note="a secondary capture has no geometry",
    ),
    Rule(
        name="not-an-image",
        when=(when("Modality", "equals", *NOT_IMAGES),),
        note="a report, segmentation or other object that is no image",
    ),
    Rule(
        name="made-by-radnode",
        when=(when("Manufacturer|ManufacturerModelName", "equals", "radnode"),),
        note="the node made it itself",
    ),
    Rule(
        name="derived-research",
        when=(  # a scanner's own ADC map is DERIVED, but PRIMARY: PS3.3 C.7.6.1.1.2
            when("ContentQualification", "equals", "RESEARCH"),
            when("ImageType", "equals", "DERIVED"),
            when("ImageType", "equals", "SECONDARY"),
        ),
        note="derived by a program that is not for clinical use",
    ),
    Rule(
        name="qa-marked",
        when=(when("QualityControlSubject", "equals", "YES"),),
        note="a quality-assurance phantom, as its own header says",
    ),
    Rule(
        name="qa-named",
        when=(when("PatientName|PatientID|StudyDescription|SeriesDescription|ProtocolName", "word", *QA_WORDS),),
        note="a quality-assurance phantom by its name",
    ),
)
"""Each keeps a matching series from every model."""

MODELS: tuple[Rule, ...] = (
    Rule(
        name="breast-mr",
        models=("mr-breast-kinetics", "mr-breast-mome"),
        when=(when("Modality", "equals", "MR"), when(TEXTS, "contains", *BREAST)),
    ),
    Rule(
        name="chest-ct",
        models=("ct-lung", "ct-voco"),
        when=(when("Modality", "equals", "CT"), when(TEXTS, "contains", *CHEST)),
    ),
    Rule(
        name="unlabelled-ct",
        models=("ct-lung", "ct-voco"),
        when=(
            when("Modality", "equals", "CT"),
            when("BodyPartExamined", "absent"),
            when("Orientation", "equals", "AXIAL"),
            when("Images", "at-least", "60"),
        ),
        unless=(when(TEXTS, "contains", *OTHER_PARTS),),
        note="nothing names the body part; the model's own gates decide whether this is a chest",
    ),
)


def by_cards(cards: Sequence[ModelCard], rules: Sequence[Rule]) -> tuple[Rule, ...]:
    """A rule for each model of a site's own task that none of `rules` names: series that show what the card's region says."""
    named = {model for rule in rules for model in rule.models}
    return tuple(
        Rule(
            name=f"card-of-{card.identity.name}",
            models=(card.identity.name,),
            when=(when("Modality", "equals", card.modality), when(TEXTS, "contains", *card.region)),
            note="by the region on its card, since no rule names this model",
        )
        for card in cards
        if card.region and card.identity.name not in named
    )
