"""Steps over tensors that stay: what a trial leaves to the next and what a GPU replays are a plain trial's numbers."""

import logging
from collections.abc import Callable
from dataclasses import fields
from typing import Any, get_args

import pytest
import torch
from torch import Tensor

from plgan_tune.config.trial import LEAVES, Kind, TrialSpec
from plgan_tune.data.dataset import Dataset
from plgan_tune.gan.objective import names_of
from plgan_tune.records import EpochMetrics
from plgan_tune.training import step_runner as step_runner_module
from plgan_tune.training.checkpoint import decode_checkpoint, encode_checkpoint, restore_state
from plgan_tune.training.device_scalars import DeviceScalar, DeviceScalars
from plgan_tune.training.loop import epochs, run
from plgan_tune.training.ranks import ALONE
from plgan_tune.training.state import TrainState, new_state
from plgan_tune.training.step_runner import (
    MAY_DIFFER,
    SWITCHES,
    CaptureError,
    StepRunner,
    check_alike,
    step_runner_for,
    unchanged,
)

MakeTrial = Callable[..., TrialSpec]
MakeData = Callable[..., Dataset]
Begin = Callable[[TrialSpec, Dataset], TrainState]
TensorsOf = Callable[[TrainState], dict[str, Tensor]]
Timeless = Callable[[EpochMetrics], dict[str, float]]

CPU = torch.device("cpu")


def images_for(make_data: MakeData, kind: str) -> Dataset:
    return make_data() if kind == "mlp" else make_data(size=20, channels=3)


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("kind", get_args(Kind))
def test_numbers_in_tensors_train_as_floats_do(
    make_trial: MakeTrial, make_data: MakeData, begin: Begin, timeless: Timeless, kind: str
) -> None:
    data = images_for(make_data, kind)
    sections = {
        "training": {"epochs": 3, "precision": "float64"},
        "loss": {
            "alpha": 0.7,
            "switch_epoch": 2,
            "smoothing": 0.1,
            "history": 0.01,
            "weight_decay": 0.01,
            "supervised_scale": 3.0,
            "self_scale": 0.5,
            "self_threshold": 0.4,
            "self_epoch": 1,
        },
    }
    plain, fixed = (begin(make_trial(kind, optim={"decay_epoch": 1}, **sections), data) for _ in range(2))
    fixed.scalars = DeviceScalars(*(DeviceScalar(torch.zeros((), dtype=torch.float64)) for _ in fields(DeviceScalars)))
    for player in (fixed.D, fixed.G):
        for holder, name in ((player.optimiser, "rate"), *((pull, "_strength") for pull in player.pulls)):
            setattr(holder, name, DeviceScalar(torch.zeros((), dtype=torch.float64)))
    for of_floats, of_tensors in zip(epochs(plain, data), epochs(fixed, data), strict=True):
        assert timeless(of_tensors) == pytest.approx(timeless(of_floats), rel=1e-9)


@pytest.mark.parametrize("kind", get_args(Kind))
def test_a_trial_in_tensors_that_another_left_is_as_one_in_its_own(
    make_trial: MakeTrial, make_data: MakeData, begin: Begin, tensors_of: TensorsOf, timeless: Timeless, kind: str
) -> None:
    data = images_for(make_data, kind)
    batch = {"minibatch_kernels": 3, "generator_norm": "virtual"}
    first = make_trial(kind, model=batch, loss={"history": 0.1, "weight_decay": 0.1}, training={"epochs": 2})
    start = {"initial_spread": 0.1, "generator_initial_spread": "xavier", "generator_weight_norm_init": "one"}
    others = {
        "seed": 5,
        "loss": {"alpha": 0.9, "supervised_scale": 2.0, "history": 0.01, "weight_decay": 1e-3},
        "optim": {"lr_generator": 0.01},
    }
    second = make_trial(kind, model=start | batch, training={"epochs": 3}, **others)
    left = StepRunner(begin(first, data), data)
    list(run(left))
    taken = step_runner_for(begin(second, data), data, ALONE, left)
    assert taken is left
    alone = begin(second, data)
    assert [timeless(row) for row in run(taken)] == [timeless(row) for row in epochs(alone, data)]
    assert same(tensors_of(taken.state), tensors_of(alone))


def test_keys_that_may_differ_are_keys() -> None:
    assert set(LEAVES) >= MAY_DIFFER | SWITCHES


@pytest.mark.parametrize("trained", [0, 1])
def test_a_trial_goes_on_from_its_checkpoint_in_tensors_that_another_left(
    make_trial: MakeTrial,
    make_data: MakeData,
    begin: Begin,
    tensors_of: TensorsOf,
    timeless: Timeless,
    trained: int,
) -> None:
    """Also in those of one that never trained."""
    data, trial = make_data(), make_trial(training={"epochs": 4})
    straight = begin(trial, data)
    rows = [timeless(row) for row in epochs(straight, data)]
    half = begin(trial, data)
    stream = epochs(half, data)
    content = encode_checkpoint(half, [next(stream), next(stream)])
    left = StepRunner(begin(make_trial(seed=9), data), data)
    for _, _ in zip(range(trained), run(left), strict=False):
        pass
    restored = restore_state(decode_checkpoint(content, "checkpoint"), trial, data, CPU)
    taken = step_runner_for(restored, data, ALONE, left)
    assert [timeless(row) for row in run(taken)] == rows[2:]
    assert same(tensors_of(taken.state), tensors_of(straight))


