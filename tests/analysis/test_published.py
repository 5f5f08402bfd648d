"""Which published numbers stand beside which data."""

import pytest

from plgan_tune.analysis.published import SETTINGS, published
from plgan_tune.analysis.published_generators import GENERATORS, published_generators


@pytest.mark.parametrize(
    ("source", "path", "labels", "data"),
    [
        ("mnist", None, 100, "MNIST"),
        ("mnist", "/data/cifar10", 100, "MNIST"),
        ("parquet", "/shared/data/mnist", 100, "MNIST"),
        ("parquet", "s3://bucket/CIFAR-10/", 4000, "CIFAR-10"),
        ("cifar10", None, 4000, "CIFAR-10"),
        ("mnist", None, 20, None),
        ("fashion_mnist", None, 100, None),
        ("digits", None, 100, None),
        ("parquet", "/data/leaves", 100, None),
    ],
)
def test_the_data_set_and_its_labels_choose(source: str, path: str | None, labels: int, data: str | None) -> None:
    found = published(source, path, labels)
    assert (found.data if found else None) == data


def test_every_error_is_a_fraction_and_the_lowest_comes_first() -> None:
    for setting in SETTINGS:
        errors = [row.error for row in setting.rows]
        assert errors == sorted(errors)
        assert all(0 < error < 0.5 for error in errors)
        assert "PL-GAN" in {row.method for row in setting.rows}


@pytest.mark.parametrize(
    ("source", "path", "data"),
    [
        ("mnist", None, "MNIST"),
        ("parquet", "/shared/data/cifar10", "CIFAR-10"),
        ("folder", "pictures/celeba", "CelebA"),
        ("folder", "pictures/LSUN", "LSUN"),
        ("digits", None, None),
    ],
)
def test_the_data_set_chooses_what_is_published_of_generators(source: str, path: str | None, data: str | None) -> None:
    found = published_generators(source, path)
    assert (found.data if found else None) == data


def test_what_the_warnings_say_of_the_published_battles_is_so() -> None:
    """All 60 r_sample exceed 1, eight of them by at most 0.018, and battles of a third with two equals differ."""
    battles = [battle for setting in GENERATORS for battle in setting.battles]
    ratios = sorted(battle.r_sample for battle in battles)
    assert len(ratios) == 60
    assert ratios[0] == 1.001
    assert ratios[7] == 1.018
    assert ratios[8] > 1.2
    for setting in GENERATORS:
        assert [battle.table for battle in setting.battles] == [table for table in range(3, 8) for _ in range(3)]
        assert len({(battle.first, battle.second) for battle in setting.battles}) == 15
        assert len(setting.generators) == 9
    mnist, *_ = GENERATORS
    of = {generator.name: generator.seconds for generator in mnist.generators}
    assert all(of[f"gp_wirgan-t{steps}"] < of[f"wirgan-t{steps}"] for steps in (1, 3, 5))
    assert sum(battle.r_sample <= 1.008 for battle in mnist.battles) == 5
