"""Cards to start from, of every model that has some. No torch here."""

import json
import re
from pathlib import Path

from radnode_inference.models.breast_mri import cards as breast_mri
from radnode_inference.models.chest_ct import voco_templates

MOME = Path(breast_mri.__file__).with_name("mome_templates")


def templates() -> tuple[tuple[str, str], ...]:
    """(name, what it is for) of every template, and of VoCo's published tasks that have none, why."""
    mome = [(f"mome-{p.stem}", "MOME, a head of the published size") for p in sorted(MOME.glob("*.toml"))]
    voco = [(n, in_words(n)) for n in voco_templates.names()]
    return (*mome, *voco, *((n, f"no template, {why}") for n, why in voco_templates.without().items()))


def in_words(name: str) -> str:
    card = voco_templates.template(name)
    low, high = card["input"]["window_hu"]
    return f"{card['model']}, {len(card['classes']) - 1} classes, {low} to {high} HU, {card['input']['spacing_mm']} mm"


def text(name: str, weights_name: str = "", version: str = "1", task: str = "") -> str:
    """A template as TOML, with the name of the weights in it. task: makes them a model of their own (`weights_tasks`).

    Raises KeyError with the names there are, or why there is none; ValueError for a task of a template that has its own.
    """
    file = MOME / f"{name.removeprefix('mome-')}.toml"
    if not name.startswith("mome-") or not file.is_file():
        return voco_templates.as_toml(voco_templates.template(name, weights_name, version, task))
    if task:
        raise ValueError(f"{name} says its task itself")
    given = file.read_text(encoding="utf-8")
    for key, said in (("name", weights_name), ("version", version)):
        line = f"{key} = {json.dumps(said, ensure_ascii=False)}".replace("\\", r"\\")
        given = re.sub(rf"(?m)^{key} = .*$", line, given, count=1) if said else given
    return given
