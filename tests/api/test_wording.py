"""Options in errors, as a caller in Python reads them."""

import pytest

from edgewright.api.wording import name_keywords, name_options
from edgewright.errors import EdgewrightError, UsageError

TYPES = {
    "warmup_seconds": float, "precision": str, "task": object, "shape": object, "layers": bool, "qat": bool,
    "option": object, "data": object,
}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("raise --warmup-seconds 4", "raise warmup_seconds=4"),
        ("--precision fp16, which is smaller", 'precision="fp16", which is smaller'),
        ("--precision auto", 'precision="auto"'),
        ("--task and --data are missing", "task= and data= are missing"),
        ("--shape: 'a' is not NAME=SIZES", "shape: 'a' is not NAME=SIZES"),
        ("give --shape 'my input=1,3'; or -p threads=1", 'give shape="my input=1,3"; or option="threads=1"'),
        ("--no-layers needs --qat", "layers=False needs qat=True"),
        (
            "edgewright task init M -o t.toml, then --task t.toml",
            'edgewright task init M -o t.toml, then task="t.toml"',
        ),
        ("pip install --force-reinstall X; write_--task", "pip install --force-reinstall X; write_--task"),
        ("edgewright quantize M --task t", "help(edgewright.quantize) shows its arguments"),
    ],
)
def test_options_become_keywords(text: str, expected: str) -> None:
    error = EdgewrightError("a", "b", text)
    name_keywords(error, "quantize", TYPES)
    assert error.try_this == expected
    with name_options():
        kept = EdgewrightError("--task is missing", text)
        name_keywords(kept, "quantize", TYPES)
    assert (kept.what, kept.why) == ("--task is missing", text)


def test_default_advice_is_for_python() -> None:
    usage, other = UsageError("a"), EdgewrightError("--task")
    for error in (usage, other):
        name_keywords(error, "quantize", TYPES)
    assert usage.try_this == "help(edgewright.quantize) shows the keywords"
    assert "--debug" not in other.try_this
    assert (str(other), other.args) == ("task=", ("task=",))
