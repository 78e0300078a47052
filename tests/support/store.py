"""A store of a test's own, and what to look at in it."""

from pathlib import Path

from pydicom import Dataset
from sqlalchemy import delete, select

from radnode.database import Database
from radnode.settings import Receive, Settings
from radnode.store import Arrival, Store
from radnode.tables import InstanceRow, Table

EXPLICIT = "1.2.840.10008.1.2.1"


def settings_for(data: Path, **receive: object) -> Settings:
    return Settings(data=data, receive=Receive(disk_free_min_mb=0, **receive))  # type: ignore[arg-type]


def open_store(settings: Settings) -> Store:
    settings.data.mkdir(parents=True, exist_ok=True)
    database = Database(settings.url)
    Table.metadata.create_all(database.engine)
    return Store(settings, database)


def arrival_of(ds: Dataset, syntax: str = EXPLICIT, **changes: str) -> Arrival:
    values = {
        "calling_ae": "SCANNER",
        "called_ae": "RADNODE",
        "address": "10.0.0.1",
        "sop_class_uid": str(ds.SOPClassUID),
        "sop_uid": str(ds.SOPInstanceUID),
        "transfer_syntax_uid": syntax,
    }
    return Arrival(**(values | changes))


def rows(store: Store) -> list[InstanceRow]:
    with store.database.reading() as session:
        return list(session.scalars(select(InstanceRow).order_by(InstanceRow.id)))


def files(store: Store) -> list[Path]:
    return sorted(p for p in store.objects.rglob("*") if p.is_file())


def forget_rows(store: Store) -> None:
    with store.database.transaction() as session:
        session.execute(delete(InstanceRow))
