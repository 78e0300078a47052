"""A language model writes the texts: the honest one's are the draft; a lying, silent or broken one changes nothing and the page says why."""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import delete, select, update
from support.filled import EHR, PACS, read
from support.language_model import LanguageModel, Raw, honest, language_model, texts
from support.pages import serving
from support.results import prepare

from radnode import verdicts
from radnode.database import Database
from radnode.errors import SettingsError
from radnode.narrative import narrate, narratives
from radnode.narrative.facts import told
from radnode.serve import roles
from radnode.settings import Settings
from radnode.settings_narrative import Narrative
from radnode.tables import DeliveryRow, ReportRow, StudyRow
from radnode.verdicts import Ruling, Verdict

KEY = "s3cret-key"


@dataclass(frozen=True, kw_only=True)
class Place:
    settings: Settings
    database: Database
    client: httpx.Client
    writer: LanguageModel
    lesion: str

    def ask_again(self, answer: Callable[[dict[str, Any]], str | int | Raw], **settings: Any) -> str:
        """The lesion's report is new again and a language model is asked about it; the study's page afterwards."""
        with self.database.transaction() as session:
            session.execute(update(ReportRow).where(ReportRow.study_uid == self.lesion).values(updated_at=time.time()))
        self.writer.answer = answer
        wanted = self.settings.narrative.model_copy(update=settings)
        assert narrate.turn(self.database, self.settings.model_copy(update={"narrative": wanted}), time.time())
        return self.client.get(f"/studies/{self.lesion}").text


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("node")
    (folder / "key").write_text(KEY + "\n")
    with language_model() as writer:
        wanted = Narrative(url=writer.url, model="test-writer", api_key=f"file:{folder / 'key'}", timeout_s=60)
        settings = Settings(data=folder / "data", destinations=(PACS, EHR), narrative=wanted)
        database = prepare(settings)
        lesion = read(settings, database, folder / "a", time.time() - 60, seed=1, name="MÜLLER^Anna")
        with serving(settings) as client:
            client.timeout = httpx.Timeout(60.0)
            yield Place(settings=settings, database=database, client=client, writer=writer, lesion=lesion)
        database.close()


def text(page: str) -> str:
    return page.partition("<textarea")[2].partition(">\n")[2].partition("</textarea>")[0]


def changed(old: str, new: str) -> Callable[[dict[str, Any]], str]:
    """The honest answer with one change."""

    def answer(given: dict[str, Any]) -> str:
        said = honest(given)
        assert old in said
        return said.replace(old, new)

    return answer


def more(given: dict[str, Any]) -> str:
    said = json.loads(honest(given))
    said["statements"].append({"finding": "F2", "text": "A mass in the right lung."})
    return json.dumps(said)


def test_the_honest_text_is_the_draft_and_the_page_says_whose_it_is(place: Place) -> None:
    page = place.ask_again(honest)
    assert "- There is a nodule within the left lung, with certainty of finding 81.2 % and volume" in text(page)
    assert "Written by the language model test-writer. Every sentence was checked against the findings." in page
    assert "Draft by AI, not confirmed by anybody." in page
    assert not narrate.turn(place.database, place.settings, time.time()), "it is asked once"
    assert place.writer.keys[-1] == f"Bearer {KEY}"
    assert place.writer.asked[-1]["model"] == "test-writer"


LIES: dict[str, tuple[Callable[[dict[str, Any]], str | int], str]] = {
    "adds a finding": (more, "it states &#39;F2&#39;, which is no finding"),
    "adds a finding within another": (changed("nodule", "nodule and a mass"), "it says &#39;mass&#39;"),
    "flips a side": (changed("left", "right"), "it names another side"),
    "drops a finding": (lambda given: texts({}), "it leaves out F1 (Nodule)"),
    "changes a number": (changed("81.2 %", "18.2 %"), "&#39;18.2 %&#39; is not the value"),
    "flips a negation": (changed("There is a", "There is no"), "adds or repeats &#39;the negation&#39;"),
    "changes a unit": (changed(" mm", " cm"), "is not the value"),
    "adds a recommendation": (changed(".\"", ". CT in three months is advised.\""), "it says &#39;ct&#39;"),
    "answers garbage": (lambda given: "Certainly! Here you are: <b>", "it is no JSON"),
    "answers 500": (lambda given: 500, "it answered 500"),
}  # fmt: skip


@pytest.mark.parametrize("lie", LIES)
def test_whatever_is_wrong_is_caught_the_template_stands_and_the_page_says_why(place: Place, lie: str) -> None:
    answer, why = LIES[lie]
    page = place.ask_again(answer)
    assert "- Nodule in the left lung: certainty of finding 81.2 %, volume" in text(page)
    assert "Drafted by a template from the findings." in page
    assert why in page.partition('id="texts"')[2]
    assert "The template stands." in page
    assert "Written by the language model" not in page


