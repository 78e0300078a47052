"""Orthanc as the PACS over TLS with client certificates: everything that passes between the two."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import select
from support.certificates import Authority
from support.core import dataset, encoded
from support.delivering import delivering
from support.orthanc import Orthanc
from support.receiver import Receiver, receiver
from support.results import add_job, add_study, four, record

from radnode import reconcile
from radnode.fetch_run import fetch
from radnode.peers.examine import examine
from radnode.peers.table import Peer, add_peer
from radnode.settings import Deliver, Destination, Settings
from radnode.settings_access import Tls, with_certificates
from radnode.store import Store
from radnode.tables import DeliveryRow
from radnode.tables_pacs import CommitmentRow

pytestmark = pytest.mark.system

PYTHON_PLUGIN = "/usr/share/orthanc/plugins/libOrthancPython.so"
WEB_PLUGIN = "/usr/share/orthanc/plugins/libOrthancDicomWeb.so"
ROUTE = """
import json, orthanc

def changed(change, level, resource):
    if change == orthanc.ChangeType.NEW_INSTANCE:
        tags = json.loads(orthanc.RestApiGet("/instances/%s/simplified-tags" % resource))
        if tags.get("PatientID") == "ROUTE":
            orthanc.RestApiPost("/modalities/node/store", json.dumps({"Resources": [resource], "Synchronous": False}))

orthanc.RegisterOnChangeCallback(changed)
"""
STUDY = "1.2.826.88"


def until(condition: Callable[[], object], what: str, timeout_s: float = 60.0) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, f"in vain: {what}"
        time.sleep(0.1)


def test_echo_route_store_commit_find_get_and_move_over_tls(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca")
    node_pair, pacs_pair = authority.issue("node"), authority.issue("orthanc")
    own = Tls(certificate=node_pair.certificate, certificate_key=node_pair.key, ca=authority.ca)
    environment = {
        "RADNODE_TLS_CERTIFICATE": str(own.certificate),
        "RADNODE_TLS_CERTIFICATE_KEY": str(own.certificate_key),
        "RADNODE_TLS_CA": str(own.ca),
    }
    (tmp_path / "route.py").write_text(ROUTE)
    more = {
        "DicomTlsEnabled": True,
        "DicomTlsCertificate": str(pacs_pair.certificate),
        "DicomTlsPrivateKey": str(pacs_pair.key),
        "DicomTlsTrustedCertificates": str(authority.ca),
        "DicomTlsRemoteCertificateRequired": True,
        "Plugins": [WEB_PLUGIN, PYTHON_PLUGIN],
        "PythonScript": str(tmp_path / "route.py"),
    }
    data = tmp_path / "data"
    with receiver(data, environment=environment, tls_port=0) as node, Orthanc(tmp_path / "pacs", more) as pacs:
        port = int((data / "run" / "receive-tls.port").read_text())
        known = {"AET": "RADNODE", "Host": "127.0.0.1", "Port": port, "UseDicomTls": True}
        pacs.http.put("/modalities/node", json=known).raise_for_status()
        peer = Peer(
            name="pacs", ae_title="PACS", address="127.0.0.1", port=pacs.dicom_port, tls=True,
            may=("send", "query", "retrieve", "commit"), way="get",
        )  # fmt: skip
        add_peer(node.database, peer)
        to = Destination(name="pacs", kind="dimse", host="127.0.0.1", port=pacs.dicom_port, ae_title="PACS", tls=True)
        settings = Settings(
            data=data, tls=own, destinations=with_certificates((to,), own), deliver=Deliver(timeout_s=60, retry_s=0.3)
        )
        well = {s.what: s.ok for s in examine(peer, settings)}
        assert well == dict.fromkeys(("connection", "C-ECHO", "certificate", "negotiation", "query"), True)
        pacs.http.post("/modalities/node/echo", json={}).raise_for_status()
        auto_routed(node, pacs)
        with delivering(settings):
            delivered_and_kept(node, settings)
            answered(pacs)
        fetched(node, pacs, settings, peer)


def auto_routed(node: Receiver, pacs: Orthanc) -> None:
    """Orthanc's python plugin sends what is uploaded to it."""
    for n in range(3):
        pacs.upload(encoded(dataset(f"{STUDY}.1", f"{STUDY}.1.{n}", PatientID="ROUTE")))
    until(lambda: len(node.rows()) == 3, f"auto-routing: {pacs.log}")
    assert {r.calling_ae for r in node.rows()} == {"PACS"}


def delivered_and_kept(node: Receiver, settings: Settings) -> None:
    """C-STORE to Orthanc, then storage commitment, whose answer comes on an association of Orthanc's."""
    add_study(node.database, f"{STUDY}.1")
    job = add_job(node.database, f"{STUDY}.1")
    record(node.database, settings.data, job, four(f"{STUDY}.1"), settings.destinations)

    def states() -> tuple[list[str], list[str]]:
        with node.database.reading() as session:
            return list(session.scalars(select(DeliveryRow.state))), list(session.scalars(select(CommitmentRow.state)))

    until(lambda: states() == (["delivered"] * 3, ["committed"] * 3), f"commitment: {states()}")
    with node.database.reading() as session:
        assert set(session.scalars(select(CommitmentRow.way))) == {"storage commitment"}


def answered(pacs: Orthanc) -> None:
    """Orthanc asks the node whether it keeps the routed images."""
    instances = [i["ID"] for i in pacs.find("Instance", StudyInstanceUID=f"{STUDY}.1", Modality="CT")]
    asked = pacs.http.post("/modalities/node/storage-commitment", json={"Resources": instances, "Timeout": 15})
    asked.raise_for_status()
    path = asked.json()["Path"]
    until(lambda: pacs.http.get(path).json()["Status"] != "Pending", f"the node's answer: {pacs.log}")
    said = pacs.http.get(path).json()
    assert (said["Status"], len(said["Success"])) == ("Success", 3)


def fetched(node: Receiver, pacs: Orthanc, settings: Settings, peer: Peer) -> None:
    """C-FIND by accession number, then C-GET of one study and C-MOVE of another."""
    for number in (2, 3):
        for n in range(2):
            uid = f"{STUDY}.{number}"
            pacs.upload(encoded(dataset(uid, f"{uid}.{n}", AccessionNumber=f"T{number}")))
    store = Store(settings, node.database)
    for number, way in ((2, "get"), (3, "move")):
        at = Peer(**{**vars(peer), "way": way})
        found, _ = reconcile.find(settings, [at], accession_number=f"T{number}")
        assert (found.study_uid, found.instances) == (f"{STUDY}.{number}", 2)
        assert fetch(at, found.study_uid, settings, store).many == 2
        until(lambda uid=found.study_uid: sum(r.study_uid == uid for r in node.rows()) == 2, f"the objects by {way}")  # type: ignore[misc]
    store.close()
