"""The judge: a small classifier that has learned the data themselves, in whose features generated images are measured.

It is a function of the data alone, never of a trial, so that its numbers compare within a study. It learns from all
labels that the source has, also those that trials do not see, but not from the validation images. It measures, and
trains nothing.
"""

import hashlib
import io
import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Self

import torch
from filelock import FileLock
from torch import Tensor, nn
from torch.nn import functional as F

from plgan_tune.config.metrics import COMPARED
from plgan_tune.config.trial import DataSpec, OptimSpec
from plgan_tune.data.cache import cache_folder, key_of
from plgan_tune.data.dataset import Dataset
from plgan_tune.data.errors import DataError
from plgan_tune.data.half import NO_LABEL
from plgan_tune.data.sources import stamp_half
from plgan_tune.gan.draws import Stream, rng_for
from plgan_tune.gan.pairs.base import ImageShape, drawn
from plgan_tune.training.generate import BATCH
from plgan_tune.training.measures import frechet_distance, moments
from plgan_tune.training.optimisers import Adam
from plgan_tune.training.threads import torch_threads

FORMAT: Final = "plgan_tune.judge"
VERSION: Final = 1
"""Version of the file, the networks and their training: a judge of another version gives other numbers."""

MOST: Final = COMPARED
"""Images of a set that is measured, at most."""

POOL_SHARE: Final = 5
"""Generated images that are measured are at most a fifth of the pool, so that they take a small part of an epoch."""

EPOCHS: Final = 60
"""Epochs of the training, within these steps."""
STEPS: Final = (200, 1650)
"""Steps of the training, at least and at most; the latter are three epochs of MNIST."""
RATE: Final = 1e-3
"""Adam's first learning rate, which falls linearly to 0."""
ADAM: Final = OptimSpec(
    lr_discriminator=RATE,
    lr_generator=RATE,
    decay_epoch=1,
    min_factor=0.0,
    beta1=0.9,
    beta2=0.999,
    eps=1e-8,
    average_decay=0.0,
)

CHUNK: Final = 500
"""Images of a pass, at most."""

_DIGEST_BYTES: Final = 32


class JudgeError(Exception):
    """The file is no judge, is damaged, or is of another version."""


