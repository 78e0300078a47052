"""Values in the words of a page. Every text is escaped by the templates, not here."""

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from pydicom.uid import UID

from radnode.narrative import words as narrative_words
from radnode.narrative.narratives import Step
from radnode.settings import Settings, Viewer
from radnode.shadow import in_words
from radnode.states import StudyState
from radnode.studies import StudySummary
from radnode.web.door import PERSON
from radnode.web.i18n import LANGUAGE, LANGUAGES, Texts, mark
from radnode.worklist import Answer, Outcome

STATES: Mapping[StudyState, str] = {
    StudyState.RECEIVING: mark("arriving"),
    StudyState.COMPLETE: mark("complete"),
    StudyState.ROUTED: mark("AI at work"),
    StudyState.READ: mark("AI ended"),
}
Render = Callable[..., HTMLResponse]
LABELS: Mapping[Outcome, str] = {
    Outcome.FINDING: mark("finding"),
    Outcome.CLEAR: mark("no finding"),
    Outcome.UNCODED: mark("nothing coded"),
    Outcome.DECLINED: mark("declined"),
    Outcome.FAILED: mark("failed"),
    Outcome.HELD: mark("result withheld"),
    Outcome.WAITING: mark("waiting"),
    Outcome.NOT_RUN: mark("not run"),
    Outcome.RETRACTED: mark("retracted"),
}
NO_MODEL = mark("no model ran")
STEPS: Mapping[Step, str] = {
    Step.WRITTEN: mark("written by the language model"),
    Step.REFUSED: mark("the language model's text was refused"),
    Step.UNANSWERED: mark("the language model did not answer"),
    Step.DENIED: mark("the language model refused to answer"),
    Step.SAVED: mark("saved as a draft"),
    Step.RESET: mark("draft taken again"),
    Step.CONFIRMED: mark("confirmed"),
}
COLUMNS = (
    mark("Priority"), mark("Why"), mark("Accession number"), mark("Patient ID"), mark("Name"), mark("Sex"),
    mark("Birth date"), mark("Examination"), mark("Body part"), mark("Study time"), mark("AI result"),
    mark("Waiting"), mark("Comment"), mark("State"), mark("Actions"),
)  # fmt: skip
WORDS = (
    mark("owed"), mark("delivered"), mark("dead"), mark("not-taken"), mark("withdrawn"),
    mark("queued"), mark("running"), mark("done"), mark("held"), mark("stale"),
    mark("accepted"), mark("rejected"), mark("edited"), mark("undone"), mark("live"), mark("shadow"), mark("off"),
    mark("Viewer"), mark("Not here"), mark("Retract"), mark("There is no result to retract."),
    mark("The node never received this study."),
    mark("send"), mark("query"), mark("retrieve"), mark("commit"), mark("worklist"), mark("results"), mark("prior"), mark("hand"), mark("reconcile"),
    mark("Rules"), mark("Reconciliation"),
    mark("reader"), mark("administrator"), mark("Sign in"), mark("The first administrator"), mark("Your account"), mark("Users"), mark("Audit"),
    mark("There were too many failed attempts: wait a quarter of an hour."),
    mark("This name and password do not belong together."), mark("The password until now is another one."),
    mark("This is not the token that `radnode serve` printed, or it was used or is too old."),
    mark("The two passwords are not the same."), mark("The two new passwords are not the same."),
    mark("Nobody signed in here, so there is no password to change."),
)  # fmt: skip
"""States and titles that templates translate as they come."""
REFUSALS = (
    mark("A name has up to 64 letters, digits and . _ @ -, and begins with a letter or digit."),
    mark("This password is too easy to guess: more different characters, and not the name itself."),
    mark("A token has at least one scope."), mark("The images of this study are still arriving."),
    mark("Images of this study were let go (see its story): send them again to have it read."),
    mark("Images of this study are still arriving; it can be marked as read once they are all here."),
    mark("Images of this study came that are newer than what you read; look at it again."),
    mark("Nobody has read this study."), mark("Nobody set the priority of this study."),
    mark("Another simulation is running."), mark("This simulation is not running."),
    mark("Say in a few words what is right instead."), mark("Say in a few words what the model did not find."),
    mark("A password has at least 12 characters."), mark("There is no peer that may be queried and fetched from."),
    mark("The draft is too long."), mark("The draft has no [[rules]]."), mark("The draft is nested too deeply."),
)  # fmt: skip
"""What other modules refuse, as `as_sentence` makes it; a test finds those that are missing here."""
PHRASES = (
    mark("No AI report: normal place"), mark("No finding by AI"), mark("No finding, report final"),
    mark("The AI's report was retracted"), mark("Its turn before the STAT of an AI"), mark("images are arriving"),
    mark("waits for a worker"), mark("starts anew: later images came"), mark("no rule matched"),
    mark("PARTIAL: not every image was read"), "demonstration, not for clinical use",
)  # fmt: skip
"""What the worklist says in fixed words within its reasons and answers."""
SCHEMES = ("http://", "https://", "weasis://")
TEMPLATES = Path(__file__).parent / "templates"


