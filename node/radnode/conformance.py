"""The DICOM conformance statement (PS3.2), generated from the tables that the code itself uses."""

from pydicom._uid_dict import UID_dictionary

from radnode import association_serve, modality_worklist, store_check
from radnode.association import VERIFICATION, is_accepted_syntax
from radnode.association_pdu import MAX_PDU
from radnode.destinations import sop_class_name
from radnode.profiles import ASKED
from radnode.settings import Settings

STATUSES = (
    (association_serve.SUCCESS, "Success", "the bytes are durable and indexed"),
    (store_check.OUT_OF_RESOURCES, "Refused: out of resources", "the disk is below its watermark or full"),
    (store_check.DOES_NOT_MATCH, "Error: data set does not match SOP class", "UIDs missing, invalid or contradictory"),
    (store_check.CANNOT_UNDERSTAND, "Error: cannot understand", "the data set is truncated, too long or unreadable"),
    (association_serve.CLASS_NOT_SUPPORTED, "SOP class not supported", "the request is of another SOP class"),
    (association_serve.UNRECOGNIZED_OPERATION, "Unrecognized operation", "a command other than C-STORE and C-ECHO"),
)
"""(status, PS3.4 table B.2-1 or PS3.7 annex C, when the node answers it)."""


def statement(settings: Settings) -> str:
    """The statement as Markdown."""
    parts = (
        overview(settings),
        receiving(settings),
        worklist(),
        commitment(settings),
        statuses(),
        storage(),
        syntaxes(),
        sending(),
    )
    return "\n\n".join(parts)


def overview(settings: Settings) -> str:
    return f"""# DICOM conformance statement of radnode

AE title `{settings.receive.ae_title}`. Implementation Class UID `{store_check.IMPLEMENTATION_CLASS_UID}`,
Implementation Version Name `{store_check.IMPLEMENTATION_VERSION}`.

| service | role |
|---|---|
| Verification | SCP and SCU |
| Storage | SCP (level 2, full: every element is kept byte for byte) and SCU |
| Storage Commitment Push Model (PS3.4 annex J) | SCU, and SCP for peers with the right `commit` |
| Modality Performed Procedure Step, Instance Availability Notification (PS3.4 annexes F.7, R) | SCP |
| Query/Retrieve, study root (PS3.4 annex C): FIND, MOVE, GET | SCU |
| Modality Worklist (PS3.4 annex K, FIND {modality_worklist.FIND}) | SCP, for peers with the right `worklist` |
| Storage over the web (STOW-RS, PS3.18 section 10.5) | origin server at `/dicom-web/studies` |"""


def receiving(settings: Settings) -> str:
    receive = settings.receive
    who = "any caller" if receive.accept_unknown_callers else "callers in the peers table, by AE title and address"
    return f"""## Associations that are accepted

Called AE title: {", ".join(f"`{own}`" for own in (receive.ae_title, *receive.also_called))} only. Calling: {who}. Maximum PDU length: {MAX_PDU} bytes.
At most {receive.max_associations} associations at a time, one caller at most seven eighths of them; one that is silent for
{receive.association_idle_s:g} s is ended. Asynchronous operations and extended negotiation are not supported.

Of the transfer syntaxes proposed for a SOP class, the first is accepted, because nothing is decoded on the way in."""


def commitment(settings: Settings) -> str:
    return f"""## Storage commitment

As SCU: each object that was stored is asked about; the answer is taken on the same association for 5 s, and on another one
(role selection: SCP) for {settings.deliver.commit_wait_s:g} s and later. Without it, a C-FIND at the level IMAGE is asked. What is not committed is stored again.

As SCP: an object is committed when its file is on the disk with the size and the SHA-256 with which it came, else it fails with
0112H (not there), 0110H (damaged) or 0119H (another SOP class). The answer goes to the peer's address and port on an association of its
own (role selection), or on the same one where the peer has no port. What is committed is kept: no retention
rule and no watermark lets the images of that study go, and every backup holds them."""


def worklist() -> str:
    keys = [f"`{k}`" for k in modality_worklist.KEYS]
    keys += [f"`ScheduledProcedureStepSequence` > `{k}`" for k in modality_worklist.STEP_KEYS]
    return f"""## Modality Worklist: the order to read in

One answer for each study that nobody has read, the first to read first. `RequestedProcedurePriority` is STAT, HIGH or ROUTINE,
`RequestedProcedureComments` says why. Matched and returned: {", ".join(keys)}. Other keys come back empty, with status 0xFF01.
Matching: single value, wildcards, lists of UIDs, ranges of dates and times, sequences. A cancel comes too late: all answers leave at once."""


def statuses() -> str:
    rows = "\n".join(f"| 0x{status:04X} | {meaning} | {when} |" for status, meaning, when in STATUSES)
    return f"## Statuses\n\n| status | meaning | when |\n|---|---|---|\n{rows}"


def storage() -> str:
    accepted = sorted(
        (name, uid) for uid, name in known("SOP Class") if is_accepted_syntax(uid) and uid != VERIFICATION
    )
    rows = "\n".join(f"| {name} | {uid} |" for name, uid in accepted)
    return f"""## Storage SOP classes that are accepted ({len(accepted)} standard ones, and private ones)

| SOP class | UID |
|---|---|
| Verification | {VERIFICATION} |
{rows}"""


def syntaxes() -> str:
    rows = "\n".join(f"| {name} | {uid} |" for uid, name in known("Transfer Syntax"))
    return f"""## Transfer syntaxes that are accepted: every one, these and private ones

| transfer syntax | UID |
|---|---|
{rows}"""


def sending() -> str:
    rows = "\n".join(f"| {sop_class_name(uid)} | {uid} |" for uid in ASKED)
    return f"""## Objects that are made and sent

Explicit VR Little Endian is proposed first, then Implicit VR Little Endian; what is compressed is proposed as it is
before that. Each destination is asked by association negotiation what it takes, and gets that and no other.

| SOP class | UID |
|---|---|
{rows}"""


def known(kind: str) -> list[tuple[str, str]]:
    """(UID, name) of everything that has a name, of a kind in PS3.6 annex A."""
    return [(uid, entry[0]) for uid, entry in UID_dictionary.items() if entry[1] == kind and entry[0]]
