"""`radnode engines`: how each model's network is computed on this machine, and the comparison that decides it."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from radnode_inference.model import ModelCard
    from radnode_inference.study import Study


WHY_FOLDER = "generated studies are for the demonstration weights, and show nothing of what others find"


@click.group()
def engines() -> None:
    """Faster ways to compute a model's network, used only after they agreed with single precision."""


@engines.command("list")
def listed() -> None:
    """The engine of each model that has weights, on this machine's processor, and why."""
    from radnode import settings, weights_use

    loaded = settings.load()
    for card in weights_use.known_cards(loaded):
        if card.takes_weights:
            click.echo(f"{card.identity.name}: {told(card, loaded.weights_folder)}")


def told(card: "ModelCard", weights: Path) -> str:
    """The engine on this machine's processor, and why."""
    from radnode_inference.engines import record

    choice = record.choose(weights, card.engines_key, record.cpu())
    return f"{choice.engine} ({choice.reason})"


@engines.command()
@click.argument("model")
@click.argument("folder", required=False, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.pass_context
def check(ctx: click.Context, model: str, folder: Path | None, device: str) -> None:
    """Compare every engine with single precision for MODEL, and keep the comparison for later runs.

    On windows of the study in FOLDER: one that shows what the weights are for. Only demonstration weights do without: they take a
    generated one. To be repeated when the weights, their card, a version or the machine changes.
    """
    from radnode import settings, weights_use
    from radnode.engine_child import device as resolved
    from radnode_inference import registry
    from radnode_inference.engines.record import Tunable, choose
    from radnode_inference.model import DeclinedError
    from radnode_inference.study import Study

    here = settings.load()
    weights = here.weights_folder
    card = next((c for c in weights_use.known_cards(here) if c.identity.name == model), None)
    if card is None:
        raise click.ClickException(f"there is no model {model!r}")
    if folder is None and card.takes_weights and not card.identity.demonstration:
        raise click.ClickException(
            f"give the FOLDER of a study that shows what {model}'s weights are for: {WHY_FOLDER}"
        )
    loaded = registry.load(card, resolved(card, device), weights)
    if not isinstance(loaded, Tunable):
        click.echo(f"radnode: {model} has no network that another engine could compute", err=True)
        ctx.exit(1)
    with tempfile.TemporaryDirectory() as made:
        study = Study.from_folder(folder) if folder else generated(card.modality, Path(made))
        try:
            found = loaded.check_engines(study, weights, lambda engine: click.echo(f"trying {engine}", err=True))
        except DeclinedError as e:
            raise click.ClickException(
                f"nothing was compared, {model} does not read this study ({e.gate}): {e.sentence}"
            ) from e
    for agreement in found:
        click.echo(agreement.verdict)
    choice = choose(weights, card.engines_key, found[0].hardware)
    click.echo(f"{model} is computed with {choice.engine} on {found[0].hardware}")


def generated(modality: str, folder: Path) -> "Study":
    """A study of the demonstration set with a finding in it."""
    from radnode_inference.generator.studies import demo_studies
    from radnode_inference.study import Study

    next(s for s in demo_studies() if s.modality == modality and s.purpose == "lesion").write(folder)
    return Study.from_folder(folder)