def environment(settings: Settings) -> Environment:
    """The templates in the language of each request, every value escaped, with the filters below."""
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.i18n"],
    )
    texts = Texts()
    made.install_gettext_callables(texts.gettext, texts.ngettext, newstyle=True)  # type: ignore[attr-defined]
    made.globals |= {"language": LANGUAGE.get, "languages": LANGUAGES, "column_names": COLUMNS, "asking": PERSON.get}
    made.filters |= {
        "person": person,
        "date": date,
        "clock": clock,
        "issued": issued,
        "concept": lambda code: concept(code, LANGUAGE.get()),
        "at": at,
        "duration": lambda seconds: duration(seconds, texts.gettext),
        "modalities": modalities,
        "size": size,
        "short": short,
        "state": lambda value, ran=True: texts.gettext(state(value, ran)),
        "label": lambda outcome: texts.gettext(label(outcome)),
        "said": lambda answer: phrased(said(answer), texts.gettext),
        "phrased": lambda text: phrased(text, texts.gettext),
        "unseen": in_words,
        "step": lambda step: texts.gettext(STEPS[step]),
        "sop_class": sop_class,
        "translated": texts.gettext,
        "viewers": lambda study: viewer_links(settings, study),
    }
    return made


def person(name: str) -> str:
    """ "MÜLLER, Anna" for the DICOM name MÜLLER^Anna, "Wang, XiaoDong (王, 小東)" for one that is also written in ideographs.

    A name may have its second group alone (PS3.5 section 6.2.1.2); the third, how it sounds, stands only for want of others.
    """
    written = [shown for shown in map(name_group, name.split("=")) if shown]
    first = written[0] if written else "–"
    return f"{first} ({written[1]})" if len(written) > 1 and name.split("=")[0].strip("^ ") else first


def name_group(group: str) -> str:
    """Family name, given and middle names; "" where the group is empty."""
    parts = [p.strip() for p in group.split("^")]
    family, given = parts[0], " ".join(p for p in parts[1:3] if p)
    return ", ".join(p for p in (family, given) if p)


def date(value: str) -> str:
    """2026-11-22 for the DICOM date 20261122; what is no date as it stands."""
    return f"{value[:4]}-{value[4:6]}-{value[6:8]}" if len(value) == 8 and value.isdigit() else value or "–"


def at(epoch: float | None) -> str:
    """UTC to the second."""
    return "–" if epoch is None else datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%d %H:%M:%S")


def issued(value: str) -> str:
    """A FHIR instant as `at` shows a time, whatever zone its system wrote it in; what is none as it stands."""
    try:
        when = datetime.fromisoformat(value)
    except ValueError:
        return value
    return at(when.timestamp()) if when.tzinfo else value


def concept(code: str, language: str) -> str:
    """ "pulmonary embolism (59282003)": a code as people call it; one without a name here alone."""
    known = narrative_words.NAMES.get(code)
    return f"{known[0] if language == narrative_words.CHINESE else known[1][0]} ({code})" if known else code


def clock(value: str) -> str:
    """14:05 for the DICOM time 140512.123; "" for what is none."""
    return f"{value[:2]}:{value[2:4]}" if value[:4].isdigit() and len(value) >= 4 else ""


def duration(seconds: float, translate: Callable[[str], str] = str) -> str:
    if seconds < 60:
        return translate(mark("%d s")) % max(0.0, seconds)
    if seconds < 3600:
        return translate(mark("%d min")) % (seconds / 60)
    if seconds < 48 * 3600:
        return translate(mark("%(hours)d h %(minutes)d min")) % {
            "hours": seconds // 3600,
            "minutes": seconds % 3600 / 60,
        }
    return translate(mark("%d days")) % (seconds / 86400)


def modalities(value: str) -> str:
    return value.replace("\\", ", ") or "–"


def size(value: int) -> str:
    return f"{value / 1024:.0f} kB" if value < 1 << 20 else f"{value / (1 << 20):.1f} MB"


def short(uid: str) -> str:
    """The end of a UID, for people to tell two apart."""
    return uid if len(uid) <= 14 else f"…{uid[-12:]}"


def sop_class(uid: str) -> str:
    """The name of a SOP class without "Storage"; the UID where it has none."""
    return UID(uid).name.removesuffix(" Storage")


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


def phrased(text: str, translate: Callable[[str], str]) -> str:
    """The text with the worklist's own words in the reader's language; what models and rules wrote stands as it is."""
    for phrase in PHRASES:
        text = text.replace(phrase, translate(phrase))
    return text


def viewer_links(settings: Settings, study: StudySummary) -> tuple[Viewer, ...]:
    """The study in each viewer of the site. Only addresses of the web and of Weasis become links."""
    first = (Viewer.model_construct(name="Viewer", url=settings.web.viewer_url),) if settings.web.viewer_url else ()
    filled = (Viewer.model_construct(name=v.name, url=address(v.url, study)) for v in (*first, *settings.web.viewers))
    return tuple(v for v in filled if v.url.startswith(SCHEMES))


def address(template: str, study: StudySummary) -> str:
    """The template with its places filled in, each value escaped as a part of an address."""
    for key in ("study_uid", "accession_number", "patient_id"):
        template = template.replace(f"{{{key}}}", quote(getattr(study, key), safe=""))
    return template


def common(title: str, here: str) -> dict[str, Any]:
    """What every page needs."""
    return {"title": title, "here": here, "now": time.time()}