class Network(nn.Module):
    """Dense 64 - Dense 32 below 16 pixels, else conv5 32 - conv5 64 - Dense 64, of stride 2; then Dense classes.

    Args:
        image: the shape of the images.
        classes: their number.
        rng: draws the weights.
    """

    def __init__(self, image: ImageShape, classes: int, rng: torch.Generator) -> None:
        super().__init__()

        def conv(inputs: int, units: int) -> nn.Module:
            layer = nn.Conv2d(inputs, units, 5, stride=2, padding=2, device="meta")
            return drawn(layer, math.sqrt(2 / (25 * inputs)), rng)  # as for ReLU (He et al. 2015)

        def dense(inputs: int, units: int) -> nn.Module:
            return drawn(nn.Linear(inputs, units, device="meta"), math.sqrt(2 / inputs), rng)

        side = -(-image.size // 4)
        self.hidden = (
            nn.Sequential(nn.Flatten(), dense(image.pixels, 64), nn.ReLU(), dense(64, 32), nn.ReLU())
            if image.size < 16
            else nn.Sequential(
                *(conv(image.channels, 32), nn.ReLU(), conv(32, 64), nn.ReLU()),
                *(nn.Flatten(), dense(64 * side**2, 64), nn.ReLU()),
            )
        )
        self.out = dense(32 if image.size < 16 else 64, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return the features of uint8 images, (n, 32 or 64)."""
        features: Tensor = self.hidden(images.to(torch.float32) / 127.5 - 1)
        return features


@dataclass(frozen=True, eq=False)
class Judge:
    """A trained judge.

    Attributes:
        network: its network, without gradients.
        image: the shape of the images that it takes.
        classes: names of the classes, in the order of the probabilities.
        labels: how many images it has learned from.
        error: its error on the validation images.
        floor: the distance of as many images that it has learned from as are generated from the validation images: what
            a perfect generator could reach.
    """

    network: Network
    image: ImageShape
    classes: tuple[str, ...]
    labels: int
    error: float
    floor: float

    def to(self, device: torch.device) -> Self:
        """Move the network to a device, and return the judge."""
        self.network.to(device)
        return self

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """Return the last hidden layer of uint8 images (n, channels, size, size) on its device: (n, F) float32."""
        return torch.cat([self.network(part) for part in torch.split(images, CHUNK)])

    @torch.no_grad()
    def probabilities(self, features: Tensor) -> Tensor:
        """Return the probability of each class, (n, classes) float64."""
        return F.softmax(self.network.out(features).double(), dim=1)


def measured(data: Dataset) -> int:
    """Return how many generated images are measured: as many as for validation, within `MOST` and `POOL_SHARE`."""
    batches = max(1, len(data.split.pool) // POOL_SHARE // BATCH)
    return min(MOST, len(data.split.validation), batches * BATCH)


def train_judge(data: Dataset) -> Judge | None:
    """Train the judge of these data; None if fewer than two classes have a label outside the validation images.

    It trains on the CPU with one thread, so that equal data give equal bits on machines of a kind.

    Args:
        data: the images, on any device.
    """
    with torch_threads(1):
        data = data.to("cpu")
        known = data.labels != NO_LABEL
        known[data.split.validation] = False
        rows = known.nonzero().flatten()
        if len(torch.unique(data.labels[rows])) < 2:
            return None
        image = ImageShape(data.channels, data.size)
        network = Network(image, data.n_classes, rng_for(0, 0, Stream.JUDGE))
        _train(network, data.images[rows], data.labels[rows])
        judge = Judge(network.requires_grad_(False), image, data.classes, len(rows), math.nan, math.nan)
        return _tested(judge, data, rows)


def _train(network: Network, images: Tensor, labels: Tensor) -> None:
    """Minimise the cross entropy over independent permutations of the images, end to end."""
    least, most = STEPS
    steps = min(most, max(least, EPOCHS * len(labels) // BATCH))
    rng = rng_for(0, 1, Stream.JUDGE)
    permutations = [torch.randperm(len(labels), generator=rng) for _ in range(-(-steps * BATCH // len(labels)))]
    weights = list(network.parameters())
    adam = Adam(weights, ADAM)
    for step, rows in enumerate(torch.cat(permutations)[: steps * BATCH].view(steps, BATCH)):
        loss = F.cross_entropy(network.out(network(images[rows])), labels[rows])
        for weight, gradient in zip(weights, torch.autograd.grad(loss, weights), strict=True):
            weight.grad = gradient
        adam.rate.set_(RATE * (1 - step / steps))
        adam.step()
    adam.zero_grad()


def _tested(judge: Judge, data: Dataset, learned: Tensor) -> Judge:
    validation = data.split.validation
    of_validation = judge.features(data.images[validation])
    wrong = judge.probabilities(of_validation).argmax(dim=1) != data.labels[validation]
    some = learned[torch.randperm(len(learned), generator=rng_for(0, 2, Stream.JUDGE))]
    of_some = judge.features(data.images[some[: measured(data)]])
    floor = frechet_distance(moments(of_validation), moments(of_some))
    return replace(judge, error=float(wrong.double().mean()), floor=floor)


def encode_judge(judge: Judge) -> bytes:
    """Return the file's bytes: plain tensors and values, then a sha256 of them."""
    buffer = io.BytesIO()
    content = {
        "format": FORMAT,
        "version": VERSION,
        "image": list(judge.image),
        "classes": list(judge.classes),
        "labels": judge.labels,
        "error": judge.error,
        "floor": judge.floor,
        "network": {name: tensor.cpu() for name, tensor in judge.network.state_dict().items()},
    }
    torch.save(content, buffer)
    written = buffer.getvalue()
    return written + hashlib.sha256(written).digest()


def decode_judge(content: bytes, name: str) -> Judge:
    """Read a judge. Only tensors and plain values are loaded, never code.

    Raises:
        JudgeError: if the bytes are damaged, foreign or of another version; the message starts with `name`.
    """
    if hashlib.sha256(content[:-_DIGEST_BYTES]).digest() != content[-_DIGEST_BYTES:]:
        raise JudgeError(f"{name} is damaged or no judge: its checksum is not that of its content")
    held: Any = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    if not isinstance(held, dict) or held.get("format") != FORMAT:
        raise JudgeError(f"{name} is no judge of plgan_tune")
    if held["version"] != VERSION:
        raise JudgeError(f"{name} has version {held['version']}, but this plgan_tune reads version {VERSION} only")
    image, classes = ImageShape(*held["image"]), tuple(held["classes"])
    network = Network(image, len(classes), torch.Generator())
    network.load_state_dict(held["network"])
    return Judge(network.requires_grad_(False), image, classes, held["labels"], held["error"], held["floor"])


def judge_of(spec: DataSpec, data: Dataset, cache: Path | None = None) -> bytes | None:
    """Return the file of the judge of these data, from the cache of images if it is there; None if it cannot be.

    Any number of processes of a node may call this at once: one trains, the others wait for it. Where the cache cannot
    be written, each trains.

    Args:
        spec: what `data` was loaded from.
        data: the images.
        cache: the folder; None is `cache_folder()`.
    """
    try:
        folder = cache or cache_folder()
    except DataError:  # there is no cache
        return _encoded(data)
    file = folder / f"judge-{_key(spec, folder)}.pt"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(file.with_suffix(".lock")):
            return _kept(file) or _made(data, file)
    except OSError:
        return _encoded(data)


def _key(spec: DataSpec, folder: Path) -> str:
    """Return a name for all that the judge depends on: equal keys mean equal judges."""
    images = key_of(spec, "train", stamp_half(spec, "train", folder))
    identity = {"version": VERSION, "images": images, "split_seed": spec.split_seed, "validation": spec.validation}
    identity |= {"duplicates": spec.duplicates}
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:32]


def _kept(file: Path) -> bytes | None:
    try:
        content = file.read_bytes()
        decode_judge(content, str(file))
    except (FileNotFoundError, JudgeError):
        return None
    return content


def _made(data: Dataset, file: Path) -> bytes | None:
    content = _encoded(data)
    if content is not None:
        unfinished = file.with_name(f"_{file.name}")
        unfinished.write_bytes(content)
        unfinished.replace(file)
    return content


def _encoded(data: Dataset) -> bytes | None:
    judge = train_judge(data)
    return None if judge is None else encode_judge(judge)
