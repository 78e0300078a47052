"""The test of a peer, whichever way it is asked: by DICOM where it listens for it, over the web where it has an address there."""

from collections.abc import Iterator

from radnode.peers import steps as peer_steps
from radnode.peers.peer import WEB, Peer
from radnode.peers.steps import Step
from radnode.peers.steps_web import web
from radnode.settings import Settings

NOT_ASKED = "It was not asked for studies: it lacks the right “query”, by which the node asks it."


def examine(peer: Peer, settings: Settings) -> Iterator[Step]:
    """The steps, each as soon as it is done; a failed one that others need is the last of its kind."""
    has_web = bool(peer.url) and peer.way in WEB
    by_dicom = over_web = False
    if peer.called_at or not has_web:
        for step in peer_steps.dicom(peer, settings):
            yield step
            by_dicom = step.ok or step.what not in peer_steps.NEEDED
    if has_web:
        for step in web(peer, settings):
            yield step
            over_web = step.ok
    if "query" not in peer.may:
        if (by_dicom or over_web) and peer.way != "wado":
            yield Step(what="query", ok=True, sentence=NOT_ASKED)
    elif peer.way != "wado" and (by_dicom or over_web):
        yield peer_steps.query(peer, settings)
