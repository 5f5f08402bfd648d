"""What the discriminators of convolutions with a normalisation each have in common."""

import torch
from torch import Tensor, nn

from plgan_tune.gan.layers import DiscriminatorBatchNorm, NoNorm
from plgan_tune.gan.pairs.base import Apply, Discriminator
from plgan_tune.gan.passes import Pass


class NormedDiscriminator(Discriminator):
    """[Convolution - normalisation - activation] for each of `hidden`.

    Attributes:
        hidden: the convolutions.
        norm: what follows each, a `DiscriminatorBatchNorm` or a `NoNorm`.
    """

    hidden: nn.ModuleList
    norm: nn.ModuleList

    def _activations(self, images: Tensor, seen: Pass, apply: Apply) -> list[Tensor]:
        """Return what each convolution makes of images, (B, maps, height, width)."""
        x, found = images, []
        for layer, norm in zip(self.hidden, self.norm, strict=True):
            x = self._activate(norm(apply(layer, x, 1.0), seen))
            found.append(x)
        return found

    @torch.no_grad()
    def settle(self, images: Tensor) -> None:
        """Fix the statistics of evaluation, layer by layer, each on what the settled layers below make of the images.

        A moving average would not do: averaged weights have other statistics than those that they are averages of.
        """
        x = images
        for layer, norm in zip(self.hidden, self.norm, strict=True):
            assert isinstance(norm, DiscriminatorBatchNorm | NoNorm)
            x = self._activate(norm.settle(layer(x)))
