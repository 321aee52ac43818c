"""Result of a federated training: edgewright.federate/1."""

from msgspec import Struct

from edgewright.federated.job import RoundReport


class FederateReport(Struct, frozen=True, kw_only=True):
    """What each round cost, and what all of them reached.

    Attributes:
        initial, final: the task's metric of the global model before the first round and after the last.
        central: the metric of the same model trained on all data at once, on as many samples (`central_epochs`); None
            if that was not done.
        gap: what central training reaches more, in points of a share or in the metric's unit.
        parameters, trained: all, and those that travel.
        bytes_up, bytes_down, epsilon: over all rounds.
        uncompressed_up: bytes of the updates alone as float32 of all parameters, from the clients that answered.
        smallest_client, largest_client: samples of a client; None for a server, which does not know them.
        weights: path of the last global model's weights.
    """

    schema: str = "edgewright.federate/1"
    model: str
    strategy: str
    method: str
    metric: str
    clients: int
    sampled: int
    rounds: tuple[RoundReport, ...]
    initial: float
    final: float
    central: float | None
    central_epochs: float | None
    gap: float | None
    parameters: int
    trained: int
    bytes_up: int
    bytes_down: int
    uncompressed_up: int
    epsilon: float | None
    delta: float | None
    smallest_client: int | None
    largest_client: int | None
    weights: str | None
    run_id: str | None
    answer: str
