"""Images from gradients: exact without protection and from a plain sum; with masks or noise no better than guessing."""

import pytest

from benchmarks.inversion import measure


@pytest.mark.parametrize("seed", [0, 1])
def test_what_each_protection_is_worth(seed: int) -> None:
    found = measure(noise=0.1, seed=seed)
    guess = found["mean_image_psnr"]
    assert found["plain_psnr"] > 60 and found["sum_psnr"] > 60
    assert 5 < guess < 20
    assert found["masked_psnr"] < guess and found["dp_psnr"] < guess and found["sum_dp_psnr"] < guess


def test_little_noise_protects_little() -> None:
    found = measure(noise=0.001, seed=0)
    assert found["dp_psnr"] > found["mean_image_psnr"]
