"""The ClientApp: the same in a simulation and in a process of its own."""

from collections.abc import Callable
from typing import Any

from edgewright.federated.job import RoundSettings
from edgewright.federated.trainer import LocalTrainer
from edgewright.federated.updates import clip_update, encode_update
from edgewright.training.job import CachedDataset

ROUND = "round"  # in the configuration of a round, and in the metrics of its answer


def make_client_app(trainer: LocalTrainer, settings: RoundSettings, get_data: Callable[[int], CachedDataset]) -> Any:
    """Return Flower's ClientApp.

    It answers one message: parameters and the number of the round in, the change of the parameters out. There is no
    message that returns samples.

    Args:
        get_data: returns the samples of a client by its number.
    """
    from flwr.client import NumPyClient
    from flwr.client.mod import secaggplus_mod
    from flwr.clientapp import ClientApp

    class Client(NumPyClient):  # type: ignore[misc] # Flower is in an environment of its own
        def __init__(self, number: int) -> None:
            self._number = number

        def fit(self, parameters: Any, config: dict[str, Any]) -> tuple[Any, int, dict[str, Any]]:
            data, current = get_data(self._number), int(config[ROUND])
            update = trainer.train(parameters, data, 1 + 100_003 * current + self._number)
            update = clip_update(update, settings.clip)
            weight = 1 if settings.equal_weights else len(data.fit)
            return encode_update(update, settings), weight, {ROUND: current}

    def make(context: Any) -> Any:
        return Client(int(context.node_config["partition-id"])).to_client()

    return ClientApp(client_fn=make, mods=[secaggplus_mod] if settings.secure else [])
