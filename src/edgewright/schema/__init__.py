"""The project's vocabulary as frozen records, without input or output."""
