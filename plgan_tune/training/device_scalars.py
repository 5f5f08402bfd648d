"""Numbers that the steps read, and that change between them."""

from dataclasses import dataclass

import torch
from torch import Tensor


class DeviceScalar:
    """A number that steps read and that changes between them.

    Attributes:
        value: a float on a CPU; on a GPU a tensor that stays where it is, as a captured step would keep a float.
    """

    def __init__(self, value: float | Tensor) -> None:
        self.value = value

    @classmethod
    def on(cls, device: torch.device, dtype: torch.dtype) -> "DeviceScalar":
        return cls(torch.zeros((), dtype=dtype, device=device) if device.type == "cuda" else 0.0)

    def set_(self, value: float) -> None:
        if isinstance(self.value, Tensor):
            self.value.fill_(value)
        else:
            self.value = value


@dataclass(frozen=True, slots=True)
class DeviceScalars:
    """What the steps read beside tensors that they change; each optimiser has its rate besides.

    Attributes:
        w: the ramp in this epoch.
        blend: how far the average moves to D's weights at this update.
    """

    alpha: DeviceScalar
    beta: DeviceScalar
    unsupervised_scale: DeviceScalar
    w: DeviceScalar
    blend: DeviceScalar

    @classmethod
    def on(cls, device: torch.device, dtype: torch.dtype) -> "DeviceScalars":
        return cls(*(DeviceScalar.on(device, dtype) for _ in range(5)))
