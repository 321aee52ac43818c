"""Pages that list what the store has: sessions, results of a search, saved views."""