def test_one_that_hangs_is_left_after_its_time_and_delays_neither_report_nor_triage(place: Place) -> None:
    page = place.ask_again(lambda given: 0, timeout_s=0.3)  # it would hang for ten minutes
    assert "It gave no text: it does not answer (ReadTimeout). The template stands." in page
    with place.database.reading() as session:
        owed = session.scalars(select(DeliveryRow.state).where(DeliveryRow.study_uid == place.lesion)).all()
    assert owed, "the report was owed before anybody asked a language model"
    assert not narrate.turn(place.database, place.settings, time.time()), "not again at once"
    place.writer.answer = honest
    assert narrate.turn(place.database, place.settings, time.time() + 60), "but a little later"


def test_it_is_asked_in_vain_only_so_often(place: Place) -> None:
    place.ask_again(lambda given: 500, attempts=1)
    limited = place.settings.model_copy(
        update={"narrative": place.settings.narrative.model_copy(update={"attempts": 1})}
    )
    assert not narrate.turn(place.database, limited, time.time() + 3600)
    assert narrate.turn(place.database, place.settings, time.time() + 3600)


def test_what_other_models_found_is_told_as_context_and_refused_as_a_statement(place: Place) -> None:
    with place.database.transaction() as session:
        mine = session.scalars(select(ReportRow).where(ReportRow.study_uid == place.lesion)).one().bundle
        session.add(ReportRow(
            id="other", study_uid=place.lesion, model="ct-voco", status="preliminary", issued_at=1.0, updated_at=1.0,
            bundle=json.loads(json.dumps(mine).replace("Nodule", "Mass")),
        ))  # fmt: skip

    def asked(answer: Callable[[dict[str, Any]], str]) -> tuple[str, str]:
        with place.database.transaction() as session:
            session.execute(update(ReportRow).where(ReportRow.model == "ct-lung").values(updated_at=time.time()))
        place.writer.answer = answer
        assert narrate.turn(place.database, place.settings, time.time())
        with place.database.reading() as session:
            last = narratives.history(session, place.lesion)[-1]
        return str(last.step), last.reason

    try:
        assert asked(honest) == ("written", "")
        given = json.loads(place.writer.asked[-1]["messages"][1]["content"])
        (other,) = given["findings_of_other_models"]
        assert other["model"] == "ct-voco" and "Mass" in {f["name"] for f in other["findings"]}
        assert "Mass" not in {f["name"] for f in given["findings"]}
        assert asked(more) == ("refused", "it states 'F2', which is no finding")
        step, reason = asked(changed("nodule", "nodule and a mass"))
        assert step == "refused" and "it says 'mass'" in reason
        with place.database.transaction() as session:
            finding = next(f for f in told(mine).facts if f.concept.meaning == "Nodule")
            verdicts.rule(session, Verdict(
                study_uid=place.lesion, model="ct-voco", tracking_uid=finding.uid, said="Mass", ruling=Ruling.REJECTED,
                comment="", who="w", at=time.time(),
            ))  # fmt: skip
        asked(honest)
        assert "Mass" not in json.dumps(place.writer.asked[-1]), "what a person rejected is told no more"
    finally:
        with place.database.transaction() as session:
            session.execute(delete(ReportRow).where(ReportRow.id == "other"))


def test_nothing_that_names_a_patient_or_a_study_is_in_the_prompt(place: Place) -> None:
    place.ask_again(honest)
    sent = json.dumps(place.writer.asked, ensure_ascii=False).lower()
    with place.database.reading() as session:
        study = session.get_one(StudyRow, place.lesion)
        report = session.scalars(select(ReportRow).where(ReportRow.study_uid == place.lesion)).one()
        known = [
            study.study_uid, study.patient_id, "müller", "anna", study.accession_number, study.study_description,
            study.patient_birth_date, study.study_date, report.id, "2.25.", "untersuchung",
        ]  # fmt: skip
    assert [k for k in known if k and k.lower() in sent] == []


def test_similar_past_cases_come_with_the_lines_a_person_confirmed_and_no_other_word(
    place: Place, tmp_path: Path
) -> None:
    past = read(place.settings, place.database, tmp_path / "p", time.time() - 500, seed=2, name="LIN^Mei")
    page = place.client.get(f"/studies/{past}").text
    token = page.partition('name="token" value="')[2][:32]
    said = "Mrs Lin, seen on Monday.\n- Nodule in the left lung: certainty of finding 81 %, volume {v}, long axis 18 mm, short axis 17.1 mm."
    volume = text(page).partition("volume ")[2].partition(",")[0]
    form = {
        "model": "ct-lung", "token": token, "action": "confirm", "language": "en", "name": "Dr Wu",
        "text": said.format(v=volume),
    }  # fmt: skip
    assert place.client.post(f"/studies/{past}/text", data=form).status_code == 200
    place.ask_again(honest)
    given = json.loads(place.writer.asked[-1]["messages"][-1]["content"])
    (case,) = given["similar_past_cases"]
    assert case["text"].startswith("Nodule in the left lung: certainty of finding 81 %")
    assert case["finding"]["name"] == "Nodule"
    sent = json.dumps(place.writer.asked[-1])
    assert "Lin" not in sent
    assert "Monday" not in sent
    assert "Dr Wu" not in sent


