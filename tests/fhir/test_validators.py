"""200 different reports before validators that nobody here wrote: npm fhir, the R4 JSON schema, fhir.resources."""

import copy
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from fhir.resources.R4B.bundle import Bundle
from support.fhir_node import fhir_node
from support.fhir_reports import ISSUED, reports
from support.viewers import fetched

from radnode_fhir.check import problems
from radnode_fhir.confirm import Confirmed, confirmation, tracking_uid
from radnode_fhir.retraction import retraction

REPORTS = 200
PROGRAM = Path(__file__).resolve().parent.parent / "support" / "validators_fhir.mjs"


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    made = list(reports(tmp_path_factory.mktemp("reports"), REPORTS))
    assert len(made) == REPORTS
    taken_back = [retraction([b], "2.25.9", reason="wrong side", issued=ISSUED) for b in made[:20]]
    return [*made, *taken_back, *(confirmation(b, confirmed(b)) for b in made[20:40])]


def confirmed(bundle: dict[str, Any]) -> Confirmed:
    """A person who rejects the first finding, corrects the second and writes a text."""
    seen = [e["resource"] for e in bundle["entry"] if e["resource"]["resourceType"] == "Observation"]
    uids = [tracking_uid(o) for o in seen]
    return Confirmed(
        person="Dr Lin", at=ISSUED, text="One nodule.\nAnd a vessel.", rejected=uids[:1],
        corrected=dict.fromkeys(uids[1:2], "it is a vessel"), added={"2.25.77": "a rib fracture"}, documents=(("text/plain; charset=utf-8", b"One nodule."),),
    )  # fmt: skip


def judged(folder: Path, resources: list[dict[str, Any]]) -> list[list[str]]:
    """What npm fhir and the JSON schema say about each resource."""
    file = folder / "resources.json"
    file.write_text(json.dumps(resources))
    environment = {**os.environ, "NODE_PATH": str(fetched())}
    done = subprocess.run(["node", PROGRAM, file], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: list[list[str]] = json.loads(done.stdout)
    return found


def test_200_reports_are_valid_for_every_validator(tmp_path: Path, bundles: list[dict[str, Any]]) -> None:
    resources = [e["resource"] for b in bundles for e in b["entry"]]
    presented = [
        r["presentedForm"] for r in resources if r.get("presentedForm") and r["status"] in ("preliminary", "amended")
    ]
    assert [p["contentType"] for [p] in presented] == ["application/pdf"] * REPORTS
    assert len({p["data"] for [p] in presented}) > REPORTS // 2, "pages of their own"
    for bundle in bundles:
        Bundle.model_validate(copy.deepcopy(bundle))
    assert {p for r in resources for p in problems(r)} == set()
    unique = list({json.dumps(r, sort_keys=True): r for r in resources}.values())
    assert {m for messages in judged(tmp_path, [*unique, *bundles[::20]]) for m in messages} == set()


def addresses(resources: list[dict[str, Any]]) -> set[str]:
    """What tells resources apart: type and first identifier, the id of those without one."""
    return {f"{r['resourceType']} {r['identifier'][0]['value'] if 'identifier' in r else r['id']}" for r in resources}


@pytest.mark.system
def test_what_the_node_serves_of_them_is_valid_and_all_there(tmp_path: Path, bundles: list[dict[str, Any]]) -> None:
    sent = bundles[:REPORTS]
    with fhir_node(tmp_path / "node") as node:
        for bundle in sent:
            answer = node.client.post("/fhir", json=bundle, headers={"Content-Type": "application/fhir+json"})
            assert answer.status_code == 200, answer.text
        kinds = {e["resource"]["resourceType"] for b in sent for e in b["entry"]}
        served = [r for kind in kinds for r in node.search(f"{kind}?_count=1000")]
    assert addresses(served) == addresses([e["resource"] for b in sent for e in b["entry"]])
    assert {p for r in served for p in problems(r)} == set()
    assert {m for messages in judged(tmp_path, served) for m in messages} == set()


def test_the_validators_see_what_is_wrong(tmp_path: Path, bundles: list[dict[str, Any]]) -> None:
    good = next(e["resource"] for e in bundles[0]["entry"] if "conclusion" in e["resource"])
    spoiled = [
        good | {"status": "bogus"},
        {k: v for k, v in good.items() if k != "code"},
        {k: v for k, v in good.items() if k != "imagingStudy"} | {"study": good["imagingStudy"]},
        good | {"effectiveDateTime": "01/03/2026"},
    ]
    assert all(judged(tmp_path, spoiled))
    assert all(problems(r) for r in spoiled)
