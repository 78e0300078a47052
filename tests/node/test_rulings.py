"""What people say of findings: kept, undone, counted; and remarks on studies."""

import re
import time
from pathlib import Path

import httpx
import pytest
from support.filled import fill
from support.pages import serving
from support.results import add_study, prepare

from radnode import scores, verdicts
from radnode.settings import Settings
from radnode.tables_monitoring import ScoreRow
from radnode.verdicts import Ruling, Verdict
from radnode.web import drawings

NOVEMBER, DECEMBER = 1795300000.0, 1798000000.0


def test_a_finding_is_corrected_with_words_and_undone_and_the_story_tells_it(tmp_path: Path) -> None:
    node = fill(tmp_path)
    address = f"/studies/{node.lesion}"
    with serving(node.settings) as client:
        found = re.search(r'name="tracking_uid" value="([0-9.]+)"', client.get(address).text)
        assert found is not None
        form = {"model": "ct-lung", "tracking_uid": found[1]}

        def rule(ruling: str, comment: str = "", **more: str) -> httpx.Response:
            return client.post(f"{address}/rulings", data=form | {"ruling": ruling, "comment": comment} | more)

        assert rule("edited").status_code == 422, "a correction says what is right"
        assert rule("perhaps").status_code == 422
        assert rule("accepted", tracking_uid="1.2.3").status_code == 409
        assert "is in the right lung" in rule("edited", "it is in the right lung").text
        assert "A finding of ct-lung was edited on the page" in client.get(address).text
        assert rule("undone").status_code == 200
        assert 'value="accepted"' in rule("undone").text
        assert client.post(f"{address}/remark", data={"text": "please <call>"}).status_code == 200
        assert "please &lt;call&gt;" in client.get("/").text
        assert client.post(f"{address}/remark", data={"text": "", "seen": "please <call>"}).status_code == 200
        assert "please" not in client.get("/").text
        assert client.post("/studies/1.2.3.99/remark", data={"text": "x"}).status_code == 404
        picture = client.get(f"{address}/findings/{found[1]}/slice.png")
        assert picture.content.startswith(b"\x89PNG")
        outline = client.get(f"{address}/findings/{found[1]}/outline.svg")
        assert 'viewBox="0 0 96 96"' in outline.text
        numbers = [float(v) for v in re.findall(r"[ML]([0-9.]+),", outline.text)]
        assert 40 < min(numbers) < max(numbers) < 66, "the ball lies 5 mm to the left of the middle, 9 mm its radius"
        assert client.get(f"{address}/findings/1.2.3/slice.png").status_code == 404
        assert client.get(f"{address}/series/1.2.3/thumbnail.png").status_code == 404
    with node.database.reading() as session:
        kept = verdicts.history(session, node.lesion)
    assert [v.ruling for v in kept] == ["edited", "undone", "undone"]
    assert verdicts.standing(kept) == {}
    node.database.close()


def test_what_a_colleague_said_meanwhile_is_not_replaced_unseen(tmp_path: Path) -> None:
    node = fill(tmp_path)
    address = f"/studies/{node.lesion}"
    with serving(node.settings) as client:

        def form(place: str, page: str) -> dict[str, str]:
            part = page.partition(f'action="{address}/{place}"')[2].partition("</form>")[0]
            return dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', part))

        seen = client.get(address).text
        remark, ruling = form("remark", seen), form("rulings", seen)
        assert client.post(f"{address}/remark", data=remark | {"text": "call  the ward"}).status_code == 200
        late = client.post(f"{address}/remark", data=remark | {"text": "<no> contrast"})
        assert late.status_code == 409
        assert "call  the ward" in late.text and "&lt;no&gt; contrast</textarea>" in late.text
        assert "call  the ward" in client.get("/").text and "contrast" not in client.get("/").text
        both = form("remark", late.text) | {"text": "call the ward, no contrast"}
        assert client.post(f"{address}/remark", data=both).status_code == 200
        assert "call the ward, no contrast" in client.get("/").text

        said = {"ruling": "rejected", "comment": "a vessel"}
        assert client.post(f"{address}/rulings", data=ruling | said).status_code == 200
        late = client.post(f"{address}/rulings", data=ruling | {"ruling": "edited", "comment": "smaller"})
        assert late.status_code == 409
        assert "a vessel" in late.text and "smaller</textarea>" in late.text
        with node.database.reading() as session:
            assert [v.comment for v in verdicts.history(session, node.lesion)] == ["a vessel"]
        undo = form("rulings", client.get(address).text)
        again = form("rulings", late.text) | {"ruling": "edited", "comment": "a vessel; smaller"}
        assert client.post(f"{address}/rulings", data=again).status_code == 200
        assert client.post(f"{address}/rulings", data=undo | {"ruling": "undone"}).status_code == 409
        with node.database.reading() as session:
            assert [v.comment for v in verdicts.history(session, node.lesion)] == ["a vessel", "a vessel; smaller"]
    node.database.close()


