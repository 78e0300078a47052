"""Findings -> results. The only place that knows both `dicom_sr` and `fhir`."""

from collections.abc import Sequence
from datetime import UTC, datetime

import orjson

from radnode.results import Previous, Result
from radnode_dicom_sr.identity import Previous as Predecessor
from radnode_inference.findings import Findings, ModelIdentity, uid_from
from radnode_inference.study import Study


def results(
    findings: Findings, study: Study, *, previous: Sequence[Previous] = (), now: datetime | None = None
) -> tuple[Result, ...]:
    """Every object that says what `findings` say: SR, SEG, key images, and one FHIR transaction Bundle.

    previous: the results that these replace. Those with the digest of `findings` are the same content, and no predecessor.
    now: when the report is issued (UTC); the UIDs do not depend on it.
    """
    from radnode_fhir.bundle import transaction

    from radnode_dicom_sr import build

    digest = findings.digest()
    replaced = tuple(p for p in previous if p.digest != digest)
    objects = build(findings, study, previous=predecessors(replaced))
    bundle = transaction(
        findings,
        study,
        objects,
        status="amended" if replaced else "preliminary",
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
        uid=fhir_uid(findings.study_uid, findings.model, digest),
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


def fhir_uid(study_uid: str, model: ModelIdentity, digest: str) -> str:
    """The Bundle's own UID: equal for equal content of the same model and weights on the same study."""
    return uid_from(("fhir", study_uid, model.name, model.version, model.weights_sha256, digest))
