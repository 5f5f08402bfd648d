"""The loss terms in numerically stable form, from the N classifier logits; the fake logit is fixed to 0.

Every term is returned per image, shape (B,), so that the caller chooses the batch of the mean: a rank sums its own rows
and divides by the global batch. D(x) = Z / (Z + 1) with Z = sum_n exp l_n (patent eq. 11 and 12), hence
D = sigmoid(lse) with lse = logsumexp_n l_n.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from plgan_tune.config.trial import FeatureNorm


def log_real(logits: Tensor) -> Tensor:
    """Return log D(x) = logsigmoid(lse). Shapes (B, N) -> (B,)."""
    return F.logsigmoid(torch.logsumexp(logits, dim=1))


def log_fake(logits: Tensor) -> Tensor:
    """Return log(1 - D(x)) = -softplus(lse). Shapes (B, N) -> (B,)."""
    return F.logsigmoid(-torch.logsumexp(logits, dim=1))


def supervised_softmax(logits: Tensor, labels: Tensor) -> Tensor:
    """Return C_sup as cross entropy over the N classes: lse - l_y (patent eq. 13). Shapes (B, N), (B,) -> (B,)."""
    return F.cross_entropy(logits, labels, reduction="none")


def supervised_one_vs_all(logits: Tensor, labels: Tensor) -> Tensor:
    """Return C_sup as printed in claim 1: one binary cross entropy per class, summed over classes.

    log(1 - p_j) is computed as logsumexp over the other classes minus lse: for a confident classifier 1 - softmax would
    be 0 in float32, and its logarithm -inf. Shapes (B, N), (B,) -> (B,).
    """
    classes = logits.shape[1]
    lse = torch.logsumexp(logits, dim=1, keepdim=True)
    itself = torch.eye(classes, dtype=torch.bool, device=logits.device)
    others = torch.logsumexp(logits.unsqueeze(1).masked_fill(itself, -torch.inf), dim=2)
    is_label = F.one_hot(labels, classes).to(torch.bool)
    return -torch.where(is_label, logits - lse, others - lse).sum(dim=1)


def unsupervised(real_logits: Tensor, fake_logits: Tensor, scale: float | Tensor) -> Tensor:
    """Return C_unsup = -s (log D(x_u) + log(1 - D(G(z)))) (patent eq. 14). Shapes (B, N), (B, N) -> (B,)."""
    return -scale * (log_real(real_logits) + log_fake(fake_logits))


def adversarial(fake_logits: Tensor, w: float | Tensor) -> Tensor:
    """Return V_log = w log(1 - D(G(z))) - (1 - w) log D(G(z)) (patent eq. 10, log(-D) corrected). (B, N) -> (B,)."""
    return w * log_fake(fake_logits) - (1.0 - w) * log_real(fake_logits)


def feature_distance(real_mean: Tensor, fake_mean: Tensor, norm: FeatureNorm) -> Tensor:
    """Return V_feature between mean features of real and of generated images (patent eq. 10). (F,), (F,) -> ().

    `mean` averages the squares over the F features, `sum` adds them as in the printed formula, `l1` averages the
    absolute differences (improved-gan's conv pair).
    """
    difference = real_mean - fake_mean
    match norm:
        case "mean":
            return difference.square().mean()
        case "sum":
            return difference.square().sum()
        case "l1":
            return difference.abs().mean()
