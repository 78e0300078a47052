"""What a person decides on the page: retract, run again. Every change is a POST that no other site can make."""

from pathlib import Path

from support.filled import fill
from support.pages import serving


def test_a_result_is_retracted_by_a_button_and_only_when_confirmed(tmp_path: Path) -> None:
    node = fill(tmp_path)
    address = f"/studies/{node.lesion}/retract"
    with serving(node.settings) as client:
        assert f"{address}?model=ct-lung" in client.get(f"/studies/{node.lesion}").text
        question = client.get(address, params={"model": "ct-lung"})
        assert question.status_code == 200 and "Rejected for Quality Reasons" in question.text
        assert client.get(address, params={"model": "ct-voco"}).status_code == 404
        form = {"model": "ct-lung", "reason": "quality", "comment": "wrong side"}
        assert client.post(address, data=form).status_code == 422, "not confirmed"
        assert client.post(address, data={"model": "ct-lung", "confirmed": "yes"}).status_code == 422, "no reason"
        forged = client.post(address, data=form | {"confirmed": "yes"}, headers={"origin": "http://evil.example"})
        assert forged.status_code == 403
        assert client.get("/api/worklist").json()["entries"][0]["study"]["study_uid"] == node.lesion
        done = client.post(address, data=form | {"confirmed": "yes"})
        assert done.status_code == 200 and "wrong side" in done.text
        (row,) = (r for r in client.get("/api/worklist").json()["entries"] if r["study"]["study_uid"] == node.lesion)
        assert (row["level"], row["answers"][0]["outcome"]) == ("ROUTINE", "retracted")
        report = client.get("/fhir/DiagnosticReport", params={"study": node.lesion}).json()["entry"][0]["resource"]
        assert report["status"] == "entered-in-error"
        assert "Retract…" not in client.get(f"/studies/{node.lesion}").text
    node.database.close()


def test_a_model_is_run_again_by_a_button(tmp_path: Path) -> None:
    node = fill(tmp_path)
    with serving(node.settings) as client:
        address = f"/studies/{node.failed}/rerun"
        assert f'action="{address}"' in client.get(f"/studies/{node.failed}").text
        forged = client.post(address, data={"model": "mr-breast-kinetics"}, headers={"sec-fetch-site": "cross-site"})
        assert forged.status_code == 403
        page = client.post(address, data={"model": "mr-breast-kinetics"})
        assert page.status_code == 200 and "A person asked for another run of mr-breast-kinetics." in page.text
        assert client.post(address, data={"model": "ct-voco"}).status_code == 409
        (row,) = (r for r in client.get("/api/worklist").json()["entries"] if r["study"]["study_uid"] == node.failed)
        assert row["answers"][0]["outcome"] == "waiting"
    node.database.close()
