"""What routing may know of a study: read from the headers of a few images of each series, never from pixels."""

from collections.abc import Iterable, Sequence

from radnode.route import SeriesFacts, StudyFacts, attributes_of, excluded_because
from radnode.rules import EXCLUSIONS, MODELS, TEXTS
from radnode.settings import Rule
from radnode_inference.header import Header
from radnode_inference.study import Series, Study

ALWAYS = (
    "Modality", "SeriesNumber", "SeriesDescription", "SOPClassUID", "ImageType",
    *TEXTS.split("|"),  # what a model's card may ask for where no rule names the model
)  # fmt: skip
COMPUTED = ("Images", "Orientation", "CallingAE", "CalledAE")
AXES = ("SAGITTAL", "CORONAL", "AXIAL")
OBLIQUE_BEYOND = 0.9  # cosine: about 25 degrees between the slice normal and the patient's axis


def study_facts(
    study: Study,
    *,
    rules: Sequence[Rule] | None,
    calling_ae: str = "",
    called_aes: tuple[str, ...] = (),
    images: dict[str, int],
) -> StudyFacts:
    """The facts of a study whose series may hold only some of their headers.

    images: Series Instance UID -> how many objects the series has. Raises nothing: what is unreadable is absent.
    """
    keywords = wanted(rules)
    return StudyFacts(
        study_uid=study.study_uid,
        calling_ae=calling_ae,
        called_aes=called_aes,
        generated=study.generated,
        series=tuple(series_facts(s, keywords, images.get(s.series_uid, len(s.headers))) for s in study.series),
    )


def series_facts(series: Series, keywords: Iterable[str], images: int) -> SeriesFacts:
    """The facts of a series: of its first image that is no localizer or the like, else of its first."""
    header = next((h for h in series.headers if not image_excluded(h)), series.headers[0])
    return SeriesFacts(series_uid=series.series_uid, attributes=attributes(header, keywords, images))


def attributes(header: Header, keywords: Iterable[str], images: int = 1) -> dict[str, tuple[str, ...]]:
    values = {k: texts(header, k) for k in keywords}
    frames = int(header.number("NumberOfFrames") or 1)
    return values | {"Images": (str(images * frames),), "Orientation": (orientation(header),)}


def texts(header: Header, keyword: str) -> tuple[str, ...]:
    """The values of a keyword; () when the element is absent or the word is no DICOM keyword."""
    try:
        return header.texts(keyword)
    except KeyError:
        return ()


def image_excluded(header: Header, rules: Sequence[Rule] = EXCLUSIONS) -> str:
    """Why one image is no input of any model; "" when it may be one."""
    facts = SeriesFacts(series_uid="", attributes=attributes(header, wanted(())))
    nobody = StudyFacts(study_uid="", calling_ae="", called_aes=(), generated=False, series=(facts,))
    return excluded_because(facts, nobody, rules)


def only_inputs(study: Study, rules: Sequence[Rule] | None = None) -> Study:
    """The study without the images that no model may read; its series may be none at all.

    Segmentations and structure sets are kept apart, as `Study.regions`.
    """
    exclusions = (*EXCLUSIONS, *(r for r in rules or () if not r.models))
    kept = []
    for series in study.series:
        headers = tuple(h for h in series.headers if not image_excluded(h, exclusions))
        if headers:
            kept.append(Series(series_uid=series.series_uid, headers=headers))
    drawn = tuple(s for s in study.series if s.modality in ("SEG", "RTSTRUCT"))
    return Study(study_uid=study.study_uid, series=tuple(kept), regions=drawn)


def wanted(rules: Sequence[Rule] | None) -> tuple[str, ...]:
    """Every DICOM keyword that is looked at."""
    asked = attributes_of((*EXCLUSIONS, *(MODELS if rules is None else rules)))
    return tuple(k for k in dict.fromkeys((*ALWAYS, *asked)) if k not in COMPUTED)


def orientation(header: Header) -> str:
    """AXIAL, CORONAL, SAGITTAL or OBLIQUE, from Image Orientation (Patient), PS3.3 C.7.6.2.1.1; "" when absent.

    An enhanced multi-frame image keeps it nested (C.7.6.16.2.4); then it is read with the full parser.
    """
    values = header.numbers("ImageOrientationPatient") or nested_orientation(header)
    if len(values) != 6:
        return ""
    (a, b, c), (d, e, f) = values[:3], values[3:]
    normal = (abs(b * f - c * e), abs(c * d - a * f), abs(a * e - b * d))
    largest = max(range(3), key=lambda i: normal[i])
    return AXES[largest] if normal[largest] >= OBLIQUE_BEYOND else "OBLIQUE"


def nested_orientation(header: Header) -> tuple[float, ...]:
    if header.path is None or header.number("NumberOfFrames") is None:
        return ()
    dataset = header.dataset()
    for groups in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        for group in list(dataset.get(groups, ()))[:1]:
            for plane in group.get("PlaneOrientationSequence", ()):
                return tuple(float(v) for v in plane.get("ImageOrientationPatient", ()))
    return ()
