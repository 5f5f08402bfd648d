"""ZCA whitening: the fixed linear map at the input of the patent's CIFAR-10 discriminator."""

import torch
from torch import Tensor

_FLOOR = 1e-5
_ROWS = 4096


def fit_zca(images: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and symmetric whitening matrix W = U diag((lambda + 1e-5)^-1/2) U^T of the images' covariance.

    (x - mean) @ W has a covariance near the identity (Krizhevsky 2009, appendix A). It is computed in float64.

    Args:
        images: (n, d) unlabelled training images in [-1, 1], d = channels * size * size.

    Returns:
        mean (d,) and W (d, d), float32, on the device of `images`.
    """
    n, d = images.shape
    mean = images.mean(dim=0, dtype=torch.float64)
    covariance = torch.zeros(d, d, dtype=torch.float64, device=images.device)
    for start in range(0, n, _ROWS):
        centred = images[start : start + _ROWS].double() - mean
        covariance += centred.T @ centred / n
    values, vectors = torch.linalg.eigh(covariance)
    # Rounding may leave an eigenvalue of a singular covariance a little below 0.
    scale = (values.clamp(min=0.0) + _FLOOR).rsqrt()
    return mean.float(), ((vectors * scale) @ vectors.T).float()
