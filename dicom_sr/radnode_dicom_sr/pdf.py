"""The report as a page to read, with the key images in it: Encapsulated PDF (PS3.3 A.45.1)."""

import re
from collections.abc import Iterable, Iterator, Sequence
from io import BytesIO
from xml.sax.saxutils import escape

from PIL import Image as Picture
from pydicom import dcmread
from pydicom.uid import EncapsulatedPDFStorage
from reportlab import rl_config
from reportlab.lib.colors import HexColor
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfbase.cidfonts import CIDFont, UnicodeCIDFont
from reportlab.pdfbase.pdfmetrics import registerFont
from reportlab.platypus import Flowable, Image, KeepTogether, Paragraph, SimpleDocTemplate, Spacer

from radnode_dicom_sr import codes
from radnode_dicom_sr.dataset import Context, described, file_bytes, local
from radnode_dicom_sr.elements import dataset
from radnode_dicom_sr.identity import PDF, DicomObject
from radnode_dicom_sr.key_images import KeyPicture
from radnode_dicom_sr.report import notes
from radnode_dicom_sr.source import clip
from radnode_inference.findings import Evaluation, Finding, Measurement

SOP_CLASS_UID = str(EncapsulatedPDFStorage)
TAIWAN_FONT = "MSung-Light"
FONTS = (
    ("big5", TAIWAN_FONT),
    ("gbk", "STSong-Light"),
    ("shift_jis", "HeiseiMin-W3"),
    ("euc_kr", "HYSMyeongJo-Medium"),
)
"""Characters beyond Latin by the first of Adobe's standard fonts that has them; readers bring these fonts along."""
TITLE = ParagraphStyle("title", fontName="Helvetica-Bold", fontSize=16, leading=20)
HEADING = ParagraphStyle("heading", fontName="Helvetica-Bold", fontSize=12, leading=16, spaceBefore=8)
BODY = ParagraphStyle("body", fontName="Helvetica", fontSize=9.5, leading=13, wordWrap="CJK")
NAME = ParagraphStyle("name", parent=BODY, fontName="Helvetica-Bold")
WARNING = ParagraphStyle("warning", parent=BODY, textColor=HexColor(0xA00000))
PICTURE_MM = 110


def pdf(context: Context, pictures: Sequence[KeyPicture]) -> DicomObject:
    """The whole result, located findings and those of the examination, on pages."""
    ds = described(
        context,
        sop_class_uid=SOP_CLASS_UID,
        role=PDF,
        instance=PDF,
        number=1,
        modality="DOC",
        description="report as PDF",
        form=context.profile.spoken,
    )
    ds.ConversionType = "WSD"
    ds.AcquisitionDateTime = ""
    ds.BurnedInAnnotation = "YES"
    ds.RecognizableVisualFeatures = "NO"
    ds.DocumentTitle = clip(f"AI {context.model.name}", 1024)
    ds.ConceptNameCodeSequence = [codes.item(codes.IMAGING_REPORT)]
    source = context.source
    ds.SourceInstanceSequence = [
        dataset(ReferencedSOPClassUID=c, ReferencedSOPInstanceUID=u)
        for c, u in dict.fromkeys((s.sop_class_uid, s.sop_uid) for s in source.slices)
    ]
    if ds.get("BodyPartExamined") not in codes.UNPAIRED:
        ds.Laterality = ""
    ds.MIMETypeOfEncapsulatedDocument = "application/pdf"
    written = pages(context, pictures)
    ds.EncapsulatedDocumentLength = len(written)
    ds.EncapsulatedDocument = written + b"\0" * (len(written) % 2)
    return DicomObject(
        kind="pdf",
        sop_class_uid=SOP_CLASS_UID,
        sop_uid=str(ds.SOPInstanceUID),
        series_uid=str(ds.SeriesInstanceUID),
        body=file_bytes(ds),
    )


def printed(made: DicomObject) -> bytes:
    """The PDF in an Encapsulated PDF object, without its padding (PS3.3 C.24.2)."""
    ds = dcmread(BytesIO(made.body))
    return bytes(ds.EncapsulatedDocument)[: int(ds.EncapsulatedDocumentLength)]


class TraditionalChinese(UnicodeCIDFont):  # type: ignore[misc]
    """MSung-Light with the character map of its own collection; reportlab 5.1 gives it one of simplified Chinese."""

    def __init__(self) -> None:
        super().__init__(TAIWAN_FONT)
        CIDFont.__init__(self, TAIWAN_FONT, "UniCNS-UCS2-H")
        self.name = self.fontName = TAIWAN_FONT


def pages(context: Context, pictures: Sequence[KeyPicture]) -> bytes:
    """The PDF file; the same bytes for the same content and time."""
    return rendered(f"AI {context.model.name}", story(context, pictures))


def letter(title: str, heads: Sequence[str], text: str) -> bytes:
    """A text as a PDF of its own: the title, the lines that say of whom and by whom, the text line by line."""
    body = (line(t, BODY) if t.strip() else Spacer(1, 3 * mm) for t in text.splitlines())
    return rendered(title, [line(title, TITLE), *map(line, heads), Spacer(1, 4 * mm), *body])


