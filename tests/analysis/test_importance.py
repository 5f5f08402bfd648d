"""Importance finds what was planted, at equal epochs."""

from dataclasses import replace
from io import StringIO

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from synthetic import write_synthetic

from plgan_tune.analysis.curves import standings, values_at_equal_epoch
from plgan_tune.analysis.importance import (
    LEAST,
    Importance,
    Importances,
    Unanswered,
    _Key,
    _shares_and_intervals,
    importances,
)
from plgan_tune.analysis.intervals import Interval
from plgan_tune.analysis.ped_anova import Grid
from plgan_tune.analysis.study import Study, read_study
from plgan_tune.analysis.terminal import importance_table
from plgan_tune.config.domains import Choice, Uniform
from plgan_tune.store.location import Location
from tests.analysis.conftest import Synthetic


@pytest.mark.parametrize("early_stopping", [True, False])
def test_the_planted_key_leads(synthetic: Synthetic, early_stopping: bool) -> None:
    found = importances(synthetic(400, 40, early_stopping=early_stopping))
    assert isinstance(found, Importances)
    assert found.reached + found.stopped + found.diverged == 400
    assert found.keys[0].path == "loss.alpha"
    shares = {key.path: key for key in found.keys}
    assert sum(key.share for key in found.keys) == pytest.approx(1)
    assert shares["loss.alpha"].interval.low > shares["optim.lr_discriminator"].interval.high
    assert shares["loss.alpha"].significant
    assert not shares["optim.lr_discriminator"].significant
    assert all(0 <= key.interval.low <= key.share <= key.interval.high <= 1 for key in found.keys)


def test_trials_are_compared_at_one_epoch(synthetic: Synthetic) -> None:
    """Most stop at the first rung, so all are compared there; the diverged count as the worst."""
    study = synthetic(100, 40)
    epoch, errors = values_at_equal_epoch(study)
    assert epoch == 2
    assert len(errors) == 100
    there = study.epochs[study.epochs["epoch"] == epoch].set_index("trial_id")["val_error"]
    assert (errors.loc[there.index.astype(str)].to_numpy() == there.to_numpy()).all()
    whole = synthetic(100, 40, early_stopping=False)
    epoch, errors = values_at_equal_epoch(whole)
    assert epoch == 40
    assert (errors == errors.max()).sum() == 2 + 1


def test_noise_is_not_told_from_chance(synthetic: Synthetic) -> None:
    """A key passes by luck in one of twenty; of 24 a binomial seldom has above 5."""
    study = synthetic(60, 10, early_stopping=False)
    told = 0
    for seed in range(6):
        noise = np.random.default_rng(seed).random(len(study.epochs))
        found = importances(replace(study, epochs=study.epochs.assign(val_error=noise)))
        assert isinstance(found, Importances)
        told += sum(key.significant for key in found.keys)
    assert told <= 5


def test_only_trials_in_the_domains_of_now_are_compared(synthetic: Synthetic) -> None:
    study = synthetic(100, 10, early_stopping=False)
    narrow = Uniform(0.5, 1.0)
    inside = int(study.trials["params_alpha"].between(0.5, 1.0).sum())
    spec = replace(study.spec, domains={**study.spec.domains, "loss.alpha": narrow})
    found = importances(replace(study, spec=spec))
    assert isinstance(found, Importances)
    assert found.reached + found.diverged == inside < 100
    few = replace(study.spec, domains={**study.spec.domains, "loss.alpha": Uniform(0.95, 1.0)})
    assert study.trials["params_alpha"].between(0.95, 1.0).sum() < LEAST
    none = importances(replace(study, spec=few))
    assert isinstance(none, Unanswered)
    inside = int(study.trials["params_alpha"].between(0.95, 1.0).sum())
    assert f"but there are {inside} in the current domains and {100 - inside} outside." in none.why


@pytest.mark.parametrize("step", [None, 0.5])
def test_a_step_and_a_rule_have_an_inside_too(synthetic: Synthetic, step: float | None) -> None:
    """Of four trials, two are multiples of the step, and three keep the rule."""
    study = synthetic(4, 12)
    trials = study.trials.assign(params_alpha=[0.5, 0.25, 1.0, 0.0], params_beta=0.5)
    domains = {**study.spec.domains, "loss.alpha": Uniform(0.0, 1.0, step)}
    search = study.spec.search.model_copy(update={"rules": ("loss.alpha + loss.beta <= 1",)})
    found = replace(study, spec=replace(study.spec, domains=domains, search=search), trials=trials)
    assert found.inside.tolist() == [True, step is None, False, True]


