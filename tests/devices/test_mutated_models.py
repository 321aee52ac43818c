"""Damaged model files through a real worker: an error of ours, never a hang, never a dead parent.

The worker gets a limit on its memory, so that a damaged size cannot take the machine's.
"""

import random
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from edgewright.devices.connection import Connection, start_worker
from edgewright.errors import EdgewrightError
from edgewright.runtimes.table import find_runtime, import_runtime
from edgewright.runtimes.wire import CommandDone, Open, Opened, ProfileRuns, SessionRequest, TimeRuns, Times
from tests.models.onnx_files import normal_feed, write_conv_net, write_qdq_net
from tests.runtimes.workers import exists, save_feeds

TIMEOUT_S = 20.0
MEMORY_BYTES = 4 << 30
LIMITED = (
    f"import resource, runpy; resource.setrlimit(resource.RLIMIT_AS, ({MEMORY_BYTES}, {MEMORY_BYTES}));"
    "runpy.run_module('edgewright.runtimes.worker', run_name='__main__')"
)
CASES = 40

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits memory and looks at /proc")


def flip(content: bytearray, dice: random.Random) -> None:
    for _ in range(dice.randint(1, 8)):
        content[dice.randrange(len(content))] ^= 1 << dice.randrange(8)


def cut(content: bytearray, dice: random.Random) -> None:
    del content[dice.randrange(len(content)) :]


def insert(content: bytearray, dice: random.Random) -> None:
    place = dice.randrange(len(content))
    content[place:place] = dice.randbytes(dice.randint(1, 64))


def remove(content: bytearray, dice: random.Random) -> None:
    place = dice.randrange(len(content))
    del content[place : place + dice.randint(1, 64)]


def overwrite(content: bytearray, dice: random.Random) -> None:
    place = dice.randrange(len(content))
    content[place : place + 8] = dice.choice([b"\xff" * 8, b"\x00" * 8, b"\xff\xff\xff\x7f" * 2, b"\x80" * 8])


def replace_all(content: bytearray, dice: random.Random) -> None:
    content[:] = dice.randbytes(dice.randint(0, 2000))


def shuffle(content: bytearray, dice: random.Random) -> None:
    half = dice.randrange(len(content))
    content[:] = content[half:] + content[:half]


MUTATIONS: tuple[Callable[[bytearray, random.Random], None], ...] = (
    flip,
    overwrite,
    cut,
    insert,
    remove,
    flip,
    replace_all,
    shuffle,
)


def mutate(path: Path, seed: int) -> None:
    content, dice = bytearray(path.read_bytes()), random.Random(seed)
    MUTATIONS[seed % len(MUTATIONS)](content, dice)
    path.write_bytes(content)


def start_limited(runtime: str, folder: Path) -> Connection:
    return start_worker([sys.executable, "-P", "-c", LIMITED, runtime], runtime, TIMEOUT_S, folder / "log")


def use(runtime: str, model: Path, feeds: str, folder: Path) -> str:
    """Open, run and profile it; how far it came, or the error's name."""
    request = SessionRequest(model=str(model))
    try:
        with start_limited(runtime, folder) as worker:
            pid = worker.hello.pid
            worker.ask(Open(session=request, feeds=feeds), Opened)
            worker.ask(TimeRuns(runs=3, seconds=1), Times)
            worker.ask(ProfileRuns(session=request, feeds=feeds, runs=2, folder=str(folder / "trace")), CommandDone)
    except EdgewrightError as error:
        assert error.what
        assert error.try_this
        return type(error).__name__
    finally:
        assert not exists(pid)
    return "used"


def survive(runtime: str, write: Callable[[Path], Path], feeds: str, folder: Path) -> set[str]:
    """What became of all cases. A trace that a damaged model left must still be readable."""
    ends = set()
    for seed in range(CASES):
        with TemporaryDirectory(dir=folder) as made:
            model = write(Path(made) / "m.model")
            mutate(model, seed)
            end = use(runtime, model, feeds, Path(made))
            if end == "used":
                assert import_runtime(find_runtime(runtime)).layers(Path(made) / "trace", ()).via
            ends.add(end)
    return ends


@pytest.mark.parametrize(
    ("write", "shape"), [(write_conv_net, (1, 3, 8, 8)), (write_qdq_net, (1, 8, 8, 8))], ids=["conv", "qdq"]
)
def test_damaged_onnx_files_end_in_an_error_of_ours(
    write: Callable[[Path], Path], shape: tuple[int, ...], tmp_path: Path
) -> None:
    feeds = save_feeds(tmp_path / "feeds.npz", {"x": normal_feed(*shape)})
    ends = survive("onnxruntime", write, feeds, tmp_path)
    assert "ModelRejected" in ends
    assert "used" in ends  # damage to a weight alone makes no bad file
    assert "WorkerTimeout" not in ends


def test_damaged_tflite_files_end_in_an_error_of_ours(tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert", reason="ai-edge-litert is not installed")
    from tests.models.tflite_files import write_convnet

    feeds = save_feeds(tmp_path / "feeds.npz", {"x": normal_feed(1, 8, 8, 3)})
    ends = survive("litert", write_convnet, feeds, tmp_path)
    assert "ModelRejected" in ends
    assert "WorkerTimeout" not in ends
