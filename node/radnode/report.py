"""Findings -> results. The only place that knows both `dicom_sr` and `fhir`."""

from collections.abc import Sequence
from datetime import UTC, datetime

import orjson

from radnode.results import Previous, Result
from radnode_dicom_sr import Previous as Predecessor
from radnode_dicom_sr import build
from radnode_fhir.bundle import transaction, uid_of
from radnode_inference.findings import Findings
from radnode_inference.study import Study


def results(
    findings: Findings, study: Study, *, previous: Sequence[Previous] = (), now: datetime | None = None
) -> tuple[Result, ...]:
    """Every object that says what `findings` say: SR, SEG, key images, and one FHIR transaction Bundle.

    previous: the results that these replace. Those with the digest of `findings` are the same content, and no predecessor.
    now: when the report is issued (UTC); the UIDs do not depend on it.
    """
    digest = findings.digest()
    replaced = tuple(p for p in previous if p.digest != digest)
    amended = bool(replaced) or any(p.amended for p in previous)
    objects = build(findings, study, previous=predecessors(replaced))
    bundle = transaction(
        findings,
        study,
        objects,
        status="amended" if amended else "preliminary",
        issued=now or datetime.now(UTC),
    )
    dicom = [
        Result(
            kind=o.kind,
            uid=o.sop_uid,
            sop_class_uid=o.sop_class_uid,
            series_uid=o.series_uid,
            digest=digest,
            body=o.body,
        )
        for o in objects
    ]
    fhir = Result(
        kind="fhir",
        uid=uid_of(bundle),
        sop_class_uid="",
        series_uid="",
        digest=digest,
        body=orjson.dumps(bundle, option=orjson.OPT_SORT_KEYS),
    )
    return (*dicom, fhir)


def predecessors(replaced: Sequence[Previous]) -> tuple[Predecessor, ...]:
    """The DICOM objects among `replaced`, as `dicom_sr` names them."""
    return tuple(
        Predecessor(kind=p.kind, sop_class_uid=p.sop_class_uid, sop_uid=p.uid, series_uid=p.series_uid)
        for p in replaced
        if p.sop_class_uid
    )
