"""A trial as a stream of epochs: what its seed decides, what ends it, what it reports."""

import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from typing import get_args

import pytest
import torch
from torch import Tensor

from plgan_tune.config.trial import Method, TrialSpec
from plgan_tune.data.dataset import Dataset
from plgan_tune.gan.objective import names_of
from plgan_tune.gan.schedules import learning_rate_factor, ramp
from plgan_tune.records import EpochMetrics
from plgan_tune.training import step_runner
from plgan_tune.training.loop import Diverged, epochs
from plgan_tune.training.state import STREAMS_G, TrainState
from plgan_tune.training.step import StepContext, generator_step

MakeTrial = Callable[..., TrialSpec]
MakeData = Callable[..., Dataset]
Begin = Callable[[TrialSpec, Dataset], TrainState]
TensorsOf = Callable[[TrainState], dict[str, Tensor]]
Timeless = Callable[[EpochMetrics], dict[str, float]]
Train = Callable[..., list[dict[str, float]]]


@pytest.fixture
def train(make_trial: MakeTrial, make_data: MakeData, begin: Begin, timeless: Timeless) -> Train:
    """Rows, but for times, of a trial of 3 epochs."""

    def trained(kind: str = "mlp", seed: int = 0, **training: object) -> list[dict[str, float]]:
        data = make_data(size=16, channels=3) if kind == "conv" else make_data()
        state = begin(make_trial(kind, seed=seed, training={"epochs": 3, **training}), data)
        return [timeless(row) for row in epochs(state, data)]

    return trained


def test_rows_count_epochs_and_say_what_the_schedules_were(
    make_trial: MakeTrial, make_data: MakeData, begin: Begin
) -> None:
    trial = make_trial(loss={"switch_epoch": 3}, optim={"decay_epoch": 2, "lr_generator": 0.001})
    data = make_data()
    state = begin(trial, data)
    ticks = itertools.count()
    rows = list(epochs(state, data, clock=lambda: float(next(ticks))))
    assert [row.epoch for row in rows] == [1, 2, 3, 4, 5, 6]
    assert [row.ramp for row in rows] == [ramp(epoch, 3, "clamp") for epoch in range(6)]
    factors = [learning_rate_factor(epoch, 2, 0.0) for epoch in range(6)]
    assert [row.lr_discriminator for row in rows] == [0.003 * factor for factor in factors]
    assert [row.lr_generator for row in rows] == [0.001 * factor for factor in factors]
    assert [row.seconds for row in rows] == [2.0] * 6
    assert [row.images_per_second for row in rows] == [40.0] * 6  # 4 batches of 10 of a pool of 45, a tick
    assert all(row.error_gap == (row.val_error_raw or 0.0) - (row.val_error or 0.0) for row in rows)


def test_the_schedules_rate_is_the_one_that_is_used(
    make_trial: MakeTrial, make_data: MakeData, begin: Begin, tensors_of: TensorsOf
) -> None:
    data = make_data()
    state = begin(make_trial(optim={"decay_epoch": 1, "lr_generator": 0.01}), data)
    stream = epochs(state, data)
    next(stream)
    next(stream)
    frozen = tensors_of(state)
    row = next(stream)  # the factor 2 - epoch / decay_epoch is 0 by now
    assert row.lr_discriminator == row.lr_generator == 0.0
    assert all(torch.equal(held, frozen[name]) for name, held in tensors_of(state).items() if name[:2] in ("D.", "G."))


def test_training_learns(make_trial: MakeTrial, make_data: MakeData, begin: Begin) -> None:
    data = make_data(pool=90)
    state = begin(make_trial(training={"epochs": 30}), data)
    rows = list(epochs(state, data))
    errors = [row.val_error for row in rows if row.val_error is not None]
    assert errors[-1] <= 1 / 12 < errors[0]
    first, last = rows[0].loss_supervised, rows[-1].loss_supervised
    assert first is not None
    assert last is not None
    assert last < first / 4


@pytest.mark.parametrize("kind", ["mlp", "conv"])
def test_the_same_seed_gives_the_same_rows(train: Train, kind: str) -> None:
    assert train(kind, seed=4) == train(kind, seed=4)


