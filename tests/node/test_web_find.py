"""QIDO-RS of servers with pages of their own: a study that is listed in part would be fetched in part."""

from collections.abc import Callable

import httpx
import pytest

from radnode.destinations import web_find
from radnode.destinations.web_client import WebAddress
from radnode.destinations.web_find import SERIES, SERIES_COUNT, WebFinder
from radnode.settings_access import Tls

SERIES_OF_IT = [{SERIES: {"Value": [f"1.2.{n}"]}, SERIES_COUNT: {"Value": [n]}} for n in range(5)]


def in_short_pages(offset: int, limit: int) -> httpx.Response:
    """Two at a time, whatever is asked for."""
    end = offset + min(2, limit)
    warning = {"Warning": '299 pacs: "There are more results"'} if end < len(SERIES_OF_IT) else {}
    return httpx.Response(200, json=SERIES_OF_IT[offset:end], headers=warning)


def without_pages(_offset: int, _limit: int) -> httpx.Response:
    return httpx.Response(200, json=SERIES_OF_IT)


@pytest.mark.parametrize("answer", [in_short_pages, without_pages])
def test_everything_is_listed_once(
    answer: Callable[[int, int], httpx.Response], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def serve(request: httpx.Request) -> httpx.Response:
        asked.append(int(request.url.params["offset"]))
        assert len(asked) < 10, "it would ask for ever"
        return answer(asked[-1], int(request.url.params["limit"]))

    monkeypatch.setattr(web_find, "PAGE", 5)
    with httpx.Client(transport=httpx.MockTransport(serve), base_url="http://pacs") as http:
        monkeypatch.setattr(web_find, "client", lambda *_: http)
        finder = WebFinder(WebAddress(url="http://pacs", own=Tls()), 1.0)
        assert finder.series("1.2") == {f"1.2.{n}": n or None for n in range(5)}  # 0: it does not count


def test_empty_values_and_a_study_that_is_listed_twice_are_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    study = {"0020000D": {"Value": ["1.2.3\0"]}, "00100030": {"Value": [None]}, "00080061": {"Value": [None, "CT"]}}
    with httpx.Client(
        transport=httpx.MockTransport(lambda _: httpx.Response(200, json=[study, study])), base_url="http://pacs"
    ) as http:
        monkeypatch.setattr(web_find, "client", lambda *_: http)
        (found,) = WebFinder(WebAddress(url="http://pacs", own=Tls()), 1.0).studies(StudyInstanceUID="1.2.3")
    assert (found.study_uid, found.patient_birth_date, found.modalities) == ("1.2.3", "", ("CT",))
