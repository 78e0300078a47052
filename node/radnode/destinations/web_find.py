"""QIDO-RS and WADO-RS: ask over the web what a system has, and fetch it. PS3.18 sections 10.4 and 10.6."""

from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any

import httpx

from radnode.destinations.dimse_find import NO_IMAGES, Found, each_once, number
from radnode.destinations.web_client import WebAddress, ask, client
from radnode.errors import DeliveryError

PAGE = 500
TAGS = {
    "patient_id": "00100020", "issuer_of_patient_id": "00100021", "patient_birth_date": "00100030",
    "patient_sex": "00100040", "study_date": "00080020", "study_time": "00080030", "accession_number": "00080050",
    "description": "00081030", "body_part": "00180015",
}  # fmt: skip
STUDY, SERIES, OBJECT, MODALITY, MODALITIES = "0020000D", "0020000E", "00080018", "00080060", "00080061"
STUDY_COUNT, SERIES_COUNT = "00201208", "00201209"
WANTED = 'multipart/related; type="application/dicom"; transfer-syntax=*'


class WebFinder:
    """A DICOMweb server; use as a context manager. Raises DeliveryError when it cannot be called at all."""

    def __init__(self, at: WebAddress, timeout_s: float) -> None:
        self._http = client(at, timeout_s)

    def __enter__(self) -> "WebFinder":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._http.close()

    def studies(self, **keys: str) -> tuple[Found, ...]:
        """The studies that match DICOM keywords. Raises DeliveryError."""
        given = {k: v for k, v in keys.items() if v}
        answers = self._ask("studies", given | {"includefield": "all"})
        return each_once(study_of(a) for a in answers if text(a, STUDY))

    def series(self, study_uid: str) -> Mapping[str, int | None]:
        """Series Instance UID -> how many images it has. Raises DeliveryError."""
        answers = self._ask(f"studies/{study_uid}/series", {"includefield": SERIES_COUNT})
        images = (a for a in answers if text(a, SERIES) and text(a, MODALITY) not in NO_IMAGES)
        return {text(a, SERIES): number(text(a, SERIES_COUNT)) for a in images}

    def images(self, study_uid: str, series_uid: str) -> int | None:
        """How many objects of a series it lists, each once; None for none. Raises DeliveryError."""
        answers = self._ask(f"studies/{study_uid}/series/{series_uid}/instances", {})
        return len({text(a, OBJECT) for a in answers} - {""}) or None

    def objects(self, study_uid: str) -> Iterator[bytes]:
        """Every object of a study as a DICOM file, one at a time. Raises DeliveryError."""
        for a in self._ask(f"studies/{study_uid}/instances", {}):
            path = f"studies/{study_uid}/series/{text(a, SERIES)}/instances/{text(a, OBJECT)}"
            answer = self._get(path, {}, WANTED)
            yield first_part(answer.content, answer.headers.get("content-type", ""))

    def _ask(self, path: str, query: Mapping[str, str]) -> list[dict[str, Any]]:
        """All pages. A server may make them shorter than asked for, and says so (warning 299, PS3.18 section 8.3.4.4); one that
        knows no pages answers with the same each time."""
        found: list[dict[str, Any]] = []
        while True:
            page = {"limit": str(PAGE), "offset": str(len(found))}
            answer = self._get(path, {**query, **page}, "application/dicom+json")
            try:
                items = answer.json() if answer.content else []
            except ValueError as e:
                raise DeliveryError("the answer is no DICOM JSON") from e
            if not isinstance(items, list):
                raise DeliveryError("the answer is no DICOM JSON")
            if items == found[: len(items)]:
                return found
            found += items
            if len(items) < PAGE and not answer.headers.get("warning", "").startswith("299"):
                return found

    def _get(self, path: str, query: Mapping[str, str], accept: str) -> httpx.Response:
        return ask(self._http, "GET", f"/{path}", params=dict(query), headers={"accept": accept})


def study_of(a: Mapping[str, Any]) -> Found:
    modalities = tuple(str(v) for v in a.get(MODALITIES, {}).get("Value") or () if v)
    values = {name: text(a, tag) for name, tag in TAGS.items()}
    return Found(study_uid=text(a, STUDY), modalities=modalities, instances=number(text(a, STUDY_COUNT)), **values)


def text(a: Mapping[str, Any], tag: str) -> str:
    values = a.get(tag, {}).get("Value") or [""]
    return "" if values[0] is None else str(values[0]).strip("\0 ")


def first_part(body: bytes, content_type: str) -> bytes:
    """The one part of a multipart/related answer (RFC 2387), or the body where it is none. Raises DeliveryError."""
    kind, *parameters = (p.strip() for p in content_type.split(";"))
    if kind.lower() == "application/dicom":
        return body
    named = [p[9:].strip('"') for p in parameters if p.lower().startswith("boundary=")]
    if kind.lower() != "multipart/related" or not named:
        raise DeliveryError("the answer holds no DICOM file")
    mark = b"--" + named[0].encode("latin-1")
    begin = body.find(mark)
    head = body.find(b"\r\n\r\n", begin)
    end = body.rfind(b"\r\n" + mark + b"--")
    if begin < 0 or head < 0 or end < head:
        raise DeliveryError("the answer is cut off")
    return body[head + 4 : end]
