"""Every table, in the order in which a study fills them. Rows never leave the storage modules.

Times are UTC epoch seconds (float): the same on SQLite and PostgreSQL, and free of time zones.
"""

from sqlalchemy import JSON, BigInteger, Float, ForeignKey, Index, Integer, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from radnode import tables_access as tables_access
from radnode import tables_fhir as tables_fhir
from radnode import tables_monitoring as tables_monitoring
from radnode import tables_narrative as tables_narrative
from radnode import tables_pacs as tables_pacs
from radnode import tables_triage as tables_triage
from radnode.table import UID as UID
from radnode.table import Table as Table


class PeerRow(Table):
    """A DICOM system that may send to the node. Empty `ae_title` or `address` matches any."""

    __tablename__ = "peers"
    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    ae_title: Mapped[str] = mapped_column(String(16))
    address: Mapped[str] = mapped_column(String(255))  # IP address, network in CIDR notation, or "" for any
    host: Mapped[str] = mapped_column(String(255), default="")  # where it is called, a name or an IP address
    port: Mapped[int | None] = mapped_column(Integer)  # where it listens, for echo and delivery
    quiet_s: Mapped[float | None] = mapped_column(Float)
    may: Mapped[str] = mapped_column(String(64), default="send")  # send, query, retrieve, commit: blank-separated
    profile: Mapped[str] = mapped_column(String(128), default="")  # kinds of results; "": what it takes
    way: Mapped[str] = mapped_column(String(16), default="move")  # how studies are fetched: move, get, wado, orthanc
    url: Mapped[str] = mapped_column(Text, default="")  # of DICOMweb or of Orthanc
    user: Mapped[str] = mapped_column(String(128), default="")
    password: Mapped[str] = mapped_column(Text, default="")  # file:PATH or env:NAME, never the secret
    token: Mapped[str] = mapped_column(Text, default="")  # file:PATH or env:NAME, never the secret
    tls: Mapped[bool] = mapped_column(default=False)  # it is called over TLS, and comes over TLS
    certificate_name: Mapped[str] = mapped_column(String(255), default="")
    from_settings: Mapped[bool] = mapped_column(default=False)


class RefusalRow(Table):
    """A caller that was turned away, counted."""

    __tablename__ = "refusals"
    id: Mapped[int] = mapped_column(primary_key=True)
    calling_ae: Mapped[str] = mapped_column(String(64))
    called_ae: Mapped[str] = mapped_column(String(64))
    address: Mapped[str] = mapped_column(String(64))
    reason: Mapped[str] = mapped_column(Text)
    count: Mapped[int] = mapped_column(Integer)
    last_at: Mapped[float] = mapped_column(Float)
    __table_args__ = (UniqueConstraint("calling_ae", "called_ae", "address", "reason"),)


class InstanceRow(Table):
    """One stored object: committed only after its file is durable, answered only after the commit.

    A second object with the same UID and other bytes is kept beside the first; `current` marks the newest.
    """

    __tablename__ = "instances"
    id: Mapped[int] = mapped_column(primary_key=True)
    sop_uid: Mapped[str] = mapped_column(UID)
    sha256: Mapped[str] = mapped_column(String(64))
    study_uid: Mapped[str] = mapped_column(UID)
    series_uid: Mapped[str] = mapped_column(UID)
    sop_class_uid: Mapped[str] = mapped_column(UID)
    transfer_syntax_uid: Mapped[str] = mapped_column(UID)
    calling_ae: Mapped[str] = mapped_column(String(64))
    called_ae: Mapped[str] = mapped_column(String(64))  # by a backslash between: the same bytes came to several titles
    address: Mapped[str] = mapped_column(String(64))
    file: Mapped[str] = mapped_column(Text)  # relative to the data folder
    size: Mapped[int] = mapped_column(BigInteger)
    received_at: Mapped[float] = mapped_column(Float)
    current: Mapped[bool] = mapped_column(default=True)
    settled: Mapped[bool] = mapped_column(default=False)  # counted into its study by `complete`
    gone_at: Mapped[float | None] = mapped_column(
        Float
    )  # its file was let go: by retention, or a backup without images
    __table_args__ = (
        UniqueConstraint("sop_uid", "sha256"),
        Index("ix_instances_study_uid_series_uid", "study_uid", "series_uid"),
        Index("ix_instances_settled", "settled"),
    )


