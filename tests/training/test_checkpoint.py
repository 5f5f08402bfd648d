"""A checkpoint: what comes back is what was saved, and nothing else is let in."""

import io
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from plgan_tune.config.trial import TrialSpec
from plgan_tune.data.dataset import Dataset
from plgan_tune.records import EpochMetrics
from plgan_tune.training.checkpoint import (
    CheckpointError,
    decode_checkpoint,
    differences,
    encode_checkpoint,
    restore_state,
)
from plgan_tune.training.loop import epochs
from plgan_tune.training.state import TrainState

MakeTrial = Callable[..., TrialSpec]
MakeData = Callable[..., Dataset]
Begin = Callable[[TrialSpec, Dataset], TrainState]
TensorsOf = Callable[[TrainState], dict[str, Tensor]]
Timeless = Callable[[EpochMetrics], dict[str, float]]

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def trial(make_trial: MakeTrial) -> TrialSpec:
    return make_trial(training={"epochs": 1})


@pytest.fixture(scope="module")
def data(make_data: MakeData) -> Dataset:
    return make_data()


@pytest.fixture(scope="module")
def saved(trial: TrialSpec, data: Dataset, begin: Begin) -> bytes:
    """A checkpoint after one epoch."""
    state = begin(trial, data)
    return encode_checkpoint(state, list(epochs(state, data)))


CRITIC = {"game": "wasserstein", "ramp": "zero"}
RMSPROP = {"kind": "rmsprop", "beta1": 0.0, "clip": 0.05}


def refusal(content: bytes) -> str:
    with pytest.raises(CheckpointError) as caught:
        decode_checkpoint(content, "there/checkpoint.pt")
    return str(caught.value)


@pytest.mark.parametrize(
    ("kind", "training", "loss", "model"),
    [
        ("mlp", {}, {}, {}),
        ("mlp", {"discriminator_steps": 2, "precision": "float64"}, {}, {}),
        ("mlp", {"discriminator_steps": 2}, {"smoothing": 0.1, "history": 0.1, "weight_decay": 0.01}, {}),
        ("conv", {}, {}, {}),
        ("conv", {"precision": "bf16"}, {}, {}),
        ("conv", {}, {"history": 0.1}, {}),
        ("dcgan", {}, {"supervised_scale": 10.0, "self_scale": 0.5, "self_threshold": 0.01, "self_epoch": 0}, {}),
        ("dcgan", {"precision": "bf16"}, {"weight_decay": 0.1}, {}),
        ("mlp", {"generator_steps": 3, "discriminator_steps": 2}, {"self_scale": 0.5, "self_threshold": 0.4}, {}),
        ("conv", {"precision": "bf16"}, {"self_scale": 0.5, "self_threshold": 0.34, "self_epoch": 1}, {}),
        ("mlp", {}, {"history": 0.1}, {"minibatch_kernels": 3, "generator_norm": "none"}),
        ("conv", {"precision": "bf16"}, {}, {"minibatch_kernels": 3, "generator_norm": "virtual"}),
        ("dcgan", {}, {}, {"minibatch_kernels": 3, "generator_norm": "virtual"}),
        ("mlp", {}, {"history": 0.1}, {"generator_norm": "virtual"}),
        ("mlp", {"discriminator_steps": 2}, CRITIC | {"gradient_penalty": 10.0}, {}),
        ("conv", {"precision": "bf16"}, CRITIC | {"gradient_penalty": 10.0}, {}),
        ("recurrent", {}, {"self_scale": 0.5, "self_threshold": 0.34, "self_epoch": 1}, {"head": 50}),
        ("recurrent", {}, {}, {"canvas": "sum", "generator_norm": "virtual", "minibatch_kernels": 3}),
    ],
)
def test_resumed_is_uninterrupted_bit_for_bit(
    make_trial: MakeTrial,
    make_data: MakeData,
    begin: Begin,
    tensors_of: TensorsOf,
    timeless: Timeless,
    kind: str,
    training: dict[str, Any],
    loss: dict[str, Any],
    model: dict[str, Any],
) -> None:
    shape = {"mlp": {}, "recurrent": {"size": 9}}.get(kind, {"size": 20, "channels": 3})
    images = make_data(**shape)
    sections = {"loss": {"switch_epoch": 3, **loss}, "training": {"epochs": 4, **training}, "model": model}
    check_resumed(make_trial(kind, optim={"decay_epoch": 2}, **sections), images, begin, tensors_of, timeless)


def test_a_clipped_critic_without_labels_resumes_too(
    make_trial: MakeTrial, make_data: MakeData, begin: Begin, tensors_of: TensorsOf, timeless: Timeless
) -> None:
    loss = CRITIC | {"supervised_scale": 0.0}
    trial = make_trial(loss=loss, data={"labels": 0}, optim=RMSPROP, training={"epochs": 4, "discriminator_steps": 2})
    check_resumed(trial, make_data(labelled=0), begin, tensors_of, timeless)


