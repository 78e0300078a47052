"""A modality that sends studies to a node: the C-STORE of `destinations/dimse`, used from the other side."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from radnode.destinations import open_destination
from radnode.settings import Destination
from radnode_inference.header import Header


@dataclass(frozen=True, kw_only=True)
class Image:
    """A DICOM file on its way to a node. `uid`, `sop_class_uid` and `study_uid` are those of its header."""

    path: Path
    uid: str
    sop_class_uid: str
    study_uid: str
    kind: str = ""

    @classmethod
    def read(cls, path: Path) -> "Image":
        header = Header.read(path)
        return cls(
            path=path,
            uid=header.text("SOPInstanceUID"),
            sop_class_uid=header.text("SOPClassUID"),
            study_uid=header.text("StudyInstanceUID"),
        )


def send(
    files: Sequence[Path],
    port: int,
    *,
    calling_ae: str = "MODALITY",
    called_ae: str = "RADNODE",
    timeout_s: float = 60.0,
) -> Iterator[Image]:
    """C-STORE files to a node on this machine in one association; each image as soon as it was acknowledged.

    Raises DeliveryError when there is no association or an image is not taken.
    """
    images = [Image.read(path) for path in files]
    node = Destination(name="node", kind="dimse", host="127.0.0.1", port=port, ae_title=called_ae)
    with open_destination(node, calling_ae=calling_ae, timeout_s=timeout_s).open(images) as association:
        for image in images:
            association.send(image)
            yield image
