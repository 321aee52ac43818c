"""A view is decided by its number and the sample's place, and does what the task says."""

from typing import Any

import numpy as np

from edgewright.tasks.spec.task import AudioInput, Augment, Classification, ImageInput, Task
from edgewright.training.data.augment import augment, choose_views, hash_integers

PLACES = np.arange(64)


def task_of(wanted: Augment | None, one: Any) -> Task:
    return Task(inputs=(one,), output=Classification(), augment=wanted)


def picture(layout: Any = "NCHW", mean: Any = 0.0, std: Any = 1.0) -> ImageInput:
    return ImageInput(name="x", size=(6, 8), layout=layout, mean=mean, std=std)


def view(wanted: Augment, array: Any, number: int = 3, one: Any = None, places: Any = PLACES) -> Any:
    views = np.full(len(places), number, np.uint64)
    return augment(task_of(wanted, one or picture()), {"x": array}, views, places)["x"]


def pictures(seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal((64, 3, 6, 8)).astype(np.float32)


EVERY = Augment(flip=True, shift=2, erase=0.3, brightness=0.2, contrast=0.2)


def test_a_view_is_of_its_number_and_place_alone() -> None:
    images = pictures()
    kept = images.copy()
    whole = view(EVERY, images)
    assert (images == kept).all()
    assert whole.dtype == np.float32
    order = np.random.default_rng(1).permutation(64)[:20]
    assert (view(EVERY, images[order], places=PLACES[order]) == whole[order]).all()
    assert (view(EVERY, images, number=4) != whole).any(axis=(1, 2, 3)).mean() > 0.95


def test_layouts_get_the_same_views() -> None:
    images = pictures()
    last = view(EVERY, np.ascontiguousarray(images.transpose(0, 2, 3, 1)), one=picture("NHWC"))
    assert np.allclose(last.transpose(0, 3, 1, 2), view(EVERY, images), atol=1e-6)


def test_a_flip_mirrors_half_of_them() -> None:
    images = pictures()
    made = view(Augment(flip=True), images)
    mirrored = (made == images[..., ::-1]).all(axis=(1, 2, 3))
    assert ((made == images).all(axis=(1, 2, 3)) ^ mirrored).all()
    assert 0.3 < mirrored.mean() < 0.7


def test_a_shift_moves_and_fills_with_zero() -> None:
    images = pictures()
    made = view(Augment(shift=2), images)
    padded = np.pad(images, ((0, 0), (0, 0), (2, 2), (2, 2)))
    found = set()
    for number in range(64):
        fitting = [
            (top, left)
            for top in range(5)
            for left in range(5)
            if (padded[number, :, top : top + 6, left : left + 8] == made[number]).all()
        ]
        assert len(fitting) == 1
        found.add(fitting[0])
    assert len(found) > 15  # of 25


def test_an_erased_square_is_zero_and_whole() -> None:
    made = view(Augment(erase=0.5), np.ones((64, 3, 6, 8), np.float32))
    assert ((made == 0).sum(axis=(2, 3)) == 3 * 4).all()
    assert len({tuple(np.argwhere(one[0] == 0)[0]) for one in made}) > 8


def test_light_and_contrast_are_those_of_the_pixels() -> None:
    means, stds = (120.0, 110.0, 100.0), (60.0, 61.0, 62.0)
    one = picture(mean=means, std=stds)
    pixels = np.random.default_rng(0).uniform(0, 255, (64, 3, 6, 8)).astype(np.float32)
    wide = [np.array(value, np.float32)[None, :, None, None] for value in (means, stds)]
    images = (pixels - wide[0]) / wide[1]
    lit = view(Augment(brightness=0.3), images, one=one) * wide[1] + wide[0]
    ratios = lit / pixels
    assert np.allclose(ratios, ratios[:, :1, :1, :1], rtol=1e-3)
    factors = ratios[:, 0, 0, 0]
    assert 0.7 <= factors.min() < 0.8
    assert 1.2 < factors.max() <= 1.3001
    wider = view(Augment(contrast=0.3), images, one=one)
    assert np.allclose(wider.mean(axis=(2, 3)), images.mean(axis=(2, 3)), atol=1e-5)
    assert not np.allclose(wider.std(axis=(2, 3)), images.std(axis=(2, 3)), rtol=0.05)


def test_sounds_are_moved_and_get_noise() -> None:
    one = AudioInput(name="x", sample_rate=100, window=50, shape=(1, 50, 1), scale=2.0, std=4.0)
    sounds = np.random.default_rng(0).standard_normal((64, 50, 1)).astype(np.float32)
    moved = view(Augment(shift=5), sounds, one=one)
    assert moved.shape == sounds.shape
    padded = np.pad(sounds[..., 0], ((0, 0), (5, 5)))
    for number in range(64):
        assert any((padded[number, at : at + 50] == moved[number, :, 0]).all() for at in range(11))
    noise = view(Augment(noise=0.2), np.zeros_like(sounds), one=one)[..., 0]
    assert 0.08 < noise.std(axis=1).max() < 0.15  # 0.2 × 2 / 4
    assert len(np.unique(noise[:, 0])) == 64


def test_inputs_of_other_kinds_and_no_wish_leave_all_as_it_is() -> None:
    images = pictures()
    assert augment(task_of(None, picture()), {"x": images}, PLACES.astype(np.uint64), PLACES)["x"] is images
    assert augment(task_of(EVERY, picture()), {"y": images}, PLACES.astype(np.uint64), PLACES)["y"] is images


def test_cached_views_go_round_evenly_and_others_are_the_epochs_own() -> None:
    places = np.arange(4000)
    cached = [choose_views(0, epoch, places, 4) for epoch in range(5)]
    assert all(np.bincount(views.astype(int), minlength=4).min() > 200 for views in cached)
    assert (cached[0] == choose_views(0, 0, places, 4)).all()
    assert (np.sort(cached[:4], axis=0) == np.arange(4)[:, None]).all()  # all were seen before one comes again
    assert (cached[4] == cached[0]).all()
    assert 0.2 < (cached[0] == choose_views(1, 0, places, 4)).mean() < 0.3
    own = [choose_views(seed, epoch, places, 0) for seed in (0, 1) for epoch in (0, 1)]
    assert all(len(np.unique(views)) == 1 for views in own)
    assert len({int(views[0]) for views in own}) == 4


def test_the_hash_is_the_same_for_ever() -> None:
    """Cached answers of a teacher outlive a version."""
    assert [int(one) for one in hash_integers(np.arange(3), 7)] == [
        7259628554680249319,
        8581286081765471666,
        1988111358474182198,
    ]