class StudyRow(Table):
    """One study. `revision` counts how often it was complete; a late image starts the next."""

    __tablename__ = "studies"
    study_uid: Mapped[str] = mapped_column(UID, primary_key=True)
    patient_id: Mapped[str] = mapped_column(Text, default="")
    issuer_of_patient_id: Mapped[str] = mapped_column(Text, default="")
    patient_name: Mapped[str] = mapped_column(Text, default="")
    patient_sex: Mapped[str] = mapped_column(String(16), default="")
    patient_birth_date: Mapped[str] = mapped_column(String(16), default="")
    accession_number: Mapped[str] = mapped_column(Text, default="")
    study_description: Mapped[str] = mapped_column(Text, default="")
    study_date: Mapped[str] = mapped_column(String(16), default="")
    study_time: Mapped[str] = mapped_column(String(16), default="")
    modalities: Mapped[str] = mapped_column(String(255), default="")  # backslash-separated, sorted
    body_part: Mapped[str] = mapped_column(String(255), default="")
    calling_ae: Mapped[str] = mapped_column(String(64), default="")
    instances: Mapped[int] = mapped_column(Integer, default=0)
    state: Mapped[str] = mapped_column(String(16))
    revision: Mapped[int] = mapped_column(Integer, default=1)
    first_instance_at: Mapped[float] = mapped_column(Float)
    last_instance_at: Mapped[float] = mapped_column(Float)
    due_at: Mapped[float] = mapped_column(Float, index=True)  # when the quiet timer ends
    provisional: Mapped[str] = mapped_column(Text, default="")  # why it was read though there is said to be more of it
    __table_args__ = (Index("ix_studies_state_due_at", "state", "due_at"), Index("ix_studies_patient_id", "patient_id"))


class SendingRow(Table):
    """A study of which an association that is still open has sent images. Goes with the association."""

    __tablename__ = "sending"
    association: Mapped[str] = mapped_column(String(32), primary_key=True)
    study_uid: Mapped[str] = mapped_column(UID, primary_key=True)
    slot: Mapped[int] = mapped_column(Integer)  # of the receiving process
    alive_until: Mapped[float] = mapped_column(Float)
    __table_args__ = (Index("ix_sending_study_uid", "study_uid"),)


class EventRow(Table):
    """A study's story: one row per thing that happened, in words. No patient data in `sentence`."""

    __tablename__ = "events"
    id: Mapped[int] = mapped_column(primary_key=True)
    study_uid: Mapped[str] = mapped_column(UID, index=True)
    at: Mapped[float] = mapped_column(Float)
    action: Mapped[str] = mapped_column(String(32))
    sentence: Mapped[str] = mapped_column(Text)


class RouteRow(Table):
    """One decision of `route`: a model that was chosen, or not, and why. `model` is "" for "no rule matched"."""

    __tablename__ = "routes"
    id: Mapped[int] = mapped_column(primary_key=True)
    study_uid: Mapped[str] = mapped_column(ForeignKey("studies.study_uid"))
    revision: Mapped[int] = mapped_column(Integer)
    model: Mapped[str] = mapped_column(String(64))
    chosen: Mapped[bool]
    urgency: Mapped[int] = mapped_column(Integer)
    reason: Mapped[str] = mapped_column(Text)
    __table_args__ = (UniqueConstraint("study_uid", "revision", "model"),)


