"""The table of methods in docs/method.md is what the benchmark prints of the errors that it has stored."""

import pandas as pd
from methods import METHODS, PAGE, ROWS, TABLE, TECHNIQUES, table, trial_of, with_table

from plgan_tune.config.methods import METHODS as ALL_METHODS


def test_the_table_is_the_benchmark_s_own() -> None:
    page = PAGE.read_text()
    lines = "\n".join(table(pd.read_parquet(TABLE)))
    assert lines in page
    assert with_table(page, lines) == page


def test_it_has_every_method_and_every_row_has_all_seeds() -> None:
    assert METHODS.keys() | {"dcgan_ssl"} == ALL_METHODS.keys()
    stored = pd.read_parquet(TABLE)
    assert {(row, seed) for row, seed in zip(stored.row, stored.seed, strict=True)} == {
        (row, seed) for row in ROWS for seed in range(1, 11)
    }


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
