"""Images computed from what a server of federated learning sees.

`python -m benchmarks.inversion [--json]`: a network 64-32-10 with ReLU and biases on the digits that Edgewright ships.
In its first layer the gradient of a weight is the input times the gradient of its unit's bias, so the input is their
quotient (Zhu et al. 2019, in closed form). The attack tries every unit and keeps its best image, which helps it more
than it could know. Medians of the peak signal-to-noise ratio in dB, at most 100:

- `plain`: the gradient of one image. `masked`: that gradient with secure aggregation's masks on it, 32-bit integers
  that are uniform, as the product's protocol makes them (drawn here, not exchanged). `dp`: clipped to the norm 1, with
  Gaussian noise of `--noise` (0.1).
- `sum`: the mean of 20 clients, which secure aggregation shows; `sum_dp`: that of clipped gradients, with noise of 1 on
  the sum.
- `mean_image`: the mean of other images, the best guess without any gradient: protection must reach no more.
"""

import argparse
import json
from importlib.resources import files
from statistics import median

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
HIDDEN, CLIENTS, TRIED, CAP = 32, 20, 30, 100.0
QUANTIZED, RANGE = 1 << 22, 3.0


def load_digits() -> tuple[Floats, NDArray[np.int64]]:
    with np.load(str(files("edgewright.flows.digits") / "heldout.npz")) as stored:
        names = [name for name in stored.files if name != "labels"]
        images = stored[names[0]].astype(np.float64)
        return images.reshape(len(images), -1) / images.max(), stored["labels"].astype(np.int64)


class Network:
    """Random weights of the size that training starts from."""

    def __init__(self, inputs: int, random: np.random.Generator) -> None:
        self.inputs = inputs
        self._first, self._second = random.normal(0, 0.15, (inputs, HIDDEN)), random.normal(0, 0.15, (HIDDEN, 10))

    def compute_gradient(self, images: Floats, labels: NDArray[np.int64]) -> Floats:
        """Return the gradient of the cross entropy: first weights and biases, then the second's."""
        inner = images @ self._first
        active = np.maximum(inner, 0)
        scores = np.exp(active @ self._second)
        scores /= scores.sum(axis=1, keepdims=True)
        scores[np.arange(len(labels)), labels] -= 1
        scores /= len(labels)
        back = scores @ self._second.T * (inner > 0)
        parts = (images.T @ back, back.sum(0), active.T @ scores, scores.sum(0))
        return np.concatenate([part.ravel() for part in parts])

    def attack(self, gradient: Floats, images: Floats) -> float:
        """Return the PSNR of the best image of any unit against any of these images."""
        weights = gradient[: self.inputs * HIDDEN].reshape(self.inputs, HIDDEN)
        biases = gradient[self.inputs * HIDDEN : (self.inputs + 1) * HIDDEN]
        found = [weights[:, unit] / bias for unit, bias in enumerate(biases) if abs(bias) > 1e-12]
        return max((compute_psnr(one, image) for one in found for image in images), default=0.0)


def compute_psnr(found: Floats, image: Floats) -> float:
    error = float(np.mean((np.clip(found, 0, 1) - image) ** 2))
    return CAP if error <= 10 ** (-CAP / 10) else min(CAP, -10 * float(np.log10(error)))


def mask(gradient: Floats, random: np.random.Generator) -> Floats:
    """Return what the server sees of one client: its fixed-point values plus a uniform mask, modulo 2³²."""
    fixed = np.round((np.clip(gradient, -RANGE, RANGE) + RANGE) * (QUANTIZED / (2 * RANGE))).astype(np.uint64)
    seen = (fixed + random.integers(1 << 32, size=fixed.shape, dtype=np.uint64)) % (1 << 32)
    return seen.astype(np.float64) * (2 * RANGE / (1 << 32)) - RANGE


def clip(gradient: Floats) -> Floats:
    return gradient * min(1.0, 1.0 / float(np.linalg.norm(gradient)))


def measure(noise: float, seed: int) -> dict[str, float]:
    images, labels = load_digits()
    random = np.random.default_rng(seed)
    network = Network(images.shape[1], random)
    rows = [slice(number, number + 1) for number in range(TRIED)]
    gradients = [network.compute_gradient(images[row], labels[row]) for row in rows]
    guess = images[TRIED:].mean(axis=0)

    def disturb(gradient: Floats, scale: float) -> Floats:
        return gradient + random.normal(0, scale, gradient.shape)

    sums = [[gradients[(start + one) % TRIED] for one in range(CLIENTS)] for start in range(5)]
    values = {
        "plain": [network.attack(one, images[row]) for one, row in zip(gradients, rows, strict=True)],
        "masked": [network.attack(mask(one, random), images[row]) for one, row in zip(gradients, rows, strict=True)],
        "dp": [
            network.attack(disturb(clip(one), noise), images[row]) for one, row in zip(gradients, rows, strict=True)
        ],
        "sum": [network.attack(np.mean(group, axis=0), images[:TRIED]) for group in sums],
        "sum_dp": [
            network.attack(disturb(np.sum([clip(one) for one in group], axis=0), 1.0), images[:TRIED]) for group in sums
        ],
        "mean_image": [compute_psnr(guess, image) for image in images[:TRIED]],
    }
    return {f"{name}_psnr": round(median(found), 2) for name, found in values.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--noise", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    found = measure(given.noise, given.seed)
    print(json.dumps(found) if given.json else "\n".join(f"{name}: {value:g} dB" for name, value in found.items()))


if __name__ == "__main__":
    main()