def test_another_seed_gives_other_rows(train: Train) -> None:
    for one, other in zip(train(seed=4), train(seed=5), strict=True):
        assert one["loss_supervised"] != other["loss_supervised"]
        assert one["loss_feature"] != other["loss_feature"]


@pytest.mark.parametrize("kind", ["mlp", "conv"])
def test_the_global_generator_is_neither_read_nor_moved(train: Train, kind: str) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one = train(kind)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert train(kind) == one


def test_k_discriminator_steps_a_generator_step(make_trial: MakeTrial, make_data: MakeData, begin: Begin) -> None:
    data = make_data()
    state = begin(make_trial(training={"epochs": 2, "discriminator_steps": 3}), data)
    rows = list(epochs(state, data))
    assert state.step == 2 * 4 * 3
    assert int(state.D.optimiser.state_dict()["state"][0]["step"]) == 2 * 4 * 3
    assert int(state.G.optimiser.state_dict()["state"][0]["step"]) == 2 * 4
    assert all(row.loss_supervised is not None and math.isfinite(row.loss_supervised) for row in rows)


@pytest.mark.parametrize("g", [1, 3])
def test_losses_are_means_over_the_epochs_steps(
    make_trial: MakeTrial, make_data: MakeData, begin: Begin, monkeypatch: pytest.MonkeyPatch, g: int
) -> None:
    seen_d: list[list[float]] = []
    seen_g: list[list[float]] = []
    for name, seen in (("discriminator_step", seen_d), ("generator_step", seen_g)):
        step = getattr(step_runner, name)
        monkeypatch.setattr(step_runner, name, lambda *given, step=step, seen=seen: _noted(step(*given), seen))
    data = make_data()
    steps = {"discriminator_steps": 2, "generator_steps": g}
    state = begin(make_trial(training={"epochs": 1, **steps, "precision": "float64"}), data)
    (row,) = epochs(state, data)
    assert (len(seen_d), len(seen_g)) == (8, 4 * g)
    measured = [row.loss_supervised, row.loss_unsupervised, row.loss_adversarial, row.loss_feature]
    means = [sum(values) / len(values) for seen in (seen_d, seen_g) for values in zip(*seen, strict=True)]
    assert measured == pytest.approx(means, rel=1e-12)


@pytest.mark.parametrize("start", [{"self_epoch": 2}, {"switch_epoch": 2, "ramp": "zero"}])
@pytest.mark.parametrize("kind", ["mlp", "conv"])
def test_before_its_epoch_self_training_changes_no_bit(
    make_trial: MakeTrial,
    make_data: MakeData,
    begin: Begin,
    tensors_of: TensorsOf,
    timeless: Timeless,
    kind: str,
    start: dict[str, object],
) -> None:
    """It is measured from the first epoch on. No ramp switches it off."""
    data = make_data(size=16, channels=3) if kind == "conv" else make_data()
    off, on = (
        begin(make_trial(kind, loss={**start, "self_scale": scale, "self_threshold": 0.34}), data)
        for scale in (0.0, 0.5)
    )
    for epoch, (ours, theirs) in enumerate(zip(epochs(off, data), epochs(on, data), strict=True)):
        assert ours.loss_self_training is None
        assert theirs.loss_self_training is not None
        assert theirs.loss_self_training > 0
        rows_same = timeless(ours) == timeless(replace(theirs, loss_self_training=None))
        tensors, others = tensors_of(off), tensors_of(on)
        assert rows_same is all(torch.equal(tensors[name], others[name]) for name in tensors) is (epoch < 2)


@pytest.mark.parametrize("method", get_args(Method))
def test_no_label_is_read_but_those_of_the_labelled_images(
    make_trial: MakeTrial,
    make_data: MakeData,
    begin: Begin,
    tensors_of: TensorsOf,
    labelled_rows: set[int],
    method: str,
) -> None:
    """Over all epochs, as many rows are trained on with their labels as `data.labels` says; other labels do nothing."""
    data, trial = make_data(), make_trial(method=method, loss={"switch_epoch": 1, "self_threshold": 0.4})
    trained = []
    for shift in (0, 1):
        others = (data.labels + shift) % 3
        others[data.split.labelled] = data.labels[data.split.labelled]
        state = begin(trial, data)
        list(epochs(state, replace(data, labels=others)))
        trained.append(tensors_of(state))
    assert len(labelled_rows) == trial.data.labels
    assert labelled_rows == set(data.split.labelled.tolist())
    assert all(torch.equal(trained[0][name], trained[1][name]) for name in trained[0])


