"""Small files that survive a power cut as the old or the new one, never as a part of either."""

import json
import os
from pathlib import Path
from typing import Any


def write_json(file: Path, value: Any) -> None:
    """Take the place of `file`. Raises OSError; what was there then stays."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f"{file.name}.{os.getpid()}.part")
    with part.open("w") as f:
        json.dump(value, f)
        f.flush()
        os.fsync(f.fileno())
    part.replace(file)
