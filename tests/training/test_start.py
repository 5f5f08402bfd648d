"""How weights start: edition 1 as it was when it was not yet a matter of keys, and each key on its own network."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from plgan_tune.config.defaults import with_defaults
from plgan_tune.config.edition import FIRST
from plgan_tune.config.trial import TrialSpec
from plgan_tune.data.dataset import Dataset
from plgan_tune.training.state import TrainState

MakeData = Callable[..., Dataset]
Begin = Callable[[TrialSpec, Dataset], TrainState]

GOLDEN: list[tuple[str, str, dict[str, Any], list[float]]] = [
    ("patent", "mlp", {}, [7.392121, 7.392121, 5.584771]),
    ("patent", "mlp", {"weight_norm_init": "xavier"}, [7.392121, 7.392121, 5.584771]),
    ("patent", "mlp", {"weight_norm_init": "data"}, [13.416798, 13.138511, 8.765664]),
    ("patent", "mlp", {"generator_weight_norm": True}, [7.392121, 7.392121, 5.584771, 3.737774]),
    ("patent", "conv", {}, [7.871845, 7.871845, 5.96263, 1.934312]),
    ("patent", "conv", {"weight_norm_init": "xavier"}, [7.871845, 7.871845, 5.96263, 1.934312]),
    ("patent", "conv", {"weight_norm_init": "data"}, [4.349141, 12.618003, 4.231616, 0.531901]),
    ("pl_gan", "mlp", {}, [13.744692, 13.62808, 15.666128, 13.629845]),
    ("pl_gan", "mlp", {"weight_norm_init": "xavier"}, [7.729197, 7.729197, 5.584771, 3.737774]),
    ("pl_gan", "mlp", {"weight_norm_init": "data"}, [13.744692, 13.62808, 15.666128, 13.629845]),
    ("pl_gan", "mlp", {"generator_weight_norm": False}, [13.744692, 13.62808, 8.765664]),
    ("pl_gan", "conv", {}, [4.192758, 12.023336, 4.231616, 0.531901]),
    ("pl_gan", "conv", {"weight_norm_init": "xavier"}, [7.871845, 7.871845, 5.96263, 1.934312]),
    ("pl_gan", "conv", {"weight_norm_init": "data"}, [4.192758, 12.023336, 4.231616, 0.531901]),
]
"""`sizes`, as 3bd9194 gave them, whose weights' deviations and G's scale were constants."""


def trial_of(method: str, kind: str, **model: Any) -> TrialSpec:
    small = {"width": 0.04} if kind == "conv" else {"width": 0.02}
    trial = {
        "method": method,
        "seed": 3,
        "data": {"source": "digits", "labels": 6, "validation": 12},
        "model": {"kind": kind, "latent_size": 7, "zca": False, **small, **model},
        "training": {"epochs": 1, "batch_size": 10},
    }
    return TrialSpec.model_validate(with_defaults(trial, FIRST))


def images_for(kind: str, make_data: MakeData) -> Dataset:
    return make_data(size=16, channels=3) if kind == "conv" else make_data()


def sizes(state: TrainState) -> list[float]:
    """Norms: of D's weights and scales, and of G's."""

    def norm(tensors: list[Tensor]) -> float:
        return float(torch.cat([tensor.detach().flatten().double() for tensor in tensors]).norm())

    return [
        norm([value for name, value in network.state_dict().items() if name.endswith(".g") == scale])
        for network in (state.D.network, state.G.network)
        for scale in (False, True)
        if scale is False or any(name.endswith(".g") for name in network.state_dict())
    ]


@pytest.mark.parametrize(("method", "kind", "given", "expected"), GOLDEN)
def test_the_first_edition_starts_as_it_always_did(
    method: str, kind: str, given: dict[str, Any], expected: list[float], make_data: MakeData, begin: Begin
) -> None:
    trial = trial_of(method, kind, **given)
    assert sizes(begin(trial, images_for(kind, make_data))) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("kind", ["mlp", "conv"])
def test_each_network_s_scale_starts_by_its_own_key(
    kind: str, make_data: MakeData, begin: Begin, tensors_of: Callable[[TrainState], dict[str, Tensor]]
) -> None:
    """Whatever the other's: six pairs of starts are two of D and three of G."""
    found: dict[str, dict[str, set[bytes]]] = {"D": {}, "G": {}}
    for scale in ("xavier", "data"):
        for generator_scale in ("xavier", "data", "one"):
            model = {"weight_norm_init": scale, "generator_weight_norm_init": generator_scale}
            spreads = {"initial_spread": 0.2, "generator_initial_spread": 0.3}
            state = begin(trial_of("pl_gan", kind, **model, **spreads), images_for(kind, make_data))
            for network, start in (("D", scale), ("G", generator_scale)):
                tensors = [held for name, held in tensors_of(state).items() if name.startswith(f"{network}.")]
                content = b"".join(tensor.numpy().tobytes() for tensor in tensors)
                found[network].setdefault(start, set()).add(content)
    for starts in found.values():
        assert all(len(contents) == 1 for contents in starts.values())
        assert len(set.union(*starts.values())) == len(starts)


