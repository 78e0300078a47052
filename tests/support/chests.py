"""Generated chest CTs that arrive at a node without sockets."""

from pathlib import Path

from pydicom import dcmread
from support.core import Node

from radnode import complete, pipeline
from radnode.tables import InstanceRow
from radnode_inference.generator import chest
from radnode_inference.generator.dicom_parts import Order
from radnode_inference.generator.dicom_writer import write_chest


def arrive(node: Node, folder: Path, seed: int) -> str:
    """A generated chest CT is complete and routed; its Study Instance UID. folder: below the data folder."""
    made = chest.phantom(seed, nodules=False, shape=(48, 40, 40))
    write_chest(made, folder, Order(patient_name="T", patient_id=str(seed), body_part="CHEST"))
    study_uid = ""
    for path in sorted(folder.rglob("*.dcm")):
        ds = dcmread(path, stop_before_pixels=True)
        study_uid = str(ds.StudyInstanceUID)
        row = InstanceRow(
            sop_uid=ds.SOPInstanceUID, sha256=str(ds.SOPInstanceUID)[-40:], study_uid=study_uid,
            series_uid=ds.SeriesInstanceUID, sop_class_uid=ds.SOPClassUID, transfer_syntax_uid="1.2.840.10008.1.2.1",
            calling_ae="PACS", called_ae="RADNODE", address="127.0.0.1", file=str(path.relative_to(node.settings.data)),
            size=path.stat().st_size, received_at=1.0,
        )  # fmt: skip
        with node.database.transaction() as session:
            session.add(row)
    complete.settle(node.database, node.settings, since=0.0, now=1.0)
    complete.complete(node.database, now=1e6)
    assert pipeline.route(node.database, node.settings) == 1
    return study_uid
