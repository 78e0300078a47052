"""Which version of a model's weights is live, in shadow, or off, and how that came about. The only writer of its table.

The truth is the newest row of each version. Every role asks when it has work, so that a change holds from the next job on.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import inspect, select, text
from sqlalchemy.orm import Session

from radnode.database import Database
from radnode.errors import RadnodeError
from radnode.settings import Settings
from radnode.tables import WeightsUseRow
from radnode_inference import registry
from radnode_inference.model import ModelCard
from radnode_inference.weights import OFF, versions


class Use(StrEnum):
    LIVE = "live"  # its results are reported
    SHADOW = "shadow"  # it runs, and nobody is told
    OFF = "off"
    REMOVED = "removed"  # its files are gone


@dataclass(frozen=True, kw_only=True)
class Change:
    """One line of the history. before: "" for a version that was new."""

    model: str
    version: str
    before: str
    use: Use
    who: str
    at: float


class UseError(RadnodeError):
    """The weights cannot be used so; the sentence says why."""


def history(session: Session, model: str = "") -> tuple[Change, ...]:
    """Every change, of one model or of all, the oldest first."""
    query = select(WeightsUseRow).order_by(WeightsUseRow.id)
    return tuple(
        Change(model=r.model, version=r.version, before=r.use_before, use=Use(r.use), who=r.who, at=r.at)
        for r in session.scalars(query.where(WeightsUseRow.model == model) if model else query)
    )


def uses(changes: Sequence[Change]) -> dict[tuple[str, str], Use]:
    """(model, version) -> what it is used for now; versions that were removed are left out."""
    newest = {(c.model, c.version): c.use for c in changes}
    return {key: use for key, use in newest.items() if use is not Use.REMOVED}


def in_use(changes: Sequence[Change]) -> dict[str, str]:
    """Model -> its live version, `OFF` where the site has versions and none is live. What `registry.cards` takes."""
    now = uses(changes)
    return dict.fromkeys((model for model, _ in now), OFF) | {m: v for (m, v), use in now.items() if use is Use.LIVE}


def stored(settings: Settings) -> tuple[tuple[str, str], ...]:
    """(model, version) of everything in the folder of the site's weights."""
    cards = registry.cards(settings.weights_folder)
    models = [c.identity.name for c in cards if c.takes_weights]
    return tuple((m, v) for m in models for v in versions(m, settings.weights_folder))


def put(database: Database, settings: Settings, model: str, version: str, use: Use, who: str) -> tuple[str, ...]:
    """Use a version so from the next job on; the version that was live before goes off when another becomes it, and is returned.

    Raises UseError when there is no such version.
    """
    if use is not Use.REMOVED and version not in versions(model, settings.weights_folder):
        raise UseError(f"there is no version {version} of {model} in {settings.weights_folder}")
    now = time.time()
    with database.transaction() as session:
        one_at_a_time(session)
        before = uses(history(session, model))
        others = [v for (_, v), was in before.items() if was is Use.LIVE and v != version and use is Use.LIVE]
        for other in others:
            change(session, model, other, Use.LIVE, Use.OFF, who, now)
        was_so: Use | str = before.get((model, version), "")
        if was_so != use:
            change(session, model, version, was_so, use, who, now)
    return tuple(others)


def one_at_a_time(session: Session) -> None:
    """Whoever else decides now waits: else each would leave its own version live. SQLite writes one at a time anyway."""
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text(f"LOCK TABLE {WeightsUseRow.__tablename__} IN SHARE ROW EXCLUSIVE MODE"))


def change(session: Session, model: str, version: str, before: str, use: Use, who: str, now: float) -> None:
    session.add(WeightsUseRow(model=model, version=version, use_before=before, use=use, who=who, at=now))
    session.flush()


def rollback(database: Database, settings: Settings, model: str, who: str) -> str:
    """Make the version live that was so before the one that is; its name. Raises UseError when there was none."""
    with database.reading() as session:
        changes = history(session, model)
    now = in_use(changes).get(model, OFF)
    kept = set(versions(model, settings.weights_folder))
    earlier = [c.version for c in changes if c.use is Use.LIVE and c.version != now and c.version in kept]
    if not earlier:
        raise UseError(f"no other version of {model} that is still installed was ever live")
    put(database, settings, model, earlier[-1], Use.LIVE, who)
    return earlier[-1]


def live_cards(database: Database, settings: Settings) -> tuple[ModelCard, ...]:
    """Every model with the weights that are live now."""
    with database.reading() as session:
        return registry.cards(settings.weights_folder, in_use(history(session)))


def shadow_cards(database: Database, settings: Settings) -> tuple[ModelCard, ...]:
    """One card for each version that is in shadow now."""
    with database.reading() as session:
        now = uses(history(session))
    return tuple(
        registry.card(model, settings.weights_folder, {model: version})
        for (model, version), use in now.items()
        if use is Use.SHADOW
    )


def known_cards(settings: Settings) -> tuple[ModelCard, ...]:
    """As `live_cards`, for commands that need no node: without a database there is no setting, and none is made."""
    if (
        settings.url.startswith("sqlite:///")
        and not (settings.data / "radnode.db").is_file()
        and not settings.database_url
    ):
        return registry.cards(settings.weights_folder)
    database = Database(settings.url)
    try:
        if not inspect(database.engine).has_table(WeightsUseRow.__tablename__):
            return registry.cards(settings.weights_folder)
        return live_cards(database, settings)
    finally:
        database.close()
