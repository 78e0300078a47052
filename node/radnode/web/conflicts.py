"""What two people wrote of the same thing at the same time: neither replaces the other unseen. The second one finds both on a page.

Each form says what its person saw; what stands is compared with that before anything is written.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from fastapi.responses import Response

from radnode.web.i18n import mark
from radnode.web.views import Render

TITLE = mark("Changed meanwhile")
SAVE, SAVE_DRAFT, CONFIRM = mark("Save"), mark("Save as draft"), mark("Confirm")


@dataclass(frozen=True, kw_only=True)
class Conflict:
    """What stands, who wrote it and when (UTC epoch seconds), and what the second person wrote.

    address: of the form. text_field: its name for the text. hidden: its other fields, now with what stands as seen.
    buttons: (name, value, label) of each.
    """

    study_uid: str
    address: str
    who: str
    at: float
    theirs: str
    mine: str
    text_field: str
    length: int
    hidden: Mapping[str, str] = field(default_factory=dict)
    buttons: Sequence[tuple[str, str, str]] = (("", "", SAVE),)


def page(render: Render, conflict: Conflict) -> Response:
    """Both texts, and a form that replaces what stands, now that it was seen. 409: nothing was changed."""
    return render("conflict.html", TITLE, "studies", 409, conflict=conflict)


def same(one: str, other: str) -> bool:
    """But for blanks and ends of lines, which forms change on their way."""
    return one.split() == other.split()
