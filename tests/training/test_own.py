"""A user's own terms in training: they are those of the method where they say the same, on any number of ranks."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from plgan_tune.config.errors import RuleError
from plgan_tune.config.trial import TrialSpec
from plgan_tune.data.dataset import Dataset
from plgan_tune.gan.own import TERMS_D, TERMS_G
from plgan_tune.records import EpochMetrics
from plgan_tune.training.checkpoint import CheckpointError, decode_checkpoint, encode_checkpoint, restore_state
from plgan_tune.training.loop import Diverged, epochs, run
from plgan_tune.training.ranks import ALONE, RankLostError, Ranks
from plgan_tune.training.state import TrainState, new_state
from plgan_tune.training.step_runner import StepRunner, step_runner_for
from tests.factories import OWN_PAIR, OWN_TERMS, load, own_section

MakeTrial = Callable[..., TrialSpec]
MakeData = Callable[..., Dataset]
Begin = Callable[[TrialSpec, Dataset], TrainState]
TensorsOf = Callable[[TrainState], dict[str, Tensor]]
Timeless = Callable[[EpochMetrics], dict[str, float]]
Write = Callable[[str], dict[str, Any]]

FLOAT64 = {"precision": "float64", "epochs": 3, "discriminator_steps": 2}
USED = "import torch\nfrom torch.nn import functional as F\nfrom plgan_tune.own import Keys\n"
CPU = torch.device("cpu")


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a file of this text; returns the section of a trial that names it."""

    def written(text: str) -> dict[str, Any]:
        file = tmp_path / "mine.py"
        file.write_text(USED + text)
        return own_section(file)

    return written


def trained(state: TrainState, data: Dataset) -> list[EpochMetrics]:
    return list(epochs(state, data))


def near(one: TrainState, other: TrainState, tensors_of: TensorsOf) -> None:
    torch.testing.assert_close(tensors_of(one), tensors_of(other), rtol=1e-10, atol=1e-10)


def test_terms_of_zero_train_the_networks_of_none_bit_for_bit(
    make_trial: MakeTrial, make_data: MakeData, begin: Begin, tensors_of: TensorsOf, timeless: Timeless, write: Write
) -> None:
    own = write(
        "def discriminator_terms(unlabelled):\n    return {'none': 0 * unlabelled.logits.sum(1)}\n"
        "def generator_terms(generated):\n    return {'nothing': 0 * generated.logits.sum(1)}\n"
    )
    data = make_data()
    with_own, without = begin(make_trial(own=own), data), begin(make_trial(), data)
    rows, plain = trained(with_own, data), trained(without, data)
    assert [row.own for row in rows] == [{"none": 0.0, "nothing": 0.0}] * 6
    assert [row.own for row in plain] == [{}] * 6
    own_columns = {"own_none", "own_nothing"}
    assert [{k: v for k, v in timeless(row).items() if k not in own_columns} for row in rows] == [
        timeless(row) for row in plain
    ]
    found, expected = tensors_of(with_own), tensors_of(without)
    assert [name for name in expected if not torch.equal(found[name], expected[name])] == []


SMOOTHING = """
def discriminator_terms(unlabelled):
    r = unlabelled.logits.logsumexp(1)
    return {"smoothed": 0.5 * 0.1 * (F.softplus(r) - F.softplus(-r))}
"""
MORE_UNSUPERVISED = """
class Own(Keys):
    scale: float = 0.0
def discriminator_terms(keys, unlabelled, generated):
    r, of_fakes = unlabelled.logits.logsumexp(1), generated.logits.logsumexp(1)
    return {"more": keys.scale * (F.softplus(-r) + F.softplus(of_fakes))}
"""
JOINT = """
def discriminator_terms(labelled):
    return {"real": F.softplus(-labelled.logits.logsumexp(1))}
"""
GAME_OF_G = """
def generator_terms(generated, view):
    r = generated.logits.logsumexp(1)
    return {"game": 0.4 * (-view.w * F.softplus(r) + (1 - view.w) * F.softplus(-r))}
"""
MATCHING = """
def generator_terms(unlabelled, generated, view):
    apart = view.mean(unlabelled.features) - view.mean(generated.features)
    return {"matched": 0.3 * apart.square().mean().expand(len(generated.logits))}
"""


