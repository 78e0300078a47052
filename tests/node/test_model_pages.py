"""The page of a model: agreement, proxies, drift by scanner, alarms, and a version in shadow against what was reported."""

import re
import time
from collections.abc import Iterator
from dataclasses import replace

import httpx
import pytest
from support.filled import Filled, fill
from support.pages import serving

from radnode import proxies, scores, verdicts, versus
from radnode.monitor import Kind
from radnode.scores import Watch
from radnode.tables import ShadowRow
from radnode.tables_monitoring import ScoreRow
from radnode.verdicts import Ruling, Verdict
from radnode.web.charts import Series, by_month
from radnode_inference import registry
from radnode_inference.engines import record
from radnode_inference.engines.record import Agreement

DAY_S = 86400.0


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Filled]:
    """Two scanners; one of them begins to find something in every study, 30 days ago."""
    node = fill(tmp_path_factory.mktemp("node"))
    now = time.time()
    with node.database.transaction() as session:
        for i in range(800):
            at, scanner = now - (800 - i) * DAY_S / 8, f"Maker Scanner {i % 2}"
            found = i % 3 == 0 or (i % 2 == 1 and i > 560)
            session.add(ScoreRow(
                study_uid=f"1.9.{i}", model="ct-lung", version="1 · a", scanner=scanner, at=at, seen=at,
                status="entered-in-error" if i == 7 else "preliminary", findings=int(found),
                probability=0.8 if found else None,
            ))  # fmt: skip
        for i, (state, probability) in enumerate([("done", 0.9), ("done", None), ("done", None), ("declined", None)]):
            found = [
                {"kind": "abnormality", "name": "N", "laterality": "", "probability": probability, "measurements": []}
            ]
            session.add(ShadowRow(
                study_uid=f"1.9.{i}", revision=1, model="ct-lung", version="b", state=state, created_at=now,
                findings=found if i == 0 else [{"kind": "anatomy"}] if i == 1 else [],
            ))  # fmt: skip
        for i, ruling in enumerate([Ruling.ACCEPTED, Ruling.ACCEPTED, Ruling.EDITED, Ruling.REJECTED, Ruling.ADDED]):
            verdicts.rule(session, Verdict(
                study_uid=f"1.9.{i}", model="ct-lung", tracking_uid=f"1.8.{i}", said="Nodule", ruling=ruling, comment="c",
                who="w", at=now,
            ))  # fmt: skip
    Watch(node.database, node.settings).turn(now)
    yield node
    node.database.close()


@pytest.fixture(scope="module")
def client(filled: Filled) -> Iterator[httpx.Client]:
    with serving(filled.settings) as made:
        yield made


def test_the_card_of_the_weights_stands_on_the_page(client: httpx.Client) -> None:
    page = client.get("/models/mr-breast-mome").text
    for words in (
        "Not useful with T2 only: AUROC 0.56", "500 generated breast examinations", "region: BREAST or MAMMA",
        "slices (mm): 0.5 to 6", "temperature 1.4288, chosen on 60 generated studies", "60 generated examinations of other seeds",
        '<tr><td>dce+dwi+t2</td><td>auroc</td><td class="number">0.96</td><td class="number">0.91 – 1.00</td><td class="number">60</td></tr>',
    ):  # fmt: skip
        assert words in page, words
    training_free = client.get("/models/ct-lung").text
    assert 'id="card"' not in training_free and 'id="engines"' not in training_free


def test_how_engines_compared_stands_on_the_page(filled: Filled, client: httpx.Client) -> None:
    folder = filled.settings.weights_folder
    assert "no faster engine was compared" in client.get("/models/ct-voco").text
    agreed = Agreement(
        engine="torch-bf16", version=record.version("torch-bf16"), hardware=record.cpu(), windows=4, dice=0.9912, classes=2,
        delta_p=0.0034, seconds=1.0, reference_s=2.5,
    )  # fmt: skip
    empty = replace(agreed, engine="openvino-fp32", hardware="another machine", classes=0)
    record.write(record.place(folder, registry.card("ct-voco", folder).engines_key), (agreed, empty))
    page = client.get("/models/ct-voco").text
    assert "<p><strong>torch-bf16</strong> (torch-bf16: Dice 0.9912 and Δp 0.0034" in page
    numbers = "".join(f'<td class="number">{n}</td>' for n in ("4", "0.9912", "0.0034", "2.5"))
    assert f"{numbers}<td>–</td></tr>" in page
    assert "<td>nothing to compare: the check inputs show no class but background to both</td>" in page


def test_alarms_stand_on_both_pages_and_in_the_metrics(filled: Filled, client: httpx.Client) -> None:
    with filled.database.reading() as session:
        found = {(k.alarm.kind, k.alarm.scanner) for k in scores.known(session, open_only=True)}
    assert (Kind.UP, "Maker Scanner 1") in found
    assert not {kind for kind, scanner in found if scanner == "Maker Scanner 0"}
    for path in ("/models", "/models/ct-lung"):
        page = client.get(path).text
        assert "The scores have risen" in page and "Maker Scanner 1" in page, path
    line = 'radnode_model_alarm{kind="score-up",model="ct-lung",scanner="Maker Scanner 1",version="1 · a"} 1.0'
    assert line in client.get("/metrics").text


