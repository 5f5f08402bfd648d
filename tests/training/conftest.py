"""Small trials on small images, and what of a trial is compared bit for bit."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from plgan_tune.config.defaults import with_defaults
from plgan_tune.config.trial import TrialSpec
from plgan_tune.data.dataset import Dataset
from plgan_tune.data.splits import Split
from plgan_tune.gan.pairs.base import ImageShape
from plgan_tune.records import EpochMetrics
from plgan_tune.training.judge import Judge, Network
from plgan_tune.training.state import TrainState, new_state
from plgan_tune.training.step_runner import StepRunner
from tests.factories import load

CPU = torch.device("cpu")


@pytest.fixture(scope="session")
def make_trial() -> Callable[..., TrialSpec]:
    """`make_trial(kind, method, section={...})`: a trial of nets of a few units; its data section is not looked at."""

    def make(kind: str = "mlp", method: str = "pl_gan", **given: Any) -> TrialSpec:
        small = {"width": 0.02, "hidden": [800, 600, 500]} if kind == "mlp" else {"width": 0.04}
        trial = {
            "method": method,
            "seed": given.pop("seed", 0),
            "data": {"source": "digits", "labels": 6, "validation": 12, **given.pop("data", {})},
            "model": {"kind": kind, "latent_size": 7, **small, **given.pop("model", {})},
            "training": {"epochs": 6, "batch_size": 10, **given.pop("training", {})},
            **given,
        }
        return TrialSpec.model_validate(with_defaults(trial))

    return make


@pytest.fixture(scope="session")
def make_data() -> Callable[..., Dataset]:
    """`make_data(pool, size, channels)`: images of 3 classes that differ in brightness; 12 are for validation."""

    def make(pool: int = 45, size: int = 6, channels: int = 1, labelled: int = 6) -> Dataset:
        generator = torch.Generator().manual_seed(7)
        labels = torch.arange(pool + 12) % 3
        noise = torch.randint(0, 80, (len(labels), channels, size, size), generator=generator)
        images = (noise + 80 * labels.view(-1, 1, 1, 1)).to(torch.uint8)
        rows = torch.arange(len(labels))
        return Dataset(images, labels, ("a", "b", "c"), Split(rows[:labelled], rows[:pool], rows[pool:], "hash"))

    return make


@pytest.fixture(scope="session")
def make_judge() -> Callable[[Dataset], Judge]:
    """A judge as it begins: what it measures is as definite as what one measures that has learned."""

    def make(data: Dataset) -> Judge:
        image = ImageShape(data.channels, data.size)
        network = Network(image, data.n_classes, torch.Generator().manual_seed(3)).requires_grad_(False)
        return Judge(network, image, data.classes, 0, 0.5, 1.0)

    return make


@pytest.fixture(scope="session")
def begin() -> Callable[[TrialSpec, Dataset], TrainState]:
    """A new state on the CPU, with the user's own file if the trial names one."""
    return lambda trial, data: new_state(trial, data, CPU, load(trial))


@pytest.fixture(scope="session")
def tensors_of() -> Callable[[TrainState], dict[str, Tensor]]:
    """Copies of all that training changes: both nets, the averages, both optimisers' moments, what pulls remember."""

    def tensors(state: TrainState) -> dict[str, Tensor]:
        nets = {"D": state.D.network, "G": state.G.network, "average": state.averaged, "average G": state.averaged_g}
        found = {f"{net}.{name}": held for net in nets for name, held in nets[net].state_dict().items()}
        for optimiser, adam in (("adam D", state.D.optimiser), ("adam G", state.G.optimiser)):
            for number, moments in adam.state_dict()["state"].items():
                found |= {f"{optimiser}.{number}.{name}": held for name, held in moments.items()}
        for name, player in (("D", state.D), ("G", state.G)):
            found |= {f"{name} remembered.{number}": held for number, held in enumerate(player.remembered())}
        return {name: held.clone() for name, held in found.items()}

    return tensors


@pytest.fixture(scope="session")
def timeless() -> Callable[[EpochMetrics], dict[str, float]]:
    """An epoch's measures but for its times, which no seed decides."""
    return lambda row: {
        name: value
        for name, value in row.cells().items()
        if value is not None and name not in ("seconds", "images_per_second")
    }


@pytest.fixture
def labelled_rows(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """The rows that D's steps of the test take with their labels."""
    seen: set[int] = set()
    take_step = StepRunner.discriminator

    def noting(runner: StepRunner, labelled: Tensor, unlabelled: Tensor) -> Tensor:
        seen.update(labelled.tolist())
        return take_step(runner, labelled, unlabelled)

    monkeypatch.setattr(StepRunner, "discriminator", noting)
    return seen
