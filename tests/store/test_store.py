"""The store on both databases keeps the contract of stores."""

from tests.contracts.store_contract import StoreContract


class TestStore(StoreContract):
    """`open_again` comes from conftest, on SQLite and on PostgreSQL."""
