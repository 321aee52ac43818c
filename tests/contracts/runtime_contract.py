"""What every runtime must do, its own session and profiler alone.

Who brings a runtime as a plug-in inherits `RuntimeContract` and gives it one fixture, `case`:

    class TestMine(RuntimeContract):
        @pytest.fixture
        def case(self, tmp_path: Path) -> RuntimeCase:
            model = write_my_model(tmp_path / "m.mine")
            return RuntimeCase("mine", model, {"x": ones}, bad=tmp_path / "absent", compute=run_without_edgewright)

The plug-in must be installed, so that the worker finds it through its entry point. The model should be small, have an
output that depends on its inputs, and no randomness.
"""

import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, get_args

import numpy as np
import pytest
from numpy.typing import NDArray

from edgewright.devices.connection import start_worker
from edgewright.errors import ModelRejected, RuntimeMissing
from edgewright.runtimes.contract import Mismatch, Rejected, Session
from edgewright.runtimes.table import RuntimeInfo, find_runtime, import_runtime
from edgewright.runtimes.wire import CommandDone, Open, Opened, ReadMemory, SessionRequest
from edgewright.schema.model import GraphNode, Signature
from edgewright.schema.vocabulary import Evidence, Unit

Feeds = Mapping[str, NDArray[Any]]

PROFILED_RUNS = 7  # fewer than six give no interval
SUM_TOLERANCE = 1.3  # the layers' medians may add up to a little more than the median of the whole
BLOCKED = "import sys; sys.modules.update(dict.fromkeys({needs!r}, None)); "
RUN_WORKER = "import runpy; runpy.run_module('edgewright.runtimes.worker', run_name='__main__')"


class RuntimeCase(NamedTuple):
    """One small model in one runtime.

    Attributes:
        runtime: the runtime's name in the table, or that of its entry point.
        model: a file that it reads.
        feeds: all inputs of the model.
        bad: a model that the runtime's library must reject.
        bad_options: options with which it is rejected, if it is valid without.
        compute: the outputs by name for such feeds, by the library alone without Edgewright; None leaves this out.
        graph: the source graph as `formats` reads it.
        fatal: options that are meant to make a session fail.
    """

    runtime: str
    model: Path
    feeds: Feeds
    bad: Path
    bad_options: Mapping[str, str] = {}
    compute: Callable[[Feeds], Feeds] | None = None
    graph: Sequence[GraphNode] = ()
    fatal: tuple[str, ...] = ()


def assert_same(left: Feeds, right: Feeds) -> None:
    """Equal names in equal order, equal types, equal bits."""
    assert list(left) == list(right)
    for name in left:
        assert left[name].dtype == right[name].dtype
        np.testing.assert_array_equal(left[name], right[name])


def changed(feeds: Feeds) -> dict[str, NDArray[Any]]:
    """Other values of the same types and shapes."""
    return {name: np.flip(array).copy() if array.size > 1 else ~array for name, array in feeds.items()}


