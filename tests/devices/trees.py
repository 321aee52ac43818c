"""Made-up machines: the /proc, /sys and /etc of `tests/fixtures/sysfs`, one text file per machine.

They are text and not folders because names such as `intel-rapl:0` are no file names everywhere.
"""

from pathlib import Path

from tests.paths import ROOT

FOLDER = ROOT / "tests" / "fixtures" / "sysfs"
NAMES = ("laptop", "arm-board", "virtual-machine")


def plant_tree(name: str, root: Path) -> Path:
    """Write the machine's files under `root` and return it."""
    for part in (FOLDER / f"{name}.txt").read_text().split("\n== ")[1:]:
        path, _, text = part.partition("\n")
        write(root, path, text)
    return root


def write(root: Path, path: str, text: str) -> None:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text.rstrip("\n") + "\n")
