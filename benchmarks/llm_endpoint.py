"""What the chat endpoint costs per token: process CPU time of the server beside a model that only waits.

    python -m benchmarks.llm_endpoint [--rounds 9] [--json]

The model emits a token every 2 ms, so that each is an event of its own. In turn a client reads a stream of 500 tokens
from the server, and the server's process emits 500 tokens to nobody; the difference is the endpoint's.
"""

import argparse
import http.client
import json
import os
import socket
import statistics
import subprocess
import sys
import threading
import time
from typing import Any

import uvicorn

from edgewright.bench.statistics import median_interval
from edgewright.schema.chat import ChatOptions, ChatOutcome
from edgewright.serving.app import InferenceApp, ServerSettings
from edgewright.serving.chat import ChatGeneration
from edgewright.serving.models import ServedModel

TOKENS = 500
INTERVAL_S = 0.002


def generate(generation: ChatGeneration) -> ChatOutcome:
    """Emit a token every 2 ms."""
    for _ in range(TOKENS):
        time.sleep(INTERVAL_S)
        generation.emit(" word")
    return ChatOutcome(prompt_tokens=1, completion_tokens=TOKENS, finish="length")


def run_server() -> None:
    """Serve on a free port, which is printed; `idle` on stdin emits to nobody, `cpu` prints the process's CPU time."""
    from edgewright.serving.connections import ServingProtocol

    listener = socket.create_server(("127.0.0.1", 0))
    app = InferenceApp((), ServerSettings(), [ServedModel("m", "1", "test", (), (), generate)])
    settings: dict[str, Any] = {"lifespan": "off", "log_level": "error", "access_log": False}
    config = uvicorn.Config(app, http=ServingProtocol, loop="uvloop", **settings)
    server = uvicorn.Server(config)
    threading.Thread(target=lambda: server.run(sockets=[listener]), daemon=True).start()
    print(listener.getsockname()[1], flush=True)
    for line in sys.stdin:
        if line.strip() == "idle":
            generate(ChatGeneration((), ChatOptions(), lambda text: text))
        print(time.process_time(), flush=True)
    os._exit(0)


def read_stream(port: int) -> int:
    """Return the number of events that a client reads."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    body = json.dumps({"messages": [{"role": "user", "content": "Hi"}], "stream": True})
    connection.request("POST", "/v1/chat/completions", body)
    response = connection.getresponse()
    events = sum(line.startswith(b"data: ") for line in response)
    connection.close()
    return events


def measure(rounds: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.llm_endpoint", "--server"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin and server.stdout
        port = int(server.stdout.readline())

        def ask(word: str) -> float:
            assert server.stdin and server.stdout
            print(word, file=server.stdin, flush=True)
            return float(server.stdout.readline())

        read_stream(port)
        costs, events = [], 0
        for _ in range(rounds):
            start = ask("cpu")
            idle = ask("idle")
            events = read_stream(port)
            costs.append((ask("cpu") - idle - (idle - start)) / TOKENS * 1e6)
        server.stdin.close()
    found = median_interval(costs)
    return {
        "us_per_token": round(statistics.median(costs), 1),
        "low": found.low,
        "high": found.high,
        "rounds": rounds,
        "events": events,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--server", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.server:
        run_server()
        return
    found = measure(options.rounds)
    print(json.dumps(found) if options.json else "\n".join(f"{name}: {value}" for name, value in found.items()))


if __name__ == "__main__":
    main()
