"""The tables of the newest revision. `docs/store.md` describes each column.

A change here needs a new file under `migrations/versions` and its revision at the end of `REVISIONS`; a test
compares the two.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
)

REVISIONS = ("0001", "0002", "0003", "0004")
REVISION = REVISIONS[-1]

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(table_name)s_%(column_0_name)s",
    }
)


def _make_run_columns() -> tuple["Column[str]", "Column[int]"]:
    """Return the key columns of a run's rows: the position, because names may be long and may repeat."""
    run_id = Column("run_id", Text, ForeignKey("run.id", ondelete="CASCADE"), primary_key=True)
    return run_id, Column("position", Integer, primary_key=True, autoincrement=False)


environment = Table(
    "environment",
    metadata,
    Column("id", Text, primary_key=True),
    Column("facts", Text, nullable=False),
)
# A model or a device as one run saw it: `model` and `device` have each only once, as first or last seen.
snapshot = Table(
    "snapshot",
    metadata,
    Column("id", Text, primary_key=True),
    Column("body", Text, nullable=False),
)
model = Table(
    "model",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("format", Text, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("signature", Text, nullable=False),
    Column("added_at", Text, nullable=False),
)
device = Table(
    "device",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("address", Text, nullable=False),
    Column("facts", Text, nullable=False),
    Column("seen_at", Text, nullable=False),
)
# Devices that the user added; `device` has those of runs.
registered_device = Table(
    "registered_device",
    metadata,
    Column("name", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("address", Text, nullable=False),
    Column("credential", Text, nullable=False),
    Column("facts", Text, nullable=False),
    Column("settings", Text, nullable=False),
    Column("added_at", Text, nullable=False),
    Column("seen_at", Text),
)
run = Table(
    "run",
    metadata,
    Column("id", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("state", Text, nullable=False, index=True),
    Column("started_at", Text, nullable=False),
    Column("started_us", BigInteger, nullable=False),
    Column("finished_at", Text),
    Column("parent_id", Text, index=True),
    Column("model_id", Text, ForeignKey("model.id"), index=True),
    Column("model_name", Text),
    Column("model_facts", Text, ForeignKey("snapshot.id")),
    Column("precision", Text),
    Column("device_id", Text, ForeignKey("device.id")),
    Column("device_name", Text),
    Column("device_facts", Text, ForeignKey("snapshot.id")),
    Column("runtime", Text, nullable=False),
    Column("plan", Text, nullable=False),
    Column("plan_hash", Text, nullable=False),
    Column("environment_id", Text, ForeignKey("environment.id"), nullable=False),
    Column("error", Text),
    Column("note", Text, nullable=False),
    Column("process", Text),
    Column("imported", Boolean),
    Column("imported_at", Text),
)
Index("ix_run_started_us", run.c.started_us, run.c.id)
metric = Table(
    "metric",
    metadata,
    *_make_run_columns(),
    Column("name", Text, nullable=False),
    Column("unit", Text, nullable=False),
    Column("value", Double),
    Column("low", Double),
    Column("high", Double),
    Column("n", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
series = Table(
    "series",
    metadata,
    *_make_run_columns(),
    Column("name", Text, nullable=False),
    Column("unit", Text, nullable=False),
    Column("n", BigInteger, nullable=False),
    Column("data", LargeBinary, nullable=False),
)
layer = Table(
    "layer",
    metadata,
    *_make_run_columns(),
    Column("layer_position", Integer, nullable=False),
    Column("name", Text, nullable=False),
    Column("op", Text, nullable=False),
    Column("source_nodes", Text, nullable=False),
    Column("unit", Text, nullable=False),
    Column("backend", Text, nullable=False),
    Column("evidence", Text, nullable=False),
    Column("start_us", Double),
    Column("median_us", Double),
    Column("p90_us", Double),
    Column("memory_bytes", BigInteger),
    Column("low_us", Double),
    Column("high_us", Double),
)
warning = Table(
    "warning",
    metadata,
    *_make_run_columns(),
    Column("code", Text, nullable=False),
    Column("text", Text, nullable=False),
)
output = Table(
    "output",
    metadata,
    *_make_run_columns(),
    Column("role", Text, nullable=False),
    Column("sha256", Text, nullable=False, index=True),
    Column("bytes", BigInteger, nullable=False),
    Column("model_id", Text),
)
# No key on the name: PostgreSQL rejects index entries over 2,700 bytes. `Store.tag` keeps names unique.
tag = Table(
    "tag",
    metadata,
    Column("run_id", Text, ForeignKey("run.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("name", Text, nullable=False),
    Column("value", Text, nullable=False),
)
# Every blob that may be in the blob store, inserted before its first byte is written.
blob = Table(
    "blob",
    metadata,
    Column("sha256", Text, primary_key=True),
    Column("bytes", BigInteger, nullable=False),
)
# Blobs that a running process has stored for a run that is not finished yet: `delete` keeps them.
claim = Table(
    "claim",
    metadata,
    Column("run_id", Text, primary_key=True),
    Column("sha256", Text, primary_key=True),
    Column("process", Text, nullable=False),
)