class RuntimeContract:
    """See the module's text for what to give it."""

    @pytest.fixture
    def info(self, case: RuntimeCase) -> RuntimeInfo:
        return find_runtime(case.runtime)

    @pytest.fixture
    def module(self, info: RuntimeInfo) -> ModuleType:
        return import_runtime(info)

    @pytest.fixture
    def session(self, case: RuntimeCase, module: ModuleType) -> Session:
        session: Session = module.open_session(SessionRequest(model=str(case.model)))
        return session

    def test_the_version_is_reported(self, module: ModuleType) -> None:
        assert module.version().split(".")[0].isdecimal()

    def test_the_module_imports_without_its_library(self, info: RuntimeInfo) -> None:
        script = BLOCKED.format(needs=info.needs) + f"import {info.module} as module\n"
        script += "try:\n    module.version()\nexcept ImportError:\n    print('ImportError')"
        output = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
        assert output.strip() == ("ImportError" if info.needs else "")

    def test_a_worker_without_the_library_says_how_to_get_it(self, info: RuntimeInfo, tmp_path: Path) -> None:
        if not info.needs:
            pytest.skip("needs no library")
        script = BLOCKED.format(needs=info.needs) + RUN_WORKER
        with pytest.raises(RuntimeMissing) as missing:
            start_worker([sys.executable, "-c", script, info.name], info.name, 60, tmp_path / "log")
        assert missing.value.try_this.startswith("pip install ")
        assert (info.extra or info.distribution) in missing.value.try_this

    def test_a_bad_model_is_rejected(self, case: RuntimeCase, module: ModuleType) -> None:
        with pytest.raises(Rejected, match=r"\S"):
            module.open_session(SessionRequest(model=str(case.bad), options=dict(case.bad_options)))

    def test_the_worker_lives_on_after_a_bad_model(self, case: RuntimeCase, tmp_path: Path) -> None:
        feeds = tmp_path / "feeds.npz"
        np.savez(feeds, allow_pickle=False, **dict(case.feeds))
        command = [sys.executable, "-P", "-m", "edgewright.runtimes.worker", case.runtime]
        with start_worker(command, case.runtime, 60, tmp_path / "log") as worker:
            bad = SessionRequest(model=str(case.bad), options=dict(case.bad_options))
            with pytest.raises(ModelRejected):
                worker.ask(Open(session=bad, feeds=str(feeds)), Opened)
            assert worker.ask(ReadMemory(), CommandDone).memory.peak != 0
            opened = worker.ask(Open(session=SessionRequest(model=str(case.model)), feeds=str(feeds)), Opened)
            assert opened.load_us > 0

    def test_every_value_of_every_option_opens(self, case: RuntimeCase, info: RuntimeInfo, module: ModuleType) -> None:
        for option in info.options:
            for value in option.values or (option.default,):
                if option.name not in case.fatal:
                    request = SessionRequest(model=str(case.model), options={option.name: value})
                    try:
                        module.open_session(request).close()
                    except Rejected as error:
                        assert "only browsers have" in str(error)

    def test_other_names_are_a_mismatch(self, case: RuntimeCase, session: Session) -> None:
        skip_without_inputs(session.signature)
        first, *_ = case.feeds
        without = {name: array for name, array in case.feeds.items() if name != first}
        for feeds in (
            without,
            {**case.feeds, "unknown": case.feeds[first]},
            {**without, "unknown": case.feeds[first]},
        ):
            with pytest.raises(Mismatch):
                session.bind(feeds)

    def test_another_dtype_is_a_mismatch(self, case: RuntimeCase, session: Session) -> None:
        skip_without_inputs(session.signature)
        first, *_ = case.feeds
        for other in ("float64", "complex64", "U4"):
            if case.feeds[first].dtype != other:
                with pytest.raises(Mismatch, match=first):
                    session.bind({**case.feeds, first: case.feeds[first].astype(other)})

    def test_another_shape_is_a_mismatch(self, case: RuntimeCase, session: Session) -> None:
        skip_without_inputs(session.signature)
        first, *_ = case.feeds
        array = case.feeds[first]
        fixed = [i for i, size in enumerate(session.signature.inputs[0].shape) if isinstance(size, int)]
        wrong = [array[np.newaxis], *(np.concatenate([array, array], axis=i) for i in fixed)]
        for other in wrong:
            with pytest.raises(Mismatch, match=first):
                session.bind({**case.feeds, first: other})

    def test_a_session_works_after_a_mismatch(self, case: RuntimeCase, session: Session) -> None:
        skip_without_inputs(session.signature)
        with pytest.raises(Mismatch):
            session.bind({})
        session.bind(case.feeds)
        session.run()
        assert session.fetch()

    def test_outputs_are_those_of_the_signature(self, case: RuntimeCase, session: Session) -> None:
        session.bind(case.feeds)
        session.run()
        outputs = session.fetch()
        assert list(outputs) == [spec.name for spec in session.signature.outputs]
        for spec in session.signature.outputs:
            shape = outputs[spec.name].shape
            assert outputs[spec.name].dtype.name == spec.dtype
            assert len(shape) == len(spec.shape)
            assert all(isinstance(size, str) or size == got for size, got in zip(spec.shape, shape, strict=True))

    def test_outputs_are_those_of_the_library(self, case: RuntimeCase, session: Session) -> None:
        if case.compute is None:
            pytest.skip("the case brings nothing to compare with")
        session.bind(case.feeds)
        session.run()
        assert_same(session.fetch(), case.compute(case.feeds))

    def test_what_is_bound_stays_bound(self, case: RuntimeCase, session: Session) -> None:
        feeds = {name: array.copy() for name, array in case.feeds.items()}
        session.bind(feeds)
        del feeds
        session.run()
        first = session.fetch()
        for _ in range(3):
            session.run()
        assert_same(session.fetch(), first)

    def test_binding_anew_replaces_what_was_bound(self, case: RuntimeCase, session: Session) -> None:
        results = []
        for feeds in (case.feeds, changed(case.feeds), case.feeds):
            session.bind(feeds)
            session.run()
            results.append(session.fetch())
        assert_same(results[0], results[2])

    def test_inputs_may_lie_in_memory_in_any_order(self, case: RuntimeCase, session: Session) -> None:
        session.bind(case.feeds)
        session.run()
        plain = session.fetch()
        session.bind({name: np.asfortranarray(array) for name, array in case.feeds.items()})
        session.run()
        assert_same(session.fetch(), plain)

    def test_outputs_are_copies(self, case: RuntimeCase, session: Session) -> None:
        session.bind(case.feeds)
        session.run()
        fetched = session.fetch()
        kept = {name: array.copy() for name, array in fetched.items()}
        session.bind(changed(case.feeds))
        session.run()
        assert_same(fetched, kept)

    def test_two_sessions_do_not_disturb_each_other(
        self, case: RuntimeCase, session: Session, module: ModuleType
    ) -> None:
        other: Session = module.open_session(SessionRequest(model=str(case.model)))
        session.bind(case.feeds)
        other.bind(changed(case.feeds))
        session.run()
        alone = session.fetch()
        other.run()
        session.run()
        assert_same(session.fetch(), alone)
        other.close()
        session.run()
        assert_same(session.fetch(), alone)

    def test_layers_are_rows_in_the_order_of_execution(
        self, case: RuntimeCase, module: ModuleType, tmp_path: Path
    ) -> None:
        before = case.model.read_bytes()
        folder = tmp_path / "trace"
        folder.mkdir()
        module.profile(SessionRequest(model=str(case.model)), case.feeds, PROFILED_RUNS, folder)
        report = module.layers(folder, case.graph)
        assert case.model.read_bytes() == before
        assert report.layers
        assert report.via
        assert report.partitions >= 1
        assert [layer.position for layer in report.layers] == list(range(len(report.layers)))
        starts = [layer.start_us for layer in report.layers if layer.start_us is not None]
        assert starts == sorted(starts)
        known = {node.name for node in case.graph}
        assert len(report.inference) in (0, len(report.layers))
        assert bool(report.inference) == bool(starts)  # starts of a real inference, wherever starts are known
        assert all(start >= 0 and length >= 0 for start, length in report.inference)
        for layer in report.layers:
            assert layer.unit in get_args(Unit)
            assert layer.evidence in get_args(Evidence)
            assert layer.backend
            assert layer.op
            assert known.issuperset(layer.source_nodes)
            assert 0 <= layer.median_us <= layer.p90_us * (1 + 1e-9)
            assert (layer.low_us is None) == (layer.high_us is None)
            if layer.low_us is not None and layer.high_us is not None:
                assert layer.low_us <= layer.median_us <= layer.high_us

    def test_layers_do_not_take_longer_than_the_whole(
        self, case: RuntimeCase, module: ModuleType, tmp_path: Path
    ) -> None:
        module.profile(SessionRequest(model=str(case.model)), case.feeds, PROFILED_RUNS, tmp_path)
        report = module.layers(tmp_path, case.graph)
        assert sum(layer.median_us for layer in report.layers) < report.whole_us * SUM_TOLERANCE


def skip_without_inputs(signature: Signature) -> None:
    if not signature.inputs:
        pytest.skip("takes whatever it is given")
