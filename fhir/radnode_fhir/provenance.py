"""Who made the report from what (R4, https://hl7.org/fhir/R4/provenance.html)."""

from collections.abc import Sequence
from datetime import datetime

from radnode_fhir.codes import ASSEMBLER, Json
from radnode_fhir.identifiers import (
    DICOM_UID,
    ai_asserted,
    device_address,
    full_url,
    identifier,
    imaging_study_address,
    instant,
)
from radnode_fhir.imaging_study import ResultObject
from radnode_inference.findings import ModelIdentity


def provenance(
    uid: str,
    model: ModelIdentity,
    study_uid: str,
    targets: Sequence[str],
    objects: Sequence[ResultObject],
    at: datetime,
) -> Json:
    """uid: its UUID becomes the id, since a Provenance has no identifier. targets: addresses of report and Observations."""
    instances = [
        {"role": "derivation", "what": {"identifier": identifier(o.sop_uid, DICOM_UID), "display": f"DICOM {o.kind}"}}
        for o in objects
    ]
    return {
        "resourceType": "Provenance",
        "id": full_url(uid).removeprefix("urn:uuid:"),
        "meta": ai_asserted(),
        "target": [{"reference": t} for t in targets],
        "recorded": instant(at),
        "agent": [{"type": {"coding": [ASSEMBLER]}, "who": {"reference": device_address(model)}}],
        "entity": [{"role": "source", "what": {"reference": imaging_study_address(study_uid)}}, *instances],
    }