def test_the_page_draws_what_the_tables_hold(client: httpx.Client) -> None:
    page = client.get("/models/ct-lung").text
    assert page.count('<svg class="chart"') >= 6, "scores, index and sums, together and by scanner"
    assert "Cohen's kappa" in page
    assert client.get("/models/ct-lung?lang=zh-TW").status_code == 200
    client.cookies.clear()


def test_a_model_without_any_report_has_a_page_and_an_unknown_one_has_none(client: httpx.Client) -> None:
    assert "Nothing was reported yet" in client.get("/models/ct-voco").text
    assert client.get("/models/nothing-like-it").status_code == 404
    assert client.get("/models/%3Cscript%3E").status_code == 404


def test_a_version_in_shadow_is_compared_study_by_study(filled: Filled) -> None:
    with filled.database.reading() as session:
        (run,) = versus.of_model(session, "ct-lung")
    assert (run.version, run.answered, run.declined, run.failed) == ("b", 3, 1, 0)
    assert (run.both, run.only_live, run.only_shadow, run.neither) == (1, 0, 0, 2), "an organ is no finding"
    assert run.kappa == pytest.approx(1.0)
    assert run.shift == pytest.approx(0.1)


def test_kappa_is_cohens() -> None:
    """By hand: 20 + 15 of 50 agree, expected 0.5 · 0.6 + 0.5 · 0.4 = 0.5, so (0.7 − 0.5) / 0.5."""
    run = versus.Versus(
        model="m", version="v", answered=50, declined=0, failed=0, both=20, only_live=5, only_shadow=10, neither=15,
        shift=None, differ=(),
    )  # fmt: skip
    assert run.kappa == pytest.approx(0.4)


def test_proxies_count_what_people_did(filled: Filled) -> None:
    with filled.database.reading() as session:
        found = proxies.of_model(session, "ct-lung")
        (agreed,) = verdicts.agreement(session)
    last = found[-1]
    assert (last.added, last.stand, last.rejected) == (1, 3, 1)
    assert last.found == agreed.found == pytest.approx(0.75)
    assert agreed.share == pytest.approx(0.5), "what people add is no ruling on a finding of the model"
    assert sum(m.reports for m in found) == 803, "800 of ours and three of the node"
    assert sum(m.retracted for m in found) == 1


def test_agreement_and_proxies_are_drawn_for_each_scanner_and_month(filled: Filled, client: httpx.Client) -> None:
    with filled.database.reading() as session:
        apart = proxies.of_model(session, "ct-lung", by_scanner=True)
        agreed = verdicts.agreement(session, scanners=scores.scanners(session))
    last = {m.scanner: (m.added, m.stand, m.rejected) for m in apart}  # the newest month of each
    assert last["Maker Scanner 0"] == (1, 2, 0) and last["Maker Scanner 1"] == (0, 1, 1)
    assert sum(m.reports for m in apart if m.scanner.startswith("Maker Scanner")) == 800
    assert {(a.scanner, a.share) for a in agreed} == {("Maker Scanner 0", 0.5), ("Maker Scanner 1", 0.5)}
    page = client.get("/models/ct-lung").text
    people = page[page.index('id="people-by-scanner"') : page.index('id="drift"')]
    for scanner in ("Maker Scanner 0", "Maker Scanner 1"):
        part = people[people.index(f"<summary>{scanner} ") :].partition("</details>")[0]
        assert part.count('<svg class="chart"') == 2, "agreement and proxies"
        assert "accepted, of those ruled on, " in part and ": 50 %</title>" in part
    found = "made by the model, of what people stand by"
    assert re.search(rf"<title>{found}, \d{{4}}-\d\d: 67 %</title>", people), "two of three on scanner 0"


def test_a_finding_that_the_model_missed_must_be_named(filled: Filled) -> None:
    with pytest.raises(ValueError, match="did not find"), filled.database.transaction() as session:
        verdicts.rule(session, Verdict(
            study_uid="1.9.1", model="ct-lung", tracking_uid="1.7", said="", ruling=Ruling.ADDED, comment="", who="w", at=1.0,
        ))  # fmt: skip


def test_a_chart_puts_values_where_they_belong() -> None:
    made = by_month(["2026-01", "2026-02"], [Series(name="n", kind="first", values=[1.0, None])], limit=2.0)
    assert made.lines[0].points == f"{made.width / 4},{round(made.height * (1 - 1 / 2.2), 1)}"
    assert made.limits[0].at == pytest.approx(made.height * (1 - 1 / 1.1), abs=0.1)
    assert [m.label for m in made.below] == ["2026-01", "2026-02"]
