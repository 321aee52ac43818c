"""What the server costs beside a bare handler: a 602 KB image in, 4 KB out, without a model's time.

    python -m benchmarks.serving --client CLIENT/bin/python [--rounds 9] [--json]

CLIENT is an environment of its own with `pip install 'tritonclient[http]'`, whose pins clash with others. The same
client asks both servers in blocks in turn; both sides have the allocator settings of `serve`. The bare handler reads
the body and answers 4 KB.
"""

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping
from typing import Any

import numpy as np
import uvicorn
from starlette.types import Receive, Scope, Send

from edgewright.schema.arrays import Array
from edgewright.schema.model import TensorSpec
from edgewright.serving.app import InferenceApp, ServerSettings
from edgewright.serving.connections import ServingProtocol, tune_allocator
from edgewright.serving.models import ServedModel

PORTS = {"ours": 18501, "bare": 18502}
CLIENT = """
import ctypes, json, sys, time
import numpy as np, tritonclient.http as http
if sys.argv[3] == "tuned":
    for key, value in ((-3, 32 << 20), (-1, 256 << 20), (-2, 16 << 20)):
        ctypes.CDLL(None).mallopt(key, value)
image = np.random.default_rng(0).standard_normal((1, 3, 224, 224), dtype=np.float32)
clients = {name: http.InferenceServerClient(f"127.0.0.1:{port}") for name, port in json.loads(sys.argv[1]).items()}
wanted = [http.InferRequestedOutput("y", binary_data=True)]
given = http.InferInput("x", [1, 3, 224, 224], "FP32")
def ask(client):
    start = time.perf_counter()
    given.set_data_from_numpy(image)
    client.infer("m", [given], outputs=wanted).as_numpy("y")
    return (time.perf_counter() - start) * 1e3
rounds = []
for _ in range(int(sys.argv[2])):
    row = {}
    for name, client in clients.items():
        for _ in range(5):
            ask(client)
        row[name] = sorted(ask(client) for _ in range(60))[30]
    rounds.append(row)
print(json.dumps(rounds))
"""


def make_app() -> InferenceApp:
    """Return our application in front of a function that returns the same 1,000 numbers."""
    output = np.zeros((1, 1000), np.float32)

    def infer(inputs: Mapping[str, Array]) -> dict[str, Array]:
        return {"y": output}

    inputs = [TensorSpec(name="x", dtype="float32", shape=(1, 3, 224, 224))]
    outputs = [TensorSpec(name="y", dtype="float32", shape=(1, 1000))]
    return InferenceApp([ServedModel("m", "1", "test", inputs, outputs, infer)], ServerSettings())


async def answer_bare(scope: Scope, receive: Receive, send: Send) -> None:
    """Read the body, and answer 4 KB in the form of the protocol."""
    while (await receive()).get("more_body"):
        pass
    head = json.dumps(
        {
            "model_name": "m",
            "outputs": [
                {"name": "y", "datatype": "FP32", "shape": [1, 1000], "parameters": {"binary_data_size": 4000}}
            ],
        }
    ).encode()
    lengths = [
        (b"content-length", str(len(head) + 4000).encode()),
        (b"inference-header-content-length", str(len(head)).encode()),
    ]
    await send({"type": "http.response.start", "status": 200, "headers": lengths})
    await send({"type": "http.response.body", "body": head + bytes(4000)})


def run_server(name: str) -> None:
    """Serve one of the two until the process is ended."""
    tune_allocator()
    app: Any = make_app() if name == "ours" else answer_bare
    config = uvicorn.Config(
        app, port=PORTS[name], http=ServingProtocol, loop="uvloop", lifespan="off", log_level="error", access_log=False
    )
    asyncio.run(uvicorn.Server(config).serve())


def wait_for(port: int) -> None:
    for _ in range(100):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/health/live", timeout=2)
        except OSError:
            time.sleep(0.2)
        else:
            return


def measure(client: str, rounds: int, settings: str) -> list[dict[str, float]]:
    """Return the median of each server in each round, in milliseconds."""
    servers = [subprocess.Popen([sys.executable, "-m", "benchmarks.serving", "--server", name]) for name in PORTS]
    try:
        for port in PORTS.values():
            wait_for(port)
        command = [client, "-c", CLIENT, json.dumps(PORTS), str(rounds), settings]
        found: list[dict[str, float]] = json.loads(subprocess.check_output(command, timeout=600))
        return found
    finally:
        for server in servers:
            server.terminate()
            server.wait(20)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--client", help="interpreter with tritonclient")
    parser.add_argument("--server", choices=list(PORTS), help=argparse.SUPPRESS)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    if given.server:
        run_server(given.server)
        return
    rows = []
    for settings in ("tuned", "untuned"):
        rounds = measure(given.client, given.rounds, settings)
        ratios = sorted(one["ours"] / one["bare"] for one in rounds)
        rows.append(
            {
                "client": settings,
                **{f"{name}_ms": statistics.median(one[name] for one in rounds) for name in PORTS},
                "ratio": statistics.median(ratios),
                "low": ratios[1],
                "high": ratios[-2],
            }
        )
    if given.json:
        print(json.dumps({"rows": rows}))
        return
    for row in rows:
        print(
            f"{row['client']} client: {row['ours_ms']:.2f} ms against {row['bare_ms']:.2f} ms, "
            f"ratio {row['ratio']:.2f} ({row['low']:.2f}–{row['high']:.2f}, second smallest to second largest round)"
        )


if __name__ == "__main__":
    main()
