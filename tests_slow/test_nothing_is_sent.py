"""No process of the product sends anything, looks up a name, or writes outside its folders.

Every runtime's worker lives for a minute at the version that is installed, beside a benchmark, a quantization, a
training and the pages. They run side by side; each is watched by the kernel's account of its system calls.
"""

import json
import re
import shutil
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import pytest

from edgewright.runtimes.table import TABLE
from tests.models.torch_files import write_network
from tests_slow.watching import ROOT, Scene, Watched, show, why_not

SECONDS = 60  # the first look-ups come some ten seconds after the start
DIGITS = ROOT / "src" / "edgewright" / "flows" / "digits"
MODEL = str(DIGITS / "digits.onnx")
EDGEWRIGHT = [sys.executable, "-P", "-m", "edgewright"]
LIVE = str(Path(__file__).with_name("live_worker.py"))
# These compile here and cannot run: torch is an exporter, Core ML runs on macOS.
ONLY_COMPILES = ("torch", "coreml")

pytestmark = [
    pytest.mark.slow,  # each process is watched for a minute, all side by side: in one process of the tests
    pytest.mark.xdist_group("watching"),
    pytest.mark.timeout(900),
    pytest.mark.skipif(bool(why_not()), reason=why_not()),
]


def live(runtime: str, scene: Scene) -> list[Watched]:
    """Compile, then a worker that lives for `SECONDS` with the artifact."""
    source = f"{write_network(scene.work)}:build" if runtime == "torch" else MODEL
    watched, artifact = [], "-"
    if runtime not in (*ONLY_COMPILES, "pretend"):
        watched.append(scene.run([*EDGEWRIGHT, "compile", MODEL, "--runtime", runtime, "-o", "out"]))
        artifact = f"out/digits-{runtime}-fp32.edgewright.json"
    return [*watched, scene.run([sys.executable, "-P", LIVE, runtime, source, artifact, str(SECONDS)])]


def benchmark(scene: Scene) -> list[Watched]:
    """Two runtimes with layers, then what is made of the runs."""
    compile_one = ["compile", MODEL, "--runtime", "litert", "-o", "out"]
    measure = ["benchmark", MODEL, "out", "--processes", "6", "--seconds", "0.5"]
    orders = (compile_one, measure, ["runs", "list"], ["doctor", "--json"])
    return [scene.run([*EDGEWRIGHT, *words]) for words in orders]


def quantize(scene: Scene, *more: str) -> list[Watched]:
    held = str(DIGITS / "heldout.npz")
    data = ["--task", str(DIGITS / "task.toml"), "--data", held, "--eval-data", held, "--samples", "20"]
    return [scene.run([*EDGEWRIGHT, "quantize", MODEL, *data, "--max-drop", "100", "-o", "out", *more])]


def train(scene: Scene) -> list[Watched]:
    return quantize(scene, "--qat", "--epochs", "1", "--no-control", "--no-measure")


def pages(scene: Scene) -> list[Watched]:
    """The pages for `SECONDS`, read a few times."""
    shutil.copy(MODEL, scene.work)
    serve = [*EDGEWRIGHT, "ui", "--port", "0", "--no-open", "--work-folder", str(scene.work)]
    served = scene.run(serve, until=read_pages)
    assert served.code in (0, 143, -15), served.out
    return [served._replace(code=0)]


def read_pages(printed: Path) -> None:
    """Read some pages again and again, for `SECONDS` from the moment at which the server tells its address."""
    deadline = time.monotonic() + 200
    while not (found := re.search(r"http://[\d.:]+", printed.read_text())):
        assert time.monotonic() < deadline, printed.read_text()
        time.sleep(0.5)
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        for path in ("", "/models", "/devices", "/work"):
            with urllib.request.urlopen(found[0] + path, timeout=60) as answer:
                answer.read()
        time.sleep(2)


def send(scene: Scene) -> list[Watched]:
    """ONNX Runtime without its switch; its connections fail before they leave the process."""
    return [scene.run([sys.executable, "-c", "import time, onnxruntime; time.sleep(25)"], network=False)]


SCENES: dict[str, Callable[[Scene], list[Watched]]] = {
    "benchmark": benchmark,
    "quantize": quantize,
    "train": train,
    "pages": pages,
    **{f"worker of {name}": partial(live, name) for name in TABLE},
}
CONTROL = "onnxruntime without its switch"


