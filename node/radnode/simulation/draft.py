"""A drafted policy as text: the tables [[triage]] and [ageing] of the settings. Pure."""

import json
import tomllib
from collections.abc import Sequence

from pydantic import TypeAdapter, ValidationError

from radnode.settings import Ageing, TriageRule

TABLES = ("triage", "ageing")


def parse(text: str, ageing: Ageing) -> tuple[tuple[TriageRule, ...], Ageing]:
    """The rules, and the limits where the text has some, else `ageing`. Raises ValueError with one sentence."""
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as e:
        raise ValueError(f"this is no TOML: {e}") from e
    except RecursionError as e:
        raise ValueError("this is nested too deeply") from e
    unknown = sorted(set(tables) - set(TABLES))
    if unknown:
        raise ValueError(f"a policy has [[triage]] and [ageing], not {unknown[0]}")
    if not tables.get("triage"):
        raise ValueError("there are no [[triage]] rules")
    try:
        rules = TypeAdapter(tuple[TriageRule, ...]).validate_python(tables["triage"])
        return rules, Ageing.model_validate(tables["ageing"]) if "ageing" in tables else ageing
    except ValidationError as e:
        where = ".".join(str(part) for part in e.errors()[0]["loc"])
        raise ValueError(f"rule {where}: {e.errors()[0]['msg']}") from e


def written(rules: Sequence[TriageRule], ageing: Ageing) -> str:
    """The same as text, values that are defaults left out."""
    lines = []
    for rule in rules:
        lines += ["[[triage]]", *(f"{k} = {toml(v)}" for k, v in rule.model_dump(exclude_defaults=True).items()), ""]
    return "\n".join([*lines, "[ageing]", *(f"{k} = {toml(v)}" for k, v in ageing.model_dump().items()), ""])


def toml(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return f"[{', '.join(toml(v) for v in value)}]"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else str(value)
