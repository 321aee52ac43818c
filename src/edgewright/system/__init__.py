"""Services of the operating system: files written whole, temporary folders, locks, limits, the end of a parent."""
