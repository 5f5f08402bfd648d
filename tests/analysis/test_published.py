"""Which published numbers stand beside which data."""

import pytest

from plgan_tune.analysis.published import SETTINGS, published


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
