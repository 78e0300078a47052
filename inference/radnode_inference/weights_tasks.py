"""The tasks of one network as models of their own: `ct-voco` with a card whose `task` is "abdomen" is `ct-voco-abdomen`. No torch here.

Whatever the node keeps by the name of a model (live version, jobs, results and their UIDs, figures, rules) is then the task's own.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from radnode_inference.guards_gates import from_card

NETWORKS = ("ct-voco",)
"""Those whose cards may name a task of the site's. MOME's tasks are models of the package: what its heads tell is fixed."""
TASK = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?")


def network_of(model: str) -> str:
    """ "ct-voco" for "ct-voco-abdomen"; every other name as it is."""
    return next((n for n in NETWORKS if model.startswith(f"{n}-") and TASK.fullmatch(model[len(n) + 1 :])), model)


def task_of(model: str) -> str:
    """ "abdomen" for "ct-voco-abdomen"; "" for every other name."""
    return model.removeprefix(network_of(model)).removeprefix("-")


def model_of(network: str, task: str) -> str:
    """The name of the model that a task of a network is; of the network itself for ""."""
    return f"{network}-{task}" if task else network


def models(network: str, site: Path, in_use: Mapping[str, str]) -> tuple[str, ...]:
    """Every task's model of a network that has something in the folder of the site's weights, or a setting (`in_use`).

    A folder that cannot be looked into counts as holding something: whoever reads its card then says what is wrong.
    """
    own = {m for m in (*folders(site), *in_use) if m != network and network_of(m) == network}
    return tuple(sorted(m for m in own if m in in_use or holds_something(site / m)))


def folders(site: Path) -> tuple[str, ...]:
    try:
        return tuple(p.name for p in site.iterdir())
    except OSError:  # not there, or not to be looked into
        return ()


def holds_something(folder: Path) -> bool:
    """Whether there is more in it than what is being added or removed."""
    try:
        return any(not p.name.startswith(".") for p in folder.iterdir())
    except NotADirectoryError:
        return False
    except OSError:
        return True


def region_of(card: Mapping[str, Any]) -> tuple[str, ...]:
    """The words of the card's region; none where its gates cannot be read, and nothing is loaded then either."""
    try:
        return from_card(card.get("gates", {})).region
    except (ValueError, TypeError):
        return ()
