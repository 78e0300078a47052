"""The model as a Device: one for each version and set of weights (R4, https://hl7.org/fhir/R4/device.html)."""

from radnode_fhir.codes import Json
from radnode_fhir.identifiers import DICOM_UID, identifier
from radnode_inference.findings import ModelIdentity, device_uid


def device(model: ModelIdentity) -> Json:
    """Its identifier is the Device UID (0018,1002) of the DICOM objects."""
    versions = [("software", model.version), ("weights", f"{model.weights_name} {model.weights_version}".strip())]
    if model.weights_sha256:
        versions.append(("weights SHA-256", model.weights_sha256))
    made: Json = {
        "resourceType": "Device",
        "identifier": [identifier(device_uid(model), DICOM_UID)],
        "status": "active",
        "manufacturer": "radnode",
        "deviceName": [{"name": model.name, "type": "model-name"}],
        "type": {"text": "Image analysis software"},
        "version": [{"type": {"text": kind}, "value": value} for kind, value in versions if value],
    }
    notes = [model.intended_use] if model.intended_use else []
    if model.demonstration:
        notes.append("Demonstration weights trained on phantoms: not for clinical use.")
    if notes:
        made["note"] = [{"text": t} for t in notes]
    return made
