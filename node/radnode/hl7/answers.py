"""What a sender of an HL7 v2 message is answered, in the mode that it asks for. Pure."""

import hl7

from radnode.hl7.orders import MessageError, value

CONDITIONS = ("AL", "NE", "ER", "SU")
"""When an answer is wanted: always, never, on an error, on success (table 0155)."""
ACCEPTED = {"AA": "CA", "AE": "CE", "AR": "CR"}
"""Application acknowledgement -> accept acknowledgement (table 0008)."""


def wanted(accept: str, application: str, answer: str) -> str:
    """The code of the answer (MSA-1) that a sender wants for `answer`, AA, AE or AR; "" for none at all.

    accept, application: MSH-15 and MSH-16, one of CONDITIONS. Without either, or with anything else there, it is the original
    mode (HL7 v2.5.1 section 2.9.2), else the enhanced one: a sender that never asked for an answer reads none, and one that
    asked for an accept acknowledgement alone knows no other.
    """
    if accept not in CONDITIONS and application not in CONDITIONS:
        return answer
    met = {"AL", "SU" if answer == "AA" else "ER"}
    if application in met:
        return answer
    return ACCEPTED[answer] if accept in met else ""


def acknowledgement(message: hl7.Message | None, at: str, error: MessageError | None = None) -> str:
    """ACK of a message (None: it could not be read), with ERR (v2.5) where something was wrong; "" where none is wanted."""
    asked = [value(message, "MSH", n).upper() if message is not None else "" for n in (15, 16)]
    answer = wanted(asked[0], asked[1], error.answer if error else "AA")
    if not answer:
        return ""
    known = {n: value(message, "MSH", n) if message is not None else "" for n in (3, 4, 5, 6, 9, 10, 11, 12)}
    event = value(message, "MSH", 9, 2) if message is not None else ""
    kind = f"ACK^{clean(event)}^ACK" if event else "ACK"
    cells = ["MSH", "^~\\&", known[5] or "RADNODE", known[6], known[3], known[4]]
    rest = [f"{at}+0000", "", kind, f"A{clean(known[10])[:19]}", known[11] or "P", known[12] or "2.5.1"]
    lines = ["|".join([*cells[:2], *map(clean, cells[2:]), *rest[:3], *map(clean, rest[3:])])]
    lines.append(f"MSA|{answer}|{clean(known[10])}" + (f"|{clean(str(error))}" if error else ""))
    if error:
        lines.append(f"ERR||{error.where}|{error.number}|E||||{clean(str(error))}")
    return "\r".join(lines) + "\r"


def clean(text: str) -> str:
    """Without a character that has a meaning in HL7."""
    return "".join(c for c in text if c.isprintable() and c not in "|^~\\&")
