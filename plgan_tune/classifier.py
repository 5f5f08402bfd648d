"""A trained classifier in use: a checkpoint as a module that takes images as they are."""

from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from plgan_tune.config.trial import Kind, TrialSpec
from plgan_tune.data.decode import Form, read
from plgan_tune.data.half import NO_LABEL, Encoded, Half, Rows, batches
from plgan_tune.gan.layers import Whitening
from plgan_tune.gan.networks import Discriminator, ImageShape, Pair, build, to_unit_range
from plgan_tune.store.checkpoints import TrialFiles
from plgan_tune.store.folder import CHECKPOINT
from plgan_tune.store.location import Location
from plgan_tune.training.checkpoint import Checkpoint, CheckpointError, decode_checkpoint

Weights = Literal["averaged", "raw"]

AT_A_TIME = {"mlp": 5000, "conv": 250}
"""Images: the convolutional pair's activations are large."""


class Classifier(nn.Module):
    """A trained discriminator as a classifier of uint8 images. Scaling and whitening are inside, noise is off.

    Args:
        discriminator: The network, with its weights loaded.
        kind: Its kind, which decides how images are scaled.
        image: Channels and size of the images that it takes.
        classes: Names of the classes.

    Attributes:
        classes: Names of the classes, in the order of the logits.
        image: Channels and size of the images that it takes.
    """

    def __init__(self, discriminator: Discriminator, kind: Kind, image: ImageShape, classes: Sequence[str]) -> None:
        super().__init__()
        self.discriminator = discriminator
        self.classes = tuple(classes)
        self.image = image
        self._kind: Kind = kind

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of images.

        Args:
            images: uint8, of shape (n, channels, size, size).

        Returns:
            Of shape (n, classes). Their softmax is the probability of each class.
        """
        dtype = self.discriminator.out.g.dtype
        logits: Tensor = self.discriminator(to_unit_range(images, self._kind, dtype)).logits
        return logits

    @torch.no_grad()
    def probabilities(self, images: Tensor) -> Tensor:
        """Return the probability of each class for images, in parts that fit in memory.

        Args:
            images: uint8, of shape (n, channels, size, size).

        Returns:
            Of shape (n, classes), on the CPU. Each row sums to 1.
        """
        device = self.discriminator.out.g.device
        parts = [self(part.to(device)).softmax(dim=1).cpu() for part in torch.split(images, AT_A_TIME[self._kind])]
        return torch.cat(parts)

    @torch.no_grad()
    def error(self, images: Tensor, labels: Tensor) -> float:
        """Return the fraction of images that are classified wrongly.

        Args:
            images: uint8, of shape (n, channels, size, size).
            labels: The number of each image's class, of shape (n,).
        """
        device, size = self.discriminator.out.g.device, AT_A_TIME[self._kind]
        wrong = sum(
            int((self(part.to(device)).argmax(dim=1) != truth.to(device)).sum())
            for part, truth in zip(torch.split(images, size), torch.split(labels, size), strict=True)
        )
        return wrong / len(labels)

    def predict(self, files: Sequence[str | Path]) -> Tensor:
        """Return the probability of each class for image files of any size.

        Args:
            files: Paths of image files. Each image is scaled and cropped to the size that the classifier takes.

        Returns:
            Of shape (n, classes), on the CPU. Each row sums to 1.

        Raises:
            DataError: If a file is not an image; the message names it.
            OSError: If a file cannot be read.
        """
        paths = [Path(file) for file in files]
        half = Half(np.full(len(paths), NO_LABEL), (), lambda row: str(paths[row]), lambda rows: _contents(paths, rows))
        form = Form(self.image.channels, self.image.size, resize=True)
        pixels = list(read(half, np.arange(len(paths)), form).blocks)
        images = np.concatenate(pixels) if pixels else np.empty((0, *_shape(self.image)), np.uint8)
        return self.probabilities(torch.from_numpy(images))


def load_classifier(path: str | Path, weights: Weights = "averaged") -> Classifier:
    """Load the classifier of a checkpoint that `train`, `search` or `evaluate` wrote. It is on the CPU.

    ```python
    from plgan_tune import load_classifier

    classifier = load_classifier("trained/best")
    chances = classifier.predict(["one.png", "two.png"])
    print([classifier.classes[place] for place in chances.argmax(dim=1)])
    ```

    Args:
        path: A checkpoint, or the folder of a trial or of `train`, whose newest checkpoint is loaded. A local path or
            a URL.
        weights: `averaged` are the weights that every reported error is measured with; `raw` are those of the last
            step.

    Returns:
        The classifier, in float32 or, if it was trained so, in float64.

    Raises:
        StoreError: If the checkpoint cannot be read.
        CheckpointError: If it is damaged, or from a version whose checkpoints did not name their classes.
    """
    return classifier_of(read_checkpoint(path), weights)


def classifier_of(checkpoint: Checkpoint, weights: Weights = "averaged") -> Classifier:
    """Return the classifier of a checkpoint that `read_checkpoint` has read."""
    discriminator = build_pair(checkpoint).discriminator
    discriminator.load_state_dict(checkpoint.content["averaged" if weights == "averaged" else "discriminator"])
    kind, classes = checkpoint.trial.model.kind, checkpoint.content["classes"]
    return Classifier(discriminator, kind, image_of(checkpoint), classes).requires_grad_(False).eval()


def export_onnx(classifier: Classifier, file: str | Path) -> None:
    """Write a classifier as an ONNX file, for programs without PyTorch.

    The input is `images`, uint8 of shape (n, channels, size, size). The output is `logits`, of shape (n, classes).

    Args:
        classifier: The classifier.
        file: The path of the file to write.

    Raises:
        ImportError: If the packages of PyTorch's exporter are missing (`pip install 'plgan-tune[onnx]'`).
    """
    missing = [package for package in ("onnx", "onnxscript") if find_spec(package) is None]
    if missing:
        raise ImportError(f"ONNX export needs {' and '.join(missing)}: pip install 'plgan-tune[onnx]'")
    example = torch.zeros(2, *_shape(classifier.image), dtype=torch.uint8)
    torch.onnx.export(
        classifier,
        (example,),
        file,
        input_names=["images"],
        output_names=["logits"],
        dynamic_shapes={"images": {0: torch.export.Dim("n")}},
        dynamo=True,
        external_data=False,
        verbose=False,
    )


def read_checkpoint(path: str | Path | Location) -> Checkpoint:
    """Read the checkpoint at `path`; see `load_classifier`."""
    location = path if isinstance(path, Location) else Location.at(path)
    if not location.name.endswith(".pt"):
        location = next(TrialFiles(location).newest_first(), location.join(CHECKPOINT))
    checkpoint = decode_checkpoint(location.read_bytes(), location.url)
    if "classes" not in checkpoint.content:
        raise CheckpointError(f"{location.url} does not say which classes it knows: train it again")
    return checkpoint


def image_of(checkpoint: Checkpoint) -> ImageShape:
    """Return channels and size of the images that the checkpoint's networks take."""
    return ImageShape(*checkpoint.content["image"])


def build_pair(checkpoint: Checkpoint) -> Pair:
    """Build networks of the checkpoint's shapes and type on the CPU; their weights are still to be loaded."""
    trial: TrialSpec = checkpoint.trial
    image, classes = image_of(checkpoint), checkpoint.content["classes"]
    whitening = Whitening(torch.zeros(image.pixels), torch.eye(image.pixels)) if trial.model.zca else None
    pair = build(trial.model, image, len(classes), (torch.Generator(), torch.Generator()), whitening)
    dtype = torch.float64 if trial.training.precision == "float64" else torch.float32
    return Pair(pair.discriminator.to(dtype), pair.generator.to(dtype))


def _contents(paths: Sequence[Path], rows: Rows) -> Iterator[Sequence[Encoded]]:
    for batch in batches(rows):
        yield [paths[row].read_bytes() for row in batch]


def _shape(image: ImageShape) -> tuple[int, int, int]:
    return image.channels, image.size, image.size