class JobRow(Table):
    """One model run on one revision of one study."""

    __tablename__ = "jobs"
    id: Mapped[int] = mapped_column(primary_key=True)
    study_uid: Mapped[str] = mapped_column(ForeignKey("studies.study_uid"))
    revision: Mapped[int] = mapped_column(Integer)
    model: Mapped[str] = mapped_column(String(64))
    urgency: Mapped[int] = mapped_column(Integer)  # higher first
    state: Mapped[str] = mapped_column(String(16))
    attempt: Mapped[int] = mapped_column(Integer, default=0)
    created_at: Mapped[float] = mapped_column(Float)
    due_at: Mapped[float] = mapped_column(Float)  # not before
    claimed_by: Mapped[str] = mapped_column(String(128), default="")
    beat_at: Mapped[float | None] = mapped_column(Float)
    started_at: Mapped[float | None] = mapped_column(Float)
    ended_at: Mapped[float | None] = mapped_column(Float)
    progress: Mapped[float] = mapped_column(Float, default=0.0)
    reason: Mapped[str] = mapped_column(Text, default="")  # why declined, failed, held or stale
    held: Mapped[str] = mapped_column(
        String(255), default=""
    )  # the folder of withheld objects, relative to the data folder
    rerun: Mapped[bool] = mapped_column(default=False)  # a person asked for this run: equal results are sent again
    __table_args__ = (
        UniqueConstraint("study_uid", "revision", "model"),
        Index("ix_jobs_state_due_at", "state", "due_at"),
    )


class ResultRow(Table):
    """One immutable object made by a job: a DICOM file or a FHIR Bundle. The body lies in `file`.

    `current` is false once another result of the same study, model and slot superseded it.
    """

    __tablename__ = "results"
    uid: Mapped[str] = mapped_column(UID, primary_key=True)  # SOP Instance UID, or the Bundle's own 2.25 UID
    job_id: Mapped[int | None] = mapped_column(ForeignKey("jobs.id"), index=True)  # None: no model's, a priority
    study_uid: Mapped[str] = mapped_column(UID, index=True)
    model: Mapped[str] = mapped_column(String(64))
    kind: Mapped[str] = mapped_column(String(16))  # see radnode.destinations.KINDS
    sop_class_uid: Mapped[str] = mapped_column(UID, default="")
    series_uid: Mapped[str] = mapped_column(UID, default="")
    digest: Mapped[str] = mapped_column(String(64))  # of the findings it was made from
    file: Mapped[str] = mapped_column(Text)
    size: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[float] = mapped_column(Float)
    current: Mapped[bool] = mapped_column(default=True)


class ReportRow(Table):
    """A DiagnosticReport and its Observations as the node's own FHIR store holds them: what triage reads."""

    __tablename__ = "reports"
    id: Mapped[str] = mapped_column(String(64), primary_key=True)  # the FHIR id
    study_uid: Mapped[str] = mapped_column(UID, index=True)
    model: Mapped[str] = mapped_column(String(64))
    status: Mapped[str] = mapped_column(String(32))  # preliminary, final, amended, entered-in-error
    issued_at: Mapped[float] = mapped_column(Float)
    updated_at: Mapped[float] = mapped_column(Float, index=True)
    bundle: Mapped[dict[str, object]] = mapped_column(JSON)
    __table_args__ = (UniqueConstraint("study_uid", "model"),)


class DeliveryRow(Table):
    """The outbox: one row per (result, destination), written in the transaction that ends the job."""

    __tablename__ = "deliveries"
    id: Mapped[int] = mapped_column(primary_key=True)
    result_uid: Mapped[str] = mapped_column(ForeignKey("results.uid"), index=True)
    study_uid: Mapped[str] = mapped_column(UID, index=True)
    destination: Mapped[str] = mapped_column(String(64))
    state: Mapped[str] = mapped_column(String(16))
    attempt: Mapped[int] = mapped_column(Integer, default=0)
    created_at: Mapped[float] = mapped_column(Float)
    due_at: Mapped[float] = mapped_column(Float)
    claimed_by: Mapped[str] = mapped_column(String(128), default="")
    claimed_until: Mapped[float] = mapped_column(Float, default=0.0)
    reached: Mapped[bool] = mapped_column(
        default=False
    )  # it is there, or may be: it was tried, and not taken back since
    delivered_at: Mapped[float | None] = mapped_column(Float)
    error: Mapped[str] = mapped_column(Text, default="")
    __table_args__ = (
        UniqueConstraint("result_uid", "destination"),
        Index("ix_deliveries_state_due_at", "state", "due_at"),
    )