@pytest.mark.parametrize(
    ("changed", "fits"),
    [
        ({"seed": 3, "loss": {"alpha": 0.1, "beta": 0.2, "switch_epoch": 7, "ramp": "literal"}}, True),
        ({"optim": {"lr_discriminator": 0.1, "decay_epoch": 3, "average_decay": 0.5}}, True),
        ({"training": {"epochs": 9, "discriminator_steps": 2, "generator_steps": 2}}, True),
        ({"loss": {"self_threshold": 0.5, "self_epoch": 3}}, True),
        ({"loss": {"self_images": "unlabelled"}}, False),
        ({"model": {"initial_spread": 0.1, "weight_norm_init": "xavier"}}, True),
        ({"model": {"generator_initial_spread": "xavier", "generator_weight_norm_init": "one"}}, True),
        ({"model": {"train_hidden_gain": True}}, False),
        ({"training": {"batch_size": 12}}, False),
        ({"model": {"latent_size": 8}}, False),
        ({"model": {"fake_logit": "learned"}}, False),
        ({"loss": {"supervised_scale": 2.0}}, True),
        ({"loss": {"supervised_scale": 0.0}}, True),
        ({"model": {"minibatch_kernels": 2}}, False),
        ({"model": {"generator_norm": "virtual"}}, False),
        ({"loss": {"feature_norm": "sum"}}, False),
        ({"optim": {"beta1": 0.9}}, False),
        ({"optim": {"eps": 1e-7}}, False),
        ({"optim": {"eps_root": 1e-8}}, False),
        ({"loss": {"game": "wasserstein", "ramp": "zero"}}, False),
        ({"optim": {"kind": "rmsprop", "beta1": 0.0}}, False),
        ({"data": {"labels": 0}, "loss": {"supervised_scale": 0.0}}, False),
    ],
)
def test_what_a_later_trial_may_change(
    make_trial: MakeTrial, make_data: MakeData, begin: Begin, changed: dict[str, Any], fits: bool
) -> None:
    data = make_data()
    left = StepRunner(begin(make_trial(), data), data)
    assert left.fits(make_trial(**changed), data) is fits
    assert not left.fits(make_trial(**changed), make_data())


@pytest.mark.parametrize(
    "changed", [{"steps": 2}, {"canvas": "sum"}, {"latent_each_step": False}, {"latent_layer": True}, {"head": 9}]
)
def test_a_later_trial_draws_in_the_steps_of_the_earlier_one(
    make_trial: MakeTrial, make_data: MakeData, begin: Begin, changed: dict[str, Any]
) -> None:
    data = make_data()
    left = StepRunner(begin(make_trial("recurrent"), data), data)
    assert left.fits(make_trial("recurrent", seed=1), data)
    assert not left.fits(make_trial("recurrent", model=changed), data)


@pytest.mark.parametrize(
    "key",
    [
        *("loss.smoothing", "loss.history", "loss.weight_decay", "loss.self_scale", "loss.gradient_penalty"),
        "optim.clip",
    ],
)
def test_a_later_trial_may_change_a_trick_but_not_switch_it(
    make_trial: MakeTrial, make_data: MakeData, begin: Begin, key: str
) -> None:
    data, (section, leaf) = make_data(), key.split(".")
    off, one, other = (
        make_trial(**{section: {leaf: strength}}) for strength in (None if leaf == "clip" else 0.0, 0.1, 0.2)
    )
    assert StepRunner(begin(one, data), data).fits(other, data)
    assert not StepRunner(begin(one, data), data).fits(off, data)
    assert not StepRunner(begin(off, data), data).fits(one, data)


@pytest.mark.parametrize("trained", [0, 1])
def test_a_comparison_leaves_the_trial_as_it_was(
    make_trial: MakeTrial, make_data: MakeData, begin: Begin, tensors_of: TensorsOf, timeless: Timeless, trained: int
) -> None:
    data, trial = make_data(), make_trial(training={"epochs": 3})
    runner, alone = (StepRunner(begin(trial, data), data) for _ in range(2))
    stream, plain = run(runner), run(alone)
    for _ in range(trained):
        next(stream)
        next(plain)
    before = tensors_of(runner.state)
    check_alike(runner, runner._plain_d, runner._plain_g)
    assert same(tensors_of(runner.state), before)
    assert [timeless(row) for row in stream] == [timeless(row) for row in plain]
    assert same(tensors_of(runner.state), tensors_of(alone.state))


