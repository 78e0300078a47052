"""Whether a text says exactly what the findings say: nothing added, nothing lost, no number, side or negation changed. Pure.

The text is not trusted to mean well. It comes as statements, each under the label of the finding that it states, and is
read from its first letter to its last: the names of that finding, its numbers with their units, its side, its negation,
and words that add nothing (words.NEUTRAL). Anything else refuses it, so that what was never thought of is refused
as well. A correct text in unusual words is refused too; then the template stands, which says the same.
"""

import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from radnode.narrative.facts import Fact, Slot
from radnode.narrative.words import ABOUT_PLACES, ENGLISH, LEADING, NEGATIONS, NEUTRAL, PLURALS, SIDES, UNITS, names

LONGEST = 600
"""Characters of one statement."""
PUNCTUATION = frozenset(" .,;:()[]/-–—=、。")
NUMBER = re.compile(r"[-−–]?\d+(?:\.\d+)?(?![.,]?\d)")
RAISED = re.compile(r"(?<![A-Za-z])[⁰¹²³⁴-⁹₀-₉]")
"""A raised or lowered digit but after a letter, as in mm²."""
PLACES = frozenset("CPS") | {"S?"}
HYPHEN = re.compile(r"(?<=[a-z])[-‐‑](?=[a-z])")
SIGNIFICANT, PART = 2, 0.02
"""A rounded number keeps two digits, or lies within a fiftieth of the value."""


@dataclass(frozen=True, kw_only=True)
class Statement:
    """label: of the finding that the text states, "F1" and so on in the order of the facts."""

    label: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Token:
    """What a part of the text can stand for: any of `roles`. C: the concept, P: its place, S: its side, S?: another side,

    -: a negation, @: a word of ABOUT_PLACES, N1: the name of slot 1, A1: its answer, #: a number (value, in `unit`; "" for none).
    """

    text: str
    roles: frozenset[str]
    value: str = ""
    unit: str = ""


@dataclass(kw_only=True, eq=False)
class Heard:
    """What one statement said, as it is read."""

    count: dict[str, int] = field(default_factory=dict)
    slots: list[int] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    waiting: frozenset[str] = frozenset()
    named: str = ""


def read_answer(text: str) -> tuple[Statement, ...]:
    """The statements in {"statements": [{"finding": "F1", "text": "..."}]}. Raises ValueError for anything else."""
    try:
        answer = json.loads(text)
    except (ValueError, RecursionError) as e:
        raise ValueError("it is no JSON") from e
    if not isinstance(answer, dict) or set(answer) != {"statements"} or not isinstance(answer["statements"], list):
        raise ValueError("it is no list of statements, or has something beside them")
    made = []
    for item in answer["statements"]:
        if not isinstance(item, dict) or set(item) != {"finding", "text"}:
            raise ValueError("a statement has other parts than the finding and the text")
        if not all(isinstance(v, str) for v in item.values()):
            raise ValueError("a statement is not made of texts")
        made.append(Statement(label=item["finding"], text=item["text"].strip()))
    return tuple(made)


def labelled(facts: Sequence[Fact]) -> Mapping[str, Fact]:
    return {f"F{n}": f for n, f in enumerate(facts, 1)}


def check(statements: Sequence[Statement], facts: Sequence[Fact], language: str) -> tuple[str, ...]:
    """Why these statements do not say what the facts say, in words for people; () when they do."""
    known = labelled(facts)
    said = [s.label for s in statements]
    problems = [f"it states {s!r}, which is no finding" for s in dict.fromkeys(said) if s not in known]
    problems += [f"it leaves out {label} ({f.concept.meaning})" for label, f in known.items() if label not in said]
    problems += [f"it states {s} twice" for s in dict.fromkeys(said) if said.count(s) > 1]
    for s in statements:
        if s.label in known:
            problems += [f"{s.label}: {p}" for p in wrong(s.text, known[s.label], language)]
    return tuple(problems)


def wrong(text: str, fact: Fact, language: str) -> list[str]:
    """Why one text does not say what one fact says."""
    if not text or len(text) > LONGEST or any(unicodedata.category(c).startswith("C") for c in text):
        return ["it is empty, too long, or has characters that nobody sees"]
    if RAISED.search(text):
        return ["it has a raised or lowered number, which is not read as it looks"]
    try:
        everything = read(normal(text), lexicon(fact, language))
    except ValueError as e:
        return [str(e)]
    if problems := misplaced(everything, fact):
        return problems
    tokens = [t for t in everything if t.roles - {"", "@"}]
    heard = Heard()
    for n, token in enumerate(tokens):
        hear(heard, token, tokens[n + 1] if n + 1 < len(tokens) else None, fact)
    return [*heard.problems, *whole(heard, fact)]


