"""Set up and remove isolated environments for runtimes and converters."""
