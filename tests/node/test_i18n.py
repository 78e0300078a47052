"""The pages in English and Traditional Chinese: complete catalogues, and the choice between them."""

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from support.catalogues import WEB, messages
from support.pages import serving
from support.results import prepare

from radnode import accounts, accounts_tokens, jobs, priorities, readings, rules_try, verdicts
from radnode.errors import RefusedError, as_sentence
from radnode.settings import Settings
from radnode.simulation import runs
from radnode.web.i18n import DEFAULT, LANGUAGES, catalogue

PLACES = re.compile(r"%(?:\(\w+\))?[sd]")
UNTRANSLATED = re.compile(r">\s*([A-Z][a-z]+(?: [a-z]+)+)[^<{]*<")


@pytest.mark.parametrize("language", [language for language in LANGUAGES if language != DEFAULT])
def test_every_text_is_translated_and_keeps_its_places(language: str) -> None:
    translated, wanted = catalogue(language), set(messages())
    assert len(wanted) > 150
    assert wanted - set(translated) == set(), "not translated"
    assert set(translated) - wanted == set(), "not used any more"
    for text, words in translated.items():
        assert Counter(PLACES.findall(text)) == Counter(PLACES.findall(words)), text


def test_no_template_holds_a_sentence_outside_the_catalogues() -> None:
    own = {"simulation.html"}  # a page of its own, made by `radnode triage simulate --html`
    found = {
        (t.name, m[1])
        for t in (WEB / "templates").glob("*.html")
        if t.name not in own
        for m in UNTRANSLATED.finditer(t.read_text())
    }
    assert found == set()


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    settings = Settings(data=tmp_path_factory.mktemp("node"))
    prepare(settings).close()
    with serving(settings) as made:
        yield made


@pytest.mark.parametrize(
    ("address", "headers", "language"),
    [
        ("/", {}, "en"),
        ("/", {"accept-language": "zh-TW,zh;q=0.9,en;q=0.8"}, "zh-TW"),
        ("/", {"accept-language": "de,en;q=0.8,zh;q=0.2"}, "en"),
        ("/", {"accept-language": "zh;q=0,en"}, "en"),
        ("/", {"accept-language": ";;;q=x,\u00e9"}, "en"),
        ("/", {"accept-language": "en", "cookie": "lang=zh-TW"}, "zh-TW"),
        ("/", {"cookie": "lang=../../etc"}, "en"),
        ("/?lang=en", {"accept-language": "zh-TW", "cookie": "lang=zh-TW"}, "en"),
        ("/?lang=<script>", {}, "en"),
    ],
)
def test_the_address_goes_before_the_cookie_and_that_before_the_browser(
    client: httpx.Client, address: str, headers: dict[str, str], language: str
) -> None:
    client.cookies.clear()
    page = client.get(address, headers=[(k, v.encode()) for k, v in headers.items()]).text
    assert f'<html lang="{language}">' in page
    assert ("工作清單" in page) == (language == "zh-TW")


def test_a_language_once_chosen_is_kept_and_two_readers_do_not_mix(client: httpx.Client) -> None:
    client.cookies.clear()
    client.get("/?lang=zh-TW")
    assert "連線對象" in client.get("/peers").text
    client.cookies.clear()
    assert "連線對象" not in client.get("/peers").text


REFUSE = {verdicts: ("ValueError",)}


def test_what_other_modules_refuse_in_fixed_words_is_translated_too() -> None:
    """Sentences with names in them stand as they are; see `radnode.web.i18n`."""
    modules = (accounts, accounts_tokens, jobs, priorities, readings, rules_try, runs, verdicts)
    raised = [
        call.args[0].value
        for module in modules
        for call in ast.walk(ast.parse(Path(str(module.__file__)).read_text()))
        if isinstance(call, ast.Call) and getattr(call.func, "id", "") in REFUSE.get(module, ("RefusedError",))
        if call.args and isinstance(call.args[0], ast.Constant)
    ]
    assert len(raised) > 12
    said = {text if text.endswith(".") else as_sentence(RefusedError(text)) for text in raised}
    assert said - set(catalogue("zh-TW")) == set()
