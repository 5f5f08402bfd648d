"""Generated images measured in an epoch: what each measure sees, on any number of ranks, and without any effect."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from plgan_tune.config.trial import TrialSpec
from plgan_tune.data.dataset import Dataset, load_dataset
from plgan_tune.gan.draws import Stream
from plgan_tune.training import reference as module
from plgan_tune.training.checkpoint import decode_checkpoint, encode_checkpoint, restore_state
from plgan_tune.training.generate import uint8_batch
from plgan_tune.training.judge import Judge, train_judge
from plgan_tune.training.loop import epochs, run
from plgan_tune.training.measures import frechet_distance, moments
from plgan_tune.training.ranks import ALONE, Ranks
from plgan_tune.training.reference import Quality, Reference
from plgan_tune.training.state import TrainState
from plgan_tune.training.step_runner import step_runner_for
from tests.factories import OWN_PAIR, own_section

MakeTrial = Callable[..., TrialSpec]
MakeData = Callable[..., Dataset]
MakeJudge = Callable[[Dataset], Judge]
Begin = Callable[[TrialSpec, Dataset], TrainState]

CPU = torch.device("cpu")
COLUMNS = Quality._fields


@pytest.fixture(scope="module")
def digits(make_trial: MakeTrial) -> Dataset:
    trial = make_trial(data={"source": "digits", "labels": 20, "validation": 400})
    return load_dataset(trial.data)


@pytest.fixture(scope="module")
def judged(digits: Dataset) -> Reference:
    judge = train_judge(digits)
    assert judge is not None
    assert judge.error < 0.05
    return Reference.of(digits, judge)


def quality_of(
    images: Tensor, judged: Reference, state: TrainState, monkeypatch: pytest.MonkeyPatch
) -> dict[str, float]:
    """What is measured of a generator of these 200 images."""
    monkeypatch.setattr(module, "uint8_batch", lambda G, trial, stream, batch: images[100 * batch : 100 * batch + 100])
    return judged.measure(state, ALONE)._asdict()


def test_the_score_does_not_see_a_generator_of_ten_images_but_distance_and_coverage_do(
    digits: Dataset,
    judged: Reference,
    make_trial: MakeTrial,
    make_data: MakeData,
    begin: Begin,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pool, state = digits.split.pool, begin(make_trial(), make_data())
    order = pool[torch.randperm(len(pool), generator=torch.Generator().manual_seed(1))]
    probabilities = judged.judged.judge.probabilities(judged.judged.judge.features(digits.images[pool]))  # type: ignore[union-attr]
    sure = pool[probabilities.amax(dim=1) > 0.99]
    ten = torch.stack([sure[digits.labels[sure] == c][0] for c in range(10)])
    real = quality_of(digits.images[order[:200]], judged, state, monkeypatch)
    few = quality_of(digits.images[ten].repeat(20, 1, 1, 1), judged, state, monkeypatch)
    itself = quality_of(digits.images[digits.split.validation], judged, state, monkeypatch)
    assert few["val_score"] > real["val_score"] > 8
    assert few["val_distance"] > 5 * real["val_distance"]
    assert few["val_coverage"] < 0.2
    assert real["val_coverage"] > 0.8
    assert few["val_transport"] > 2 * real["val_transport"]
    assert judged.judged is not None
    assert 0.5 < real["val_distance"] / judged.judged.judge.floor < 2
    assert itself["val_distance"] < 2  # a half of the validation images


def test_the_columns_are_those_of_the_averaged_generator_and_the_raw_one_s_distance_is_beside(
    make_trial: MakeTrial, make_data: MakeData, make_judge: MakeJudge, begin: Begin
) -> None:
    trial, data = make_trial(), make_data(pool=90)
    state, judge = begin(trial, data), make_judge(data)
    rows = list(epochs(state, data, judge=judge))
    real = moments(judge.features(data.images[data.split.validation]))
    for name, G in (("val_distance", state.averaged_g), ("val_distance_raw", state.G.network)):
        images = uint8_batch(G, trial, Stream.METRICS, 0)[:12]
        assert getattr(rows[-1], name) == frechet_distance(real, moments(judge.features(images)))
    assert rows[-1].val_distance != rows[-1].val_distance_raw
    assert all(row.val_balanced_error == pytest.approx(row.val_error) for row in rows)


def test_the_average_of_g_follows_its_weights_by_the_rule_of_d_s(
    make_trial: MakeTrial, make_data: MakeData, begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make_data()
    trial = make_trial(training={"epochs": 2, "discriminator_steps": 2, "generator_steps": 3})
    state = begin(trial, data)
    wanted, updates = [weight.detach().clone() for weight in state.G.network.parameters()], 0
    update = TrainState.update_average_g

    def noting(state: TrainState) -> None:
        nonlocal updates
        updates += 1
        update(state)
        blend = 1 - min(trial.optim.average_decay, updates / (updates + 10))
        for mean, now in zip(wanted, state.G.network.parameters(), strict=True):
            mean.add_(blend * (now.detach() - mean))

    monkeypatch.setattr(TrainState, "update_average_g", noting)
    list(epochs(state, data))
    assert updates == 2 * 4 * 3
    torch.testing.assert_close(list(state.averaged_g.parameters()), wanted, rtol=1e-5, atol=1e-6)


def test_without_a_judge_pixels_alone_are_measured_and_nothing_else_changes(
    make_trial: MakeTrial, make_data: MakeData, make_judge: MakeJudge, begin: Begin
) -> None:
    data = make_data()
    torch.manual_seed(1)
    before = torch.get_rng_state()
    blind = [row.cells() for row in epochs(begin(make_trial(), data), data)]
    seeing = [row.cells() for row in epochs(begin(make_trial(), data), data, judge=make_judge(data))]
    assert torch.equal(torch.get_rng_state(), before)
    for one, other in zip(blind, seeing, strict=True):
        assert [one[name] for name in COLUMNS[:-1]] == [None] * 4
        assert None not in [other[name] for name in COLUMNS]
        untimed = [name for name in one if name not in (*COLUMNS[:-1], "seconds", "images_per_second")]
        assert [one[name] for name in untimed] == [other[name] for name in untimed]


@dataclass(frozen=True)
class Lonely(Ranks):
    """A rank that keeps what it would sum."""

    told: list[Tensor] | None = None

    def all_sum(self, tensor: Tensor) -> Tensor:
        assert self.told is not None
        self.told.append(tensor)
        return tensor


@pytest.mark.parametrize("count", [2, 3, 5])
def test_the_ranks_parts_add_up_to_what_one_rank_sees(
    make_trial: MakeTrial, make_data: MakeData, make_judge: MakeJudge, begin: Begin, count: int
) -> None:
    """Three batches, the last of 60 images: with five ranks two have none."""
    data = make_data(pool=1500)
    data = replace(data, split=replace(data.split, validation=torch.arange(260)))
    state, told = begin(make_trial(training={"precision": "float64"}), data), list[Tensor]()
    reference = Reference.of(data, make_judge(data))
    for index in range(count):
        reference.measure(state, Lonely(index, count, told))
    reference.measure(state, Lonely(0, 1, told))
    *parts, whole = told
    assert whole.shape == (3, 100, 2 * 32 + 256)
    assert torch.equal(torch.stack(parts).sum(dim=0), whole)


@pytest.mark.parametrize(
    ("kind", "method", "given"),
    [
        ("mlp", "pl_gan", {"model": {"generator_norm": "virtual"}}),
        ("dcgan", "dcgan_ssl", {}),
        ("own", "pl_gan", {"own": own_section(OWN_PAIR), "model": {"width": 0.2}}),
    ],
)
def test_resumed_and_taken_over_is_uninterrupted(
    make_trial: MakeTrial,
    make_data: MakeData,
    make_judge: MakeJudge,
    begin: Begin,
    timeless: Callable[..., dict[str, float]],
    kind: str,
    method: str,
    given: dict[str, Any],
) -> None:
    data = make_data(size=20)
    judge = make_judge(data)
    whole = make_trial(kind, method, training={"epochs": 2}, **given)
    straight = [timeless(row) for row in epochs(begin(whole, data), data, judge=judge)]
    assert all(name in row for row in straight for name in COLUMNS)
    half = whole.model_copy(update={"training": whole.training.model_copy(update={"epochs": 1})})
    state = begin(half, data)
    checkpoint = decode_checkpoint(encode_checkpoint(state, list(epochs(state, data, judge=judge))), "x")
    resumed = restore_state(checkpoint, whole, data, CPU, begin(whole, data).own)
    runner = step_runner_for(begin(half, data), data, ALONE, None)
    next(run(runner))
    taken = step_runner_for(resumed, data, ALONE, runner)
    assert taken is runner
    later = list(run(taken, reference=Reference.of(data, judge)))
    assert [timeless(row) for row in [*checkpoint.rows, *later]] == straight


def test_a_checkpoint_without_the_average_of_g_starts_it_from_its_weights(
    make_trial: MakeTrial, make_data: MakeData, begin: Begin
) -> None:
    trial, data = make_trial(training={"epochs": 1}), make_data()
    state = begin(trial, data)
    checkpoint = decode_checkpoint(encode_checkpoint(state, list(epochs(state, data))), "x")
    content = {name: held for name, held in checkpoint.content.items() if name != "averaged_generator"}
    restored = restore_state(replace(checkpoint, content=content), trial, data, CPU)
    for mean, weight in zip(restored.averaged_g.parameters(), state.G.network.parameters(), strict=True):
        assert torch.equal(mean, weight)
