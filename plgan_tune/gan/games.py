"""The games that D and G play about whether an image is real, term by term, from D's logits.

There are N logits, one for each class, or a single one if no image has a label. The logit of "generated" is 0, or has
been taken off the others, hence D(x) = Z / (Z + 1) with Z = sum_n exp l_n (patent eq. 11 and 12): D = sigmoid(r) with
the realness r = logsumexp_n l_n. Every term is a loss of each image, shape (B,), in a form that stays finite and right
for logits of any size.
"""

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

Number = float | Tensor
"""A number of a step; a tensor () where a CUDA graph must find it."""


def realness(logits: Tensor) -> Tensor:
    """Return r(x) = logsumexp_n l_n; a single logit is r itself. Shapes (B, N) -> (B,)."""
    return torch.logsumexp(logits, dim=1)


def log_real(logits: Tensor) -> Tensor:
    """Return log D(x) = logsigmoid(r). Shapes (B, N) -> (B,)."""
    return F.logsigmoid(realness(logits))


def log_fake(logits: Tensor) -> Tensor:
    """Return log(1 - D(x)) = -softplus(r). Shapes (B, N) -> (B,)."""
    return F.logsigmoid(-realness(logits))


class Game(Protocol):
    """What D and G minimise about real and generated. Logits are (B, N), losses (B,)."""

    def on_real(self, logits: Tensor) -> Tensor:
        """Return D's loss of real images."""

    def on_fake(self, logits: Tensor) -> Tensor:
        """Return D's loss of generated images."""

    def for_generator(self, logits: Tensor) -> Tensor:
        """Return G's loss of generated images."""

    def threshold(self, real: Tensor, fake: Tensor) -> Number:
        """Return the realness above which D takes an image for real, given that of some images of each kind, (n,)."""


@dataclass(frozen=True, slots=True)
class Logistic:
    """The game of Goodfellow et al. 2014, in which G's loss changes its form with the ramp (patent eq. 10 and 14).

    Attributes:
        w: the ramp: 0 is the non-saturating loss of G (eq. 4), 1 the saturating one (eq. 3).
        smoothing: q of one-sided label smoothing (Salimans et al. 2016, section 3.4); None leaves it out.
    """

    w: Number
    smoothing: Number | None = None

    def on_real(self, logits: Tensor) -> Tensor:
        """Return D's loss of real images, -(1 - q) log D(x) - q log(1 - D(x)). Shapes (B, N) -> (B,)."""
        if self.smoothing is None:
            return -log_real(logits)
        return -(1.0 - self.smoothing) * log_real(logits) - self.smoothing * log_fake(logits)

    def on_fake(self, logits: Tensor) -> Tensor:
        """Return D's loss of generated images, -log(1 - D(G(z))). Shapes (B, N) -> (B,)."""
        return -log_fake(logits)

    def for_generator(self, logits: Tensor) -> Tensor:
        """Return V_log = w log(1 - D(G(z))) - (1 - w) log D(G(z)) (eq. 10, log(-D) corrected). (B, N) -> (B,)."""
        return self.w * log_fake(logits) - (1.0 - self.w) * log_real(logits)

    def threshold(self, real: Tensor, fake: Tensor) -> float:  # noqa: ARG002
        """Return the realness of an image that the best D finds as likely real as generated: D = (1 - q) / 2."""
        q = 0.0 if self.smoothing is None else float(self.smoothing)
        return math.log((1.0 - q) / (1.0 + q))


@dataclass(frozen=True, slots=True)
class Wasserstein:
    """The game of Arjovsky et al. 2017 (eq. 2 and 3): D is a critic, and r its value itself.

    r means something up to a constant only, and only while something bounds D's slope: clipped weights, or a penalty.
    """

    def on_real(self, logits: Tensor) -> Tensor:
        """Return D's loss of real images, -r. Shapes (B, N) -> (B,)."""
        return -realness(logits)

    def on_fake(self, logits: Tensor) -> Tensor:
        """Return D's loss of generated images, r. Shapes (B, N) -> (B,)."""
        return realness(logits)

    def for_generator(self, logits: Tensor) -> Tensor:
        """Return G's loss, -r. Shapes (B, N) -> (B,)."""
        return -realness(logits)

    def threshold(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return the middle between the mean realness of both kinds, shape (): a critic has no zero of its own."""
        return (real.mean() + fake.mean()) / 2


def gradient_penalty(images: Tensor, r: Tensor) -> Tensor:
    """Return (|dr/dx| - 1)^2 of each image, where the norm is over all of its pixels (Gulrajani et al. 2017, eq. 3).

    Args:
        images: (B, channels, size, size), of which r has a graph.
        r: their realness, (B,), each one's a function of its image alone.
    """
    (slope,) = torch.autograd.grad(r.sum(), images, create_graph=True)
    # vector_norm has gradient 0 where the slope is 0; the root of a sum of squares would have nan.
    norm: Tensor = torch.linalg.vector_norm(slope.flatten(1), dim=1)
    return (norm - 1.0).square()
