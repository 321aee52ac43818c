"""pytest plugin: the fixture `edgewright_benchmark` checks a model against a baseline file.

    def test_speed(edgewright_benchmark):
        edgewright_benchmark("model.onnx", goal="latency<=1.05x, bytes<5MB")

`pytest --edgewright-write` writes the baselines. The import of this module loads nothing but pytest.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from edgewright.api.gate import GateResult

FOLDER = "baselines"


@pytest.hookimpl
def pytest_addoption(parser: pytest.Parser) -> None:
    help_text = "measure the models of edgewright_benchmark, and write their baselines"
    parser.getgroup("edgewright").addoption("--edgewright-write", action="store_true", help=help_text)


class ModelBenchmark:
    """The fixture's value: a function that checks one model."""

    def __init__(self, request: pytest.FixtureRequest) -> None:
        self._path, self._name = request.path, request.node.name
        self._write = bool(request.config.getoption("--edgewright-write"))

    def __call__(self, model: Any, *, goal: str | None = None, baseline: Any = None, **options: Any) -> "GateResult":
        """Check a model against a baseline, and fail the test if a goal is missed.

        Args:
            model: as for `edgewright.gate`.
            goal: the goals; default: those of the baseline, else `latency<=1.05x`.
            baseline: path of the baseline file; default: `baselines/TEST.json` beside the test's file.
            **options: of `edgewright.gate`.

        Returns:
            The result. With `--edgewright-write` the baseline is written, and there are no checks.
        """
        from edgewright.api.gate import gate
        from edgewright.errors import EdgewrightError

        path = Path(baseline) if baseline is not None else self._find_baseline()
        if self._write:
            path.parent.mkdir(parents=True, exist_ok=True)
        elif not path.exists():
            pytest.fail(f"there is no baseline {path}: pytest --edgewright-write writes it", pytrace=False)
        try:
            return gate(model, baseline=path, goal=goal, write=self._write, progress=False, **options)
        except EdgewrightError as error:
            pytest.fail(f"{error.what}\n{error.why}\nTry: {error.try_this}", pytrace=False)

    def _find_baseline(self) -> Path:
        name = "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in self._name)
        return self._path.parent / FOLDER / f"{name}.json"


@pytest.fixture
def edgewright_benchmark(request: pytest.FixtureRequest) -> ModelBenchmark:
    """Return a function that checks a model against its baseline."""
    return ModelBenchmark(request)
