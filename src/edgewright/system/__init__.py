"""What the operating system is asked for: files written whole, temporary folders, locks, the end of a parent."""
