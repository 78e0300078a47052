"""`radnode run`: one model on a folder of DICOM files, without a server. `radnode demo`: the whole way on samples."""

import contextlib
import json
import sys
import traceback
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from radnode.errors import RefusedError

if TYPE_CHECKING:
    from radnode_inference.model import Progress
    from radnode_inference.study import Study

DECLINED = 3


@click.command()
@click.argument("model")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("-o", "--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Where results go.")
@click.option(
    "--prior",
    "priors",
    multiple=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A folder with an earlier study of the patient; the newest one first.",
)
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option(
    "--force",
    is_flag=True,
    help="Also where OUT holds results of another study, or a prior is no earlier one of the patient.",
)
@click.option("-v", "--verbose", is_flag=True, help="Show the traceback of a failure.")
@click.pass_context
def run(
    ctx: click.Context,
    model: str,
    folder: Path,
    out: Path,
    priors: tuple[Path, ...],
    device: str,
    force: bool,
    verbose: bool,
) -> None:
    """Run MODEL on the DICOM files in FOLDER: *.dcm (SR, SEG, key images) and report.json in OUT.

    An OUT with results of another study is refused. Exit code 0 with results; 3 when the model declines, the reason on stderr; 1 on failure.
    """
    from radnode_inference.model import DeclinedError

    report, earlier = out / "report.json", b""
    with contextlib.suppress(OSError):
        earlier = report.read_bytes()
    try:
        with progress_bar() as progress:
            written = read_folder(model, folder, out, device, progress, priors, force=force)
    except DeclinedError as e:
        click.echo(f"declined: {one_line(str(e))}", err=True)
        ctx.exit(DECLINED)
    except Exception as e:
        if verbose:
            traceback.print_exc()
        said = e.args[0] if isinstance(e, KeyError) and e.args else e
        click.echo(f"failed: {one_line(str(said)) or type(e).__name__}", err=True)
        ctx.exit(1)
    for path in written:
        click.echo(str(path))
    if earlier and report.read_bytes() != earlier:
        click.echo(f"{report} took the place of that of an earlier run.", err=True)
    if others := sorted(p.name for p in out.glob("*.dcm") if p not in written):
        click.echo(f"{out} also holds {len(others)} files that are not of this run ({others[0]}, ...).", err=True)


def read_folder(
    model: str,
    folder: Path,
    out: Path,
    device: str,
    progress: "Progress",
    priors: tuple[Path, ...] = (),
    *,
    force: bool = False,
) -> tuple[Path, ...]:
    """The files that were written. Raises DeclinedError, KeyError for an unknown model, or what the model raises.

    Raises RefusedError where `out` holds results of another study, or an earlier study is none of the patient's, unless `force` says
    that it is meant.
    """
    from radnode import report, settings, weights_use
    from radnode.engine_child import device as choose
    from radnode.engine_child import infer
    from radnode_inference import registry
    from radnode_inference.model import DeclinedError
    from radnode_inference.study import Study

    loaded_settings = settings.load()
    weights = loaded_settings.weights_folder
    found = {c.identity.name: c for c in weights_use.known_cards(loaded_settings)}
    card = found.get(model) or registry.card(model, weights)  # which raises with the names there are
    study = replace(Study.from_folder(folder), priors=tuple(Study.from_folder(p) for p in priors))
    other = "" if force else of_another_study(out, study.study_uid)
    if other:
        raise RefusedError(f"{out} holds results of another study ({other}): name an empty folder, or add --force")
    for prior, place in zip(study.priors, priors, strict=True):
        if not force and (why := no_prior_because(study, prior)):
            raise RefusedError(f"{place} is not compared with: {why}. Add --force where it is meant")
    broken = [p.name for p in unreadable(folder)]
    if broken:
        said = f"{len(broken)} of the files cannot be read ({', '.join(broken[:3])}): the study would be a part"
        raise DeclinedError("unreadable", said)
    unavailable = card.unavailable_because(generated=study.generated)
    if unavailable:
        raise DeclinedError("not-installed", unavailable)
    progress(0.0, "loading the model")
    loaded = registry.load(card, choose(card, device), weights)
    findings = infer(card, loaded, study, None, lambda part, words: progress(0.05 + 0.85 * part, words))
    progress(0.9, "writing the results")
    results = report.results(findings, study)
    out.mkdir(parents=True, exist_ok=True)
    written = tuple(out / ("report.json" if r.kind == "fhir" else f"{r.kind}-{r.uid}.dcm") for r in results)
    for path, result in zip(written, results, strict=True):
        path.write_bytes(result.body)
    progress(1.0, "done")
    return written


def no_prior_because(study: "Study", prior: "Study") -> str:
    """Why a study is no earlier one of the same patient, by what the two say of themselves; "" where nothing contradicts."""
    if study.study_uid == prior.study_uid:
        return "it is the same study"
    one, other = study.series[0].headers[0], prior.series[0].headers[0]
    for keyword, what in (("PatientID", "Patient ID"), ("PatientBirthDate", "birth date"), ("PatientSex", "sex")):
        mine, theirs = one.text(keyword), other.text(keyword)
        if mine and theirs and mine != theirs:
            return f"its {what} is another one, so it is another patient's"
    (day, time), (their_day, their_time) = ((h.text("StudyDate"), h.text("StudyTime")) for h in (one, other))
    later = their_day > day or (their_day == day and bool(time) and their_time > time)
    return "it is later than the study" if day and later else ""


def of_another_study(out: Path, study_uid: str) -> str:
    """The name of a result in `out` that is of another study: a DICOM file, or a report; "" where there is none."""
    from radnode_fhir.identifiers import DICOM_UID
    from radnode_inference.header import Header, NotDicomError

    for path in sorted(out.glob("*.dcm")):
        with contextlib.suppress(NotDicomError, OSError):
            if Header.read(path).text("StudyInstanceUID") != study_uid:
                return path.name
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        for entry in json.loads((out / "report.json").read_bytes())["entry"]:
            made = entry["resource"]
            named = {i.get("value") for i in made.get("identifier", ()) if i.get("system") == DICOM_UID}
            if made["resourceType"] == "ImagingStudy" and named != {f"urn:oid:{study_uid}"}:
                return "report.json"
    return ""


def unreadable(folder: Path) -> Iterator[Path]:
    """Files that must be DICOM by their prefix, or by their name and being empty, and that cannot be read."""
    from radnode_inference.header import Header, NotDicomError

    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        try:
            Header.read(path)
        except NotDicomError:
            with path.open("rb") as f:
                start = f.read(132)
            named = path.suffix.lower() in ("", ".dcm", ".ima") and not path.name.startswith(".")
            if start[128:] == b"DICM" or (not start and named):
                yield path


@contextlib.contextmanager
def progress_bar() -> Iterator["Progress"]:
    """A bar on a terminal; nothing elsewhere."""
    if not sys.stderr.isatty():
        yield lambda _part, _words: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("reading", total=1.0)
        yield lambda part, words: bar.update(task, completed=part, description=words)


def one_line(text: str) -> str:
    return " ".join(text.split())


@click.command(context_settings={"ignore_unknown_options": True, "allow_extra_args": True}, add_help_option=False)
@click.pass_context
def demo(ctx: click.Context) -> None:
    """Send sample studies through a node of its own and print the worklist."""
    from radnode.demo import run as demonstration

    demonstration.main(ctx.args)
