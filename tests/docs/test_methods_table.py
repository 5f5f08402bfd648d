"""The table of methods in docs/method.md is what the benchmark prints of the errors that it has stored."""

import pandas as pd
from methods import METHODS, PAGE, ROWS, SECONDS, TABLE, TECHNIQUES, table, trial_of, with_table

from plgan_tune.config.methods import METHODS as ALL_METHODS


def test_the_table_is_the_benchmark_s_own() -> None:
    page = PAGE.read_text()
    lines = "\n".join(table(pd.read_parquet(TABLE), pd.read_parquet(SECONDS)))
    assert lines in page
    assert with_table(page, lines) == page


def test_it_has_every_method_and_every_row_has_all_seeds() -> None:
    without_labels = {"gran", "wgan", "wirgan", "wgan_gp", "gp_wirgan"}
    assert METHODS.keys() | {"dcgan_ssl"} | without_labels == ALL_METHODS.keys()
    stored = pd.read_parquet(TABLE)
    assert {(row, seed) for row, seed in zip(stored.row, stored.seed, strict=True)} == {
        (row, seed) for row in ROWS for seed in range(1, 11)
    }


def test_a_method_s_row_has_the_weights_of_its_losses() -> None:
    """The first point of the default search has alpha and beta of its own."""
    losses = {name: trial_of(name, 1).loss for name in METHODS}
    assert (losses["feature_wise_gan"].alpha, losses["feature_wise_gan"].beta) == (0.0, 1.0)
    assert (losses["regular_gan"].alpha, losses["regular_gan"].beta) == (1.0, 0.0)
    assert losses["pl_gan"].switch_epoch == losses["sgan"].switch_epoch == 12


def test_a_technique_is_pl_gan_but_for_its_own_keys() -> None:
    plain = trial_of("pl_gan", 3).model_dump()
    for name, keys in TECHNIQUES.items():
        changed = trial_of(f"+ {name}", 3).model_dump()
        differing = {
            f"{section}.{key}"
            for section in ("data", "model", "loss", "optim", "training")
            for key, value in changed[section].items()
            if value != plain[section][key]
        }
        assert differing == keys.keys(), name
