"""Values that change from epoch to epoch: the ramp w, the weight of self-training and the learning rate.

Epochs count from 0 here.
"""

import math

from plgan_tune.config.trial import LossSpec, Ramp


def ramp(epoch: int, switch_epoch: int, shape: Ramp) -> float:
    """Return w(t) = exp(-10 (1 - t)^2) with t = epoch / T (patent paragraph 0060), constant within an epoch.

    `clamp` holds 1 from T on ("then switch"); `literal` lets t exceed 1, so that w falls back to 0 by 2T; `zero` is
    the regular GAN's non-saturating loss throughout, `one` the saturating loss throughout.
    """
    match shape:
        case "zero":
            return 0.0
        case "one":
            return 1.0
        case "clamp":
            t = min(epoch / switch_epoch, 1.0)
        case "literal":
            t = epoch / switch_epoch
    return math.exp(-10.0 * (1.0 - t) ** 2)


def self_training_scale(epoch: int, loss: LossSpec) -> float:
    """Return the weight of C_self: `self_scale` from the epoch of its start on, 0 before."""
    return loss.self_scale if epoch >= loss.self_start else 0.0


def learning_rate_factor(epoch: int, decay_epoch: int, min_factor: float) -> float:
    """Return clip(2 - epoch / decay_epoch, min_factor, 1) (patent table 2, corrected: never below 0)."""
    return min(max(2.0 - epoch / decay_epoch, min_factor), 1.0)
