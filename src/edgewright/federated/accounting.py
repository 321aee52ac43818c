"""The privacy that rounds with noise spend."""

import logging

from edgewright.federated.job import RoundSettings


def compute_epsilon(settings: RoundSettings, share: float, rounds: int) -> float | None:
    """Return epsilon of a client after `rounds`, by Rényi accounting (Mironov 2017) with dp-accounting.

    Args:
        share: probability with which a client takes part in a round, independently of others.

    Returns:
        Epsilon for `settings.delta`; None without noise.
    """
    if not settings.noise:
        return None
    logging.getLogger("absl").setLevel(logging.ERROR)  # of orders that do not converge and are left out
    from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent
    from dp_accounting.rdp import RdpAccountant

    accountant = RdpAccountant()
    accountant.compose(PoissonSampledDpEvent(share, GaussianDpEvent(settings.noise)), rounds)
    return float(accountant.get_epsilon(settings.delta))
