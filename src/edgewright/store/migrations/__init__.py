"""Alembic's scripts. Make one with `alembic.command.revision`, see `docs/store.md`."""
