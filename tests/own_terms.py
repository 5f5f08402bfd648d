"""A user's own file: terms that use all that a file is given. Tests load it as a search loads a user's."""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from plgan_tune.own import Keys, Seen, View


class Own(Keys):
    entropy: Annotated[float, Field(ge=0)] = 0.1
    noise: Annotated[float, Field(ge=0)] = 0.2
    match: bool = True


def discriminator_terms(
    keys: Own, labelled: Seen, labels: Tensor, unlabelled: Seen, generated: Seen, view: View
) -> dict[str, Tensor]:
    p = unlabelled.logits.softmax(1)
    noisy = unlabelled.images + keys.noise * view.draws.normal(unlabelled.images.shape[1:])
    between = view.draws.uniform((1, 1, 1))
    mixed = between * labelled.images + (1 - between) * generated.images
    target = view.average(unlabelled.images).logits.softmax(1)
    spread = (labelled.features - view.mean(labelled.features)).square().mean(1)
    return {
        "entropy": -keys.entropy * torch.xlogy(p, p).sum(1),
        "consistency": 0.5 * (view.judge(noisy).logits.softmax(1) - target).square().sum(1),
        "mixed": 0.1 * between.flatten() * F.cross_entropy(view.judge(mixed).logits, labels, reduction="none"),
        "spread": 0.1 * view.w * spread,
    }


def generator_terms(keys: Own, unlabelled: Seen, generated: Seen, view: View) -> dict[str, Tensor]:
    apart = (view.mean(generated.images) - view.mean(unlabelled.images)).square().mean()
    doubt = view.judge(1 - generated.images).logits.logsumexp(1)
    terms = {"doubt": 0.01 * F.softplus(doubt)}
    return terms | ({"apart": apart.expand(len(doubt))} if keys.match else {})
