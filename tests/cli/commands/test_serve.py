"""`edgewright serve` as a process: it answers, and it ends."""

import http.client
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.calling import Call
from tests.paths import ROOT

DIGITS = ROOT / "src/edgewright/flows/digits/digits.onnx"
BODY = json.dumps({"inputs": [{"name": "image", "datatype": "FP32", "shape": [1, 1, 8, 8], "data": [0.0] * 64}]})


def test_a_served_model_answers_until_the_server_is_stopped(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("secret\n")
    command = [sys.executable, "-P", "-m", "edgewright", "serve", str(DIGITS), "--port", "0"]
    server = subprocess.Popen([*command, "--token-file", str(token)], stdout=subprocess.PIPE, text=True, env=os.environ)
    try:
        assert server.stdout is not None
        address = server.stdout.readline().strip()
        host, _, path = address.removeprefix("http://").partition("/")
        connection = http.client.HTTPConnection(host, timeout=30)
        for headers, status in (({}, 401), ({"Authorization": "Bearer secret"}, 200)):
            connection.request("POST", f"/{path}", BODY, headers)
            response = connection.getresponse()
            content = json.loads(response.read())
            assert response.status == status, content
        assert content["outputs"][0]["shape"] == [1, 10]
        connection.close()
    finally:
        server.send_signal(signal.SIGTERM)
        server.communicate(timeout=30)
    assert server.returncode == 128 + signal.SIGTERM


@pytest.mark.parametrize(
    ("options", "code", "text"),
    [
        (["--host", "0.0.0.0"], 2, "there is no token"),
        (["--token-file", "missing"], 2, "openssl rand"),
        (["--tls-cert", "c.pem"], 2, "certificate and its key"),
        (["--queue", "0"], 2, "--queue 0"),
    ],
)
def test_settings_that_do_not_fit(call: Call, options: list[str], code: int, text: str) -> None:
    done = call("serve", str(DIGITS), "--port", "0", *options)
    assert done.code == code
    assert text in done.err
