from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from plgan_tune.config.defaults import with_defaults
from plgan_tune.config.trial import ModelSpec, TrialSpec
from plgan_tune.gan.pairs.base import ImageShape, Pair
from plgan_tune.gan.pairs.build import build
from plgan_tune.gan.passes import Pass

MakeModel = Callable[..., ModelSpec]
MakePair = Callable[..., Pair]
OverRanks = Callable[[nn.Module, list[Tensor]], list[Tensor]]


@pytest.fixture(scope="session")
def make_model() -> MakeModel:
    """`make_model(method, kind, **keys)`: the method's model with some keys of its own."""

    def make(method: str, kind: str, **keys: object) -> ModelSpec:
        data = {"source": "digits", "labels": 20, "validation": 100}
        trial = {"method": method, "data": data, "model": {"kind": kind, **keys}}
        return TrialSpec.model_validate(with_defaults(trial)).model

    return make


@pytest.fixture(scope="session")
def make_pair() -> MakePair:
    """`make_pair(model, channels, size)`: networks of 10 classes, weights from fixed seeds."""

    def make(model: ModelSpec, channels: int, size: int, dtype: torch.dtype = torch.float32) -> Pair:
        seeds = (torch.Generator().manual_seed(1), torch.Generator().manual_seed(2))
        pair = build(model, ImageShape(channels, size), 10, seeds)
        return Pair(pair.discriminator.to(dtype), pair.generator.to(dtype))

    return make


@pytest.fixture(scope="session")
def over_ranks() -> OverRanks:
    """`over_ranks(module, shards)`: every rank's output where ranks share sums, one graph, no threads.

    Every pass answers one more of their sums; passes are repeated until none is left unanswered.
    """

    def together(module: nn.Module, shards: list[Tensor]) -> list[Tensor]:
        totals: list[Tensor] = []
        while True:
            outputs, asked = [], []
            for shard in shards:
                own: list[Tensor] = []

                def all_sum(part: Tensor, own: list[Tensor] = own) -> Tensor:
                    own.append(part)
                    return totals[len(own) - 1] if len(own) <= len(totals) else part

                outputs.append(module(shard, Pass(all_sum=all_sum)))
                asked.append(own)
            if len(totals) == len(asked[0]):
                return outputs
            totals.append(torch.stack([own[len(totals)] for own in asked]).sum(dim=0))

    return together