@pytest.fixture(scope="module")
def played(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Future[tuple[Scene, list[Watched]]]]]:
    """All scenes that were chosen, side by side."""
    chosen = {item.callspec.params.get("name") for item in request.session.items if hasattr(item, "callspec")}
    folder = tmp_path_factory.mktemp("scenes")

    def play(name: str) -> tuple[Scene, list[Watched]]:
        scene = Scene(folder / name.replace(" ", "-"))
        return scene, SCENES.get(name, send)(scene)

    with ThreadPoolExecutor(len(SCENES) + 1) as pool:
        yield {name: pool.submit(play, name) for name in (*SCENES, CONTROL) if name in chosen and not lacking(name)}


def lacking(name: str) -> str:
    """What is not installed for a scene; empty where all is."""
    runtimes = {"train": "torch", "benchmark": "litert", "quantize": "litert"}
    info = TABLE.get(runtimes.get(name, name.rpartition(" ")[2]))
    needs = (info.needs or (info.module,)) if info else ()
    return ", ".join(one for one in needs if find_spec(one) is None)


@pytest.mark.parametrize("name", SCENES)
def test_nothing_is_sent(name: str, played: dict[str, Future[tuple[Scene, list[Watched]]]]) -> None:
    if name not in played:
        pytest.skip(f"not installed: {lacking(name)}")
    scene, watched = played[name].result()
    for one in watched:
        assert one.code == 0, one.out
        assert not one.findings, show(one.findings)
    assert scene.leftovers() == []
    if name.startswith("worker"):
        told = json.loads(watched[-1].out.splitlines()[-1])
        assert told["seconds"] >= SECONDS
        assert told.get("inferences") or told.get("compiled")


# ---------------------------------------------------------------- the watch itself can fail

SEND = """
import contextlib, pathlib, socket, subprocess
with contextlib.suppress(OSError):
    socket.getaddrinfo("nobody.invalid", 443)
with contextlib.suppress(OSError):
    socket.create_connection(("192.0.2.1", 443), 2)  # an address of nobody (RFC 5737)
with contextlib.suppress(OSError):
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"told", ("192.0.2.1", 9))
(pathlib.Path.home() / ".device").mkdir()
(pathlib.Path.home() / ".device" / "id").write_text("made-up")
subprocess.run(["env", "-u", "ORT_DISABLE_TELEMETRY", "true"], check=True)
"""
STAY = """
import socket, pathlib, tempfile
server = socket.create_server(("127.0.0.1", 0))
socket.create_connection(server.getsockname()).sendall(b"here")
pathlib.Path("kept").write_text("in the current folder")
with tempfile.TemporaryDirectory() as folder:
    (pathlib.Path(folder) / "part").write_text("soon gone")
"""


def test_the_watch_finds_what_a_program_sends_looks_up_and_leaves(tmp_path: Path) -> None:
    """A program of a name that nobody knows. None of its calls leaves the machine."""
    scene = Scene(tmp_path / "scene")
    watched = scene.run([sys.executable, "-c", "import edgewright\n" + SEND], network=False)
    assert watched.code == 0, watched.out
    found = {finding.kind for finding in watched.findings}
    assert found == {"network", "lookup", "file", "switch"}, show(watched.findings)
    text = show(watched.findings)
    assert "connect(" in text and "sendto(" in text and "resolv.conf" in text and ".device/id" in text
    assert len(scene.leftovers()) == 2


def test_the_watch_allows_this_machine_and_the_folders_given(tmp_path: Path) -> None:
    scene = Scene(tmp_path / "scene")
    watched = scene.run([sys.executable, "-c", STAY])
    assert watched.code == 0, watched.out
    assert not watched.findings, show(watched.findings)
    assert scene.leftovers() == []


@pytest.mark.skipif(
    tuple(map(int, version("onnxruntime").split(".")[:2])) < (1, 32), reason="this ONNX Runtime has no telemetry"
)
@pytest.mark.parametrize("name", [CONTROL])
def test_the_watch_finds_onnxruntime(name: str, played: dict[str, Future[tuple[Scene, list[Watched]]]]) -> None:
    scene, (watched,) = played[name].result()
    assert watched.code == 0, watched.out
    found = {finding.kind for finding in watched.findings}
    assert {"lookup", "file"} <= found, show(watched.findings)
    assert any("deviceid" in path for path in scene.leftovers())
