"""Every setting, read once and passed down: `radnode.toml`, each key overridden by RADNODE_SECTION_KEY."""

import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from radnode.errors import SettingsError
from radnode.settings_access import Audit, Oidc, ReceiveTls, Section, Tls, WebAccess, with_certificates
from radnode.settings_monitoring import Monitoring
from radnode.settings_narrative import Narrative
from radnode.settings_pacs import Priors as Priors
from radnode.settings_pacs import Reconcile as Reconcile
from radnode.settings_peers import AeTitle as AeTitle
from radnode.settings_peers import DicomKind, Name, Port
from radnode.settings_peers import Peer as Peer
from radnode.settings_reading import Reading


class Receive(ReceiveTls):
    """The DICOM listener. Port 0 takes a free one (written to `run/receive.port` in the data folder)."""

    host: str = "0.0.0.0"  # noqa: S104  a PACS calls from another machine
    port: Port = 11112
    ae_title: AeTitle = "RADNODE"
    also_called: tuple[AeTitle, ...] = ()  # further AE titles that it answers to; rules know them as CalledAE
    processes: int = Field(default=2, ge=1, le=64)
    max_associations: int = Field(default=64, ge=1)
    accept_unknown_callers: bool = False
    association_idle_s: float = Field(default=60.0, gt=0)
    max_object_mb: int = Field(default=4096, gt=0)
    disk_free_min_mb: int = Field(default=1024, ge=0)  # below this, C-STORE is refused with 0xA700


class Complete(Section):
    quiet_s: float = Field(default=10.0, ge=0, le=86_400)
    evidence_wait_s: float = Field(default=120.0, ge=0)  # how long a study waits where others say there is more of it


class Work(Section):
    processes: int = Field(default=1, ge=0, le=64)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int = Field(default=0, ge=0)  # torch threads per worker; 0: all cores shared among the workers
    timeout_s: float = Field(default=1800.0, gt=0)
    beat_s: float = Field(default=5.0, gt=0)
    lost_after_s: float = Field(default=30.0, gt=0)  # without a heartbeat for this long, a job is given to another
    attempts: int = Field(default=3, ge=1)
    retry_s: float = Field(default=10.0, ge=0)  # doubled on each attempt
    warm_mb: int = Field(default=0, ge=0)  # memory for idle warm models, per worker; 0: half the machine's, shared


class Deliver(Section):
    threads: int = Field(default=4, ge=1, le=64)
    timeout_s: float = Field(default=60.0, gt=0)
    retry_s: float = Field(default=5.0, gt=0)  # doubled on each attempt
    retry_max_s: float = Field(default=900.0, gt=0)
    give_up_after_days: float = Field(default=7.0, gt=0)
    commit_wait_s: float = Field(default=300.0, gt=0)  # for a storage commitment's N-EVENT-REPORT


class Viewer(Section):
    """A viewer to open a study in. {study_uid}, {accession_number} and {patient_id} in `url` are filled in."""

    name: Annotated[str, Field(min_length=1, max_length=32)]
    url: Annotated[str, Field(pattern=r"^(https?|weasis)://")]


class Web(WebAccess):
    host: str = "127.0.0.1"
    port: Port = 8080
    viewer_url: str = ""  # e.g. "http://ohif.example/viewer?StudyInstanceUIDs={study_uid}"
    viewers: tuple[Viewer, ...] = ()  # further ones, each with its name


class Fhir(Section):
    """The node's own FHIR endpoint. hooks: beginnings of the addresses that Subscriptions may send to; none: no Subscription."""

    hooks: tuple[str, ...] = ()


Kind = Literal[DicomKind, "fhir", "priority"]


