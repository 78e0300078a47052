"""Many different results as FHIR transactions, without any model: what a year of reports holds."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset
from support.findings import BREAST, LEFT, MODEL, findings, lesion, scene

from radnode_dicom_sr import printable
from radnode_fhir.bundle import transaction
from radnode_inference.findings import Code, Kind

ISSUED = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)
CONCEPTS = (
    Code(value="27925004", scheme="SCT", meaning="Nodule"),
    Code(value="86049000", scheme="SCT", meaning="Malignant neoplasm, primary"),
    Code(value="X-1", scheme="99SITE", meaning="Something of the site's own: ünï, 結節"),
)


def header(number: int) -> Any:
    """A change of the source's header: some name no patient, no order, no time, some an issuer by OID."""

    def change(ds: Dataset) -> None:
        ds.SpecificCharacterSet = "ISO_IR 192"
        ds.PatientID, ds.AccessionNumber = ("" if number % 7 == 3 else f"P{number}"), f"A{number}"
        ds.IssuerOfPatientID = ("1.2.3.4", "HOSPITAL", "")[number % 3]
        if number % 5 == 2:
            ds.AccessionNumber = ds.StudyDate = ds.StudyTime = ""
        if number % 4 == 1:
            ds.TimezoneOffsetFromUTC, ds.StudyTime = "+0800", "093000"
        ds.StudyDescription = ("CT chest", "", "胸部")[number % 3]

    return change


def reports(folder: Path, count: int) -> Iterator[dict[str, Any]]:
    """`count` transactions over a few studies: findings of every kind, none, many, amended, partial; each with its PDF."""
    for number in range(min(count, 10)):
        place = scene(folder / str(number), shape=(2, 8, 8), change=header(number), seed=number + 1)
        for variant in range(number, count, 10):
            turn = variant // 10
            items = tuple(
                lesion(
                    place, f"f{i}", (0, 0, 0), 2,
                    concept=CONCEPTS[(i + turn) % 3], probability=None if i == 2 else (turn % 11) / 10,
                    kind=(Kind.ABNORMALITY, Kind.ANATOMY)[i % 2],
                    site=BREAST if turn % 2 else None, laterality=LEFT if turn % 3 else None,
                )
                for i in range(turn % 4)
            )  # fmt: skip
            made = findings(
                place,
                items,
                model=replace(MODEL, name=f"model-{turn % 5}", demonstration=turn % 2 == 0),
                partial_because="Half of it." if turn % 6 == 5 else "",
            )
            issued = ISSUED + timedelta(minutes=variant)
            yield transaction(
                made,
                place.study,
                (),
                status="amended" if turn % 3 == 2 else "preliminary",
                issued=issued,
                document=printable(made, place.study, now=issued),
            )
