"""The cards of the breast_mri models. No torch here."""

from pathlib import Path

from radnode_inference.findings import ModelIdentity
from radnode_inference.model import Availability, ModelCard
from radnode_inference.models.breast_mri.kinetics_codes import ENHANCING_LESION
from radnode_inference.weights import weights_card

KINETICS_IDENTITY = ModelIdentity(
    name="mr-breast-kinetics",
    version="1.0.0",
    weights_name="training-free",
    weights_version="",
    weights_sha256="",
    intended_use="Outlines, volumes and curve types of focal enhancement on dynamic contrast-enhanced breast MR, as numbers "
    "beside the radiologist's reading. Gives no probability of malignancy.",
)

MOME, MOME_VERSION = "mr-breast-mome", "1.0.0"
MOME_PACKAGED = Path(__file__).with_name("demo.json")


def cards(weights: Path) -> tuple[ModelCard, ...]:
    """Every model of the family, with what is installed for it in the folder `weights`."""
    return (kinetics_card(), mome_card(weights))


def kinetics_card() -> ModelCard:
    return ModelCard(
        identity=KINETICS_IDENTITY,
        title="Kinetics of breast MR",
        modality="MR",
        inputs=(
            "a dynamic T1-weighted series of both breasts: before contrast, near 150 s and near 450 s after it",
            "an ADC map, where there is one",
        ),
        findings=(ENHANCING_LESION,),
        availability=Availability.READY,
        factory="radnode_inference.models.breast_mri.kinetics:create",
    )


def mome_card(weights: Path) -> ModelCard:
    return weights_card(
        name=MOME,
        version=MOME_VERSION,
        title="MOME, multiparametric breast MR",
        modality="MR",
        inputs=(
            "a dynamic series before and after contrast",
            "diffusion-weighted images, high b value",
            "T2-weighted images",
        ),
        factory="radnode_inference.models.breast_mri.mome_model:create",
        site=weights,
        packaged=MOME_PACKAGED,
    )