class Destination(Section):
    """Where results go. dimse: host, port, ae_title. orthanc, fhir: url (user, password). folder: folder.

    hl7: host, port (MLLP), application, facility. webhook: url, secret. mail: host, port (user, password), sender, to.
    """

    name: Name
    kind: Literal["dimse", "orthanc", "fhir", "folder", "hl7", "webhook", "mail"]
    host: str = ""
    port: Port = 104
    ae_title: str = ""
    url: str = ""
    user: str = ""
    password: str = ""
    # of a FHIR server; secrets are "file:PATH" or "env:NAME"
    token: str = ""  # a bearer token
    token_url: str = ""  # OAuth 2 client credentials (SMART Backend Services), with client_id and one of the next two
    client_id: str = ""
    client_key: str = ""  # a private key (PEM), which signs the assertion
    client_secret: str = ""
    key_id: str = ""
    scope: str = "system/*.cruds"
    tls: bool = False  # dimse: over TLS, with the certificates of [tls]
    certificate: Path | None = None  # mutual TLS: the client's certificate and its key (PEM)
    certificate_key: Path | None = None
    ca: Path | None = None  # whose certificates of servers are trusted; left out: the machine's own list
    patient_system: str = ""  # the system of patient identifiers without an issuer, e.g. "urn:oid:1.2.3"
    order_system: str = ""  # the system of accession numbers
    folder: Path | None = None
    results: tuple[Kind, ...] = ()  # empty: what it takes (a PACS is asked by association negotiation)
    segmentation: Literal["binary", "labelmap"] = "binary"
    max_frames: int = Field(default=0, ge=0)  # of one object; a longer segmentation is split; 0: no limit
    commitment: Literal["auto", "n-action", "find", "off"] = "auto"  # how a PACS is asked whether it keeps what it took
    status_objects: bool = False  # a visible object where the AI declined, failed or saw only a part
    language: Literal["en", "zh-TW"] = "en"  # of the sentences in reports
    sending_application: str = "RADNODE"  # MSH-3
    application: str = ""  # MSH-5, whom HL7 messages are for
    facility: str = ""  # MSH-6
    priority_message: Literal["OMI^O23", "ORM^O01"] = "OMI^O23"  # the second for systems older than HL7 v2.4
    secret: str = ""  # a webhook is signed with it
    sender: str = ""  # of e-mail
    to: tuple[str, ...] = ()
    starttls: bool = False  # e-mail
    link: str = ""  # where people find the node, e.g. "https://radnode.example"; stands in webhooks and e-mail
    rejection_notes: bool = True  # retracted objects are followed by a rejection note (KOS, IHE IOCM)


class Condition(Section):
    """True when the attribute of a series (or of its study) meets one of `values`, without regard to case.

    attribute: a DICOM keyword, or CallingAE, CalledAE, Images (frames in the series), Orientation (AXIAL, CORONAL,
    SAGITTAL, OBLIQUE); several joined by "|" mean any of them (for `absent`: all of them).
    test: `word` finds a value only as a whole word; `at-least` compares numbers.
    """

    attribute: str
    test: Literal["equals", "contains", "starts-with", "word", "at-least", "absent"] = "equals"
    values: tuple[str, ...] = ()


class Rule(Section):
    """Which studies go to which models: every `when` must hold for one series, and no `unless`. Nothing is evaluated."""

    name: Name
    models: tuple[str, ...] = ()  # empty: an exclusion, which keeps a matching study from every model
    when: tuple[Condition, ...]
    unless: tuple[Condition, ...] = ()
    urgency: int = 0
    note: str = ""  # added to the reason that people read


PatientClass = Literal["emergency", "inpatient", "outpatient"]


class TriageRule(Section):
    """What raises a study to `level`; of two studies of one level, the one whose rule stands first in the table goes first.

    A finding of any of `codes` (empty: any abnormality), at or above a probability, a volume, a length; of patients of
    `classes` (empty: all); by one of `models` (empty: any); said by at least `agreeing` models.
    finding = false: the rule asks for no finding, only for the class of the patient.
    """

    name: Name
    codes: tuple[str, ...] = ()
    min_probability: float = Field(default=0.0, ge=0, le=1)
    min_volume_ml: float = Field(default=0.0, ge=0)
    min_long_axis_mm: float = Field(default=0.0, ge=0)
    classes: tuple[PatientClass, ...] = ()
    models: tuple[str, ...] = ()
    agreeing: int = Field(default=1, ge=1)
    finding: bool = True
    level: Literal["STAT", "HIGH", "ROUTINE"]

    @model_validator(mode="after")
    def asks_for_something(self) -> "TriageRule":
        if not self.finding and not self.classes:
            raise ValueError("a rule without a finding names the classes of patients that it is for")
        return self


class Ageing(Section):
    """Minutes within which a study of each level is to be read, and from which part of them on it goes before the others.

    late_one_in: of so many readings one is of what is overdue, also while there is what an AI made STAT; 0: none.
    """

    stat_min: float = Field(default=30.0, gt=0)
    high_min: float = Field(default=240.0, gt=0)
    routine_min: float = Field(default=1440.0, gt=0)
    due_at: float = Field(default=0.75, gt=0, le=1)
    late_one_in: int = Field(default=4, ge=0)


class ClassRule(Section):
    """Whose patients are of which class where no order says it: by the sender, or by a word of the study's description."""

    patient_class: PatientClass
    calling_aes: tuple[str, ...] = ()
    words: tuple[str, ...] = ()


class Hl7(Section):
    """The listener for HL7 v2 orders over MLLP; without a port there is none. addresses: who may send, IP addresses or networks."""

    host: str = "127.0.0.1"
    port: Port | None = None  # 0: any free one, written to run/hl7.port in the data folder
    addresses: tuple[str, ...] = ("127.0.0.1",)
    max_connections: int = Field(default=32, ge=1)
    max_message_kb: int = Field(default=1024, ge=1)
    message_s: float = Field(default=30.0, gt=0)  # from the first byte of a message to its last
    idle_s: float = Field(default=3600.0, gt=0)  # between messages
    encoding: str = "utf-8"  # where a message does not name its own (MSH-18)
    echoes: bool = False  # the senders send back the priorities that they are told: these do not count as ordered


