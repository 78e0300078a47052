"""What a node that nobody disturbed makes of a study, and the promises that a disturbed one keeps all the same.

Results have UIDs that depend on source, model and content only. So the objects that an undisturbed node makes of a study
are the ones that must stand in the PACS after any trouble: one missing is a lost result, one more is a second current one
or one that was made from a part of the study.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.node_process import TestNode, to_orthanc
from support.orthanc import Orthanc
from support.sending import PatientSender, dataset_bytes
from support.studies import Sample, small_breast

from radnode.states import JobState
from radnode.tables import InstanceRow, JobRow, ResultRow

ONE_MODEL = [
    {
        "name": "breast-mr",
        "models": ["mr-breast-kinetics"],
        "when": [{"attribute": "Modality", "test": "equals", "values": ["MR"]}],
    }
]


UNHURRIED_S = 4.0
"""The quiet time of the undisturbed node: a sender that a busy machine holds up for a while has not ended."""


@dataclass(frozen=True, kw_only=True)
class Undisturbed:
    """A study, and the SOP Instance UIDs of what a node that nobody killed made of it and delivered."""

    sample: Sample
    results: frozenset[str]


def undisturbed(folder: Path, pacs: Orthanc, seeds: Sequence[int], **how: Any) -> tuple[Undisturbed, ...]:
    """One study of each seed, read and delivered in peace; the PACS has forgotten them afterwards.

    how: of `small_breast`.
    """
    samples = [small_breast(folder / f"study-{seed}", seed=seed, **how) for seed in seeds]
    found = []
    with TestNode(folder, destinations=[to_orthanc(pacs)], rules=ONE_MODEL, quiet_s=UNHURRIED_S) as node:
        for sample in samples:
            PatientSender(lambda: node.receive_port).send(sample.files, seconds=300)
        for sample in samples:
            jobs = node.wait_until_read(sample.study_uid, seconds=300)
            assert [j.state for j in jobs if j.state == JobState.DONE], node.story(sample.study_uid)
            node.wait_until_delivered(sample.study_uid, seconds=300)
            found.append(Undisturbed(sample=sample, results=frozenset(pacs.files(sample.study_uid))))
            pacs.forget(sample.study_uid)
    return tuple(found)


def expect_nothing_lost(
    node: TestNode, sender: PatientSender, pacs: Orthanc, reference: Undisturbed, *, seconds: float = 120.0
) -> None:
    """The three promises, checked once everything has come to rest."""
    study_uid = reference.sample.study_uid
    node.wait(
        "the undisturbed results, and nothing else, in the PACS",
        lambda: reference.results <= pacs.files(study_uid).keys(),
        study_uid=study_uid,
        seconds=seconds,
    )
    node.wait_until_delivered(study_uid, seconds=seconds)
    assert pacs.files(study_uid).keys() == reference.results, node.story(study_uid)
    current = {r.uid for r in node.rows(ResultRow, study_uid=study_uid, current=True) if r.kind != "fhir"}
    assert current == reference.results, node.story(study_uid)
    done = [j for j in node.rows(JobRow, study_uid=study_uid) if j.state == JobState.DONE]
    assert len({(j.model, j.revision) for j in done}) == len({j.model for j in done}), node.story(study_uid)
    expect_every_acknowledged_image(node, sender, reference)


def expect_every_acknowledged_image(node: TestNode, sender: PatientSender, reference: Undisturbed) -> None:
    """On disk and indexed, byte for byte, each once."""
    stored = node.stored(reference.sample.study_uid)
    assert {uid: dataset_bytes(file) for uid, file in stored.items()} == sender.acknowledged
    rows = node.rows(InstanceRow, study_uid=reference.sample.study_uid)
    assert len(rows) == len(sender.acknowledged) == len(reference.sample.files)
