"""The jobs of a process with Flower, and its results."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from edgewright.schema.vocabulary import AdapterMethod
from edgewright.training.job import CachedDataset, ModuleSource

Strategy = Literal["fedavg", "fedprox", "fedadam"]
Compression = Literal["none", "int8", "topk"]
Robust = Literal["none", "median", "trimmed"]
WORKER = "edgewright.federated.worker"

FEWEST_SECURE = 3  # clients in a secure round: the sum of two shows each of them the other's update


class RoundSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How clients train, and how their updates are combined.

    Attributes:
        strategy: FedAvg (McMahan et al. 2017), FedProx (Li et al. 2020), FedAdam (Reddi et al. 2021).
        method, rank: the trained parameters, the only ones that travel; see `training.adapters.layers`.
        epochs, batch, lr, momentum: of a client's training in a round.
        prox: weight of FedProx's distance to the global model.
        server_lr: step of FedAdam.
        compression: of a client's update: int8 per tensor, or the `top` share of the largest values of each tensor.
        clip: largest Euclidean norm of an update; 0 does not limit it.
        noise: standard deviation of the noise on the sum of the updates, in multiples of `clip`; 0 for no
            differential privacy. Clients are then sampled independently, and weigh the same.
        delta: of the differential privacy.
        secure: secure aggregation (SecAgg+, Bell et al. 2020): the server sees only the sum. Clients weigh the same.
        robust: how updates are combined that may be wrong on purpose.
    """

    strategy: Strategy = "fedavg"
    method: AdapterMethod = "full"
    rank: Annotated[int, Meta(ge=1, le=4096)] = 4
    epochs: Annotated[float, Meta(gt=0, le=1000)] = 1.0
    batch: Annotated[int, Meta(ge=1, le=1 << 20)] = 32
    lr: Annotated[float, Meta(gt=0, le=1e6)] = 0.02
    momentum: Annotated[float, Meta(ge=0, lt=1)] = 0.9
    prox: Annotated[float, Meta(ge=0, le=1e6)] = 0.01
    server_lr: Annotated[float, Meta(gt=0, le=1e6)] = 0.003
    compression: Compression = "none"
    top: Annotated[float, Meta(gt=0, le=1)] = 0.1
    clip: Annotated[float, Meta(ge=0, le=1e9)] = 0.0
    noise: Annotated[float, Meta(ge=0, le=1e6)] = 0.0
    delta: Annotated[float, Meta(gt=0, lt=1)] = 1e-5
    secure: bool = False
    robust: Robust = "none"
    threads: Annotated[int, Meta(ge=0, le=4096)] = 1
    seed: Annotated[int, Meta(ge=0, lt=1 << 32)] = 0

    @property
    def equal_weights(self) -> bool:
        """Whether all clients weigh the same, whatever their number of samples."""
        return self.secure or self.noise > 0


class LocalModel(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The model that all clients have: its code, its initial weights and its task (as JSON)."""

    module: ModuleSource
    task: str
    code: tuple[str, ...] = ()


class SimulateJob(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="simulate"):
    """A simulation: all clients in one process.

    Attributes:
        data: `fit` is divided among the clients by a Dirichlet distribution of `alpha` over the classes.
        val: `fit` is evaluated after each round.
        sampled: clients in a round. dropout: share of them whose answer is lost.
        central: whether the same model is also trained on all data at once, on as many samples.
        out: folder for `weights.safetensors` and `report.json`.
    """

    model: LocalModel
    data: CachedDataset
    val: CachedDataset
    settings: RoundSettings
    clients: int
    sampled: int
    rounds: int
    alpha: float
    dropout: float = 0.0
    central: bool = True
    out: str


class ServerJob(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="server"):
    """A server for clients that have keys of its authority, in `folder`; see `network.py`."""

    model: LocalModel
    val: CachedDataset
    settings: RoundSettings
    clients: int
    sampled: int
    rounds: int
    folder: str
    host: str
    port: int
    timeout_s: float
    out: str


class ClientJob(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="client"):
    """A client with its keys in `folder`; `fit` of its data is trained on."""

    model: LocalModel
    data: CachedDataset
    settings: RoundSettings
    folder: str
    server: str
    out: str


FederatedJob = SimulateJob | ServerJob | ClientJob


class RejectedUpdate(Struct, frozen=True, kw_only=True):
    """An update that was not used, and why."""

    client: str
    reason: str


class RoundReport(Struct, frozen=True, kw_only=True):
    """One round.

    Attributes:
        metric: the task's metric of the global model after it.
        bytes_up, bytes_down: of all messages from and to the clients.
        epsilon: spent by all rounds so far; None without differential privacy.
        sampled, answered: clients that were asked, and whose update was used.
        changed: largest change of a parameter.
    """

    round: int
    metric: float
    bytes_up: int
    bytes_down: int
    epsilon: float | None
    sampled: int
    answered: int
    rejected: tuple[RejectedUpdate, ...]
    changed: float
    seconds: float


class FederatedResult(Struct, frozen=True, kw_only=True):
    """The result of a simulation or a server.

    Attributes:
        initial: metric before the first round. central: after training on all data at once, for `central_epochs`.
        parameters, trained: all, and those that travel.
        smallest_client, largest_client: samples of a client.
    """

    rounds: tuple[RoundReport, ...]
    initial: float
    central: float | None = None
    central_epochs: float | None = None
    parameters: int
    trained: int
    smallest_client: int | None = None
    largest_client: int | None = None