class RetentionRule(Section):
    """How long the images of some studies are kept; of rules that fit, the first decides. Empty: any. 0 days: for ever."""

    name: Name
    modalities: tuple[str, ...] = ()
    calling_aes: tuple[str, ...] = ()
    keep_days: float = Field(default=0.0, ge=0)


class Retention(Section):
    """Which received images, and which old rows, are deleted here. Never what is still owed, arriving, being read or current."""

    delete: bool = False  # false: only `radnode retention --delete` does
    keep_days: float = Field(default=0.0, ge=0)  # since the last image; 0: for ever
    free_mb: int = Field(default=0, ge=0)  # with less free, the oldest studies go as well; 0: no watermark
    least_days: float = Field(default=1.0, ge=0)  # ... but none younger than this
    messages_days: float = Field(default=0.0, ge=0)  # HL7 messages, since they came; 0: for ever
    versions_days: float = Field(default=0.0, ge=0)  # of FHIR resources, since another took their place; 0: for ever
    rules: tuple[RetentionRule, ...] = ()


class Settings(BaseSettings):
    """`data`: the folder for everything the node keeps. `database_url`: empty means SQLite in that folder."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", env_prefix="RADNODE_", env_nested_delimiter="_", env_nested_max_split=1
    )
    data: Path = Path("radnode-data")
    database_url: str = ""
    weights: Path | None = None  # site weights; None: the folder `weights` in `data`
    receive: Receive = Receive()
    complete: Complete = Complete()
    work: Work = Work()
    deliver: Deliver = Deliver()
    web: Web = Web()
    oidc: Oidc = Oidc()
    audit: Audit = Audit()
    tls: Tls = Tls()
    fhir: Fhir = Fhir()
    peers: tuple[Peer, ...] = ()
    destinations: tuple[Destination, ...] = ()
    priors: Priors = Priors()
    reconcile: Reconcile = Reconcile()
    rules: tuple[Rule, ...] | None = None  # None: the rules of radnode.route
    triage: tuple[TriageRule, ...] | None = None  # None: the policy of radnode.triage
    triage_shadow: tuple[TriageRule, ...] = ()  # a policy that sorts nothing: what it would do is recorded
    ageing: Ageing = Ageing()
    patient_classes: tuple[ClassRule, ...] = ()
    hl7: Hl7 = Hl7()
    reading: Reading = Reading()
    retention: Retention = Retention()
    log: Literal["sentences", "json"] = "sentences"  # how each line of the log is written
    monitoring: Monitoring = Monitoring()
    narrative: Narrative = Narrative()

    @property
    def url(self) -> str:
        return self.database_url or f"sqlite:///{self.data.resolve() / 'radnode.db'}"

    @property
    def weights_folder(self) -> Path:
        return self.weights or self.data / "weights"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, settings_file())


def settings_file() -> Path | None:
    """RADNODE_CONFIG, or `radnode.toml` in the current folder when it is there."""
    named = os.environ.get("RADNODE_CONFIG")
    if named:
        return Path(named)
    here = Path("radnode.toml")
    return here if here.is_file() else None


def check_names(peers: tuple[Peer, ...], destinations: tuple[Destination, ...]) -> None:
    """Raises SettingsError for a peer that gets results under the name of a destination."""
    named = {d.name for d in destinations}
    wrong = next((p.name for p in peers if "results" in p.may and p.name in named), None)
    if wrong is not None:
        sentence = f"The peer {wrong!r} gets results, and there is a destination of this name."
        raise SettingsError("settings", sentence, 'Rename one, or take "results" out of what the peer may.')


def load(**overrides: Any) -> Settings:
    """The settings; without a destination, results go to the folder `out` in the data folder.

    Raises SettingsError that names the first wrong key, where it stands, and what was expected.
    """
    file = settings_file()
    if file is not None and not file.is_file():
        raise SettingsError(
            "settings-file", f"The settings file {file} does not exist.", "Unset RADNODE_CONFIG or make the file."
        )
    try:
        settings = Settings(**overrides)
        out = Destination(name="out", kind="folder", folder=settings.data / "out")
        there = with_certificates(settings.destinations, settings.tls)
        check_names(settings.peers, there or (out,))
        return settings.model_copy(update={"destinations": there or (out,)})
    except ValidationError as e:
        first = e.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        why = "there is no such key" if first["type"] == "extra_forbidden" else first["msg"]
        raise SettingsError("settings", f"The setting {key!r} is wrong: {why}.", "See deploy/radnode.toml.") from e
    except (ValueError, RecursionError) as e:  # TOML that does not parse, or lists within lists without end
        raise SettingsError(
            "settings-file", f"The settings file {file} cannot be read: {e}.", "It must be TOML."
        ) from e
