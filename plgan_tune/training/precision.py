"""The number formats that a trial computes with."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch

from plgan_tune.config.trial import Precision
from plgan_tune.gan.pairs.base import Traits


@dataclass(frozen=True, slots=True)
class PrecisionPolicy:
    """How a trial computes.

    Attributes:
        dtype: of weights, noise and losses.
        products: type to which matrix products and convolutions are autocast; None keeps `dtype`.
        tf32: whether a GPU may round the factors of float32 products to 10 bits of mantissa.
        channels_last: whether convolutions use the channels-last layout, as tensor cores do.
        device_type: `cpu` or `cuda`.
    """

    dtype: torch.dtype
    products: torch.dtype | None
    tf32: bool
    channels_last: bool
    device_type: str

    def autocast(self) -> AbstractContextManager[object]:
        """Return a context that autocasts products, if the policy asks for it."""
        if self.products is None:
            return nullcontext()
        return torch.autocast(self.device_type, dtype=self.products)

    def allow_tf32(self) -> None:
        """Apply `tf32`. torch's setting is process-wide, so every trial applies its own at its start."""
        torch.backends.cuda.matmul.allow_tf32 = self.tf32
        torch.backends.cudnn.allow_tf32 = self.tf32


def precision_policy_for(precision: Precision, pair: Traits, device: torch.device) -> PrecisionPolicy:
    """Return a trial's policy: `auto` is bf16 products (convolutions) or TF32 on a GPU, and float32 on a CPU."""
    on_gpu = device.type == "cuda"
    if precision == "auto":
        products = torch.bfloat16 if on_gpu and pair.convolutional else None
    else:
        products = torch.bfloat16 if precision == "bf16" else None
    return PrecisionPolicy(
        dtype=torch.float64 if precision == "float64" else torch.float32,
        products=products,
        tf32=on_gpu and precision == "auto" and not pair.convolutional,
        channels_last=on_gpu and pair.convolutional,
        device_type=device.type,
    )
