"""The numbers a trial computes with, on a CPU."""

import math
from collections.abc import Callable

import pytest
import torch

from plgan_tune.config.trial import Kind, Precision, TrialSpec
from plgan_tune.data.dataset import Dataset
from plgan_tune.gan.pairs import conv, dcgan, mlp, recurrent
from plgan_tune.records import EpochMetrics
from plgan_tune.training.loop import epochs
from plgan_tune.training.precision import precision_policy_for
from plgan_tune.training.state import TrainState

MakeTrial = Callable[..., TrialSpec]
MakeData = Callable[..., Dataset]
Begin = Callable[[TrialSpec, Dataset], TrainState]

TRAITS = {"mlp": mlp.TRAITS, "conv": conv.TRAITS, "dcgan": dcgan.TRAITS, "recurrent": recurrent.TRAITS}


@pytest.mark.parametrize(
    ("precision", "kind", "device", "dtype", "products"),
    [
        ("auto", "mlp", "cpu", torch.float32, None),
        ("auto", "conv", "cpu", torch.float32, None),
        ("auto", "mlp", "cuda", torch.float32, None),
        ("auto", "conv", "cuda", torch.float32, torch.bfloat16),
        ("auto", "dcgan", "cuda", torch.float32, torch.bfloat16),
        ("auto", "recurrent", "cuda", torch.float32, torch.bfloat16),
        ("float32", "conv", "cuda", torch.float32, None),
        ("float64", "mlp", "cpu", torch.float64, None),
        ("bf16", "mlp", "cpu", torch.float32, torch.bfloat16),
    ],
)
def test_a_precision_is_a_type_of_weights_and_one_of_products(
    precision: Precision, kind: Kind, device: str, dtype: torch.dtype, products: torch.dtype | None
) -> None:
    policy = precision_policy_for(precision, TRAITS[kind], torch.device(device))
    assert (policy.dtype, policy.products) == (dtype, products)


@pytest.mark.parametrize(
    ("precision", "kind", "device", "tf32", "channels_last"),
    [
        ("auto", "mlp", "cuda", True, False),
        ("auto", "conv", "cuda", False, True),
        ("float32", "conv", "cuda", False, True),
        ("auto", "conv", "cpu", False, False),
    ],
)
def test_a_gpu_rounds_only_where_it_is_left_to_choose(
    precision: Precision, kind: Kind, device: str, tf32: bool, channels_last: bool
) -> None:
    policy = precision_policy_for(precision, TRAITS[kind], torch.device(device))
    assert (policy.tf32, policy.channels_last) == (tf32, channels_last)


@pytest.mark.parametrize("kind", ["mlp", "conv"])
def test_every_precision_trains_close_to_float64(
    make_trial: MakeTrial, make_data: MakeData, begin: Begin, kind: Kind
) -> None:
    """From the same initial weights and noise as far as these are drawn in float32: losses differ by rounding."""
    data = make_data(size=16, channels=3) if kind == "conv" else make_data()
    rows: dict[str, EpochMetrics] = {}
    for precision in ("float64", "float32", "bf16"):
        state = begin(make_trial(kind, training={"epochs": 2, "precision": precision}), data)
        rows[precision] = list(epochs(state, data))[-1]
        measured = [value for value in rows[precision].cells().values() if value is not None]
        assert all(map(math.isfinite, measured))
        wanted = torch.float64 if precision == "float64" else torch.float32
        nets = (state.D.network, state.G.network, state.averaged)
        assert {weight.dtype for net in nets for weight in net.parameters()} == {wanted}
        assert {tensor.dtype for tensor in state.D.optimiser.tensors()[1:]} == {wanted}
    assert rows["bf16"].loss_supervised != rows["float32"].loss_supervised
    assert rows["bf16"].loss_supervised == pytest.approx(rows["float32"].loss_supervised, rel=0.1)