@pytest.mark.parametrize(
    ("text", "keys", "with_own", "built_in"),
    [
        (SMOOTHING, {}, {}, {"smoothing": 0.1}),
        (MORE_UNSUPERVISED, {"scale": 0.25}, {}, {"unsupervised_scale": 0.75}),
        (JOINT, {}, {}, {"supervised": "joint"}),
        (GAME_OF_G, {}, {"alpha": 0.1}, {"alpha": 0.5}),
        (MATCHING, {}, {"beta": 0.2}, {"beta": 0.5}),
    ],
)
def test_an_own_term_is_the_built_in_one_that_it_writes_out(
    make_trial: MakeTrial,
    make_data: MakeData,
    begin: Begin,
    tensors_of: TensorsOf,
    write: Write,
    text: str,
    keys: dict[str, float],
    with_own: dict[str, Any],
    built_in: dict[str, Any],
) -> None:
    data, common = make_data(), {"switch_epoch": 2}
    one = begin(make_trial(loss=common | with_own, own=write(text) | keys, training=FLOAT64), data)
    other = begin(make_trial(loss=common | built_in, training=FLOAT64), data)
    rows, expected = trained(one, data), trained(other, data)
    assert [row.val_error for row in rows] == [row.val_error for row in expected]
    near(one, other, tensors_of)


def test_a_row_has_the_mean_of_each_term_over_the_steps(
    make_trial: MakeTrial, make_data: MakeData, begin: Begin, write: Write
) -> None:
    """The mean of w over an epoch is w, and that of C_unsup's own copy is its column."""
    own = write(MORE_UNSUPERVISED.replace('{"more"', '{"ramp": 0 * r + 1, "more"'))
    data = make_data()
    rows = trained(begin(make_trial(own=own | {"scale": 0.5}, training=FLOAT64), data), data)
    assert [row.own["ramp"] for row in rows] == pytest.approx([1.0] * 3)
    assert [row.own["more"] for row in rows] == pytest.approx([row.loss_unsupervised for row in rows], rel=1e-12)


@pytest.mark.parametrize("kind", ["mlp", "conv", "own"])
def test_resumed_is_uninterrupted_bit_for_bit(
    make_trial: MakeTrial, make_data: MakeData, begin: Begin, tensors_of: TensorsOf, timeless: Timeless, kind: str
) -> None:
    data = make_data() if kind == "mlp" else make_data(size=16, channels=3)
    own = own_section(OWN_PAIR if kind == "own" else OWN_TERMS)
    whole = make_trial(kind, own=own, loss={"switch_epoch": 2}, training={"epochs": 4})
    straight = begin(whole, data)
    rows = [timeless(row) for row in epochs(straight, data)]
    names = {"entropy"} if kind == "own" else {"entropy", "consistency", "mixed", "spread", "doubt", "apart"}
    assert {name for name in rows[0] if name.startswith("own_")} == {f"own_{name}" for name in names}
    half = begin(whole.model_copy(update={"training": whole.training.model_copy(update={"epochs": 2})}), data)
    saved = decode_checkpoint(encode_checkpoint(half, trained(half, data)), "x")
    resumed = restore_state(saved, whole, data, CPU, load(whole))
    assert [timeless(row) for row in [*saved.rows, *epochs(resumed, data)]] == rows
    there, here = tensors_of(straight), tensors_of(resumed)
    assert [name for name in there if not torch.equal(there[name], here[name])] == []


def test_a_resume_may_have_the_file_elsewhere_but_not_changed(
    make_trial: MakeTrial, make_data: MakeData, begin: Begin, tmp_path: Path
) -> None:
    data, trial = make_data(), make_trial(own=own_section(OWN_TERMS), training={"epochs": 2})
    state = begin(trial, data)
    saved = decode_checkpoint(encode_checkpoint(state, [next(epochs(state, data))]), "x")
    moved, edited = tmp_path / "moved.py", tmp_path / "edited.py"
    moved.write_bytes(OWN_TERMS.read_bytes())
    edited.write_bytes(OWN_TERMS.read_bytes() + b"\n")
    elsewhere = make_trial(own=own_section(moved), training={"epochs": 2})
    assert restore_state(saved, elsewhere, data, CPU, load(elsewhere)).epoch == 1
    changed = make_trial(own=own_section(edited), training={"epochs": 2})
    with pytest.raises(CheckpointError, match=r"own\.sha256") as refused:
        restore_state(saved, changed, data, CPU, load(changed))
    assert all(str(trial.own.sha256) in str(refused.value) for trial in (trial, changed))


