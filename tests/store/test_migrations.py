"""The migrations lead to the tables that the code uses."""

from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from edgewright.store import database
from edgewright.store.schema import REVISIONS, metadata
from edgewright.store.store import Store


def test_tables_are_as_the_code_says(store: Store) -> None:
    with store.database.reading("compare") as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []


def test_revisions_are_those_of_the_scripts() -> None:
    config = Config()
    config.set_main_option("script_location", str(database._SCRIPTS))
    scripts = [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()]
    assert tuple(reversed(scripts)) == REVISIONS