def check_resumed(whole: TrialSpec, images: Dataset, begin: Begin, tensors_of: TensorsOf, timeless: Timeless) -> None:
    """Two epochs, a checkpoint and the other two are the four, bit for bit."""
    straight = begin(whole, images)
    rows = [timeless(row) for row in epochs(straight, images)]

    half = whole.model_copy(update={"training": whole.training.model_copy(update={"epochs": 2})})
    state = begin(half, images)
    earlier = list(epochs(state, images))
    content = encode_checkpoint(state, earlier)
    checkpoint = decode_checkpoint(content, "x")
    assert list(checkpoint.rows) == earlier
    assert checkpoint.trial == half
    resumed = restore_state(checkpoint, whole, images, CPU)
    later = list(epochs(resumed, images))

    assert [timeless(row) for row in [*checkpoint.rows, *later]] == rows
    there, here = tensors_of(straight), tensors_of(resumed)
    assert there.keys() == here.keys()
    assert [name for name in there if not torch.equal(there[name], here[name])] == []


@given(keep=st.floats(0, 1, exclude_max=True))
def test_a_truncated_file_is_refused(saved: bytes, keep: float) -> None:
    assert refusal(saved[: int(keep * len(saved))]).startswith("there/checkpoint.pt is damaged")


@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_file_with_one_wrong_bit_is_refused(saved: bytes, place: float, bit: int) -> None:
    content = bytearray(saved)
    content[int(place * len(saved))] ^= 1 << bit
    assert refusal(bytes(content)).startswith("there/checkpoint.pt ")


def as_file(content: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize("content", [{"model": torch.zeros(3)}, [1, 2], {"format": "another"}, torch.zeros(2)])
def test_a_foreign_file_is_refused(content: Any) -> None:
    assert refusal(as_file(content)) == "there/checkpoint.pt is no checkpoint of plgan_tune"


def test_code_is_never_loaded() -> None:
    assert "is damaged or no checkpoint: UnpicklingError" in refusal(as_file({"format": refusal}))


@pytest.mark.parametrize("version", [1, 99, None])
def test_another_version_is_refused_with_both_numbers(version: int | None) -> None:
    message = refusal(as_file({"format": "plgan_tune.checkpoint", "version": version, "rows": [{"epoch": 1}]}))
    assert f"has version {version}, but this plgan_tune reads versions 2 to 4 only" in message


def changed(trial: TrialSpec, **sections: dict[str, Any]) -> TrialSpec:
    held = trial.model_dump(mode="json")
    return TrialSpec.model_validate(held | {name: held[name] | given for name, given in sections.items()})


def test_every_changed_key_is_named(saved: bytes, trial: TrialSpec, data: Dataset) -> None:
    asked = changed(
        trial, loss={"alpha": 0.25}, optim={"eps": 1e-3}, model={"hidden": [800, 600]}, training={"epochs": 9}
    )
    with pytest.raises(CheckpointError) as caught:
        restore_state(decode_checkpoint(saved, "x"), asked, data, CPU)
    message = str(caught.value)
    assert "loss.alpha: 0.5 -> 0.25" in message
    assert "optim.eps: 0.0001 -> 0.001" in message
    assert "model.hidden: [800, 600, 500] -> [800, 600]" in message
    assert message.count(" -> ") == 3


def test_only_epochs_may_change(trial: TrialSpec) -> None:
    assert differences(trial, changed(trial, training={"epochs": 99})) == []
    every = changed(trial, training={"checkpoint_every": 5})
    assert differences(trial, every) == ["training.checkpoint_every: null -> 5"]
    assert differences(trial, trial.model_copy(update={"seed": 1})) == ["seed: 0 -> 1"]


def test_other_images_are_refused(saved: bytes, trial: TrialSpec, data: Dataset, make_data: MakeData) -> None:
    """Of another shape, with one other pixel, or with one other label."""
    images, labels = data.images.clone(), data.labels.clone()
    images[-1, 0, 0, 0] ^= 1
    labels[-1] = (labels[-1] + 1) % 3
    for other in (make_data(size=8), replace(data, images=images), replace(data, labels=labels)):
        with pytest.raises(CheckpointError, match="must be those that were trained on"):
            restore_state(decode_checkpoint(saved, "x"), trial, other, CPU)


def test_a_checkpoint_of_an_earlier_version_refuses_images_of_another_shape_or_place(
    saved: bytes, trial: TrialSpec, data: Dataset, make_data: MakeData
) -> None:
    """It does not tell its images, so they must lie where they lay."""
    held = decode_checkpoint(saved, "x")
    earlier = replace(held, content={key: value for key, value in held.content.items() if key != "images"})
    with pytest.raises(CheckpointError, match="do not fit these images"):
        restore_state(earlier, trial, make_data(size=8), CPU)
    moved = changed(trial, data={"path": "elsewhere"})
    with pytest.raises(CheckpointError, match=r"data\.path"):
        restore_state(earlier, moved, data, CPU)
    assert restore_state(held, moved, data, CPU).trial == moved


def test_a_checkpoint_holds_no_more_than_the_trial_needs(saved: bytes, trial: TrialSpec) -> None:
    """And its rows are plain values: whoever has torch can read it."""
    held = torch.load(io.BytesIO(saved), weights_only=True)
    assert held["trial"] == trial.model_dump(mode="json")
    assert [EpochMetrics(**row) for row in held["rows"]] == list(decode_checkpoint(saved, "x").rows)
    assert set(held["rows"][0]) == set(asdict(decode_checkpoint(saved, "x").rows[0]))
    assert (held["epoch"], held["step"]) == (1, 4)
