"""The store of runs: the only package with SQL and blobs. Open it with `open_store` in `store.py`."""
