"""Alembic's scripts. Create one with `alembic.command.revision`, see `docs/store.md`."""
