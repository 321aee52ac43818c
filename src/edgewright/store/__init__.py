"""The record of runs: the only room that knows SQL and blobs. `open_store` in `store.py` is the way in."""