def test_every_step_of_g_in_a_round_draws_numbers_of_its_own(
    make_trial: MakeTrial, make_data: MakeData, begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first of a round draws what the only one of a round does."""
    data, seen = make_data(), dict[tuple[int, int], list[tuple[int, ...]]]()

    def noting(context: StepContext, unlabelled: Tensor) -> Tensor:
        seeds.append(tuple(context.state.rngs[stream].initial_seed() for stream in STREAMS_G))
        return generator_step(context, unlabelled)

    monkeypatch.setattr(step_runner, "generator_step", noting)
    for k, g in ((1, 1), (1, 3), (2, 1), (2, 2)):
        seeds = seen[k, g] = []
        state = begin(make_trial(training={"epochs": 2, "discriminator_steps": k, "generator_steps": g}), data)
        rows = list(epochs(state, data))
        assert (state.step, len(rows)) == (2 * 4 * k, 2)
        assert int(state.G.optimiser.state_dict()["state"][0]["step"]) == len(seeds) == 2 * 4 * g
        assert len({seed for of_step in seeds for seed in of_step}) == len(seeds) * len(STREAMS_G)
    assert seen[1, 3][::3] == seen[1, 1]
    assert seen[2, 2][::2] == seen[2, 1]


def _noted(terms: Tensor, seen: list[list[float]]) -> Tensor:
    seen.append(terms.tolist())
    return terms


def _break_d(state: TrainState) -> None:
    state.D.network.get_parameter("out.b").data[0] = torch.nan


def _break_g(state: TrainState) -> None:
    next(state.G.network.parameters()).data[0, 0] = torch.inf


@pytest.mark.parametrize(("plant", "term"), [(_break_d, "loss_supervised"), (_break_g, "loss_unsupervised")])
def test_a_planted_nan_is_named_with_its_epoch_and_term(
    make_trial: MakeTrial, make_data: MakeData, begin: Begin, plant: Callable[[TrainState], None], term: str
) -> None:
    data = make_data()
    state = begin(make_trial(), data)
    stream = epochs(state, data)
    next(stream)
    plant(state)
    with pytest.raises(Diverged, match=rf"^{term} is not finite in epoch 2, step 0$") as caught:
        next(stream)
    assert (caught.value.epoch, caught.value.term) == (2, term)


def _break_all_of_g(state: TrainState) -> None:
    next(state.G.network.parameters()).data.fill_(torch.nan)


@pytest.mark.parametrize(("plant", "term"), [(_break_d, "discriminator output"), (_break_all_of_g, "generator output")])
def test_what_the_last_step_breaks_shows_at_its_epochs_end(
    make_trial: MakeTrial,
    make_data: MakeData,
    begin: Begin,
    monkeypatch: pytest.MonkeyPatch,
    plant: Callable[[TrainState], None],
    term: str,
) -> None:
    """The terms of all steps are finite then."""
    data = make_data()
    state = begin(make_trial(training={"epochs": 1}), data)

    def then_break(context: StepContext, unlabelled: Tensor) -> Tensor:
        terms = generator_step(context, unlabelled)
        if state.step == 4:
            plant(state)
        return terms

    monkeypatch.setattr(step_runner, "generator_step", then_break)
    with pytest.raises(Diverged, match=f"{term} is not finite in epoch 1"):
        next(epochs(state, data))


def test_an_optimiser_that_explodes_diverges(make_trial: MakeTrial, make_data: MakeData, begin: Begin) -> None:
    """Adam bounds its steps by the rate unless the second moment forgets: then a silent unit's step is m / eps."""
    explosive = {"lr_discriminator": 1.0, "lr_generator": 1.0, "beta1": 0.9, "beta2": 0.0, "eps": 1e-38}
    data = make_data()
    state = begin(make_trial(optim=explosive, training={"epochs": 50}), data)
    with pytest.raises(Diverged) as caught:
        list(epochs(state, data))
    assert caught.value.epoch == state.epoch + 1
    of_d, of_g = names_of(state.trial)
    assert caught.value.term in {*(f"loss_{term}" for term in of_d + of_g), "discriminator output"}
