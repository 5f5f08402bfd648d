"""Which numbers a trial computes with."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch

from plgan_tune.spec.trial import Kind, Precision


@dataclass(frozen=True, slots=True)
class Numbers:
    """The type of weights, noise and losses, and the type that matrix products are autocast to, if another."""

    dtype: torch.dtype
    products: torch.dtype | None
    device_type: str

    def autocast(self) -> AbstractContextManager[object]:
        if self.products is None:
            return nullcontext()
        return torch.autocast(self.device_type, dtype=self.products)


def numbers_for(precision: Precision, kind: Kind, device: torch.device) -> Numbers:
    """`auto` is bf16 products for the convolutional pair on a GPU, else float32 throughout."""
    if precision == "auto":
        precision = "bf16" if device.type == "cuda" and kind == "conv" else "float32"
    dtype = torch.float64 if precision == "float64" else torch.float32
    return Numbers(dtype, torch.bfloat16 if precision == "bf16" else None, device.type)
