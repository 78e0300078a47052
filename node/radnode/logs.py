"""How the node logs: sentences or JSON, times in UTC, and nothing that could name a patient.

An error of a library often quotes the value that it stumbled over. So an error's own words are written only where they are
ours or the operating system's; of every other error its type and its traceback, which hold code and no values.
"""

import json
import logging
import sys
import threading
import time
import traceback
import warnings
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType

from radnode.errors import RadnodeError

STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}
QUOTING = "pydicom"
"""Its warnings hold the values of elements."""
QUOTING_HL7 = "hl7"
"""Its warnings hold fields of messages; its loggers have the names of its files."""
QUIET = ("httpx", "httpcore", "alembic", "apscheduler", "pynetdicom", "PIL", "asyncio")

log = logging.getLogger(__name__)


class Sentences(logging.Formatter):
    """One sentence, then the stable keys that were given as `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        line = super().format(record)
        keys = " ".join(f"{k}={v}" for k, v in vars(record).items() if k not in STANDARD)
        first, newline, rest = line.partition("\n")
        return first + (f" [{keys}]" if keys else "") + newline + rest

    def formatException(self, ei: object) -> str:  # noqa: N802  the name is logging's
        return told(ei[1]) if isinstance(ei, tuple) and ei[1] is not None else ""


class JsonLines(logging.Formatter):
    """One JSON object a line: at (ISO 8601, UTC), level, logger, sentence, error, and the stable keys."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "sentence": record.getMessage(),
        }
        if record.exc_info and record.exc_info[1] is not None:
            line["error"] = told(record.exc_info[1])
        line |= {k: v for k, v in vars(record).items() if k not in STANDARD}
        return json.dumps(line, default=str, ensure_ascii=False)


def told(error: BaseException) -> str:
    """The traceback of an error and of what caused it, the oldest first, without the words of other people's code."""
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    earlier = f"{told(before)}\n\n" if before is not None else ""
    kind = f"{type(error).__module__}.{type(error).__qualname__}"
    ours = isinstance(error, RadnodeError | OSError)
    words = str(getattr(error, "sentence", error)) if ours else ""
    frames = "".join(traceback.format_tb(error.__traceback__))
    return f"{earlier}Traceback:\n{frames}{kind}{f': {words}' if words else ''}"


def unforeseen(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
    """Log what ended a process or a thread; Python itself would write the words of libraries to the service's log."""
    if error is None or issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error or kind(), trace)
        return
    if not logging.getLogger().handlers:
        log_to_stderr()
    log.critical("It ended by an error that nobody foresaw.", exc_info=(kind, error, trace))


def as_a_service() -> None:
    """Of this process and its threads: whatever ends them is logged as every other error is."""
    sys.excepthook = unforeseen
    threading.excepthook = lambda args: unforeseen(args.exc_type, args.exc_value, args.exc_traceback)


def sentences() -> logging.Formatter:
    """Times in UTC, whatever the zone of the machine, as in stories and data."""
    made = Sentences("%(asctime)s %(levelname)s %(name)s: %(message)s")
    made.converter = time.gmtime
    made.default_msec_format = "%s,%03dZ"
    return made


def by_file(package: str) -> list[str]:
    """The files of a package, by which some name their loggers."""
    found = find_spec(package)
    folders = (found.submodule_search_locations or ()) if found else ()
    return [str(file) for folder in folders for file in Path(folder).glob("*.py")]


def log_to_stderr(*, verbose: bool = False, lines: str = "sentences") -> None:
    """lines: "sentences" or "json"."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if lines == "json" else sentences())
    logging.basicConfig(level=logging.DEBUG if verbose else logging.INFO, handlers=[handler], force=True)
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    for name in (QUOTING, *by_file(QUOTING_HL7)):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", module=rf"{QUOTING}\b")