def test_a_text_for_a_report_that_changed_meanwhile_is_dropped(place: Place) -> None:
    def answer(given: dict[str, Any]) -> str:
        with place.database.transaction() as session:
            session.execute(update(ReportRow).where(ReportRow.study_uid == place.lesion).values(updated_at=time.time()))
        return honest(given)

    with place.database.reading() as session:
        before = len(narratives.history(session, place.lesion))
    place.ask_again(answer)
    with place.database.reading() as session:
        assert len(narratives.history(session, place.lesion)) == before


def test_without_the_setting_there_is_no_such_role_and_nobody_is_asked(place: Place) -> None:
    named, plain = place.settings, place.settings.model_copy(update={"narrative": Narrative()})
    assert "narrate" in [r.name for r in roles(named)]
    assert "narrate" not in [r.name for r in roles(plain)]
    with pytest.raises(SettingsError, match="No language model"):
        narrate.serve(plain, narrate.threading.Event())


def test_a_key_that_cannot_be_read_is_named_without_being_told(place: Place) -> None:
    asked = len(place.writer.asked)
    page = place.ask_again(honest, api_key="env:RADNODE_TEST_NO_SUCH_KEY")
    assert "the environment variable RADNODE_TEST_NO_SUCH_KEY is not set" in page
    assert len(place.writer.asked) == asked


def error(status: int, message: str, **headers: str) -> Raw:
    """An error as OpenAI's servers answer it (https://platform.openai.com/docs/guides/error-codes)."""
    return Raw(
        body={"error": {"message": message, "type": "x", "param": None, "code": None}}, status=status, headers=headers
    )


def choice(message: dict[str, Any], finish_reason: str) -> Raw:
    whole = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish_reason, "logprobs": None}
    return Raw(body={"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m", "choices": [whole]})


FOR_GOOD: dict[str, tuple[Raw, str]] = {
    "a wrong key": (error(401, "Incorrect API key provided."), "it answered 401: Incorrect API key provided."),
    "an unknown model": (error(404, "The model `x` does not exist."), "it answered 404: The model `x` does not exist."),
    "a setting it does not take": (error(400, "Unsupported value: &lt;b&gt;"), "it answered 400: Unsupported value: &amp;lt;b"),
    "a refusal": (choice({"content": None, "refusal": "I cannot help with that."}, "stop"), "it refuses: I cannot help"),
    "a filter": (choice({"content": ""}, "content_filter"), "it refuses: its filter held the answer back"),
    "an answer that was cut off": (choice({"content": '{"statements": [{"fin'}, "length"), "its answer was cut off"),
}  # fmt: skip


@pytest.mark.parametrize("what", FOR_GOOD)
def test_what_it_would_say_again_it_is_not_asked_again_and_the_page_says_why(place: Place, what: str) -> None:
    answer, why = FOR_GOOD[what]
    page = place.ask_again(lambda given: answer)
    assert f"It gave no text: {why}" in page.partition('id="texts"')[2]
    assert "The template stands." in page and "the language model refused to answer" in page
    asked = len(place.writer.asked)
    assert not narrate.turn(place.database, place.settings, time.time() + 3600)
    assert len(place.writer.asked) == asked


BROKEN: dict[str, Raw] = {
    "no JSON": Raw(body=b"<html>502 Bad Gateway</html>", status=200),
    "JSON that is cut off": Raw(body=b'{"choices": [{"message": {"content": "'),
    "no choices": Raw(body={"choices": []}),
    "a list of choices that are none": Raw(body={"choices": ["x"]}),
    "content in parts": choice({"content": [{"type": "text", "text": "x"}]}, "stop"),
    "an error of the server": error(503, "The engine is currently overloaded."),
}


@pytest.mark.parametrize("what", BROKEN)
def test_what_is_no_answer_is_asked_for_again_later(place: Place, what: str) -> None:
    page = place.ask_again(lambda given: BROKEN[what])
    assert "It gave no text: " in page.partition('id="texts"')[2]
    place.writer.answer = honest
    assert narrate.turn(place.database, place.settings, time.time() + 3600)
    assert "Written by the language model" in place.client.get(f"/studies/{place.lesion}").text


def test_one_that_is_asked_too_often_is_left_alone_for_as_long_as_it_says(place: Place) -> None:
    with place.database.transaction() as session:
        session.execute(update(ReportRow).where(ReportRow.study_uid == place.lesion).values(updated_at=time.time()))
    place.writer.answer = lambda given: error(429, "Rate limit reached.", **{"retry-after": "17"})
    rests: list[float] = []
    assert narrate.turn(place.database, place.settings, time.time(), rests.append)
    assert rests == [17.0]
    page = place.client.get(f"/studies/{place.lesion}").text
    assert "It gave no text: it answered 429: Rate limit reached." in page
