"""The state that training changes: the two players, the averages of their weights, and the progress."""

from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor

from plgan_tune.config.trial import TrialSpec
from plgan_tune.data.dataset import Dataset
from plgan_tune.gan.draws import Draws, Stream, rng_for, seed_for
from plgan_tune.gan.layers import Whitening
from plgan_tune.gan.objective import names_of
from plgan_tune.gan.own import PREFIX, TERMS_D, TERMS_G, Own
from plgan_tune.gan.pairs.base import Discriminator, Generator, ImageShape, draw_latent
from plgan_tune.gan.pairs.build import build
from plgan_tune.gan.schedules import self_training_scale
from plgan_tune.training.device_scalars import DeviceScalar, DeviceScalars
from plgan_tune.training.player import Player
from plgan_tune.training.precision import PrecisionPolicy, precision_policy_for
from plgan_tune.training.pulls import History, WeightDecay
from plgan_tune.training.torch_private import copy_all, lerp_all

CALIBRATION_IMAGES = 500
SETTLING_IMAGES = 1000

STREAMS_D = (Stream.LATENT_D, Stream.NOISE_D, Stream.OWN_D, Stream.INTERPOLATE, Stream.NOISE_PENALTY)
STREAMS_G = (Stream.LATENT_G, Stream.NOISE_REAL, Stream.NOISE_FAKE, Stream.OWN_G)

TURN = 2**40
"""Lies between the seeds' steps of successive updates of G in a round, and is more than D ever makes: none meet."""


