"""An HL7 v2 message by its patients. Pure."""

import hl7


def by_patient(message: hl7.Message) -> list[hl7.Message]:
    """The message once for each PID: its head, and the segments from that PID to the next; itself where it has at most one."""
    at = [n for n, segment in enumerate(message) if str(segment[0]) == "PID"]
    if len(at) < 2:
        return [message]
    ends = [*at[1:], len(message)]
    return [message.create_message([*message[: at[0]], *message[a:b]]) for a, b in zip(at, ends, strict=True)]
