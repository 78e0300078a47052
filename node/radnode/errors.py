"""Every error radnode raises on purpose.

    RadnodeError
    ├── SettingsError        a setting is wrong: start-up stops, with an id, a sentence and a hint
    ├── StoreError           an object cannot be kept; carries the DIMSE status to answer
    ├── DeliveryError        a destination did not take a result; carries whether trying again can help
    │   └── NotTakenError    it takes no object of this SOP class
    ├── WithheldError        a result contradicts itself, its findings or its images, and must not leave
    ├── LostClaimError       another worker has the job now
    ├── FhirError            a FHIR request cannot be done; carries the HTTP status and the OperationOutcome's code
    └── RefusedError         what a person asked for cannot be done as things stand

"Declined: unsuitable input" is an outcome, not one of these: see radnode_inference.model.DeclinedError.
"""

from collections.abc import Sequence
from typing import Any


class RadnodeError(Exception):
    """The root of the tree."""


NO_DATABASE = "database"
"""The id of a SettingsError which may pass: the database does not answer."""


class SettingsError(RadnodeError):
    """`id` is stable and short, `sentence` says what is wrong, `hint` what to do."""

    def __init__(self, id: str, sentence: str, hint: str) -> None:  # noqa: A002
        super().__init__(f"[{id}] {sentence} {hint}")
        self.id = id
        self.sentence = sentence
        self.hint = hint


class StoreError(RadnodeError):
    """`status` is the DIMSE status of PS3.4 section B.2.3: 0xA700 out of resources, 0xA900 data set does not match, 0xC000 cannot understand."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


class DeliveryError(RadnodeError):
    """`permanent`: sending the same bytes again cannot help.

    quoted: what the other system said in its own words, which may name a patient. It belongs to the message, for those
    who may see the study; `sentence` is the message without it, for logs. brought: of a fetch, how many objects came before
    it failed; None: nobody can say.
    """

    def __init__(self, sentence: str, *, permanent: bool = False, quoted: str = "", brought: int | None = None) -> None:
        super().__init__(f"{sentence}: {quoted[:300]}" if quoted else sentence)
        self.sentence = sentence
        self.permanent = permanent
        self.brought = brought


class NotTakenError(DeliveryError):
    """The destination takes no object of this SOP class, in no transfer syntax that it could be sent in."""

    def __init__(self, sentence: str, sop_class_uid: str) -> None:
        super().__init__(sentence, permanent=True)
        self.sop_class_uid = sop_class_uid


class WithheldError(RadnodeError):
    """A result contradicts itself, its findings or its images; `reasons` are sentences, `results` what was made."""

    def __init__(self, reasons: Sequence[str], results: Sequence[Any]) -> None:
        super().__init__("; ".join(reasons))
        self.reasons = tuple(reasons)
        self.results = tuple(results)


class LostClaimError(RadnodeError):
    """The job was given to another worker, or its study changed, while this one ran it."""


class FhirError(RadnodeError):
    """`status`: of the HTTP answer. `code`: of http://hl7.org/fhir/R4/valueset-issue-type.html."""

    def __init__(self, status: int, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status
        self.code = code


class RefusedError(RadnodeError):
    """What a person asked for cannot be done as things stand; the message says why."""


def as_sentence(error: Exception) -> str:
    """What an error says, as a sentence of its own. Only its first letter changes: STAT stays STAT."""
    text = str(error)
    return f"{text[:1].upper()}{text[1:]}."