@dataclass(slots=True)
class TrainState:
    """A trial in training. It holds no random state: every draw is a function of (seed, step, stream).

    Attributes:
        image: channels and size of the images that the networks work on.
        classes: names of the classes, in the order of the logits; none if no image has a label.
        images: the fingerprint of the images that it is trained on.
        D: the discriminator.
        G: the generator.
        averaged: D with the moving average of its weights; val_error is its error.
        averaged_g: G with the moving average of its weights, which val_distance measures. It feeds nothing back.
        scalars: numbers of the trial, the epoch and the step.
        rngs: generators of a step's streams, reseeded for each step.
        own: the user's own terms; None if the trial has none.
        epoch: epochs completed.
        step: discriminator updates made.
    """

    trial: TrialSpec
    image: ImageShape
    classes: tuple[str, ...]
    images: str
    precision: PrecisionPolicy
    device: torch.device
    D: Player[Discriminator]
    G: Player[Generator]
    averaged: Discriminator
    averaged_g: Generator
    scalars: DeviceScalars
    rngs: Mapping[Stream, torch.Generator]
    own: Own | None = None
    epoch: int = 0
    step: int = 0

    def tensors(self) -> list[Tensor]:
        """Return weights and buffers of all networks, and what is remembered of them: where ranks must begin alike."""
        return [*self.D.tensors(), *self.G.tensors(), *self._averages()]

    def memory(self) -> list[Tensor]:
        """Return all tensors that training changes: those of the players and of the averages."""
        return [*self.D.memory(), *self.G.memory(), *self._averages()]

    def term_names(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return the names of the terms of D's and of G's loss, in the order in which a step returns them."""
        of_d, of_g = names_of(self.trial)
        if self.own is None:
            return of_d, of_g
        own_d, own_g = ([PREFIX + name for name in self.own.names[function]] for function in (TERMS_D, TERMS_G))
        return (*of_d, *own_d), (*of_g, *own_g)

    def before_epoch(self, w: float, lr_discriminator: float, lr_generator: float) -> None:
        """Set the numbers that are constant within an epoch."""
        loss, scalars = self.trial.loss, self.scalars
        scalars.alpha.set_(loss.alpha)
        scalars.beta.set_(loss.beta)
        scalars.supervised_scale.set_(loss.supervised_scale)
        scalars.unsupervised_scale.set_(loss.unsupervised_scale)
        scalars.smoothing.set_(loss.smoothing)
        scalars.self_scale.set_(self_training_scale(self.epoch, loss))
        scalars.self_threshold.set_(loss.self_threshold)
        scalars.gradient_penalty.set_(loss.gradient_penalty)
        if self.D.bound is not None and self.trial.optim.clip is not None:
            self.D.bound.set_(self.trial.optim.clip)
        scalars.w.set_(w)
        self.D.before_epoch(lr_discriminator, loss)
        self.G.before_epoch(lr_generator, loss)

    def before_d(self) -> None:
        """Seed D's draws, count its update n and set the average's decay to min(average_decay, n / (n + 10)).

        A fixed decay would lag many epochs behind or remember the initial weights; either misleads early stopping.
        """
        self._seed(STREAMS_D)
        self.step += 1
        self.scalars.blend.set_(self._blend(self.step))

    def before_g(self, turn: int = 0) -> None:
        """Seed the draws of G's step, the one of this `turn`, from 0, since D's last; set its average's decay."""
        self._seed(STREAMS_G, turn)
        training = self.trial.training
        rounds = -(-self.step // training.discriminator_steps)
        self.scalars.blend_g.set_(self._blend((rounds - 1) * training.generator_steps + turn + 1))

    def _blend(self, update: int) -> float:
        return 1.0 - min(self.trial.optim.average_decay, update / (update + 10))

    @torch.no_grad()
    def update_average(self) -> None:
        """Move D's average towards its weights by `scalars.blend`."""
        lerp_all(list(self.averaged.parameters()), list(self.D.network.parameters()), self.scalars.blend.value)

    @torch.no_grad()
    def update_average_g(self) -> None:
        """Move G's average towards its weights by `scalars.blend_g`."""
        lerp_all(list(self.averaged_g.parameters()), list(self.G.network.parameters()), self.scalars.blend_g.value)

    def settle(self, data: Dataset) -> None:
        """Fix what evaluation needs to know of a batch, of D and of its average, from 1,000 images of the pool.

        They are drawn once for the trial, so that errors of its epochs differ by the weights alone. Every rank computes
        all of it, without a collective.
        """
        images = _pool_images(self.D.network, self.trial, data, Stream.SETTLE, SETTLING_IMAGES, self.precision.dtype)
        with self.precision.autocast():
            for network in (self.averaged, self.D.network):
                network.settle(images)

    @torch.no_grad()
    def take_over(self, other: "TrainState") -> None:
        """Copy `other`, a trial of the same shapes, into these tensors."""
        self.trial, self.precision, self.epoch, self.step = other.trial, other.precision, other.epoch, other.step
        self.images = other.images
        copy_all(self.memory(), other.memory())

    def _averages(self) -> list[Tensor]:
        return [*self.averaged.state_dict().values(), *self.averaged_g.state_dict().values()]

    def _seed(self, streams: Iterable[Stream], turn: int = 0) -> None:
        for stream in streams:
            self.rngs[stream].manual_seed(seed_for(self.trial.seed, self.step + turn * TURN, stream))


def new_state(trial: TrialSpec, data: Dataset, device: torch.device, own: Own | None = None) -> TrainState:
    """Build networks with new weights and their optimisers; calibrate a network if its weight norm starts from data.

    Args:
        trial: the configuration.
        data: the images.
        device: where it trains.
        own: the file that `trial.own` names, run with the trial's values.

    Raises:
        ValueError: if model and images do not fit, or the trial names a file and `own` is None, or the reverse.
    """
    if (own is None) is not (trial.own.file is None):
        raise ValueError(f"own must be what trial.own.file names, {trial.own.file}, but got {own and own.name}")
    weights = (rng_for(trial.seed, 0, Stream.WEIGHTS_D), rng_for(trial.seed, 0, Stream.WEIGHTS_G))
    image = ImageShape(data.channels, data.size)
    whitening = Whitening(*data.whitening) if trial.model.zca else None
    pair = build(
        trial.model,
        image,
        trial.data.logits(data.n_classes),
        weights,
        whitening,
        reference_images=_reference_images(trial, data) if trial.model.minibatch_kernels else None,
        reference_latent=_reference_latent(trial) if trial.model.generator_norm == "virtual" else None,
        own=own,
    )
    precision = precision_policy_for(trial.training.precision, pair.discriminator.traits, device)
    D, G = pair.discriminator.to(device, precision.dtype), pair.generator.to(device, precision.dtype)
    if precision.channels_last:
        D, G = D.to(memory_format=torch.channels_last), G.to(memory_format=torch.channels_last)
    if trial.model.weight_norm_init == "data":
        D.calibrate(*_calibration(D, trial, data, precision.dtype))
    elif trial.model.minibatch_kernels:  # at a scale that does not fit the data, all kernels are 0 or 1
        D.calibrate_minibatch(*_calibration(D, trial, data, precision.dtype))
    if trial.model.generator_weight_norm_init == "data":
        _calibrate_generator(G, trial, device, precision.dtype)
    history = [History] if trial.loss.history else []
    decay = [WeightDecay] if trial.loss.weight_decay else []
    bound = None if trial.optim.clip is None else DeviceScalar.on(device, precision.dtype)
    state = TrainState(
        trial=trial,
        image=image,
        classes=data.classes if trial.data.labels else (),
        images=data.fingerprint,
        precision=precision,
        device=device,
        D=Player.start(D, trial.optim, *history, *decay, bound=bound),
        G=Player.start(G, trial.optim, *history),
        averaged=deepcopy(D).requires_grad_(False),
        averaged_g=deepcopy(G).requires_grad_(False),
        scalars=DeviceScalars.on(device, precision.dtype),
        rngs={stream: torch.Generator(device) for stream in (*STREAMS_D, *STREAMS_G)},
        own=own,
    )
    if trial.loss.self_scale or own is not None:
        state.settle(data)  # its teacher, the average of D, or own terms evaluate images from the first step on
    return state


def _reference_images(trial: TrialSpec, data: Dataset) -> Tensor:
    """Draw as many images of the pool as a batch has; they repeat where the pool has fewer."""
    pool, batch = data.split.pool, trial.training.batch_size
    order = torch.randperm(len(pool), generator=rng_for(trial.seed, 0, Stream.REFERENCE_D))
    return data.images[pool[order[torch.arange(batch) % len(pool)].to(pool.device)]]


def _reference_latent(trial: TrialSpec) -> Tensor:
    """Draw as many z as a batch has, on the CPU in float32, as weights are."""
    rng = rng_for(trial.seed, 0, Stream.REFERENCE_G)
    return draw_latent(Draws(rng, trial.training.batch_size), trial.model)


def _calibration(D: Discriminator, trial: TrialSpec, data: Dataset, dtype: torch.dtype) -> tuple[Tensor, Draws]:
    """Draw 500 unlabelled images and their noise, to calibrate D on (METHOD: improved-gan's initialisation)."""
    images = _pool_images(D, trial, data, Stream.CALIBRATE_D, CALIBRATION_IMAGES, dtype)
    noise = rng_for(trial.seed, 1, Stream.CALIBRATE_D, images.device)
    return images, Draws(noise, len(images), dtype=dtype)


def _pool_images(
    D: Discriminator, trial: TrialSpec, data: Dataset, stream: Stream, count: int, dtype: torch.dtype
) -> Tensor:
    """Return `count` images of the pool, all if it has fewer, that the trial's seed draws, as D takes them."""
    pool = data.split.pool
    drawn = torch.randperm(len(pool), generator=rng_for(trial.seed, 0, stream))[:count]
    return D.traits.pixels.from_uint8(data.images[pool[drawn.to(pool.device)]], dtype)


def _calibrate_generator(G: Generator, trial: TrialSpec, device: torch.device, dtype: torch.dtype) -> None:
    """Calibrate on 500 draws of z."""
    for_g = rng_for(trial.seed, 0, Stream.CALIBRATE_G, device)
    G.calibrate(draw_latent(Draws(for_g, CALIBRATION_IMAGES, dtype=dtype), trial.model))
