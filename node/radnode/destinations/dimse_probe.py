"""Which SOP classes and transfer syntaxes a PACS takes: asked by association negotiation alone (PS3.8 section 7.1.1.13)."""

from collections.abc import Mapping, Sequence

from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless

from radnode.destinations.dimse import Pacs, hang_up
from radnode.settings import Destination as Address

SYNTAXES = (str(ExplicitVRLittleEndian), str(ImplicitVRLittleEndian), str(RLELossless))


def ask(
    address: Address, sop_classes: Sequence[str], *, calling_ae: str, timeout_s: float
) -> Mapping[str, tuple[str, ...]]:
    """SOP class -> the transfer syntaxes in which it is taken; () for one that is not.

    Each pair is a presentation context of its own, because an acceptor chooses one transfer syntax of each. Raises
    DeliveryError when there is no association.
    """
    contexts = [(uid, syntax) for uid in dict.fromkeys(sop_classes) for syntax in SYNTAXES]
    association = Pacs(address, calling_ae, timeout_s).associate(contexts)
    try:
        accepted = {(c.abstract_syntax, c.transfer_syntax[0]) for c in association.accepted_contexts}
    finally:
        hang_up(association)
    return {uid: tuple(s for s in SYNTAXES if (uid, s) in accepted) for uid in dict.fromkeys(sop_classes)}
