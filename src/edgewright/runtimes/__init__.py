"""The runtimes: one folder each, independent of each other."""
