"""`radnode read`: structured reports and segmentations, ours and others', printed as findings."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from radnode_dicom_sr import Document, ReadFinding


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE...")
@click.option("--json", "as_json", is_flag=True, help="One JSON array with everything that was read.")
@click.pass_context
def read(ctx: click.Context, files: tuple[Path, ...], as_json: bool) -> None:
    """Print the findings in DICOM reports (TID 1500) and segmentations.

    Reads what this node wrote, radiologists' edited copies of it, and the reports of others. A file that cannot be read
    is named on the error output, the others are printed, and the exit code is 1.
    """
    from radnode_dicom_sr import read as parse

    documents: list[tuple[Path, Document]] = []
    failed = False
    for file in files:
        try:
            documents.append((file, parse(file.read_bytes())))
        except (OSError, ValueError) as e:
            words = e.strerror if isinstance(e, OSError) and e.strerror else str(e)
            click.echo(f"radnode: {file}: {words}", err=True)
            failed = True
    if as_json:
        import orjson

        body = [{"file": str(file), **plain(document)} for file, document in documents]
        click.echo(orjson.dumps(body, option=orjson.OPT_INDENT_2).decode())
    else:
        for file, document in documents:
            show(file, document)
    ctx.exit(1 if failed else 0)


def plain(document: "Document") -> dict[str, Any]:
    return asdict(document)


def show(file: Path, document: "Document") -> None:
    """A heading with who made it, its sentences, and a table with a line for each finding."""
    from rich.console import Console
    from rich.table import Table

    console = Console(width=None if sys.stdout.isatty() else 160)
    title = document.title.meaning if document.title else "Segmentation"
    verified = "verified" if document.verified else "not verified"
    console.print(f"{file}: {title}, {verified}, by {', '.join(document.observers) or 'nobody named'}", markup=False)
    for uid in document.predecessors:
        console.print(f"  takes the place of {uid}", markup=False)
    for sentence in document.statements:
        console.print(f"  {sentence}", markup=False, highlight=False)
    if not document.findings:
        console.print("  no finding", markup=False)
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("finding", "where", "measured", "judged", "tracking"):
        table.add_column(heading, overflow="fold")
    for finding in document.findings:
        table.add_row(*row(finding))
    console.print(table)


def row(finding: "ReadFinding") -> tuple[str, str, str, str, str]:
    from rich.markup import escape

    places = [c.meaning for c in (finding.laterality, finding.site) if c]
    where = [" ".join(places)] if places else []
    where += [f"{count} outlines" for count in [len(finding.outlines)] if count]
    where += [f"segment {s.number}" for s in finding.segments]
    measured = [f"{m.concept.meaning} {m.value:.4g} {m.unit.value}" for m in finding.measurements]
    judged = [f"{e.concept.meaning}: {e.value.meaning}" for e in finding.evaluations] + list(finding.statements)
    name = finding.concept.meaning if finding.concept else "–"
    tracking = f"{finding.tracking_id} {finding.tracking_uid}".strip()
    cells = (name, ", ".join(where), ", ".join(measured), "; ".join(judged), tracking)
    return tuple(escape(c) for c in cells)  # type: ignore[return-value]
