"""Variables that look like settings and are none: a misspelt one would otherwise be passed over in silence."""

from collections.abc import Mapping
from difflib import get_close_matches

from pydantic import BaseModel

from radnode.settings import Settings

PREFIX = "RADNODE_"
NEAR = 0.85


def known() -> frozenset[str]:
    """Every variable that sets something: RADNODE_KEY and RADNODE_SECTION_KEY."""
    names = {f"{PREFIX}CONFIG"}
    for name, field in Settings.model_fields.items():
        names.add(f"{PREFIX}{name.upper()}")
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            names.update(f"{PREFIX}{name}_{key}".upper() for key in field.annotation.model_fields)
    return frozenset(names)


def misspelt(settings: Settings, environment: Mapping[str, str]) -> tuple[str, ...]:
    """A sentence for each variable that sets nothing and is nearly the name of one that does.

    A variable that holds a secret of the settings (`env:NAME`) is one of its own.
    """
    names, used = known(), settings.model_dump_json()
    found = []
    for name in sorted(n for n in environment if n.startswith(PREFIX) and n not in names):
        near = get_close_matches(name, names, 1, NEAR)
        if near and f'"env:{name}"' not in used:
            found.append(f"{name} sets nothing: is {near[0]} meant?")
    return tuple(found)
