"""The cards of the chest_ct models. No torch here."""

from collections.abc import Mapping
from pathlib import Path

from radnode_inference.findings import ModelIdentity
from radnode_inference.model import Availability, ModelCard
from radnode_inference.models.chest_ct.lung_codes import AIRWAYS, EMPHYSEMA, LUNG
from radnode_inference.weights import weights_card
from radnode_inference.weights_tasks import models, task_of

LUNG_IDENTITY = ModelIdentity(
    name="ct-lung",
    version="1.0.0",
    weights_name="training-free",
    weights_version="",
    weights_sha256="",
    intended_use="Volumes and density of the lungs and airways on chest CT, as numbers beside the radiologist's reading. "
    "Finds no nodules, effusions, emboli or consolidations. Which lung is the right one rests on the images' header: images mirrored "
    "against it are not noticed.",
)

VOCO, VOCO_VERSION = "ct-voco", "1.0.0"
PACKAGED = Path(__file__).with_name("demo.json")


def cards(weights: Path, in_use: Mapping[str, str]) -> tuple[ModelCard, ...]:
    """Every model of the family, with the weights in the folder `weights` that are in use."""
    names = (VOCO, *models(VOCO, weights, in_use))
    return (lung_card(), *(voco_card(weights, in_use.get(name), name) for name in names))


def lung_card() -> ModelCard:
    return ModelCard(
        identity=LUNG_IDENTITY,
        title="Lungs on chest CT",
        modality="CT",
        inputs=("one CT series of the whole chest, slices of at most 10 mm (density: at most 3 mm, soft kernel)",),
        findings=(LUNG, AIRWAYS, EMPHYSEMA),
        availability=Availability.READY,
        factory="radnode_inference.models.chest_ct.lung:create",
    )


def voco_card(weights: Path, in_use: str | None = None, name: str = VOCO) -> ModelCard:
    """The network, or a task of it that the site named in a card: it has no demonstration weights."""
    task = task_of(name)
    return weights_card(
        name=name,
        version=VOCO_VERSION,
        title=f"VoCo on CT, the task {task}" if task else "VoCo on CT",
        modality="CT",
        inputs=("one CT series of what the card of its weights names",),
        factory="radnode_inference.models.chest_ct.voco_model:create",
        site=weights,
        packaged=None if task else PACKAGED,
        in_use=in_use,
    )
