"""The error of a classifier."""

from collections.abc import Callable

import pytest
import torch

from plgan_tune.config.trial import TrialSpec
from plgan_tune.data.dataset import Dataset
from plgan_tune.training.evaluate import classify
from plgan_tune.training.state import TrainState

MakeTrial = Callable[..., TrialSpec]
MakeData = Callable[..., Dataset]
Begin = Callable[[TrialSpec, Dataset], TrainState]


@pytest.fixture
def one_sided(make_trial: MakeTrial, make_data: MakeData, begin: Begin) -> Callable[[str], TrainState]:
    """A state whose D says class 1 whatever it sees."""

    def build(kind: str) -> TrainState:
        state = begin(make_trial(kind), make_data(size=16))
        state.D.network.get_parameter("out.g").data.zero_()
        state.D.network.get_parameter("out.b").data = torch.tensor([0.0, 1.0, 0.0])
        return state

    return build


@pytest.mark.parametrize(("kind", "count"), [("mlp", 5003), ("conv", 251), ("conv", 3)])
def test_the_error_counts_every_image_once(one_sided: Callable[[str], TrainState], kind: str, count: int) -> None:
    """More images than go through D at a time, the last part odd."""
    state = one_sided(kind)
    images = torch.zeros(count, 1, 16, 16, dtype=torch.uint8)
    labels = torch.ones(count, dtype=torch.int64)
    labels[0] = labels[-1] = 2
    verdict = classify(state.D.network, images, labels, state.precision)
    assert tuple(verdict) == (2 / count, 0.5, True)  # all of class 2, none of class 1


def test_noise_is_off(make_trial: MakeTrial, make_data: MakeData, begin: Begin) -> None:
    data = make_data()
    state = begin(make_trial(model={"noise_input": 1e6, "noise_hidden": 1e6, "weight_norm_init": "xavier"}), data)
    verdicts = {classify(state.D.network, data.images, data.labels, state.precision) for _ in range(5)}
    wrong = state.D.network(data.images / 255.0).logits.argmax(dim=1) != data.labels
    (verdict,) = verdicts
    error = wrong.sum().item() / len(wrong)
    assert (verdict.error, verdict.finite) == (error, True)
    assert verdict.balanced_error == pytest.approx(error)  # as many images of each class


def test_one_broken_logit_is_told(one_sided: Callable[[str], TrainState]) -> None:
    state = one_sided("mlp")
    state.D.network.get_parameter("out.b").data[2] = torch.inf
    images, labels = torch.zeros(4, 1, 16, 16, dtype=torch.uint8), torch.ones(4, dtype=torch.int64)
    assert not classify(state.D.network, images, labels, state.precision).finite
