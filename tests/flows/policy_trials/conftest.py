"""Streams need Linux."""

import sys

collect_ignore = [] if sys.platform == "linux" else ["test_trials.py"]
