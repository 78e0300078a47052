"""What rules would do: with one stored study, or with all of the last days, beside what was decided then. Nothing is changed."""

import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import select

from radnode import routing
from radnode.database import Database
from radnode.errors import RefusedError
from radnode.fetches import as_prior_only
from radnode.route import Route, decide
from radnode.settings import Rule, Settings
from radnode.states import StudyState
from radnode.tables import RouteRow, StudyRow
from radnode_inference.model import ModelCard

DRAFT_MOST = 200_000
"""Characters of a draft."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One study in which a draft decides otherwise. Models by name; why: the draft's reasons for what changes."""

    study_uid: str
    study_date: str
    description: str
    modalities: str
    before: tuple[str, ...]
    after: tuple[str, ...]
    why: tuple[str, ...]
    urgency: str = ""  # where only that changes

    @property
    def more(self) -> tuple[str, ...]:
        return tuple(m for m in self.after if m not in self.before)

    @property
    def fewer(self) -> tuple[str, ...]:
        return tuple(m for m in self.before if m not in self.after)


@dataclass(frozen=True, kw_only=True)
class Replay:
    """studies: how many were looked at. unreadable: those whose objects cannot be looked at any more."""

    studies: int
    unreadable: tuple[str, ...]
    differences: tuple[Difference, ...]

    def runs(self) -> dict[str, tuple[int, int]]:
        """Model -> (runs more, runs fewer)."""
        names = sorted({m for d in self.differences for m in (*d.more, *d.fewer)})
        return {
            n: (sum(n in d.more for d in self.differences), sum(n in d.fewer for d in self.differences)) for n in names
        }


def draft(text: str) -> tuple[Rule, ...]:
    """The rules of a draft: TOML with [[rules]], as in the settings. Raises RefusedError that says what is wrong."""
    if len(text) > DRAFT_MOST:
        raise RefusedError("The draft is too long.")
    try:
        found = tomllib.loads(text).get("rules")
        rules = TypeAdapter(tuple[Rule, ...]).validate_python(found or ())
    except tomllib.TOMLDecodeError as e:
        raise RefusedError(f"The draft is not TOML: {e}.") from e
    except RecursionError as e:
        raise RefusedError("The draft is nested too deeply.") from e
    except ValidationError as e:
        first = e.errors()[0]
        number, *inside = (part + 1 if isinstance(part, int) else part for part in first["loc"] or (0,))
        where = ", ".join((f"rule {number}", " ".join(map(str, inside)))).removesuffix(", ")
        raise RefusedError(f"The draft's {where} is wrong: {first['msg']}.") from e
    if not rules:
        raise RefusedError("The draft has no [[rules]].")
    return rules


def read_draft(file: Path) -> tuple[Rule, ...]:
    return draft(file.read_text())


def try_rules(
    database: Database, settings: Settings, cards: Sequence[ModelCard], study_uid: str, rules: Sequence[Rule] | None
) -> tuple[Route, ...]:
    """What these rules decide about a stored study (None: the rules of the node). Raises RefusedError."""
    with database.reading() as session:
        known = session.get(StudyRow, study_uid) is not None
    if not known:
        raise RefusedError("The node never received this study.")
    return decided(database, settings, cards, study_uid, rules)


def decided(
    database: Database, settings: Settings, cards: Sequence[ModelCard], study_uid: str, rules: Sequence[Rule] | None
) -> tuple[Route, ...]:
    with_rules = settings.model_copy(update={"rules": None if rules is None else tuple(rules)})
    try:
        facts = routing.look(database, with_rules, study_uid)
    except (OSError, ValueError, LookupError, TypeError) as e:
        raise RefusedError(f"The stored objects of this study cannot be looked at ({type(e).__name__}).") from e
    return decide(facts, cards, with_rules.rules)


def replay(
    database: Database, settings: Settings, cards: Sequence[ModelCard], rules: Sequence[Rule], since: float
) -> Replay:
    """What a draft would change among the studies whose first image came since then (UTC epoch seconds).

    Compared with what was decided, where the study was routed; with the rules of now, where it was not yet.
    """
    differences, unreadable, count = [], [], 0
    for row, before in studies(database, since):
        count += 1
        try:
            after = {r.model: r for r in decided(database, settings, cards, row.study_uid, rules) if r.model}
            old = before or {
                r.model: r for r in decided(database, settings, cards, row.study_uid, settings.rules) if r.model
            }
        except RefusedError:
            unreadable.append(row.study_uid)
            continue
        found = compared(row, old, after)
        if found is not None:
            differences.append(found)
    return Replay(studies=count, unreadable=tuple(unreadable), differences=tuple(differences))


def studies(database: Database, since: float) -> Iterator[tuple[StudyRow, dict[str, Route]]]:
    """Each study with the decisions of its last revision, by model; none that was only fetched to compare with."""
    with database.reading() as session:
        wanted = (StudyRow.first_instance_at >= since, StudyRow.state != StudyState.RECEIVING, ~as_prior_only())
        rows = session.scalars(select(StudyRow).where(*wanted).order_by(StudyRow.first_instance_at.desc())).all()
    for row in rows:
        with database.reading() as session:
            of_it = (RouteRow.study_uid == row.study_uid, RouteRow.revision == row.revision, RouteRow.model != "")
            said = session.scalars(select(RouteRow).where(*of_it)).all()
        yield row, {r.model: as_route(r) for r in said}


def as_route(row: RouteRow) -> Route:
    return Route(study_uid=row.study_uid, model=row.model, urgency=row.urgency, chosen=row.chosen, reason=row.reason)


def compared(row: StudyRow, old: dict[str, Route], new: dict[str, Route]) -> Difference | None:
    """None when the same models read it with the same urgency."""
    before = {m: r.urgency for m, r in old.items() if r.chosen}
    after = {m: r.urgency for m, r in new.items() if r.chosen}
    if before == after:
        return None
    changed = sorted(set(before) ^ set(after))
    urgency = "; ".join(
        f"{m} {before[m]} → {after[m]}" for m in sorted(set(before) & set(after)) if before[m] != after[m]
    )
    return Difference(
        study_uid=row.study_uid,
        study_date=row.study_date,
        description=row.study_description,
        modalities=row.modalities,
        before=tuple(sorted(before)),
        after=tuple(sorted(after)),
        why=tuple(f"{m}: {new[m].reason if m in new else 'no rule names this model'}" for m in changed),
        urgency=urgency,
    )
