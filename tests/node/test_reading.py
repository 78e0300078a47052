"""A person marks a study as read: it leaves the worklist, and comes back with later images or when the mark is taken back."""

import time
from pathlib import Path

import httpx
from sqlalchemy import update
from support.filled import fill
from support.pages import serving

from radnode.settings import TriageRule
from radnode.tables import StudyRow


def listed(client: httpx.Client) -> list[str]:
    return [e["study"]["study_uid"] for e in client.get("/api/worklist").json()["entries"]]


def test_a_read_study_leaves_the_list_is_counted_there_and_comes_back_when_the_mark_is_taken_back(
    tmp_path: Path,
) -> None:
    node = fill(tmp_path)
    address = f"/worklist/{node.lesion}/read"
    with serving(node.settings) as client:
        before = listed(client)
        assert node.lesion in before
        page = client.post(address, data={"revision": "1"})
        assert page.status_code == 200
        assert f'data-key="{node.lesion}"' not in page.text and "Read, and not in this list any more: 1." in page.text
        notice = page.text[page.text.index('id="marked"') :].partition("</form>")[0]
        assert "Marked as read:" in notice and "MÜLLER" in notice and f"{address}/undo" in notice, "which one, and undo"
        assert "MÜLLER" not in str(page.url) and 'id="marked"' not in client.get("/").text
        assert listed(client) == [uid for uid in before if uid != node.lesion]
        story = client.get(f"/studies/{node.lesion}").text
        assert "To be read after all" in story and "the study leaves the worklist" in story
        assert "HIGH" in story  # nothing that was known of it is hidden
        assert client.post(f"{address}/undo").status_code == 200
        assert 'id="marked"' not in client.get(f"/?read={node.lesion}").text, "it is not read any more"
        assert listed(client) == before
        assert client.post(f"{address}/undo").status_code == 409
    node.database.close()


def test_later_images_bring_a_read_study_back_and_what_nobody_saw_cannot_be_marked(tmp_path: Path) -> None:
    node = fill(tmp_path)
    address = f"/worklist/{node.lesion}/read"
    with serving(node.settings) as client:
        assert client.post(address, data={"revision": "1"}).status_code == 200
        with node.database.transaction() as session:
            session.execute(update(StudyRow).where(StudyRow.study_uid == node.lesion).values(revision=2))
        assert node.lesion in listed(client)
        assert "Mark as read" in client.get(f"/studies/{node.lesion}").text
        refused = client.post(address, data={"revision": "1"})
        assert refused.status_code == 409 and "newer than what you read" in refused.text
        assert node.lesion in listed(client)
        assert client.post(address, data={"revision": "2"}).status_code == 200
        assert node.lesion not in listed(client)
    node.database.close()


def test_only_an_own_page_marks_a_study_that_is_here(tmp_path: Path) -> None:
    node = fill(tmp_path)
    with serving(node.settings) as client:
        address = f"/worklist/{node.lesion}/read"
        forged = client.post(address, data={"revision": "1"}, headers={"origin": "http://evil.example"})
        assert forged.status_code == 403
        assert client.post("/worklist/9.9/read", data={"revision": "1"}).status_code == 409
        assert client.post(address, data={}).status_code == 422
        assert client.get(address).status_code == 405
    node.database.close()


def test_while_images_arrive_a_study_cannot_be_marked_and_the_pages_say_so(tmp_path: Path) -> None:
    node = fill(tmp_path)
    with serving(node.settings) as client:
        refused = client.post(f"/worklist/{node.arriving}/read", data={"revision": "1"})
        assert refused.status_code == 409 and "still arriving" in refused.text
        assert node.arriving in listed(client)
        rows = client.get("/").text
        assert rows.count("<button disabled") == 1
        story = client.get(f"/studies/{node.arriving}").text
        assert "Images are still arriving" in story and "Mark as read" not in story
    node.database.close()


def test_a_person_reads_a_refusal_on_a_page_with_the_way_back_and_a_program_gets_json(tmp_path: Path) -> None:
    node = fill(tmp_path)
    with serving(node.settings) as client:
        address, form = f"/worklist/{node.arriving}/read", {"revision": "1"}
        story = f"{client.base_url.join('/studies')}/{node.arriving}?lang=en"
        browser = {"accept": "text/html,application/xhtml+xml", "referer": story}
        page = client.post(address, data=form, headers=browser)
        assert page.status_code == 409 and page.headers["content-type"].startswith("text/html")
        assert "still arriving" in page.text and f'href="/studies/{node.arriving}?lang=en">Back' in page.text
        away = client.post(address, data=form, headers=browser | {"referer": "https://evil.example//x"})
        assert '<a href="/">Back' in away.text
        wrong = client.post(address, data={}, headers=browser)
        assert wrong.status_code == 422 and "nothing was changed" in wrong.text
        assert client.post(address, data=form).json()["detail"].startswith("Images of this study are still arriving")
        assert client.get("/api/studies/9.9", headers=browser).headers["content-type"].startswith("application/json")
    node.database.close()


def test_after_three_readings_of_new_studies_the_oldest_overdue_one_goes_before_what_an_ai_made_stat(
    tmp_path: Path,
) -> None:
    node = fill(tmp_path, triage=(TriageRule(name="anything", level="STAT"),))
    old = update(StudyRow).where(StudyRow.study_uid == node.normal).values(first_instance_at=time.time() - 20 * 3600)
    with node.database.transaction() as session:
        session.execute(old)
    with serving(node.settings) as client:
        for study_uid in (node.demonstration, node.declined, node.failed):
            assert listed(client)[0] == node.lesion
            assert client.post(f"/worklist/{study_uid}/read", data={"revision": "1"}).status_code == 200
        assert listed(client)[:2] == [node.normal, node.lesion]
        assert "Its turn before the STAT of an AI. Waited 20 h." in client.get("/").text
        assert client.post(f"/worklist/{node.normal}/read", data={"revision": "1"}).status_code == 200
        assert client.post(f"/worklist/{node.normal}/read/undo").status_code == 200
        assert client.post(f"/worklist/{node.failed}/read/undo").status_code == 200
        assert listed(client)[:2] == [node.lesion, node.normal], "two readings are known, not three"
    node.database.close()
