"""The rounds: which clients are asked, which updates are used, and what each round cost."""

import logging
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any, NamedTuple, Protocol

import numpy as np

from edgewright.errors import EdgewrightError, TrainingDiverged
from edgewright.federated.accounting import compute_epsilon
from edgewright.federated.client import ROUND
from edgewright.federated.job import FEWEST_SECURE, RejectedUpdate, RoundReport, RoundSettings
from edgewright.federated.updates import Arrays, check_answer, clip_update, decode_update

SECURE_RANGE = 3.0  # largest absolute value of an update under secure aggregation
MAX_SHARES = 21  # of a client's keys
THRESHOLD = 0.5  # share of them that restores the keys of a client that dropped out


class Traffic(Protocol):
    """Bytes of all messages since the last call: from the clients, and to them."""

    def take_bytes(self) -> tuple[int, int]: ...


class RoundPlan(NamedTuple):
    """Numbers of clients and rounds, and what follows a round."""

    clients: int
    sampled: int
    rounds: int
    finished: Callable[[RoundReport], None]


def run_rounds(
    arrays: Arrays,
    settings: RoundSettings,
    plan: RoundPlan,
    evaluate: Callable[[Sequence[Any]], float],
    grid: Any,
) -> tuple[Arrays, tuple[RoundReport, ...]]:
    """Run all rounds over Flower's `grid`, which also counts its traffic, and return the last parameters.

    Raises EdgewrightError if no round used an update.
    """
    from flwr.app import Context, RecordDict
    from flwr.server import LegacyContext, ServerConfig
    from flwr.server.workflow import DefaultWorkflow, SecAggPlusWorkflow

    logging.getLogger("flwr").setLevel(logging.CRITICAL)
    strategy = _make_strategy(arrays, settings, plan, evaluate, grid)
    context = LegacyContext(
        context=Context(run_id=1, node_id=0, node_config={}, state=RecordDict(), run_config={}),
        config=ServerConfig(num_rounds=plan.rounds),
        strategy=strategy,
    )
    secure = SecAggPlusWorkflow(
        num_shares=1.0 if plan.sampled <= MAX_SHARES else MAX_SHARES,
        reconstruction_threshold=max(THRESHOLD, FEWEST_SECURE / plan.sampled),
        max_weight=1,
        clipping_range=SECURE_RANGE,
    )
    DefaultWorkflow(fit_workflow=secure if settings.secure else None)(grid, context)
    if not any(one.answered for one in strategy.reports):
        reasons = {one.reason for report in strategy.reports for one in report.rejected}
        raise EdgewrightError(
            "no round changed the model", "; ".join(sorted(reasons)) or "no client answered", "look at the clients"
        )
    return strategy.arrays, tuple(strategy.reports)


def _make_inner(arrays: Arrays, settings: RoundSettings) -> Any:
    """Return Flower's own strategy, which combines what has passed the checks."""
    from flwr.common import ndarrays_to_parameters
    from flwr.server.strategy import FedAdam, FedAvg, FedMedian, FedTrimmedAvg

    initial = ndarrays_to_parameters(arrays)
    if settings.robust == "median":
        return FedMedian(initial_parameters=initial)
    if settings.robust == "trimmed":
        return FedTrimmedAvg(initial_parameters=initial)
    if settings.strategy == "fedadam":
        return FedAdam(initial_parameters=initial, eta=settings.server_lr, tau=1e-3)
    return FedAvg(initial_parameters=initial)  # FedProx differs only on the clients


