"""What training changes: two networks, their optimisers, the average of D's weights, and how far it has come."""

from copy import deepcopy
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.optim import Adam

from plgan_tune.data.dataset import Dataset
from plgan_tune.data.zca import fit_zca
from plgan_tune.gan.draws import Draws, Stream, generator_for
from plgan_tune.gan.layers import Whitening
from plgan_tune.gan.networks import Discriminator, Generator, ImageShape, build, draw_latent, to_unit_range
from plgan_tune.spec.trial import OptimSpec, TrialSpec
from plgan_tune.training.precision import Numbers, numbers_for

CALIBRATION_IMAGES = 500


@dataclass(slots=True)
class TrainState:
    """A trial in training. Nothing here is random: every draw is a function of (seed, step, stream).

    Attributes:
        averaged: D with the moving average of its weights; what val_error tests.
        epoch: epochs completed.
        step: discriminator updates made.
    """

    trial: TrialSpec
    numbers: Numbers
    device: torch.device
    discriminator: Discriminator
    generator: Generator
    averaged: Discriminator
    adam_d: Adam
    adam_g: Adam
    epoch: int = 0
    step: int = 0
    trained_d: list[nn.Parameter] = field(default_factory=list)

    def tensors(self) -> list[Tensor]:
        """Weights and buffers of all networks."""
        networks: tuple[nn.Module, ...] = (self.discriminator, self.generator, self.averaged)
        return [tensor for network in networks for tensor in network.state_dict().values()]

    def update_average(self) -> None:
        """Moves the average by the decay min(average_decay, n / (n + 10)) at update n = 1, 2, ...

        A fixed decay would lag many epochs behind or remember the initial weights; either misleads early stopping.
        """
        decay = min(self.trial.optim.average_decay, self.step / (self.step + 10))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.averaged.parameters()), list(self.discriminator.parameters()), 1.0 - decay)


def new_state(trial: TrialSpec, data: Dataset, device: torch.device) -> TrainState:
    """Networks with fresh weights, calibrated where `weight_norm_init` is data-dependent, and empty optimisers.

    Raises:
        ValueError: where model and images do not fit.
    """
    numbers = numbers_for(trial.training.precision, trial.model.kind, device)
    weights = (generator_for(trial.seed, 0, Stream.WEIGHTS_D), generator_for(trial.seed, 0, Stream.WEIGHTS_G))
    image = ImageShape(data.channels, data.size)
    whitening = _fit_whitening(data) if trial.model.zca else None
    pair = build(trial.model, image, data.n_classes, weights, whitening)
    D, G = pair.discriminator.to(device, numbers.dtype), pair.generator.to(device, numbers.dtype)
    if trial.model.weight_norm_init == "data":
        _calibrate(trial, data, D, G, numbers.dtype)
    trained_d = [p for p in D.parameters() if p.requires_grad]
    return TrainState(
        trial=trial,
        numbers=numbers,
        device=device,
        discriminator=D,
        generator=G,
        averaged=deepcopy(D).requires_grad_(False),
        adam_d=_adam(trained_d, trial.optim.lr_discriminator, trial.optim),
        adam_g=_adam(list(G.parameters()), trial.optim.lr_generator, trial.optim),
        trained_d=trained_d,
    )


def _adam(parameters: list[nn.Parameter], rate: float, optim: OptimSpec) -> Adam:
    return Adam(parameters, lr=rate, betas=(optim.beta1, optim.beta2), eps=optim.eps, fused=True)


def _fit_whitening(data: Dataset) -> Whitening:
    pool = data.images[data.split.pool].flatten(1).to(torch.float32) / 127.5 - 1.0
    return Whitening(*fit_zca(pool.cpu()))


def _calibrate(trial: TrialSpec, data: Dataset, D: Discriminator, G: Generator, dtype: torch.dtype) -> None:
    """D on 500 unlabelled images with its noise, G on 500 draws of z (METHOD: improved-gan's initialisation)."""
    device = data.images.device
    pool = data.split.pool
    for_d = generator_for(trial.seed, 0, Stream.CALIBRATE_D)
    chosen = pool[torch.randperm(len(pool), generator=for_d)[:CALIBRATION_IMAGES].to(pool.device)]
    images = to_unit_range(data.images[chosen], trial.model.kind, dtype)
    noise = generator_for(trial.seed, 1, Stream.CALIBRATE_D, device)
    D.calibrate(images, Draws(noise, len(images), dtype=dtype))
    for_g = generator_for(trial.seed, 0, Stream.CALIBRATE_G, device)
    G.calibrate(draw_latent(Draws(for_g, CALIBRATION_IMAGES, dtype=dtype), trial.model))
