"""Which numbers a trial computes with."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch

from plgan_tune.config.trial import Kind, Precision


@dataclass(frozen=True, slots=True)
class PrecisionPolicy:
    """How a trial computes.

    Attributes:
        dtype: of weights, noise and losses.
        products: what matrix products and convolutions are autocast to, if another.
        tf32: whether a GPU may round the factors of float32 products to 10 bits of mantissa.
        channels_last: whether convolutions work on channels last, as tensor cores do.
    """

    dtype: torch.dtype
    products: torch.dtype | None
    tf32: bool
    channels_last: bool
    device_type: str

    def autocast(self) -> AbstractContextManager[object]:
        if self.products is None:
            return nullcontext()
        return torch.autocast(self.device_type, dtype=self.products)

    def allow_tf32(self) -> None:
        """torch keeps this for the whole process: said anew at a trial's start."""
        torch.backends.cuda.matmul.allow_tf32 = self.tf32
        torch.backends.cudnn.allow_tf32 = self.tf32


def precision_policy_for(precision: Precision, kind: Kind, device: torch.device) -> PrecisionPolicy:
    """`auto` on a GPU is bf16 products for the convolutional pair, TF32 for the MLP pair; on a CPU all is float32."""
    on_gpu = device.type == "cuda"
    if precision == "auto":
        products = torch.bfloat16 if on_gpu and kind == "conv" else None
    else:
        products = torch.bfloat16 if precision == "bf16" else None
    return PrecisionPolicy(
        dtype=torch.float64 if precision == "float64" else torch.float32,
        products=products,
        tf32=on_gpu and precision == "auto" and kind == "mlp",
        channels_last=on_gpu and kind == "conv",
        device_type=device.type,
    )