def _make_strategy(
    arrays: Arrays,
    settings: RoundSettings,
    plan: RoundPlan,
    evaluate: Callable[[Sequence[Any]], float],
    traffic: Traffic,
) -> Any:
    from flwr.common import Code, FitIns, FitRes, Status, ndarrays_to_parameters, parameters_to_ndarrays
    from flwr.server.strategy import Strategy

    class CheckedStrategy(Strategy):  # type: ignore[misc] # Flower is in an environment of its own
        """Checks every update, adds noise, and hands what is left to Flower's strategy."""

        def __init__(self) -> None:
            self.arrays, self.reports = arrays, list[RoundReport]()
            self._inner = _make_inner(arrays, settings)
            self._random = np.random.default_rng([settings.seed, 0x5A])
            self._shapes = [one.shape for one in arrays]
            self._began, self._sampled = monotonic(), 0
            self._rejected: list[RejectedUpdate] = []
            self._answered, self._changed = 0, 0.0

        def initialize_parameters(self, client_manager: Any) -> Any:
            return ndarrays_to_parameters(self.arrays)

        def configure_fit(self, server_round: int, parameters: Any, client_manager: Any) -> list[Any]:
            self._began, self._rejected, self._answered, self._changed = monotonic(), [], 0, 0.0
            known = sorted(client_manager.all().values(), key=lambda one: int(one.node_id))
            if settings.noise:  # the accountant assumes independent choices
                chosen = [one for one in known if self._random.random() < plan.sampled / plan.clients]
            else:
                rows = self._random.permutation(len(known))[: plan.sampled]
                chosen = [known[row] for row in sorted(rows)]
            if settings.secure and len(chosen) < FEWEST_SECURE:
                chosen = []
            self._sampled = len(chosen)
            return [(one, FitIns(parameters, {ROUND: server_round})) for one in chosen]

        def aggregate_fit(
            self, server_round: int, results: list[Any], failures: list[Any]
        ) -> tuple[Any, dict[str, Any]]:
            updates = self._check(server_round, results)
            self._rejected += [RejectedUpdate(client="", reason=_describe(one)) for one in failures]
            self._answered = len(updates)
            if not updates:
                return None, {}
            if settings.secure or settings.noise:
                updates = [(updates[0][0], self._protect([one for _, one, _ in updates]), 1)]
            made = [
                (proxy, FitRes(Status(Code.OK, ""), ndarrays_to_parameters(self._add(update)), weight, {}))
                for proxy, update, weight in updates
            ]
            parameters, _ = self._inner.aggregate_fit(server_round, made, [])
            new = [np.asarray(one, np.float32) for one in parameters_to_ndarrays(parameters)]
            self._changed = max(float(np.abs(a - b).max(initial=0)) for a, b in zip(new, self.arrays, strict=True))
            if not np.isfinite(self._changed):
                raise TrainingDiverged("the global model is not finite", f"round {server_round}", "use a lower --lr")
            if self._changed == 0:
                why = f"{len(made)} updates were combined, and no parameter is different"
                raise TrainingDiverged(f"round {server_round} changed nothing", why, "raise --lr or --epochs")
            self.arrays = new
            return ndarrays_to_parameters(new), {}

        def _check(self, server_round: int, results: list[Any]) -> list[tuple[Any, Arrays, int]]:
            """Return the updates that can be used, with their weights; the others are noted with the reason."""
            kept = []
            for proxy, answer in results:
                try:
                    check_answer(answer.metrics.get(ROUND), server_round, answer.num_examples)
                    update = self._decode(parameters_to_ndarrays(answer.parameters))
                except (ValueError, TypeError, OSError) as error:
                    self._rejected.append(RejectedUpdate(client=str(proxy.node_id), reason=str(error)))
                else:
                    kept.append((proxy, update, 1 if settings.equal_weights else answer.num_examples))
            return kept

        def _decode(self, wire: list[Any]) -> Arrays:
            if settings.secure:  # the workflow has put the mean in the place of each update
                return decode_update([np.asarray(one, np.float32) for one in wire], self._shapes, settings)
            return clip_update(decode_update(wire, self._shapes, settings), settings.clip)

        def _protect(self, updates: list[Arrays]) -> Arrays:
            """Return the mean of the updates; with noise, their noisy sum over the expected number of clients."""
            count = len(updates)
            mean = updates[0] if settings.secure else [np.mean(each, axis=0) for each in zip(*updates, strict=True)]
            if not settings.noise:
                return mean
            scale = settings.noise * settings.clip / plan.sampled
            return [
                (one * (count / plan.sampled) + self._random.normal(0, scale, one.shape)).astype(np.float32)
                for one in mean
            ]

        def _add(self, update: Arrays) -> Arrays:
            return [old + one for old, one in zip(self.arrays, update, strict=True)]

        def configure_evaluate(self, server_round: int, parameters: Any, client_manager: Any) -> list[Any]:
            return []

        def aggregate_evaluate(self, server_round: int, results: Any, failures: Any) -> tuple[None, dict[str, Any]]:
            return None, {}

        def evaluate(self, server_round: int, parameters: Any) -> tuple[float, dict[str, Any]] | None:
            up, down = traffic.take_bytes()
            if not server_round:
                return None
            if settings.secure and not self._answered:
                why = "too few clients stayed for secure aggregation"
                self._rejected = [RejectedUpdate(client="", reason=why)]
            report = RoundReport(
                round=server_round,
                metric=evaluate(self.arrays),
                bytes_up=up,
                bytes_down=down,
                epsilon=compute_epsilon(settings, plan.sampled / plan.clients, server_round),
                sampled=self._sampled,
                answered=self._answered,
                rejected=tuple(self._rejected),
                changed=self._changed,
                seconds=round(monotonic() - self._began, 3),
            )
            self.reports.append(report)
            plan.finished(report)
            return 0.0, {}

    return CheckedStrategy()


def _describe(failure: Any) -> str:
    error = failure.args[0] if isinstance(failure, Exception) and failure.args else failure
    return str(getattr(error, "reason", error))[:300]
