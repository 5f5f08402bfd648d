"""The formula sheet: what each player minimises.

    L_D = c C_sup + C_unsup + s_self C_self + lambda C_gp    C_unsup = s (E rho(x_u) + E phi(G(z)))
    L_G = alpha V_log + beta V_feature    V_log = E gamma(G(z))

rho, phi and gamma are the terms of the game (`games.py`). Terms are computed image by image; a rank sums its own and
divides by the global batch, so that the parts of all ranks add up to the mean (patent eq. 10 to 14).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Final, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from plgan_tune.config.trial import FeatureNorm, LossSpec, Supervised, TrialSpec
from plgan_tune.gan.games import Game, Number, log_real
from plgan_tune.gan.pairs.base import DiscriminatorOutput
from plgan_tune.gan.passes import AllSum


class Term(NamedTuple):
    """A term of a player's loss.

    Attributes:
        value: this rank's part of it, shape (). It is what the epoch's row reports.
        weight: its factor in the loss.
    """

    value: Tensor
    weight: Number


Terms = Mapping[str, Term]
"""A player's loss: its terms by their names."""


def weighted_sum(terms: Terms) -> Tensor:
    """Return this rank's part of the loss, shape ()."""
    return reduce(add, (term.weight * term.value for term in terms.values()))


def names_of(trial: TrialSpec) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names of the terms of D's and of G's loss, in their order."""
    of_d = {
        "supervised": trial.data.labels,
        "unsupervised": True,
        "self_training": trial.loss.self_scale,
        "penalty": trial.loss.gradient_penalty,
    }
    return tuple(name for name, plays in of_d.items() if plays), ("adversarial", "feature")


class Labelled(NamedTuple):
    """D's logits of this rank's labelled images, (b, N), and their classes, (b,)."""

    logits: Tensor
    classes: Tensor


@dataclass(frozen=True, slots=True)
class Objective:
    """The losses of one step.

    Attributes:
        spec: the words that choose a form of C_sup and of V_feature.
        game: the terms about real and generated.
        supervised_scale: c.
        unsupervised_scale: s.
        alpha: weight of V_log.
        beta: weight of V_feature.
        batch: images of each kind, over all ranks.
        all_sum: sums over ranks.
        ranks: their number.
        self_scale: weight of C_self.
        self_threshold: tau of C_self.
        gradient_penalty: lambda.
    """

    spec: LossSpec
    game: Game
    supervised_scale: Number
    unsupervised_scale: Number
    alpha: Number
    beta: Number
    batch: int
    all_sum: AllSum
    ranks: int
    self_scale: Number = 0.0
    self_threshold: Number = 1.0
    gradient_penalty: Number = 0.0

    def discriminator(
        self,
        labelled: Labelled | None,
        unlabelled: Tensor,
        fakes: Tensor,
        teacher: Tensor | None = None,
        penalty: Tensor | None = None,
    ) -> Terms:
        """Return L_D: C_unsup with its scale in it, and of C_sup, C_self and C_gp those that there is something for.

        Args:
            labelled: what C_sup is about; None if no image has a label.
            unlabelled: D's logits of this rank's unlabelled images, (b, N).
            fakes: logits of generated images, (b, N).
            teacher: the averaged D's logits of the images that C_self is about, (b, N), without a graph.
            penalty: the gradient penalty of each image between a real and a generated one, (b,).
        """
        terms = {}
        if labelled is not None:
            C_sup = SUPERVISED[self.spec.supervised](*labelled).sum() / self.batch
            terms["supervised"] = Term(C_sup, self.supervised_scale)
        unsupervised = self.game.on_real(unlabelled) + self.game.on_fake(fakes)
        C_unsup = (self.unsupervised_scale * unsupervised).sum() / self.batch
        terms["unsupervised"] = Term(C_unsup, 1.0)
        if teacher is not None:
            student = fakes if self.spec.self_images == "generated" else unlabelled
            C_self = self_training(student, teacher, self.self_threshold).sum() / self.batch
            terms["self_training"] = Term(C_self, self.self_scale)
        if penalty is not None:
            terms["penalty"] = Term(penalty.sum() / self.batch, self.gradient_penalty)
        return terms

    def generator(self, real_features: Tensor, fakes: DiscriminatorOutput) -> Terms:
        """Return L_G: V_log and V_feature.

        Args:
            real_features: of this rank's real images, (b, F), without a graph.
            fakes: D's output for this rank's generated images, (b, N) and (b, F).
        """
        real_mean = self.all_sum(real_features.sum(dim=0)) / self.batch
        fake_mean = self.all_sum(fakes.features.sum(dim=0)) / self.batch
        V_log = self.game.for_generator(fakes.logits).sum() / self.batch
        # Every rank holds the whole V_feature, so each contributes 1 / ranks of it to the sum over ranks.
        V_feature = feature_distance(real_mean, fake_mean, self.spec.feature_norm) / self.ranks
        return {"adversarial": Term(V_log, self.alpha), "feature": Term(V_feature, self.beta)}


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


def supervised_joint(logits: Tensor, labels: Tensor) -> Tensor:
    """Return C_sup as cross entropy over the N classes and "generated" (Salimans et al. 2016, section 5).

    -log p(y | x) over N + 1 classes = cross entropy over N - log D(x). Shapes (B, N), (B,) -> (B,).
    """
    return supervised_softmax(logits, labels) - log_real(logits)


SUPERVISED: Final[Mapping[Supervised, Callable[[Tensor, Tensor], Tensor]]] = {
    "softmax": supervised_softmax,
    "one_vs_all": supervised_one_vs_all,
    "joint": supervised_joint,
}
"""C_sup by its name: logits (B, N) and classes (B,) to (B,)."""


def self_training(logits: Tensor, teacher: Tensor, threshold: Number) -> Tensor:
    """Return C_self: cross entropy with the teacher's class where its probability reaches the threshold, else 0.

    Pseudo-labels (Lee 2013) above a threshold (Sohn et al. 2020, eq. 4): 1[max_j p_j >= tau] CE(l, argmax_j p_j), where
    p is the teacher's. Images below it count in the mean, so ranks need not share how many they are.
    Shapes (B, N), (B, N) -> (B,).
    """
    probability, target = teacher.softmax(dim=1).max(dim=1)
    return (probability >= threshold) * F.cross_entropy(logits, target, reduction="none")


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
