"""The settings of what is asked of a PACS: earlier studies, and what the node never saw."""

from pydantic import Field

from radnode.settings_access import Section


class Priors(Section):
    """Which earlier studies of a patient are fetched from a peer that may be queried; no peer: none."""

    peer: str = ""  # its name
    months: int = Field(default=36, ge=1)
    most: int = Field(default=2, ge=1, le=20)
    same_region: bool = True  # only where the body part, or a word of the description, is the same


class Reconcile(Section):
    """How often peers that may be queried are asked what they have of the last days; 0: only on request."""

    every_h: float = Field(default=0.0, ge=0)
    days: int = Field(default=2, ge=1, le=366)
    modalities: tuple[str, ...] = ("CT", "MR")
