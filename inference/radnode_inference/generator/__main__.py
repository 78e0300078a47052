"""Writes one generated study: `python -m radnode_inference.generator OUT --kind breast --seed 7 --lesion --truth TRUTH`."""

from pathlib import Path

import click

from radnode_inference.generator import breast, chest
from radnode_inference.generator.dicom_parts import Compression, Layout, Order
from radnode_inference.generator.dicom_writer import write_breast, write_chest
from radnode_inference.generator.fields import FLIPS, Orientation, Shape
from radnode_inference.generator.truth import write_truth

SHAPES: dict[str, Shape] = {"breast": (60, 160, 160), "chest": (128, 160, 160)}


@click.command()
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--kind", type=click.Choice(list(SHAPES)), default="breast")
@click.option("--seed", type=int, default=1)
@click.option("--lesion/--normal", default=None, help="with or without a finding; left out: the seed decides")
@click.option("--shape", nargs=3, type=int, default=None, help="slices, rows, columns")
@click.option("--orientation", type=click.Choice([str(o) for o in Orientation]), default="axial")
@click.option("--position", type=click.Choice(list(FLIPS)), default=None, help="Patient Position")
@click.option("--layout", type=click.Choice([str(v) for v in Layout]), default="series", help="standard, or a maker's")
@click.option("--motion", "motion_mm", type=float, default=0.0, help="mm that the patient moves between two phases")
@click.option("--compression", type=click.Choice([str(v) for v in Compression]), default="native")
@click.option("--truth", type=click.Path(path_type=Path), default=None, help="folder for masks (npz) and labels (JSON)")
def main(
    out: Path,
    kind: str,
    seed: int,
    lesion: bool | None,
    shape: Shape | None,
    orientation: str,
    position: str | None,
    layout: str,
    motion_mm: float,
    compression: str,
    truth: Path | None,
) -> None:
    """Write a generated study to the folder OUT."""
    shape = shape or SHAPES[kind]
    position = position or ("HFP" if kind == "breast" else "HFS")
    order = Order(
        patient_name=f"GENERATED^{kind.upper()} {seed}",
        patient_id=f"GEN-{kind[0].upper()}{seed}",
        accession_number=f"G{seed}",
        study_description="MR breast bilateral dynamic" if kind == "breast" else "CT chest",
        body_part=kind.upper(),
        identity=f"{kind} {seed} {lesion} {shape} {orientation}",
        patient_position=position,
        layout=Layout(layout),
        compression=Compression(compression),
    )
    way = Orientation(orientation)
    made: breast.BreastPhantom | chest.ChestPhantom
    if kind == "breast":
        made = breast.phantom(
            seed, lesion=lesion, shape=shape, orientation=way, patient_position=position, motion_mm=motion_mm
        )
        files = write_breast(made, out, order)
    else:
        made = chest.phantom(seed, nodules=lesion, shape=shape, orientation=way, patient_position=position)
        files = write_chest(made, out, order)
    click.echo(f"{len(files)} files of the study {order.uid('study')} in {out}")
    if truth:
        click.echo(f"what is true of it: {' and '.join(str(p) for p in write_truth(made, truth, order.uid('study')))}")


main()
