"""The process of one simulation: `python -m radnode.simulation.child NUMBER PARENT`, the settings as JSON on standard input."""

import os
import sys

from radnode.database import Database
from radnode.settings import Settings
from radnode.simulation.runs import NICE, compute


def main(number: int, parent: int) -> None:
    """Ends by itself when the process that asked for it has ended."""
    settings = Settings.model_validate_json(sys.stdin.buffer.read())
    os.nice(NICE)
    database = Database(settings.url)
    try:
        compute(database, settings, number, lambda: os.getppid() == parent)
    finally:
        database.close()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
