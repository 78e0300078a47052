"""DICOM results as a browser can show them: key images as PNG, structured reports as text."""

import io
from collections.abc import Iterator
from pathlib import Path

import pydicom
from PIL import Image
from pydicom.dataset import Dataset

MAX_DEPTH = 32  # of a report that is shown; deeper ones are cut and say so


def png(file: Path) -> bytes:
    """The first frame of a Secondary Capture as PNG. Raises ValueError when it is no 8-bit image."""
    ds = pydicom.dcmread(file)
    pixels = ds.pixel_array
    if int(ds.get("NumberOfFrames", 1) or 1) > 1:
        pixels = pixels[0]
    if pixels.dtype != "uint8":
        raise ValueError("only 8-bit images are shown")
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def report_text(file: Path) -> str:
    """The content tree of a structured report, one line for each content item (PS3.3 section C.17.3)."""
    ds = pydicom.dcmread(file, stop_before_pixels=True)
    return "\n".join(lines(ds, 0))


def lines(item: Dataset, depth: int) -> Iterator[str]:
    concept = meaning(item.get("ConceptNameCodeSequence"))
    value = value_of(item)
    words = ": ".join(w for w in (concept, value) if w) or str(item.get("ValueType", ""))
    yield f"{'    ' * depth}{words}"
    children = item.get("ContentSequence", [])
    if children and depth >= MAX_DEPTH:
        yield f"{'    ' * (depth + 1)}… (deeper items are not shown)"
        return
    for child in children:
        yield from lines(child, depth + 1)


def value_of(item: Dataset) -> str:
    """A content item's value in words, by its Value Type (PS3.3 table C.17.3-7)."""
    kind = str(item.get("ValueType", ""))
    if kind == "NUM":
        measured = item.get("MeasuredValueSequence") or [Dataset()]
        unit = code(measured[0].get("MeasurementUnitsCodeSequence"))
        return f"{measured[0].get('NumericValue', 'no value')} {unit}".strip()
    if kind == "CODE":
        return meaning(item.get("ConceptCodeSequence"))
    if kind == "SCOORD":
        return f"{item.get('GraphicType', '')}, {len(item.get('GraphicData') or []) // 2} points"
    if kind in ("IMAGE", "COMPOSITE"):
        return reference(item)
    keyword = {"TEXT": "TextValue", "UIDREF": "UID", "PNAME": "PersonName", "DATE": "Date", "DATETIME": "DateTime"}
    return str(item.get(keyword.get(kind, ""), "")) if kind in keyword else ""


def reference(item: Dataset) -> str:
    found = (item.get("ReferencedSOPSequence") or [Dataset()])[0]
    parts = [
        found.get("ReferencedSOPClassUID", pydicom.uid.UID("")).name,
        str(found.get("ReferencedSOPInstanceUID", "")),
    ]
    for keyword, word in (("ReferencedFrameNumber", "frame"), ("ReferencedSegmentNumber", "segment")):
        if keyword in found:
            parts.append(f"{word} {found[keyword].value}")
    return ", ".join(parts)


def meaning(sequence: object) -> str:
    return str(sequence[0].get("CodeMeaning", "")) if isinstance(sequence, pydicom.Sequence) and sequence else ""


def code(sequence: object) -> str:
    return str(sequence[0].get("CodeValue", "")) if isinstance(sequence, pydicom.Sequence) and sequence else ""
