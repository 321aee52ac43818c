"""Commands that prepare a machine or a folder: doctor, demo, init, runtimes, completion."""