def test_a_choice_has_an_inside_too(synthetic: Synthetic) -> None:
    study = synthetic(4, 4)
    domains = {**study.spec.domains, "loss.alpha": Choice(("auto", None, [1])), "loss.beta": Choice((1, 0.5))}
    alpha = pd.Series(["auto", None, "[1]", "2"], dtype=object)
    trials = study.trials.assign(params_alpha=alpha, params_beta=[1.0, 0.5, 2.0, 1.0])
    found = replace(study, spec=replace(study.spec, domains=domains), trials=trials)
    assert found.inside.tolist() == [True, True, False, False]


@pytest.mark.parametrize(("trials", "count"), [(LEAST - 1, LEAST - 1), (0, 0)])
def test_too_few_trials_are_counted(synthetic: Synthetic, trials: int, count: int) -> None:
    why = f"Importance takes 20 trials that have trained an epoch, but there are {count}."
    assert importances(synthetic(trials, 10)) == Unanswered(why)


@pytest.mark.parametrize(("keys", "named"), [(1, "loss.alpha alone"), (0, "none")])
def test_a_search_of_one_key_or_none_is_named(synthetic: Synthetic, keys: int, named: str) -> None:
    study = synthetic(30, 10)
    domains = dict(list(study.spec.domains.items())[:keys])
    found = importances(replace(study, spec=replace(study.spec, domains=domains)))
    assert found == Unanswered(f"Importance compares searched keys, but this study searches {named}.")


def test_equal_errors_are_named(synthetic: Synthetic) -> None:
    study = synthetic(30, 10, early_stopping=False)
    why = "all 30 have the same at epoch 10, 50.00 %."
    found = importances(replace(study, epochs=study.epochs.assign(val_error=0.5)))
    assert found == Unanswered(f"Importance compares trials by their errors, but {why}")


def cut(study: Study, lengths: list[int], *, judged: bool = True) -> Study:
    """The study of as many trials, each stopped after so many epochs, the longest completed."""
    ids = study.trials["trial_id"].tolist()
    length = dict(zip(ids, lengths, strict=True))
    epochs = study.epochs[study.epochs["epoch"] <= study.epochs["trial_id"].astype(str).map(length)]
    last = epochs.groupby("trial_id", observed=True)["val_error"].last()
    status = ["completed" if one == max(lengths) else "stopped" for one in lengths]
    trials = study.trials.assign(epochs=lengths, status=status, val_error_last=last.reindex(ids).to_numpy())
    stops = [one for one in ids if length[one] < max(lengths)] if judged else []
    decisions = pd.DataFrame({"trial_id": stops, "verdict": "stop"})
    return replace(study, trials=trials, epochs=epochs, decisions=decisions)


def test_of_36_trials_that_reached_epoch_10_and_18_that_reached_30_all_are_compared(synthetic: Synthetic) -> None:
    """At least half had reached epoch 30, which are too few: nothing was printed, and that no epoch was common."""
    study = cut(synthetic(36, 30, early_stopping=False), [30, 10] * 18)
    found = importances(study)
    assert isinstance(found, Importances)
    assert (found.epoch, found.reached, found.stopped) == (10, 36, 0)
    assert found.basis == "by the errors of 36 trials at epoch 10"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """45 trials of 30 epochs each."""
    place = tmp_path_factory.mktemp("whole") / "study"
    write_synthetic(Location.at(place), 45, 30, early_stopping=False)
    return read_study(place)


@settings(max_examples=40)
@given(lengths=st.lists(st.integers(1, 30), min_size=45, max_size=45), judged=st.booleans())
def test_the_epoch_is_the_last_that_twenty_reached(whole: Study, lengths: list[int], judged: bool) -> None:
    study = cut(whole, lengths, judged=judged)
    found = standings(study, LEAST)
    assert found is not None
    assert found.epoch == sorted(lengths)[-LEAST]
    assert found.reached == sum(length >= found.epoch for length in lengths)
    ids = study.trials["trial_id"]
    expected = sorted(
        (-min(length, found.epoch), error, trial_id)
        for trial_id, length, error in zip(ids, lengths, errors_at(study, found.epoch), strict=True)
        if judged or length >= found.epoch
    )
    assert found.places.sort_values().index.tolist() == [trial_id for *_, trial_id in expected]


