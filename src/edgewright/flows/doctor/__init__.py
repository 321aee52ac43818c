"""Check the installed runtimes and the machine's state for measurements."""