def misplaced(tokens: Sequence[Token], fact: Fact) -> list[str]:
    """What stands beside something that it would say another thing of: a negation at a number, "within" of a number."""
    problems = []
    for at, token in enumerate(tokens):
        if "@" in token.roles:
            beside = at + ABOUT_PLACES[token.text]
            rest = tokens[beside :: 1 if beside > at else -1] if beside >= 0 else ()
            there = next((t for t in rest if t.roles != {""}), None)
            if there is None or not there.roles & PLACES:
                problems.append(f"it says {token.text!r} of what is no place")
        elif token.text in LEADING and at + 1 < len(tokens) and is_of_slot(tokens[at + 1]):
            problems.append(f"{token.text!r} stands at a number, not at the finding")
    if fact.absent and sum("-" in t.roles for t in tokens) == 1:
        words = [t.roles for t in tokens if not t.roles <= {"", "@", "P", "S", "S?"}]
        if not any(("-" in a and "C" in b) or ("C" in a and "-" in b) for a, b in pairwise(words)):
            problems.append("the negation does not stand at the finding")
    return problems


def is_of_slot(token: Token) -> bool:
    """Whether it is a number, or the name of one."""
    return "C" not in token.roles and any(r[:1] in ("#", "N") for r in token.roles)


def normal(text: str) -> str:
    """Small letters of one width, single blanks, no hyphens within words."""
    folded = unicodedata.normalize("NFKC", text).lower()
    return HYPHEN.sub(" ", re.sub(r"\s+", " ", folded)).strip()


def lexicon(fact: Fact, language: str) -> Mapping[str, frozenset[str]]:
    """Every phrase that a text on this fact may hold, with what it can stand for; "" where it stands for nothing."""
    found: dict[str, set[str]] = {}

    def add(role: str, phrases: Sequence[str]) -> None:
        for phrase in phrases:
            found.setdefault(normal(phrase), set()).add(role)

    add("", (*NEUTRAL[language], *NEUTRAL[ENGLISH]))
    add("-", NEGATIONS)
    add("@", tuple(ABOUT_PLACES))
    for side, phrases in SIDES.items():
        add("S" if side == fact.side else "S?", phrases)
    for role, code in (("C", fact.concept), ("P", fact.site)):
        if code is not None:
            add(role, names(code, language))
            add(role, PLURALS.get(code.value, ()) if fact.side == "bilateral" else ())
    for n, slot in enumerate(fact.slots):
        add(f"N{n}", names(slot.name, language))
        if slot.answer is not None:
            add(f"A{n}", names(slot.answer, language))
    return {phrase: frozenset(roles) for phrase, roles in found.items()}


def read(text: str, lexicon: Mapping[str, frozenset[str]]) -> list[Token]:
    """The text in parts, the longest known phrase first. Raises ValueError at the first that is not known."""
    longest = max(map(len, lexicon))
    tokens: list[Token] = []
    at = 0
    while at < len(text):
        phrase = phrase_at(text, at, lexicon, longest)
        if phrase:
            tokens.append(Token(text=phrase, roles=lexicon[phrase]))
            at += len(phrase)
        elif number := NUMBER.match(text, at):
            at, unit = after_unit(text, number.end())
            value = number.group().replace("−", "-").replace("–", "-")
            tokens.append(Token(text=text[number.start() : at], roles=frozenset("#"), value=value, unit=unit))
        elif text[at] in PUNCTUATION:
            at += 1
        else:
            raise ValueError(f"it says {word_at(text, at)!r}, which its finding does not")
    return tokens


def phrase_at(text: str, at: int, lexicon: Mapping[str, frozenset[str]], longest: int) -> str:
    """The longest phrase that begins here and ends with its word; "" for none."""
    for length in range(min(longest, len(text) - at), 0, -1):
        phrase = text[at : at + length]
        if phrase in lexicon and ends(text, at + length):
            return phrase
    return ""


def ends(text: str, at: int) -> bool:
    """Whether a Latin word or number does not go on at `at`."""
    return at >= len(text) or not (latin(text[at - 1]) and latin(text[at]))


def latin(character: str) -> bool:
    return character.isascii() and character.isalnum()


