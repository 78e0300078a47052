"""Every text of the pages that is to be translated, found in the templates and in the Python modules of the web package."""

from pathlib import Path

from babel.messages.extract import extract
from jinja2.ext import babel_extract

import radnode.web

WEB = Path(next(iter(radnode.web.__path__)))


def messages() -> tuple[str, ...]:
    """In the order in which they stand, each once."""
    found: dict[str, None] = {}
    for template in sorted((WEB / "templates").glob("*.html")):
        with template.open("rb") as file:
            for _, _, text, _ in babel_extract(file, ("_", "gettext"), (), {}):
                found[str(text[0] if isinstance(text, tuple) else text)] = None
    for module in sorted(WEB.glob("*.py")):
        with module.open("rb") as file:
            for _, text, _, _ in extract("python", file, keywords={"mark": None}):
                found[str(text)] = None
    return tuple(found)
