"""Work from a page: the form, the queue, the child processes and what is told of them."""

import http.client
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgewright.cli.app import edgewright
from edgewright.cli.commands import find_command, options_of
from edgewright.errors import UsageError
from edgewright.flows.benchmark import benchmark
from edgewright.devices.local import LocalDevice
from edgewright.facts.plan import BenchmarkPlan, Candidate
from edgewright.store.store import Store
from edgewright.web.jobs import Job, Jobs
from edgewright.web.kinds import FOLDER, KINDS, options_from
from tests.web.conftest import Pages
from tests.web.records import Record, pretend_model

PATIENCE_S = 60.0


def wait_for(what: Callable[[], Any]) -> Any:
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        if found := what():
            return found
        time.sleep(0.05)
    raise AssertionError("it did not come to be in time")