def after_unit(text: str, at: int) -> tuple[int, str]:
    """Where a number with its unit ends, and the unit as a key of UNITS; the end of the number and "" for one without."""
    start = at + (text[at : at + 1] == " ")
    forms = sorted(((form, ucum) for ucum, forms in UNITS.items() for form in forms), key=lambda f: -len(f[0]))
    for form, ucum in forms:
        if text.startswith(form, start) and ends(text, start + len(form)) and text[start + len(form) :][:1] != "/":
            return start + len(form), ucum
    if start < len(text) and latin(text[start - 1]) and latin(text[start]):
        raise ValueError(f"it says {word_at(text, start)!r} right after a number")
    return at, ""


def word_at(text: str, at: int) -> str:
    """The word that begins here, to be shown."""
    found = re.match(r"[^\W_]+|.", text[at:])
    return found.group()[:40] if found else text[at]


def hear(heard: Heard, token: Token, following: Token | None, fact: Fact) -> None:
    """Take in one part of the text."""
    slots = frozenset(r for r in token.roles if r.startswith("N"))
    if "#" in token.roles:
        take(heard, token, "#", [n for n in indexes(heard.waiting) if is_value(token, fact.slots[n])])
    elif slots and (len(slots) == len(token.roles) or gives_value(following, slots)):
        if heard.waiting:
            heard.problems.append(f"it gives no value of {heard.named!r}")
        heard.waiting, heard.named = slots, token.text
    elif heard.waiting and (answers := [n for n in indexes(heard.waiting) if f"A{n}" in token.roles]):
        take(heard, token, "A", answers)
    else:
        plain = next((r for r in ("C", "P", "S", "S?", "-") if r in token.roles), "")
        if not plain:
            heard.problems.append(f"{token.text!r} follows no name of what it answers")
        heard.count[plain] = heard.count.get(plain, 0) + 1


def take(heard: Heard, token: Token, kind: str, fitting: Sequence[int]) -> None:
    """A value after the name of what it is a value of."""
    free = [n for n in fitting if n not in heard.slots]
    if free:
        heard.slots.append(free[0])
    elif heard.waiting:
        heard.problems.append(f"{token.text!r} is not the value of {heard.named!r}")
    else:
        heard.problems.append(f"{token.text!r} follows no name of what it measures")
    heard.waiting = frozenset()


def indexes(roles: frozenset[str]) -> list[int]:
    return sorted(int(r[1:]) for r in roles)


def gives_value(token: Token | None, slots: frozenset[str]) -> bool:
    """Whether what follows a name can be its value."""
    return token is not None and ("#" in token.roles or any(f"A{n}" in token.roles for n in indexes(slots)))


def is_value(token: Token, slot: Slot) -> bool:
    """Whether a number in a text is the value of a slot, rounded at most, in the same unit."""
    if slot.value is None:
        return False
    wanted = re.sub(r"\{.*?\}", "", slot.unit).lower()
    if token.unit != ("" if wanted == "1" else wanted):
        return False
    decimals = len(token.value.partition(".")[2])
    off = abs(float(token.value) - slot.value)
    digits = len(token.value.replace(".", "").lstrip("-0"))
    near = off <= 0.5 * 10.0**-decimals * (1 + 1e-9)
    return near and (digits >= SIGNIFICANT or off <= PART * abs(slot.value))


def whole(heard: Heard, fact: Fact) -> list[str]:
    """What the text as a whole lacks, or says too often."""
    problems = [f"it gives no value of {heard.named!r}"] if heard.waiting else []
    missing = [s.name.meaning for n, s in enumerate(fact.slots) if n not in heard.slots]
    problems += [f"it leaves out {meaning!r}" for meaning in missing]
    if heard.count.get("S?"):
        problems.append("it names another side")
    inside = " ".join(c.meaning.lower() for c in (fact.concept, fact.site) if c)
    sides = {0, 1} if fact.side and fact.side in inside else {int(bool(fact.side))}
    wanted = (
        ("C", {1}, fact.concept.meaning),
        ("P", {int(fact.site is not None)}, fact.site.meaning if fact.site else "a place"),
        ("S", sides, "the side"),
        ("-", {int(fact.absent)}, "the negation"),
    )
    for role, allowed, what in wanted:
        count = heard.count.get(role, 0)
        if count not in allowed:
            problems.append(f"it {'leaves out' if count < min(allowed) else 'adds or repeats'} {what!r}")
    return problems