def test_improved_gan_s_start_is_three_keys(make_data: MakeData, begin: Begin) -> None:
    """D normal of 0.1 and scaled by data, G as Glorot and Bengio draw it, its output layer of scale 1."""
    spreads = {"initial_spread": 0.1, "generator_initial_spread": "xavier"}
    ours = begin(trial_of("pl_gan", "mlp", **spreads, generator_weight_norm_init="one"), make_data())
    recipe = begin(trial_of("pl_gan", "mlp"), make_data())
    patent = begin(trial_of("patent", "mlp", hidden=[1000, 500, 250, 250, 250]), make_data())
    for name, weights in recipe.D.network.state_dict().items():
        scaled = weights / 4 if name.endswith(".v") else weights
        torch.testing.assert_close(ours.D.network.state_dict()[name], scaled)
    held = ours.G.network.state_dict()
    assert torch.equal(held.pop("out.g"), torch.ones(36))
    held["out.weight"], held["out.bias"] = held.pop("out.v"), held.pop("out.b")
    drawn = patent.G.network.state_dict()
    assert held.keys() == drawn.keys()
    assert all(torch.equal(value, drawn[name]) for name, value in held.items())


@pytest.mark.parametrize(("pool", "batch"), [(45, 10), (8, 20)])
def test_minibatch_discrimination_has_a_batch_of_the_pool_for_its_reference(
    pool: int, batch: int, make_data: MakeData, begin: Begin
) -> None:
    """Drawn by the seed alone; a smaller pool is repeated."""
    data = make_data(pool=pool)
    trial = trial_of("pl_gan", "mlp", minibatch_kernels=3)
    trial = trial.model_copy(update={"training": trial.training.model_copy(update={"batch_size": batch})})
    state, again, other = (begin(trial.model_copy(update={"seed": seed}), data) for seed in (3, 3, 4))
    reference = state.D.network.reference
    assert reference is not None
    assert reference.dtype == torch.uint8
    drawn = [int((data.images == image).all(dim=(1, 2, 3)).nonzero().item()) for image in reference]
    assert len(drawn) == batch
    assert len(set(drawn)) == min(pool, batch)
    assert set(drawn) <= set(data.split.pool.tolist())
    assert again.D.network.reference is not None
    assert torch.equal(again.D.network.reference, reference)
    assert other.D.network.reference is not None
    assert not torch.equal(other.D.network.reference, reference)
    assert state.averaged.reference is not None
    assert torch.equal(state.averaged.reference, reference)


@pytest.mark.parametrize("kind", ["mlp", "conv"])
@pytest.mark.parametrize("start", ["data", "xavier"])
def test_minibatch_discrimination_starts_from_data_whatever_the_rest_does(
    kind: str, start: str, make_data: MakeData, begin: Begin
) -> None:
    data = images_for(kind, make_data)
    plain = begin(trial_of("pl_gan", kind, weight_norm_init=start), data).D.network
    D = begin(trial_of("pl_gan", kind, weight_norm_init=start, minibatch_kernels=3), data).D.network
    assert D.minibatch is not None
    assert all(parameter.any() for parameter in D.minibatch.parameters())
    there, here = plain.state_dict(), D.state_dict()
    assert all(torch.equal(here[name], held) for name, held in there.items() if not name.startswith("out."))
    assert bool(here["out.b"].any()) is (start == "data")


def test_virtual_batch_norm_has_as_many_z_as_a_batch_for_its_reference(make_data: MakeData, begin: Begin) -> None:
    trial = trial_of("pl_gan", "mlp", generator_norm="virtual", latent="normal")
    state, again, other = (begin(trial.model_copy(update={"seed": seed}), make_data()).G.network for seed in (3, 3, 4))
    assert state.reference is not None
    assert again.reference is not None
    assert other.reference is not None
    assert state.reference.shape == (10, 7)
    assert state.reference.min() < 0
    assert torch.equal(again.reference, state.reference)
    assert not torch.equal(other.reference, state.reference)
