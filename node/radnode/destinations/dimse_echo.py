"""C-ECHO to a DICOM system: does it listen, does it know us. PS3.7 section 9.1.5."""

import socket

from pynetdicom.sop_class import Verification  # type: ignore[attr-defined,unused-ignore]

from radnode.destinations.caller import Caller
from radnode.errors import DeliveryError


def echo(host: str, port: int, *, ae_title: str, calling_ae: str, timeout_s: float) -> None:
    """Returns when the system answered with Success. Raises DeliveryError that says what it did instead."""
    try:  # by itself, because pynetdicom would not say why nobody is there
        socket.create_connection((host, port), timeout=timeout_s).close()
    except OSError as e:
        raise DeliveryError(f"{host}:{port} cannot be reached: {e.strerror or e}") from e
    ae = Caller(calling_ae, timeout_s)
    ae.add_requested_context(Verification)
    association = ae.associate(host, port, ae_title=ae_title or "ANY-SCP")
    if not association.is_established:
        raise DeliveryError(f"{host}:{port} {refusal(association)}")
    try:
        status = association.send_c_echo().get("Status")
    finally:
        association.release()
    if status != 0:
        raise DeliveryError(
            f"{host}:{port} answered C-ECHO with " + ("nothing" if status is None else f"0x{status:04X}")
        )


def refusal(association: object) -> str:
    if getattr(association, "is_rejected", False):
        answer = association.acceptor.primitive  # type: ignore[attr-defined]
        return f"rejected the association: {answer.reason_str} ({answer.source_str})"
    if getattr(association, "rejected_contexts", None):
        return "does not take Verification"
    return "listens, but ended the association without an answer"
