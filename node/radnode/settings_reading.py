"""The setting of what other systems say about reading: whether it takes a study off this worklist."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

ReadBy = Literal["final-report", "completed-order"]


class Reading(BaseModel):
    """read_by: what of other systems marks a study as read; nothing: people alone do.

    final-report: a person's final report (FHIR DiagnosticReport with a Practitioner; HL7 ORU^R01 or order with OBR-25 F or C).
    completed-order: an order with ORC-5 CM; only where the RIS says so when a study is reported, not when it is acquired.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    read_by: tuple[ReadBy, ...] = ()