def test_agreement_counts_the_newest_ruling_of_each_finding_by_model_month_and_scanner(tmp_path: Path) -> None:
    database = prepare(Settings(data=tmp_path))
    for uid, scanner in (("1.1", "Maker CT 1"), ("1.2", "Maker CT 2")):
        add_study(database, uid, calling_ae="ROUTER")
        with database.transaction() as session:
            session.add(ScoreRow(
                study_uid=uid, model="m", version="1", scanner=scanner, at=NOVEMBER, seen=NOVEMBER, status="preliminary",
                findings=1, probability=0.9,
            ))  # fmt: skip
    said = [
        ("1.1", "a", Ruling.REJECTED, NOVEMBER),
        ("1.1", "a", Ruling.ACCEPTED, NOVEMBER),  # a second thought
        ("1.1", "b", Ruling.REJECTED, NOVEMBER),
        ("1.1", "b", Ruling.UNDONE, NOVEMBER),
        ("1.2", "c", Ruling.REJECTED, NOVEMBER),
        ("1.2", "d", Ruling.EDITED, DECEMBER),
    ]
    with database.transaction() as session:
        for study_uid, tracking, ruling, at in said:
            verdicts.rule(session, verdict(study_uid, tracking, ruling, at))
    with database.reading() as session:
        months = [(a.month, a.accepted, a.rejected, a.edited, a.share) for a in verdicts.agreement(session)]
        apart = verdicts.agreement(session, scanners=scores.scanners(session))
        scanners = [(a.month, a.scanner, a.accepted, a.rejected) for a in apart]
    assert months == [("2026-11", 1, 1, 0, 0.5), ("2026-12", 0, 0, 1, 0.0)]
    assert scanners == [
        ("2026-11", "Maker CT 1", 1, 0),
        ("2026-11", "Maker CT 2", 0, 1),
        ("2026-12", "Maker CT 2", 0, 0),
    ]
    with serving(Settings(data=tmp_path)) as client:
        page = client.get("/models").text
    assert page.count('class="accepted-bar"') == 2
    assert ">50 %<" in page
    database.close()


def verdict(study_uid: str, tracking: str, ruling: Ruling, at: float) -> Verdict:
    return Verdict(
        study_uid=study_uid, model="m", tracking_uid=tracking, said="Nodule", ruling=ruling, comment="smaller",
        who="test", at=at,
    )  # fmt: skip


def test_a_correction_without_words_is_refused(tmp_path: Path) -> None:
    made = verdict("1.1", "a", Ruling.EDITED, time.time())
    database = prepare(Settings(data=tmp_path))
    with pytest.raises(ValueError, match="in a few words"), database.transaction() as session:
        verdicts.rule(session, Verdict(**vars(made) | {"comment": ""}))
    database.close()


def test_contributions_and_the_curve_are_drawn_from_the_numbers_of_the_report() -> None:
    def part(code: str, value: float) -> dict[str, object]:
        return {"code": {"coding": [{"code": code, "display": code}]}, "valueQuantity": {"value": value, "unit": "%"}}

    observation = {
        "resourceType": "Observation",
        "code": {"coding": [{"code": "x", "display": "Lesion"}]},
        "component": [part("SHAPLEY-T2", -10.0), part("SHAPLEY-DWI", 40.0), part("PE-EARLY", 150.0), part("SER", 1.5)],
    }
    drawn = drawings.drawing("mr", observation)
    assert [(s.name, s.x, s.width) for s in drawn.shares] == [("T2", 82.5, 27.5), ("DWI", 110.0, 110.0)]
    assert drawn.percents == (0.0, 150.0, 100.0), "a ratio of 1.5 is early 150 % and late 100 %: it washes out"
    assert drawn.curve == ((0.0, 90.0), (110.0, 0.0), (220.0, 30.0))
    capped = drawings.drawing("mr", observation | {"component": [part("PE-EARLY", 150.0), part("SER", 3.0)]})
    assert (capped.shares, capped.curve) == ((), ())
