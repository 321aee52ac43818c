"""Services of the operating system: atomic files, temporary folders, locks, limits, the end of a parent."""
