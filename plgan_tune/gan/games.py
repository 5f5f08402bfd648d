"""The game that D and G play about whether an image is real, term by term, from the N classifier logits.

The logit of "generated" is 0, or has been taken off the others, hence D(x) = Z / (Z + 1) with Z = sum_n exp l_n (patent
eq. 11 and 12): D = sigmoid(r) with the realness r = logsumexp_n l_n. Every term is a loss of each image, shape (B,), in
a form that stays finite and right for logits of any size.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

Number = float | Tensor
"""A number of a step; a tensor () where a CUDA graph must find it."""


def log_real(logits: Tensor) -> Tensor:
    """Return log D(x) = logsigmoid(r). Shapes (B, N) -> (B,)."""
    return F.logsigmoid(torch.logsumexp(logits, dim=1))


def log_fake(logits: Tensor) -> Tensor:
    """Return log(1 - D(x)) = -softplus(r). Shapes (B, N) -> (B,)."""
    return F.logsigmoid(-torch.logsumexp(logits, dim=1))


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

    @property
    def zero(self) -> float:
        """The realness of an image that is as likely real as generated to the best D: there D = (1 - q) / 2."""
        q = 0.0 if self.smoothing is None else float(self.smoothing)
        return math.log((1.0 - q) / (1.0 + q))
