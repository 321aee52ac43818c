"""Tests of what needs Linux are left out elsewhere."""

import sys

collect_ignore = [] if sys.platform == "linux" else ["test_guardian.py", "test_session.py"]
