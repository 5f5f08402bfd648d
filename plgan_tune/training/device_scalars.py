"""Numbers that the steps read and that change between steps."""

from dataclasses import dataclass, fields

import torch
from torch import Tensor


class DeviceScalar:
    """A number that steps read and that changes between steps.

    Attributes:
        value: a float on a CPU; on a GPU a tensor that keeps its address, because a captured step would freeze a float.
    """

    def __init__(self, value: float | Tensor) -> None:
        self.value = value

    @classmethod
    def on(cls, device: torch.device, dtype: torch.dtype) -> "DeviceScalar":
        """Return a scalar of value 0 for this device."""
        return cls(torch.zeros((), dtype=dtype, device=device) if device.type == "cuda" else 0.0)

    def set_(self, value: float) -> None:
        """Change the value in place."""
        if isinstance(self.value, Tensor):
            self.value.fill_(value)
        else:
            self.value = value


@dataclass(frozen=True, slots=True)
class DeviceScalars:
    """Numbers that the steps read. The learning rates belong to the optimisers.

    Attributes:
        self_scale: the weight of C_self in this epoch.
        w: the ramp in this epoch.
        blend: the weight of D's weights in this update of their average.
        blend_g: that of G's.
    """

    alpha: DeviceScalar
    beta: DeviceScalar
    supervised_scale: DeviceScalar
    unsupervised_scale: DeviceScalar
    smoothing: DeviceScalar
    self_scale: DeviceScalar
    self_threshold: DeviceScalar
    gradient_penalty: DeviceScalar
    w: DeviceScalar
    blend: DeviceScalar
    blend_g: DeviceScalar

    @classmethod
    def on(cls, device: torch.device, dtype: torch.dtype) -> "DeviceScalars":
        """Return scalars of value 0 for this device."""
        return cls(*(DeviceScalar.on(device, dtype) for _ in fields(cls)))