def test_a_trial_is_never_trained_without_its_own_terms(make_trial: MakeTrial, make_data: MakeData) -> None:
    with_own = make_trial(own=own_section(OWN_TERMS))
    with pytest.raises(ValueError, match=r"must be what trial\.own\.file names, .*own_terms\.py, but got None"):
        new_state(with_own, make_data(), CPU)
    with pytest.raises(ValueError, match=r"must be what trial\.own\.file names, None, but got .*own_terms\.py"):
        new_state(make_trial(), make_data(), CPU, load(with_own))


@pytest.mark.parametrize(("changed", "fits"), [({}, True), ({"entropy": 0.3}, False), ({"match": False}, False)])
def test_a_later_trial_reuses_the_steps_only_with_the_same_values(
    make_trial: MakeTrial, make_data: MakeData, begin: Begin, timeless: Timeless, changed: dict[str, Any], fits: bool
) -> None:
    data, own = make_data(), own_section(OWN_TERMS)
    left = StepRunner(begin(make_trial(own=own, training={"epochs": 1}), data), data)
    list(run(left))
    later = make_trial(own={**own, **changed}, seed=3, training={"epochs": 2})
    taken = step_runner_for(begin(later, data), data, ALONE, left)
    assert (taken is left) is fits
    assert [timeless(row) for row in run(taken)] == [timeless(row) for row in epochs(begin(later, data), data)]


def test_a_term_that_stops_being_finite_ends_the_trial_by_its_name(
    make_trial: MakeTrial, make_data: MakeData, begin: Begin, write: Write
) -> None:
    own = write(
        "def discriminator_terms(view, unlabelled):\n    return {'odd': unlabelled.logits.sum(1) / (1 - view.w)}"
    )
    data = make_data()
    with pytest.raises(Diverged, match=r"own_odd is not finite in epoch 3, step 0"):
        trained(begin(make_trial(own=own, loss={"switch_epoch": 2}), data), data)


def test_names_are_those_of_the_values_of_the_keys(make_trial: MakeTrial) -> None:
    def names(**keys: bool) -> Mapping[str, tuple[str, ...]]:
        own = load(make_trial(own=own_section(OWN_TERMS) | keys))
        assert own is not None
        return own.names

    assert names() == {TERMS_D: ("entropy", "consistency", "mixed", "spread"), TERMS_G: ("doubt", "apart")}
    assert names(match=False)[TERMS_G] == ("doubt",)


CHANGES = {
    "raises": (
        "def discriminator_terms(unlabelled):\n    if len(unlabelled.logits) > 7: raise KeyError('late')\n"
        "    return {'a': unlabelled.logits.sum(1)}",
        r"mine\.py:5: must run without an error, but got KeyError: 'late'",
    ),
    "shape": (
        "def generator_terms(generated):\n    x = generated.logits\n    return {'a': x if len(x) > 7 else x.sum(1)}",
        r"mine\.py: generator_terms: a must have a value of each image, shape \(b,\), here \(10,\), but got shape",
    ),
    "names": (
        "def discriminator_terms(unlabelled):\n    x = unlabelled.logits.sum(1)\n"
        "    return {'a': x, 'b': x} if len(x) <= 7 else {'b': x, 'a': x}",
        r"discriminator_terms: must return the terms of its first call in every step, a, b, but got b, a",
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_function_that_changes_in_training_ends_it_with_its_place(
    make_trial: MakeTrial, make_data: MakeData, begin: Begin, write: Write, change: str
) -> None:
    text, message = CHANGES[change]
    data = make_data()
    with pytest.raises(RuleError, match=message):
        trained(begin(make_trial(own=write(text)), data), data)


class Lost(Ranks):
    """A rank whose others have died."""

    def all_sum(self, tensor: Tensor) -> Tensor:
        raise RankLostError("no answer")


def test_a_lost_rank_is_no_error_of_the_file(
    make_trial: MakeTrial, make_data: MakeData, begin: Begin, write: Write
) -> None:
    own = write(
        "def discriminator_terms(unlabelled, view):\n    x = unlabelled.logits.sum(1)\n"
        "    return {'a': x - view.mean(x)}"
    )
    data = make_data()
    with pytest.raises(RankLostError, match="no answer"):
        list(epochs(begin(make_trial(own=own), data), data, Lost()))
