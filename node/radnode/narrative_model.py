"""Asks a language model at an OpenAI-compatible address for the sentences of a report. It never sees who the patient is.

What leaves the node: codes' meanings, sides, numbers and units of the findings, and the same of similar past cases with
the lines that a person confirmed (narrative_cases). No name, number or date of a patient, no UID, no description of the study.
"""

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

import httpx

from radnode.narrative import statements
from radnode.narrative_cases import described
from radnode.narrative_check import Statement, check, labelled, read_answer
from radnode.narrative_facts import Told
from radnode.secrets_read import SecretError, secret
from radnode.settings_narrative import Narrative

LARGEST = 256 * 1024
"""Bytes of an answer."""
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
    """The language model could not be asked, or gave no answer. The message holds no secret."""


class RefusedTextError(Exception):
    """The language model's text does not say exactly what the findings say; the message says where."""


def write(settings: Narrative, told: Told, past: Sequence[Mapping[str, Any]]) -> tuple[Statement, ...]:
    """The language model's sentence for each fact, checked. Raises NoAnswerError, RefusedTextError."""
    answer = ask(settings, prompt(told, past, settings.language))
    try:
        said = read_answer(answer)
    except ValueError as e:
        raise RefusedTextError(str(e)) from e
    problems = check(said, told.facts, settings.language)
    if problems:
        raise RefusedTextError("; ".join(problems))
    return said


def prompt(told: Told, past: Sequence[Mapping[str, Any]], language: str) -> list[dict[str, str]]:
    """The messages: the rules, then the findings under their labels with the template's sentences, and the past cases."""
    template = {s.label: s.text for s in statements(told, language)}
    findings = [
        {"label": label, **described(fact), "template": template[label]} for label, fact in labelled(told.facts).items()
    ]
    given = {"findings": findings, "similar_past_cases": list(past)}
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
        text = json.loads(body)["choices"][0]["message"]["content"]
    except httpx.HTTPError as e:
        raise NoAnswerError(f"it does not answer ({type(e).__name__})") from e
    except (ValueError, KeyError, IndexError, TypeError, RecursionError) as e:
        raise NoAnswerError("its answer is no chat completion") from e
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
        if answer.status_code != 200:
            raise NoAnswerError(f"it answered {answer.status_code}")
        body = b""
        for part in answer.iter_bytes():
            body += part
            if time.monotonic() > end:
                raise NoAnswerError(f"it did not end its answer within {settings.timeout_s:g} s")
            if len(body) > LARGEST:
                raise NoAnswerError(f"its answer is larger than {LARGEST // 1024} kB")
    return body
