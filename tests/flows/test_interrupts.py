"""What Ctrl-C says about results that are kept."""

from pathlib import Path

import pytest

from edgewright.errors import Cancelled
from edgewright.flows.interrupts import offer_resume


@pytest.mark.parametrize(("name", "why"), [("", "the results so far are kept in "), ("absent", "nothing was computed")])
def test_the_same_command_resumes(tmp_path: Path, name: str, why: str) -> None:
    with pytest.raises(Cancelled) as caught, offer_resume(tmp_path / name):
        raise KeyboardInterrupt
    assert caught.value.why.startswith(why)
    assert caught.value.try_this == "run the same command again to resume"
