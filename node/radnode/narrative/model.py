"""Asks a language model at an OpenAI-compatible address for the sentences of a report. It never sees who the patient is.

What leaves the node: codes' meanings, sides, numbers and units of the findings, the same of what the
node's other models found in the study, and of similar past cases with the lines that a person confirmed (cases). No name, number or date of a patient, no UID, no description of the study.
"""

import json
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

import httpx

from radnode.narrative.cases import described
from radnode.narrative.check import Statement, check, labelled, read_answer
from radnode.narrative.facts import Told
from radnode.narrative.template import statements
from radnode.secrets_read import SecretError, secret
from radnode.settings_narrative import Narrative

LARGEST = 256 * 1024
"""Bytes of an answer."""
AGAIN = frozenset({408, 409, 425, 429})
SHOWN = 200
"""Characters of what a server says of an error."""
LANGUAGES: Mapping[str, str] = {"en": "English", "zh-TW": "Traditional Chinese as written in Taiwan"}
RULES = """You write the sentences of a radiology report from the findings of specialised AI models, as the generalist who \
puts the specialists' findings into words. Answer with JSON only: {{"statements": [{{"finding": "F1", "text": "..."}}, ...]}}.
Every finding is stated exactly once, under its own label, in one or two short sentences in {language}.
A program checks every word and refuses the whole answer otherwise:
- State the name, the side and the site of the finding, each once. Where "absent" is true, state that it is absent, with one \
negation; elsewhere use no negation.
- State every value: first its name, then the number as given or rounded to no fewer than two digits, then the unit as \
given. One name, one value; no ranges, no "x" between numbers, no conversion, no separators of thousands.
- Use no other word of medicine, number, comparison, doubt, time or advice. No heading, no markup, no text outside.
The findings of other models on the same study are context: their own reports state them, state none of them here.
The similar past cases show sentences that radiologists confirmed. They are of other patients: take their manner only."""
SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["statements"],
    "properties": {
        "statements": {
            "type": "array",
            "items": {
                "type": "object",
                "additionalProperties": False,
                "required": ["finding", "text"],
                "properties": {"finding": {"type": "string"}, "text": {"type": "string"}},
            },
        }
    },
}


class NoAnswerError(Exception):
    """The language model could not be asked, or gave no answer. The message holds no secret.

    permanent: it would say the same again. wait_s: it asks not to be asked anything before.
    """

    def __init__(self, sentence: str, *, permanent: bool = False, wait_s: float = 0.0) -> None:
        super().__init__(sentence)
        self.permanent, self.wait_s = permanent, wait_s


class RefusedTextError(Exception):
    """The language model's text does not say exactly what the findings say; the message says where."""


def write(
    settings: Narrative, told: Told, past: Sequence[Mapping[str, Any]], others: Sequence[Mapping[str, Any]] = ()
) -> tuple[Statement, ...]:
    """The language model's sentence for each fact, checked against these facts alone. Raises NoAnswerError, RefusedTextError.

    others: what other models found in the study (cases.of_others).
    """
    answer = ask(settings, prompt(told, past, settings.language, others))
    try:
        said = read_answer(answer)
    except ValueError as e:
        raise RefusedTextError(str(e)) from e
    problems = check(said, told.facts, settings.language)
    if problems:
        raise RefusedTextError("; ".join(problems))
    return said


def prompt(
    told: Told, past: Sequence[Mapping[str, Any]], language: str, others: Sequence[Mapping[str, Any]] = ()
) -> list[dict[str, str]]:
    """The messages: the rules, then the findings under their labels with the template's sentences, and what is context only."""
    template = {s.label: s.text for s in statements(told, language)}
    findings = [
        {"label": label, **described(fact), "template": template[label]} for label, fact in labelled(told.facts).items()
    ]
    given = {"findings": findings, "findings_of_other_models": list(others), "similar_past_cases": list(past)}
    return [
        {"role": "system", "content": RULES.format(language=LANGUAGES[language])},
        {"role": "user", "content": json.dumps(given, ensure_ascii=False)},
    ]


def ask(settings: Narrative, messages: Sequence[Mapping[str, str]]) -> str:
    """The text of the answer. Raises NoAnswerError, also when the whole took longer than it may."""
    wanted = {
        "model": settings.model,
        "messages": list(messages),
        "temperature": 0,
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "statements", "strict": True, "schema": SCHEMA},
        },
    }
    try:
        headers = {"Authorization": f"Bearer {secret(settings.api_key)}"} if settings.api_key else {}
    except SecretError as e:
        raise NoAnswerError(str(e)) from e
    try:
        body = received(settings, wanted, headers)
        choice = json.loads(body)["choices"][0]
        message, ended = choice["message"], choice.get("finish_reason")
        text, refusal = message.get("content"), message.get("refusal")
    except httpx.HTTPError as e:
        raise NoAnswerError(f"it does not answer ({type(e).__name__})") from e
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError) as e:
        raise NoAnswerError("its answer is no chat completion") from e
    if refusal or ended == "content_filter":
        raise NoAnswerError(f"it refuses: {str(refusal or 'its filter held the answer back')[:SHOWN]}", permanent=True)
    if ended == "length":
        raise NoAnswerError("its answer was cut off: too many tokens", permanent=True)
    if not isinstance(text, str):
        raise NoAnswerError("its answer holds no text")
    return text


def received(settings: Narrative, wanted: Mapping[str, Any], headers: Mapping[str, str]) -> bytes:
    """The body of the answer, within `timeout_s` as a whole and LARGEST. No proxy, no redirect: only the named address."""
    end = time.monotonic() + settings.timeout_s
    address = f"{settings.url.rstrip('/')}/chat/completions"
    with (
        httpx.Client(timeout=settings.timeout_s, trust_env=False) as client,
        client.stream("POST", address, json=dict(wanted), headers=dict(headers)) as answer,
    ):
        body = b""
        for part in answer.iter_bytes():
            body += part
            if time.monotonic() > end:
                raise NoAnswerError(f"it did not end its answer within {settings.timeout_s:g} s")
            if len(body) > LARGEST:
                raise NoAnswerError(f"its answer is larger than {LARGEST // 1024} kB")
    if answer.status_code != 200:
        raise failure(answer, body)
    return body


def failure(answer: httpx.Response, body: bytes) -> NoAnswerError:
    """An error of the server in its own words, which hold no secret of ours: 4xx is for good, but for those in AGAIN."""
    try:
        words = str(json.loads(body)["error"]["message"])
    except (ValueError, KeyError, TypeError, RecursionError):
        words = ""
    said = f"it answered {answer.status_code}" + (f": {' '.join(words.split())[:SHOWN]}" if words else "")
    permanent = 400 <= answer.status_code < 500 and answer.status_code not in AGAIN
    return NoAnswerError(said, permanent=permanent, wait_s=retry_after(answer))


def retry_after(answer: httpx.Response) -> float:
    """Seconds, of Retry-After (RFC 9110 section 10.2.3); 0 where there is none, or a date; an hour at most."""
    given = answer.headers.get("retry-after", "")
    seconds = float(given) if re.fullmatch(r"\d{1,9}(\.\d{1,3})?", given) else 0.0
    return min(seconds, 3600.0)