def errors_at(study: Study, epoch: int) -> list[float]:
    """Each trial's error at that epoch, or at its last before."""
    rows = study.epochs[study.epochs["epoch"] <= epoch]
    last = rows.groupby("trial_id", observed=True)["val_error"].last()
    return [float(last[trial_id]) for trial_id in study.trials["trial_id"]]


def test_the_survivors_of_early_stopping_are_compared_with_whom_they_survived(synthetic: Synthetic) -> None:
    """Alone they hardly differ any more in the key that made them survive."""
    study = synthetic(400, 40)
    found = importances(study)
    survivors = importances(replace(study, decisions=study.decisions.head(0)))
    assert isinstance(found, Importances)
    assert isinstance(survivors, Importances)
    assert (found.epoch, found.reached) == (survivors.epoch, survivors.reached)
    assert {key.path for key in found.keys if key.significant} >= {"loss.alpha", "loss.beta"}
    assert not any(key.significant for key in survivors.keys if key.path == "loss.alpha")
    assert f"with {found.stopped} stopped early and {found.diverged} diverged before it behind them" in found.basis


def test_who_was_not_judged_is_left_out(synthetic: Synthetic) -> None:
    """A limit of time has ended some before."""
    found = importances(cut(synthetic(45, 30, early_stopping=False), [30] * 40 + [7] * 5, judged=False))
    assert isinstance(found, Importances)
    assert (found.epoch, found.reached, found.stopped, found.diverged) == (30, 40, 0, 0)


@pytest.mark.parametrize(
    ("trials", "epochs", "early_stopping"), [(36, 60, True), (60, 20, True), (400, 40, True), (100, 10, False)]
)
def test_no_seed_changes_what_is_significant(
    synthetic: Synthetic, trials: int, epochs: int, early_stopping: bool
) -> None:
    study = synthetic(trials, epochs, early_stopping=early_stopping)
    verdicts = set()
    for seed in range(20):
        found = importances(study, seed=seed)
        assert isinstance(found, Importances)
        verdicts.add(frozenset(key.path for key in found.keys if key.significant))
    assert len(verdicts) == 1


@settings(max_examples=50)
@given(
    ranks=st.lists(st.integers(0, 5), min_size=LEAST, max_size=80),
    key_sizes=st.lists(st.integers(1, 4), min_size=1, max_size=5),
    seed=st.integers(0, 2**32 - 1),
)
def test_an_interval_holds_its_share_and_stays_a_share(ranks: list[int], key_sizes: list[int], seed: int) -> None:
    draw = np.random.default_rng(seed)
    grids = [Grid.of(Choice(tuple(range(size)))) for size in key_sizes] + [Grid.of(Uniform(0.0, 1.0))]
    keys = [_Key(grid, draw.integers(grid.size, size=len(ranks))) for grid in grids]
    shares, intervals = _shares_and_intervals(keys, np.array(ranks, float), draw)
    assert shares.sum() == pytest.approx(1)
    for share, (low, high) in zip(shares.tolist(), intervals, strict=True):
        assert 0 <= low <= share <= high <= 1


def test_the_same_study_has_the_same_intervals(synthetic: Synthetic) -> None:
    study = synthetic(60, 10)
    assert importances(study, seed=1) == importances(study, seed=1)


def test_a_choice_that_was_planted_leads(synthetic: Synthetic) -> None:
    study = synthetic(200, 10, early_stopping=False)
    options = np.where(study.trials.index % 2 == 0, 1.0, 0.5)
    worse = dict(zip(study.trials["trial_id"], options, strict=True))
    epochs = study.epochs.assign(
        val_error=[0.1 + 0.8 * (worse[trial_id] == 1.0) for trial_id in study.epochs["trial_id"].astype(str)]
    )
    spec = replace(study.spec, domains={**study.spec.domains, "loss.beta": Choice((1.0, 0.5))})
    found = importances(replace(study, spec=spec, trials=study.trials.assign(params_beta=options), epochs=epochs))
    assert isinstance(found, Importances)
    assert (found.keys[0].path, found.keys[0].significant) == ("loss.beta", True)


def test_its_table_fits_eighty_columns() -> None:
    key = Importance("optim.lr_discriminator", 1.0, Interval(0.99, 1.0), significant=False)
    screen = Console(file=StringIO(), width=80)
    screen.print(importance_table(Importances((key,), epoch=3, reached=1000)))
    line = screen.file.getvalue().splitlines()[-1]  # type: ignore[attr-defined]
    assert line.rstrip() == "optim.lr_discriminator  ━━━━━━━━━━━━━━━  100%  99% - 100%  not significant"
