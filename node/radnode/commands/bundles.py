"""`radnode bundles`: MONAI bundles and nnU-Net folders as models of this node. Adding one runs nothing of it."""

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import click

from radnode.commands.peers import none

if TYPE_CHECKING:
    from radnode_inference.bundles.store import Bundle


@click.group()
def bundles() -> None:
    """MONAI bundles, nnU-Net and TotalSegmentator folders: segmentation networks with one series in, run in isolation."""


@bundles.command()
@click.argument("source", metavar="FOLDER|ZIP", type=click.Path(exists=True, path_type=Path))
@click.option("--name", default="", help="What rules call it; else its own name.")
@click.option("--modality", type=click.Choice(["CT", "MR", "PT"]), default=None, help="Where its metadata names none.")
@click.option(
    "--orientation", default="", help="How an nnU-Net's training images lay (RAS, LPS), where it does not say."
)
@click.option("--series", "word", default="", help="A word that the series' description must have.")
@click.option(
    "--gate", "gates", multiple=True, metavar="KEY=VALUE",
    help="What images must be like, as a card's [gates] say it (docs/adding-a-model.md): 'region=[\"ABDOM\", \"SPLEEN\"]', 'slice_mm=[0.5, 5]'. May be repeated.",
)  # fmt: skip
@click.option(
    "--abnormal",
    multiple=True,
    metavar="CLASS",
    help="A class that is no anatomy, where its name does not tell. May be repeated.",
)
@click.option("--anatomy", multiple=True, metavar="CLASS", help="A class that is anatomy after all. May be repeated.")
def add(
    source: Path, name: str, modality: str | None, orientation: str, word: str, gates: tuple[str, ...],
    abnormal: tuple[str, ...], anatomy: tuple[str, ...],
) -> None:  # fmt: skip
    """Copy a bundle in and pin each of its files; name it in a rule of radnode.toml to have studies read by it."""
    from radnode import settings
    from radnode_inference import registry
    from radnode_inference.bundles import store
    from radnode_inference.bundles.card import BundleError

    weights = settings.load().weights_folder
    taken = frozenset(c.identity.name for c in registry.cards(weights))
    try:
        added = store.add(
            source, weights, taken=taken, name=name, modality=modality or "", series_word=word, orientation=orientation,
            gates=tomllib.loads("\n".join(gates)),
            kinds=dict.fromkeys(anatomy, "anatomy") | dict.fromkeys(abnormal, "abnormality"),
        )  # fmt: skip
    except (BundleError, tomllib.TOMLDecodeError) as e:
        raise click.ClickException(f"not added: {e}") from e
    click.echo("\n".join(described(added)))
    click.echo(
        f'It reads nothing yet. In radnode.toml: [[rules]] with name, models = ["{added.described.name}"] and when.'
    )


@bundles.command("list")
def listed() -> None:
    """What is installed, and whether every file is the one that was added."""
    from radnode import settings
    from radnode_inference.bundles import store

    weights = settings.load().weights_folder
    there = store.installed(weights)
    if not there and not store.broken(weights):
        none("no bundle is installed", "`radnode bundles add` installs one.")
    for bundle in there:
        click.echo("\n".join([*described(bundle), f"  files        {checked(bundle)}", ""]))
    for sentence in store.broken(weights):
        click.echo(f"broken: {sentence}")


@bundles.command()
@click.argument("name")
def remove(name: str) -> None:
    """Delete the bundle NAME; what it reported stays."""
    from radnode import settings
    from radnode_inference.bundles import store
    from radnode_inference.bundles.card import BundleError

    try:
        store.remove(name, settings.load().weights_folder)
    except BundleError as e:
        raise click.ClickException(str(e)) from e
    click.echo(f"The bundle {name} is removed.")


def described(bundle: "Bundle") -> list[str]:
    """A bundle in a few lines: what it is, what it reads, and which code each of its classes has."""
    d = bundle.described
    classes = [
        f"  finds        {s.name}: {s.concept.meaning} ({s.concept.scheme} {s.concept.value}), {s.kind}"
        for s in d.segments
        if s.kind
    ]
    return [
        f"{d.name} {d.version}: {d.task}",
        f"  pinned       {len(bundle.pins)} files, sha256 {bundle.sha256}",
        f"  reads        {bundle.card.inputs[0]}",
        f"  gates        {'; '.join(bundle.card.about.gates) or 'none: beyond the modality nothing is asked of the images'}",
        *classes,
    ]


def checked(bundle: "Bundle") -> str:
    from radnode_inference.bundles.card import BundleError

    try:
        bundle.verify()
    except BundleError as e:
        return str(e)
    return "as they were added"
