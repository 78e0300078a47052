"""A node in an odd time zone, on the night when its clocks are put forward, with JSON logs: nothing depends on local time."""

import json
import os
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from support.node_process import TestNode, to_orthanc
from support.orthanc import Orthanc
from support.sending import PatientSender
from support.studies import small_breast
from support.undisturbed import ONE_MODEL

from radnode.tables import EventRow, InstanceRow

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]

CHATHAM = "Pacific/Chatham"  # 12:45 ahead of UTC, 13:45 from 2026-09-26 14:00 UTC on
FORWARD = datetime(2026, 9, 26, 14, 0, tzinfo=UTC)
AHEAD_OF = timedelta(seconds=20)
SHIFTED = Path(__file__).resolve().parent.parent / "support" / "shifted"


def test_a_study_goes_its_way_through_the_hour_that_does_not_exist(tmp_path: Path, shared_pacs: Orthanc) -> None:
    shift = tmp_path / "shift"
    shift.write_text(str((FORWARD - AHEAD_OF - datetime.now(UTC)).total_seconds()))
    environment = {
        "TZ": CHATHAM,
        "RADNODE_LOG": "json",
        "RADNODE_TEST_SHIFT": str(shift),
        "PYTHONPATH": os.pathsep.join((str(SHIFTED), os.environ.get("PYTHONPATH", ""))),
    }
    sample = small_breast(tmp_path / "study", seed=2100, shape=(16, 64, 64), phases=5)
    with TestNode(
        tmp_path / "node", destinations=[to_orthanc(shared_pacs)], quiet_s=3.0, rules=ONE_MODEL, environment=environment
    ) as node:
        shift.write_text(str((FORWARD - AHEAD_OF / 10 - datetime.now(UTC)).total_seconds()))
        PatientSender(lambda: node.receive_port).send(sample.files)
        node.wait_until_read(sample.study_uid, seconds=180)
        node.wait_until_delivered(sample.study_uid)
        events = node.rows(EventRow, study_uid=sample.study_uid)
        received = [i.received_at for i in node.rows(InstanceRow, study_uid=sample.study_uid)]
        page = node.http.get(f"/studies/{sample.study_uid}").text
        log = (node.folder / "node.log").read_text()
    night = (FORWARD - timedelta(minutes=5)).timestamp(), (FORWARD + timedelta(minutes=30)).timestamp()
    assert all(night[0] < at < night[1] for at in (*received, *(e.at for e in events)))
    complete = next(e.at for e in events if e.action == "complete")
    assert 3.0 <= complete - max(received) < 120, "the hour that was left out counts as quiet"
    assert "2026-09-26" in page, "times on the page are UTC"
    lines = [json.loads(line) for line in log.splitlines() if not line.startswith("radnode listens")]
    assert {"at", "level", "logger", "sentence"} <= lines[0].keys()
    written = [datetime.fromisoformat(line["at"]) for line in lines]
    assert all(at.tzinfo is not None and at.utcoffset() == timedelta(0) for at in written)
    assert any(line.get("action") == "association" and line["stored"] == len(sample.files) for line in lines)
    result = pydicom.dcmread(BytesIO(next(iter(shared_pacs.files(sample.study_uid).values()))))
    made = datetime.strptime(f"{result.ContentDate}{str(result.ContentTime)[:6]}", "%Y%m%d%H%M%S")
    zone = getattr(result, "TimezoneOffsetFromUTC", None)
    offset = timedelta(hours=13, minutes=45) if zone is None else parsed(zone)
    assert abs(made.replace(tzinfo=UTC) - offset - FORWARD) < timedelta(minutes=30)


def parsed(offset: str) -> timedelta:
    """TimezoneOffsetFromUTC, +HHMM. PS3.3 C.12.1.1.8."""
    minutes = int(offset[1:3]) * 60 + int(offset[3:5])
    return timedelta(minutes=-minutes if offset[0] == "-" else minutes)
