"""Values in the words of a page. Every text is escaped by the templates, not here."""

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from radnode.settings import Settings
from radnode.shadow import in_words
from radnode.states import StudyState
from radnode.worklist import Answer, Outcome

STATES: Mapping[StudyState, str] = {
    StudyState.RECEIVING: "arriving",
    StudyState.COMPLETE: "complete",
    StudyState.ROUTED: "AI at work",
    StudyState.READ: "AI ended",
}
Render = Callable[..., HTMLResponse]
LABELS: Mapping[Outcome, str] = {Outcome.CLEAR: "no finding", Outcome.HELD: "result withheld"}
NO_MODEL = "no model ran"
TEMPLATES = Path(__file__).parent / "templates"


def environment() -> Environment:
    """The templates, every one escaped, with the filters below."""
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "person": person,
        "date": date,
        "at": at,
        "duration": duration,
        "modalities": modalities,
        "size": size,
        "short": short,
        "state": state,
        "label": label,
        "said": said,
        "unseen": in_words,
    }
    return made


def person(name: str) -> str:
    """ "MÜLLER, Anna" for the DICOM name MÜLLER^Anna (PS3.5 section 6.2.1); other groups than the first are left out."""
    parts = [p.strip() for p in name.split("=")[0].split("^")]
    family, given = parts[0], " ".join(p for p in parts[1:3] if p)
    return ", ".join(p for p in (family, given) if p) or "–"


def date(value: str) -> str:
    """2026-11-22 for the DICOM date 20261122; what is no date as it stands."""
    return f"{value[:4]}-{value[4:6]}-{value[6:8]}" if len(value) == 8 and value.isdigit() else value or "–"


def at(epoch: float | None) -> str:
    """UTC to the second."""
    return "–" if epoch is None else datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%d %H:%M:%S")


def duration(seconds: float) -> str:
    if seconds < 60:
        return f"{max(0.0, seconds):.0f} s"
    if seconds < 3600:
        return f"{seconds / 60:.0f} min"
    if seconds < 48 * 3600:
        return f"{seconds // 3600:.0f} h {seconds % 3600 / 60:.0f} min"
    return f"{seconds / 86400:.0f} days"


def modalities(value: str) -> str:
    return value.replace("\\", ", ") or "–"


def size(value: int) -> str:
    return f"{value / 1024:.0f} kB" if value < 1 << 20 else f"{value / (1 << 20):.1f} MB"


def short(uid: str) -> str:
    """The end of a UID, for people to tell two apart."""
    return uid if len(uid) <= 14 else f"…{uid[-12:]}"


def state(value: str, ran: bool = True) -> str:
    """A study's state in words that nobody takes for a radiologist's: "read" here means by models.

    ran: whether any model was to read it.
    """
    return STATES[StudyState(value)] if ran or value != StudyState.READ else NO_MODEL


def label(outcome: str) -> str:
    """An outcome on its badge; "clear" would promise more than a model can."""
    return LABELS.get(Outcome(outcome), outcome.replace("-", " "))


def said(answer: Answer) -> str:
    """An answer beside its badge: without the word that stands on the badge already."""
    text = answer.text.removeprefix(label(answer.outcome)).removeprefix(": ").strip()
    return text.removeprefix("– ") if answer.model else text


def viewer_link(settings: Settings, study_uid: str) -> str:
    """The study in the site's own viewer; "" when none is set. Only web addresses become links."""
    link = settings.web.viewer_url.replace("{study_uid}", study_uid)
    return link if link.startswith(("http://", "https://")) else ""


def common(title: str, here: str) -> dict[str, Any]:
    """What every page needs."""
    return {"title": title, "here": here, "now": time.time()}
