"""The cards of the breast_mri models. No torch here."""

from collections.abc import Mapping
from pathlib import Path

from radnode_inference.findings import ModelIdentity
from radnode_inference.model import Availability, ModelCard
from radnode_inference.models.breast_mri.kinetics_codes import ENHANCING_LESION
from radnode_inference.weights import weights_card

KINETICS_VERSION = "1.3.0"
"""1.1.0: early and late phase counted from when the first phase with contrast began; ADC computed where there is no map.
1.2.0: drawn anatomy is not measured, what is measured in drawn regions is named after them; phases that are stored twice
count once, and of several dynamic series the one with an early and a late phase is read.
1.3.0: copies, subtractions and other echoes are never phases, contrast is looked for in the images, midnight is passed."""
KINETICS_IDENTITY = ModelIdentity(
    name="mr-breast-kinetics",
    version=KINETICS_VERSION,
    weights_name="training-free",
    weights_version="",
    weights_sha256="",
    intended_use="Outlines, volumes and curve types of focal enhancement on dynamic contrast-enhanced breast MR, as numbers "
    "beside the radiologist's reading. Gives no probability of malignancy.",
)

MOME, MOME_VERSION = "mr-breast-mome", "1.2.0"
MOME_SUBTYPE, MOME_RESPONSE = "mr-breast-mome-subtype", "mr-breast-mome-response"
MOME_TASKS = {
    MOME: frozenset({"lesion", "malignancy"}),
    MOME_SUBTYPE: frozenset({"subtype"}),
    MOME_RESPONSE: frozenset({"response"}),
}
"""What the head of each model's weights may have been trained to tell (the card's `task`)."""
MOME_PACKAGED = Path(__file__).with_name("demo.json")


def cards(weights: Path, in_use: Mapping[str, str]) -> tuple[ModelCard, ...]:
    """Every model of the family, with the weights in the folder `weights` that are in use."""
    tasks = (
        (MOME, "MOME, multiparametric breast MR", "create", MOME_PACKAGED),
        (MOME_SUBTYPE, "MOME, molecular subtype on breast MR", "create_subtype", None),
        (MOME_RESPONSE, "MOME, response to chemotherapy on breast MR", "create_response", None),
    )
    return (
        kinetics_card(),
        *(
            mome_card(weights, in_use.get(name), name, title, factory, packaged)
            for name, title, factory, packaged in tasks
        ),
    )


def kinetics_card() -> ModelCard:
    return ModelCard(
        identity=KINETICS_IDENTITY,
        title="Kinetics of breast MR",
        modality="MR",
        inputs=(
            "a dynamic T1-weighted series of both breasts: before contrast, near 150 s and near 450 s after it",
            "an ADC map, or diffusion images at b 100 or less and at 500 s/mm2 or more, where there are some",
        ),
        findings=(ENHANCING_LESION,),
        availability=Availability.READY,
        factory="radnode_inference.models.breast_mri.kinetics:create",
    )


def mome_card(
    weights: Path, in_use: str | None, name: str, title: str, factory: str, packaged: Path | None
) -> ModelCard:
    return weights_card(
        name=name,
        version=MOME_VERSION,
        title=title,
        modality="MR",
        inputs=(
            "a dynamic series before and after contrast",
            "diffusion-weighted images, high b value",
            "T2-weighted images",
        ),
        factory=f"radnode_inference.models.breast_mri.mome_model:{factory}",
        site=weights,
        packaged=packaged,
        in_use=in_use,
    )
