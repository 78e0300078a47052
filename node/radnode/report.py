"""Findings -> results. The only place that knows both `dicom_sr` and `fhir`."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Literal

import orjson

from radnode.abnormalities import as_reported
from radnode.destinations import DICOM_KINDS
from radnode.errors import WithheldError
from radnode.narrative import facts as narrative_facts
from radnode.narrative.template import draft, statements
from radnode.narrative.words import CHINESE, ENGLISH
from radnode.profiles import Language, Plan
from radnode.results import Previous, Result
from radnode.settings import TriageRule
from radnode.triage import DEFAULT_POLICY, Level, judge
from radnode_dicom_sr import DEFAULT, DicomObject, Profile, actionable, build, printable, printed, retraction, status
from radnode_dicom_sr import Previous as Predecessor
from radnode_dicom_sr.invariants import check
from radnode_fhir.bundle import Status, transaction, uid_of
from radnode_fhir.identifiers import DICOM_UID
from radnode_inference.findings import Findings, Kind, ModelIdentity
from radnode_inference.study import Study

ACR_CATEGORY: Mapping[Level, int] = {Level.STAT: 1, Level.HIGH: 2, Level.ROUTINE: 3}
"""Communication within minutes, hours, days (ACR actionable findings, PS3.16 CID 7035)."""
CRITICAL = 1
"""The category whose findings are AA (critical abnormal) in FHIR and HL7."""


def results(
    findings: Findings,
    study: Study,
    *,
    previous: Sequence[Previous] = (),
    now: datetime | None = None,
    plans: Sequence[Plan] = (),
    policy: Sequence[TriageRule] = DEFAULT_POLICY,
) -> tuple[Result, ...]:
    """Every object that says what `findings` say: DICOM objects as the destinations take them, and one FHIR transaction.

    previous: the results that these replace. Those with the digest of `findings` are the same content, and no predecessor.
    now: when the report is issued (UTC); the UIDs do not depend on it. plans: () for one set in the default form.
    policy: what makes a finding urgent; reports name the category.
    Raises WithheldError when what was made contradicts itself, the findings or the images.
    """
    now = now or datetime.now(UTC)
    findings = replace(findings, subject=study.subject(findings.series_uid))
    urgency = categories(findings, policy)
    told = actionable(findings, urgency)
    digest = told.digest()
    replaced = tuple(p for p in previous if p.digest != digest)
    amended = bool(replaced) or any(p.amended for p in previous)
    texts = drafts(findings, study, now)
    sets = built(told, study, predecessors(replaced), now, plans, texts)
    first = next(iter(sets.values()))
    standing: Status = "amended" if amended else "preliminary"
    page = document(sets) or printable(findings, study, now=now, language=spoken(plans), draft=texts)
    critical = [uid for uid, category in urgency.items() if category == CRITICAL]
    bundle = transaction(findings, study, first, status=standing, issued=now, document=page, critical=critical)
    fhir = Result(
        kind="fhir",
        uid=uid_of(bundle),
        sop_class_uid="",
        series_uid="",
        digest=digest,
        body=orjson.dumps(bundle, option=orjson.OPT_SORT_KEYS),
    )
    made = (*dicom(sets, plans, digest), fhir)
    broken = dict.fromkeys(sentence for objects in sets.values() for sentence in check(objects, told, study))
    broken |= dict.fromkeys(contradictions(bundle, findings))
    if broken:
        raise WithheldError(tuple(broken), made)
    return made


def categories(findings: Findings, policy: Sequence[TriageRule]) -> Mapping[str, int]:
    """The ACR category of each abnormality by its tracking UID, as the triage policy has it."""
    found = (f for f in findings.items if f.kind is Kind.ABNORMALITY)
    return {f.tracking_uid: ACR_CATEGORY[judge(as_reported(f), policy)] for f in found}


def built(
    findings: Findings,
    study: Study,
    previous: Sequence[Predecessor],
    now: datetime,
    plans: Sequence[Plan],
    texts: Mapping[str, str],
) -> Mapping[Profile, tuple[DicomObject, ...]]:
    """Each form of the objects that some destination takes. Key images, which are the same in all, are made once."""
    sets: dict[Profile, tuple[DicomObject, ...]] = {}
    pictures: tuple[DicomObject, ...] | None = None
    for form in dict.fromkeys(profile(p) for p in plans if p.kinds & DICOM_KINDS) or (DEFAULT,):
        again = pictures is not None and form.key_images and not form.kos  # a selection refers to those made with it
        wanted = replace(form, key_images=False) if again else form
        objects = build(findings, study, previous=previous, now=now, profile=wanted, draft=texts)
        if again:
            objects += pictures or ()
        elif form.key_images and pictures is None:
            pictures = tuple(o for o in objects if o.kind == "key-image")
        sets[form] = objects
    return sets


def drafts(findings: Findings, study: Study, now: datetime) -> Mapping[str, str]:
    """The text that the template makes of a report, by language."""
    said = narrative_facts.told(transaction(findings, study, (), status="preliminary", issued=now))
    return {language: draft(said, statements(said, language), {}, language) for language in (ENGLISH, CHINESE)}


def document(sets: Mapping[Profile, Sequence[DicomObject]]) -> bytes | None:
    """The report as PDF, where one of the forms has it."""
    return next((printed(o) for objects in sets.values() for o in objects if o.kind == "pdf"), None)


def spoken(plans: Sequence[Plan]) -> Language:
    """The language of the first destination that takes FHIR: there is one transaction for all of them."""
    return next((p.language for p in plans if "fhir" in p.kinds), "en")


def status_results(
    study: Study, model: ModelIdentity, outcome: Literal["declined", "failed"], reason: str, plans: Sequence[Plan]
) -> tuple[Result, ...]:
    """The visible objects of a run without a result, for the destinations that asked for them."""
    digest = hashlib.sha256("\x1f".join((model.name, outcome, reason)).encode()).hexdigest()
    forms = dict.fromkeys(profile(p) for p in plans)
    sets = {form: status(study, model, outcome, reason, profile=form) for form in forms}
    return dicom(sets, plans, digest)


def rejection(objects: Sequence[DicomObject], model: ModelIdentity, why: str, *, unsafe: bool, digest: str) -> Result:
    """The note that rejects `objects`, all of one study; only the first needs its body."""
    made = retraction(objects, model, why, unsafe=unsafe)
    return as_result(made, digest, None)


def dicom(sets: Mapping[Profile, Sequence[DicomObject]], plans: Sequence[Plan], digest: str) -> tuple[Result, ...]:
    """The objects of all forms, each once, with the destinations that are to get it."""
    objects = {o.sop_uid: o for made in sets.values() for o in made}
    to = {uid: [p.destination for p in plans if uid in uids(sets.get(profile(p), ()))] for uid in objects}
    return tuple(as_result(o, digest, tuple(to[o.sop_uid]) if plans else None) for o in objects.values())


def as_result(made: DicomObject, digest: str, to: tuple[str, ...] | None) -> Result:
    return Result(
        kind=made.kind,
        uid=made.sop_uid,
        sop_class_uid=made.sop_class_uid,
        series_uid=made.series_uid,
        digest=digest,
        body=made.body,
        to=to,
    )


def profile(plan: Plan) -> Profile:
    """The form of the DICOM objects that a destination is to get."""
    return Profile(
        seg=("labelmap" if plan.labelled else "binary") if "seg" in plan.kinds else None,
        frame_cap=plan.max_frames or None,
        sr="sr" in plan.kinds,
        key_images="key-image" in plan.kinds,
        parametric_maps="parametric-map" in plan.kinds,
        pdf="pdf" in plan.kinds,
        kos="kos" in plan.kinds,
        rtstruct="rtstruct" in plan.kinds,
        status="status" in plan.kinds,
        language=plan.language,
    )


def uids(objects: Sequence[DicomObject]) -> set[str]:
    return {o.sop_uid for o in objects}


def contradictions(bundle: Mapping[str, Any], findings: Findings) -> tuple[str, ...]:
    """Where the FHIR transaction does not say what the findings say, one sentence each."""
    observations = [e["resource"] for e in bundle["entry"] if e["resource"]["resourceType"] == "Observation"]
    names = (i for o in observations for i in o.get("identifier", ()) if i.get("system") == DICOM_UID)
    tracked = {str(i["value"]).removeprefix("urn:oid:") for i in names}
    if tracked != {f.tracking_uid for f in findings.items}:
        return ("the FHIR Observations do not track exactly the findings",)
    return ()


def predecessors(replaced: Sequence[Previous]) -> tuple[Predecessor, ...]:
    """The DICOM objects among `replaced`, as `dicom_sr` names them."""
    return tuple(
        Predecessor(kind=p.kind, sop_class_uid=p.sop_class_uid, sop_uid=p.uid, series_uid=p.series_uid)
        for p in replaced
        if p.sop_class_uid
    )