def test_a_comparison_ends_as_it_began_where_a_step_fails(
    make_trial: MakeTrial, make_data: MakeData, begin: Begin, tensors_of: TensorsOf
) -> None:
    data = make_data()
    runner = StepRunner(begin(make_trial(), data), data)
    next(run(runner))
    before = tensors_of(runner.state)

    def step_and_fail() -> None:
        with unchanged(runner.state):
            runner._plain_d()
            raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        step_and_fail()
    assert same(tensors_of(runner.state), before)


def stale_rows(runner: StepRunner) -> Callable[[], Tensor]:
    """A replay that reads the rows of its capture."""
    kept = runner._labelled.clone()

    def play() -> Tensor:
        runner._labelled.copy_(kept)
        return runner._plain_d()

    return play


def stale_seeds(runner: StepRunner) -> Callable[[], Tensor]:
    def play() -> Tensor:
        for generator in runner.state.rngs.values():
            generator.manual_seed(0)
        return runner._plain_d()

    return play


def no_update(runner: StepRunner) -> Callable[[], Tensor]:
    def play() -> Tensor:
        with unchanged(runner.state):
            return runner._plain_d()

    return play


@pytest.mark.parametrize("wrong", [stale_rows, stale_seeds, no_update])
def test_a_replay_that_misses_something_is_found_out(
    make_trial: MakeTrial, make_data: MakeData, begin: Begin, wrong: Callable[[StepRunner], Callable[[], Tensor]]
) -> None:
    data = make_data()
    runner = StepRunner(begin(make_trial(optim={"lr_discriminator": 0.03}), data), data)
    runner.state.before_epoch(0.5, 0.03, 0.003)
    with pytest.raises(CaptureError, match="are not the plain ones"):
        check_alike(runner, wrong(runner), runner._plain_g)


def test_a_step_that_cannot_be_captured_says_so_once_and_runs(
    make_trial: MakeTrial,
    make_data: MakeData,
    begin: Begin,
    timeless: Timeless,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*given: object) -> Callable[[], Tensor]:
        raise RuntimeError("operation not permitted when stream is capturing")

    data, trial = make_data(), make_trial(training={"epochs": 2})
    monkeypatch.setattr(step_runner_module, "capture_graph", refuse)
    monkeypatch.setattr(step_runner_module, "_warm_up", lambda steps: [step() for step in steps])
    runner = StepRunner(begin(trial, data), data)
    monkeypatch.setattr(runner, "_prepared", False)  # as on a GPU
    with caplog.at_level(logging.WARNING):
        rows = [timeless(row) for row in run(runner)]
    assert rows == [timeless(row) for row in epochs(begin(trial, data), data)]
    (record,) = caplog.records
    assert "could not be captured: operation not permitted" in record.message


needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize(
    ("kind", "precision"),
    [("mlp", "float32"), ("conv", "float32"), ("conv", "bf16"), ("dcgan", "bf16"), ("recurrent", "float32")],
)
def test_replayed_epochs_are_plain_ones(
    make_trial: MakeTrial, make_data: MakeData, timeless: Timeless, kind: str, precision: str
) -> None:
    cuda = torch.device("cuda", 0)
    data = images_for(make_data, kind).to(cuda)
    taught = {"self_scale": 0.5, "self_threshold": 0.01, "self_epoch": 1}
    trial = make_trial(kind, loss=taught, training={"epochs": 3, "precision": precision})
    replayed, plain = (StepRunner(new_state(trial, data, cuda), data) for _ in range(2))
    plain._prepared = True
    near = 0.05 if precision == "bf16" else 1e-3
    terms = [f"loss_{name}" for name in sum(names_of(trial), ())]
    for one, other in zip(run(replayed), run(plain), strict=True):
        replayed_terms, plain_terms = ([timeless(row)[term] for term in terms] for row in (one, other))
        assert replayed_terms == pytest.approx(plain_terms, rel=near, abs=near)
    assert replayed._play_d != replayed._plain_d


@pytest.mark.gpu
@needs_gpu
def test_a_later_trial_replays_what_an_earlier_one_captured(
    make_trial: MakeTrial, make_data: MakeData, monkeypatch: pytest.MonkeyPatch
) -> None:
    cuda = torch.device("cuda", 0)
    data = make_data().to(cuda)
    left = StepRunner(new_state(make_trial(training={"epochs": 1}), data, cuda), data)
    list(run(left))
    monkeypatch.setattr(step_runner_module, "capture_graph", pytest.fail)
    second = make_trial(seed=2, loss={"alpha": 0.9}, training={"epochs": 2})
    taken = step_runner_for(new_state(second, data, cuda), data, ALONE, left)
    alone = StepRunner(new_state(second, data, cuda), data)
    alone._prepared = True
    for one, other in zip(run(taken), run(alone), strict=True):
        assert one.loss_adversarial == pytest.approx(other.loss_adversarial, rel=1e-3, abs=1e-3)