def rendered(title: str, parts: Iterable[Flowable]) -> bytes:
    rl_config.useA85 = 0  # pictures as bytes: as text, in Python, they took most of the time and a quarter more room
    registerFont(TraditionalChinese())
    for _, font in FONTS[1:]:
        registerFont(UnicodeCIDFont(font))
    out = BytesIO()
    document = SimpleDocTemplate(
        out, pagesize=A4, title=title, author="radnode", invariant=1, leftMargin=20 * mm, rightMargin=20 * mm,
        topMargin=16 * mm, bottomMargin=16 * mm,
    )  # fmt: skip
    document.build(list(parts))
    return out.getvalue()


def story(context: Context, pictures: Sequence[KeyPicture]) -> Iterator[Flowable]:
    words, items = context.words, context.findings.items
    yield line(f"{words.report}: {context.model.name} {context.model.version}", TITLE)
    for sentence in head(context):
        yield line(sentence)
    for sentence in notes(context)[: 1 + context.model.demonstration + bool(context.findings.partial_because)]:
        yield line(sentence, WARNING)
    parts = (
        (words.findings, [f for f in items if f.mask is not None]),
        (
            words.examination,
            [f for f in items if f.mask is None],
        ),
    )
    for heading, findings in parts:
        if findings:
            yield line(heading, HEADING)
        for number, finding in enumerate(findings, start=1):
            name = line(f"{number}. {codes.label(finding)} [{finding.tracking_id}]", NAME)
            yield KeepTogether([name, *(line(s) for s in told(finding, context))])
    if not items:
        yield line(words.nothing_found, HEADING)
    yield from drafted(context)
    yield line(words.notes, HEADING)
    for sentence in notes(context)[1:]:
        yield line(sentence)
    if pictures:
        yield line(words.images, HEADING)
    for picture in pictures:
        yield KeepTogether([shown(picture), Spacer(1, 3 * mm)])


def drafted(context: Context) -> Iterator[Flowable]:
    """The drafted text, said to be one."""
    text = context.draft.get(context.words.language.value.replace("en-US", "en"), "")
    if text:
        yield line(context.words.draft, HEADING)
        for sentence in filter(str.strip, text.splitlines()):
            yield line(sentence)


def head(context: Context) -> Iterator[str]:
    """Who and what: as the images have it."""
    words, ds = context.words, context.inherited
    name = str(ds.PatientName).replace("^", " ").replace("=", " = ").strip()
    born = f", {words.born} {ds.PatientBirthDate}" if ds.PatientBirthDate else ""
    yield f"{words.patient}: {name} ({ds.PatientID or '–'}){born}"
    yield f"{words.study}: {ds.StudyDate or '–'} {ds.get('StudyDescription', '')}"
    if ds.AccessionNumber:
        yield f"{words.accession}: {ds.AccessionNumber}"
    yield f"{words.written}: {' '.join(local(context))[:15]}"


def told(finding: Finding, context: Context) -> Iterator[str]:
    """One finding in lines: the score, the numbers, the answers; the comparison."""
    parts = []
    if finding.probability is not None:
        parts.append(f"{codes.in_text(codes.probability_concept(finding))} {100 * finding.probability:.4g} %")
    parts += [number_of(m) for m in finding.measurements] + [answer(e) for e in finding.evaluations]
    if parts:
        yield "; ".join(parts)
    if finding.prior:
        then = "; ".join(number_of(m) for m in finding.prior.measurements)
        yield f"{context.words.previous} {finding.prior.study_date}: {then}. {finding.prior.sentence}"


def number_of(m: Measurement) -> str:
    method = f" ({codes.in_text(m.method)})" if m.method else ""
    return f"{codes.in_text(m.concept)} {m.value:.6g} {codes.unit(m.unit)}".strip() + method


def answer(e: Evaluation) -> str:
    return f"{codes.in_text(e.concept)}: {codes.in_text(e.value)}"


def shown(picture: KeyPicture) -> Flowable:
    """A key image with its caption drawn in."""
    height, width = picture.pixels.shape[:2]
    scale = PICTURE_MM * mm / max(height, width)
    file = BytesIO()
    Picture.fromarray(picture.pixels).save(file, "JPEG", quality=85)
    file.seek(0)
    return Image(file, width=width * scale, height=height * scale)


def line(sentence: str, style: ParagraphStyle = BODY) -> Paragraph:
    """A sentence; nothing in it is markup."""
    return Paragraph(re.sub(r"[^\x00-\xff]+", lambda m: in_font(m.group()), escape(sentence)), style)


def in_font(text: str) -> str:
    """Characters beyond Latin in a font that has them all, else each in one that has it, else as a question mark."""
    for encoding, font in FONTS:
        try:
            text.encode(encoding)
        except UnicodeEncodeError:
            continue
        return f'<font name="{font}">{text}</font>'
    return "".join(in_font(c) for c in text) if len(text) > 1 else "?"
