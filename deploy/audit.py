"""What pip-audit found, told truthfully: a package that could not be looked up was not audited, whatever else is said.

python deploy/audit.py RESULT.json      # of `pip-audit --format json`; exit code 0 clean, 1 weaknesses, 3 not audited
python deploy/audit.py RESULT.json --only-weak      # for CI: 1 where a weakness is known; that nobody could be asked is told
"""

import json
import sys
from pathlib import Path
from typing import Any

CLEAN, WEAK, NOT_AUDITED = 0, 1, 3


def judge(dependencies: list[dict[str, Any]]) -> tuple[int, list[str]]:
    """The exit code and the sentences. dependencies: of pip-audit's JSON."""
    skipped = [d["name"] for d in dependencies if "skip_reason" in d]
    weak = [(d, v) for d in dependencies for v in d.get("vulns", ())]
    said = [f"{d['name']} {d['version']}: {v['id']}, repaired in {', '.join(v['fix_versions']) or 'no version'}" for d, v in weak]  # fmt: skip
    audited = len(dependencies) - len(skipped)
    if skipped or not dependencies:
        named = f" ({', '.join(skipped[:3])}{', ...' if len(skipped) > 3 else ''})" if skipped else ""
        said.append(
            f"NOT AUDITED: {len(skipped)} of {len(dependencies)} packages{named}: the service of advisories was not reached, "
            "and nothing is known about them. Run `make audit` where PyPI itself can be reached."
        )
    else:
        said.append(f"{audited} packages were audited, {len(weak)} weaknesses are known.")
    return (WEAK if weak else NOT_AUDITED if audited < max(1, len(dependencies)) else CLEAN), said


def read(file: Path) -> list[dict[str, Any]]:
    """Nothing where pip-audit ended before it had a result."""
    return list(json.loads(file.read_text())["dependencies"]) if file.is_file() and file.stat().st_size else []


if __name__ == "__main__":
    code, sentences = judge(read(Path(sys.argv[1])))
    print("\n".join(sentences))  # noqa: T201  this is what the command is for
    sys.exit(CLEAN if code == NOT_AUDITED and "--only-weak" in sys.argv[2:] else code)