class CapabilityRow(Table):
    """What a destination answered when it was last asked what it takes; `taken`: SOP class -> transfer syntaxes."""

    __tablename__ = "capabilities"
    destination: Mapped[str] = mapped_column(String(64), primary_key=True)
    address: Mapped[str] = mapped_column(Text)  # as it was then: another address is another system
    asked_at: Mapped[float] = mapped_column(Float)  # when it answered
    tried_at: Mapped[float] = mapped_column(Float)  # when it was asked last, answer or not
    taken: Mapped[dict[str, object]] = mapped_column(JSON)
    error: Mapped[str] = mapped_column(Text, default="")  # why the last asking failed; `taken` is then an older answer


class OmissionRow(Table):
    """A kind of result that a destination does not get of the current results of a study and model, and why."""

    __tablename__ = "omissions"
    id: Mapped[int] = mapped_column(primary_key=True)
    study_uid: Mapped[str] = mapped_column(UID, index=True)
    model: Mapped[str] = mapped_column(String(64))
    destination: Mapped[str] = mapped_column(String(64))
    kind: Mapped[str] = mapped_column(String(16))
    reason: Mapped[str] = mapped_column(Text)
    __table_args__ = (UniqueConstraint("study_uid", "model", "destination", "kind"),)


class WeightsUseRow(Table):
    """One change of what a version of weights is used for: the newest row of a version holds. Never changed, never deleted."""

    __tablename__ = "weights_uses"
    id: Mapped[int] = mapped_column(primary_key=True)
    model: Mapped[str] = mapped_column(String(64), index=True)
    version: Mapped[str] = mapped_column(String(64))
    use_before: Mapped[str] = mapped_column(String(16))  # live, shadow, off, or "" for a version that is new
    use: Mapped[str] = mapped_column(String(16))  # live, shadow, off, removed
    who: Mapped[str] = mapped_column(String(128))
    at: Mapped[float] = mapped_column(Float)


class ShadowRow(Table):
    """One unseen run of a version in shadow. It has no results, no deliveries and no report: `findings` stays here."""

    __tablename__ = "shadow_runs"
    id: Mapped[int] = mapped_column(primary_key=True)
    study_uid: Mapped[str] = mapped_column(UID, index=True)
    revision: Mapped[int] = mapped_column(Integer)
    model: Mapped[str] = mapped_column(String(64))
    version: Mapped[str] = mapped_column(String(64))
    state: Mapped[str] = mapped_column(String(16))  # as a job's
    attempt: Mapped[int] = mapped_column(Integer, default=0)
    created_at: Mapped[float] = mapped_column(Float)
    claimed_by: Mapped[str] = mapped_column(String(128), default="")
    beat_at: Mapped[float | None] = mapped_column(Float)
    ended_at: Mapped[float | None] = mapped_column(Float)
    reason: Mapped[str] = mapped_column(Text, default="")
    weights_sha256: Mapped[str] = mapped_column(String(64), default="")
    findings: Mapped[list[dict[str, object]]] = mapped_column(JSON, default=list)
    __table_args__ = (
        UniqueConstraint("study_uid", "revision", "model", "version"),
        Index("ix_shadow_runs_state_id", "state", "id"),
    )


class VerdictRow(Table):
    """One ruling of a person on one finding: the newest row of a finding holds. Never changed, never deleted."""

    __tablename__ = "verdicts"
    id: Mapped[int] = mapped_column(primary_key=True)
    study_uid: Mapped[str] = mapped_column(UID, index=True)
    model: Mapped[str] = mapped_column(String(64))
    tracking_uid: Mapped[str] = mapped_column(UID)
    said: Mapped[str] = mapped_column(Text)  # the finding in words, as the person saw it
    ruling: Mapped[str] = mapped_column(String(16))
    comment: Mapped[str] = mapped_column(Text, default="")
    who: Mapped[str] = mapped_column(String(128))
    at: Mapped[float] = mapped_column(Float)


class RemarkRow(Table):
    """A person's remark on a study: the newest row holds. Never changed, never deleted."""

    __tablename__ = "remarks"
    id: Mapped[int] = mapped_column(primary_key=True)
    study_uid: Mapped[str] = mapped_column(UID, index=True)
    text: Mapped[str] = mapped_column(Text)
    who: Mapped[str] = mapped_column(String(128))
    at: Mapped[float] = mapped_column(Float)
