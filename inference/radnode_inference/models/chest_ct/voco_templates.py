"""Cards for VoCo's downstream tasks, complete but for the name of the weights. No torch here.

What was published of each task stands in `voco_templates.toml`.
"""

import json
import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from radnode_inference.models.chest_ct.cards import VOCO

FILE = Path(__file__).with_name("voco_templates.toml")
LOCAL = "99RADNODE"
INPUT = ("spacing_mm", "window_hu", "roi", "size", "repeat_depth", "overlap")
SMALLEST_ORGAN_MM3, SMALLEST_LESION_MM3 = 500.0, 30.0
"""Connected parts below these are specks. Chosen here: upstream drops nothing."""
LIKELY = 0.5
"""A class of the whole examination is reported from this probability on: below it others are likelier. Chosen here."""
OWN_TASK = (
    f'# task = "abdomen"  # such a name makes these weights a model of their own, {VOCO}-abdomen, live beside others'
)
LICENCE = "to be stated by whoever trained these weights; VoCo's own are Apache-2.0"


@cache
def published() -> Mapping[str, Any]:
    return tomllib.loads(FILE.read_text(encoding="utf-8"))


def names() -> tuple[str, ...]:
    return tuple(sorted(published()["tasks"], key=str.lower))


def without() -> Mapping[str, str]:
    """Tasks that have no template -> why."""
    found: Mapping[str, str] = published()["without"]
    return found


def template(name: str, weights_name: str = "", version: str = "1", own: str = "") -> dict[str, Any]:
    """The card of a task. own: the name of the task here, which makes its weights a model of their own (`weights_tasks`).

    Raises KeyError with the reason, or with the names there are.
    """
    if name in without():
        raise KeyError(f"there is no template {name}: {without()[name]}")
    if name not in published()["tasks"]:
        raise KeyError(f"there is no template {name!r}; there are {', '.join(names())}")
    task = published()["tasks"][name]
    return {
        "model": VOCO,
        **({"task": own} if own else {}),
        "name": weights_name,
        "version": version,
        "intended_use": f"{'Classification' if 'size' in task else 'Segmentation'} on CT as in VoCo's task {name}, beside the radiologist's reading. Not validated at this site.",
        "training_data": f"VoCo's pre-training, fine-tuned for the task {name}",
        "licence": LICENCE,
        "template": name,
        "limitations": limitations(name),
        "input": {key: task[key] for key in INPUT if key in task},
        "gates": {"modality": "CT"} | {key: task[key] for key in ("region", "contrast") if task.get(key)},
        "classes": classes(task),
    }


def classes(task: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The outputs in order: behind the background, or of a classification with its negative ones in their places."""
    if "size" not in task:
        return [{"name": "background", "kind": "background"}, *(one_class(c) for c in task["classes"])]
    found = [one_class(c) if c not in task["negative"] else {"name": c, "kind": "negative"} for c in task["classes"]]
    likely = {"threshold": LIKELY}
    return [{k: v for k, v in c.items() if k != "smallest_mm3"} | (likely if "concept" in c else {}) for c in found]


def limitations(name: str) -> list[str]:
    """What a user of the template must check."""
    alone = len(published()["tasks"][name]["classes"]) == 1
    unsure = [] if alone or name in published()["fixed"]["names"] else [
        "The order of the classes is the usual one of the data set: compare it with the order of your training."
    ]  # fmt: skip
    shift = published()["tasks"][name].get("offset_hu")
    moved = [f"The data set's values are HU + {shift}; the window is in HU."] if shift else []
    return [*unsure, *moved, *published()["tasks"][name].get("unsure", ())]


def one_class(name: str) -> dict[str, Any]:
    """The class of a card: its code, side and kind."""
    if name in published()["abnormal"]:
        said, where = published()["abnormal"][name]
        found = {"name": name, "kind": "abnormality", "concept": code(said, name), "site": concept(where)[0]}
        return found | {"smallest_mm3": SMALLEST_LESION_MM3}
    what, side = concept(name)
    found = {"name": name, "kind": "anatomy", "concept": what}
    return found | ({"laterality": side} if side else {}) | {"smallest_mm3": SMALLEST_ORGAN_MM3}


def concept(name: str) -> tuple[dict[str, str], str]:
    """The code of a structure, and which side's it is where the code does not say so itself. Raises KeyError."""
    table = published()
    whole = name.removesuffix("_left").removesuffix("_right")
    for candidate, side in ((name, ""), (whole, name.removeprefix(whole).removeprefix("_"))):
        for part in ("structures", "sites", "local"):
            if candidate in table[part]:
                return code(table[part][candidate], candidate), side
    raise KeyError(f"the structure {name!r} has no code")


def code(said: str, name: str) -> dict[str, str]:
    """ "10200004 Liver" is a SNOMED CT code; words alone are a local one."""
    value, _, meaning = said.partition(" ")
    if value.isdigit():
        return {"value": value, "scheme": "SCT", "meaning": meaning}
    return {"value": name.replace("_", "-")[:64], "scheme": LOCAL, "meaning": said[:64]}


def as_toml(card: Mapping[str, Any]) -> str:
    """A template as people fill it in."""
    lines = ["# What is empty is yours to say; docs/adding-a-model.md explains each key."]
    lines += [] if "task" in card else [OWN_TASK]
    lines += [f"{key} = {value(v)}" for key, v in card.items() if not isinstance(v, dict) and key != "classes"]
    for key in ("input", "gates"):
        lines += ["", f"[{key}]", *(f"{k} = {value(v)}" for k, v in card[key].items())]
    for entry in card["classes"]:
        lines += ["", "[[classes]]", *(f"{k} = {value(v)}" for k, v in entry.items())]
    return "\n".join(lines) + "\n"


def value(given: Any) -> str:
    """A TOML value on one line; strings, numbers and lists are written as in JSON."""
    if isinstance(given, Mapping):
        return "{" + ", ".join(f"{k} = {value(v)}" for k, v in given.items()) + "}"
    return json.dumps(given, ensure_ascii=False)
