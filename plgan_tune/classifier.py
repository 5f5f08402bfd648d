"""Use a trained classifier: load a checkpoint as a module that takes uint8 images."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from plgan_tune.data.decode import pixels_of
from plgan_tune.data.half import NO_LABEL, Encoded, Half, Rows, batches
from plgan_tune.data.pixels import Form
from plgan_tune.gan.own import Own
from plgan_tune.gan.pairs.base import Discriminator, ImageShape
from plgan_tune.trained import Weights, build_pair, image_of, read_trained, write_onnx
from plgan_tune.training.checkpoint import Checkpoint, CheckpointError


class Classifier(nn.Module):
    """A trained discriminator as a classifier of uint8 images. Scaling and whitening are inside, noise is off.

    Args:
        discriminator: The network, with its weights loaded.
        image: Channels and size of the images that it takes.
        classes: Names of the classes.
        form: How image files are brought to them; None composites on white, scales and crops.

    Attributes:
        classes: Names of the classes, in the order of the logits.
        image: Channels and size of the images that it takes.
    """

    def __init__(
        self, discriminator: Discriminator, image: ImageShape, classes: Sequence[str], form: Form | None = None
    ) -> None:
        super().__init__()
        self.discriminator = discriminator
        self.classes = tuple(classes)
        self.image = image
        self._form = form or Form(image.channels, image.size)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of images.

        Args:
            images: uint8, of shape (n, channels, size, size).

        Returns:
            Of shape (n, classes). Their softmax is the probability of each class.

        Raises:
            ValueError: If the images have another type or shape.
        """
        self._check(images)
        dtype = self._weights.dtype
        logits: Tensor = self.discriminator(self.discriminator.traits.pixels.from_uint8(images, dtype)).logits
        return logits

    @torch.no_grad()
    def probabilities(self, images: Tensor) -> Tensor:
        """Return the probability of each class for images, in parts that fit in memory.

        Args:
            images: uint8, of shape (n, channels, size, size).

        Returns:
            Of shape (n, classes), on the CPU. Each row sums to 1.

        Raises:
            ValueError: If the images have another type or shape.
        """
        self._check(images)
        device = self._weights.device
        parts = [self(part.to(device)).softmax(dim=1).cpu() for part in torch.split(images, self.discriminator.chunk)]
        return torch.cat(parts)

    @torch.no_grad()
    def error(self, images: Tensor, labels: Tensor) -> float:
        """Return the fraction of images that are classified wrongly.

        Args:
            images: uint8, of shape (n, channels, size, size).
            labels: The number of each image's class, of shape (n,), with n at least 1.

        Raises:
            ValueError: If the images have another type or shape, or images and labels are not as many.
        """
        self._check(images)
        if len(images) != len(labels) or not len(labels):
            raise ValueError(f"each image must have a label, but got {len(images)} images and {len(labels)} labels")
        device, size = self._weights.device, self.discriminator.chunk
        wrong = sum(
            int((self(part.to(device)).argmax(dim=1) != truth.to(device)).sum())
            for part, truth in zip(torch.split(images, size), torch.split(labels, size), strict=True)
        )
        return wrong / len(labels)

    def predict(self, files: str | Path | Sequence[str | Path]) -> Tensor:
        """Return the probability of each class for image files of any size.

        Args:
            files: One path of an image file, or several. Each image is turned upright, composited on `data.background`
                and brought to the size that the classifier takes as `data.fit` says.

        Returns:
            Of shape (n, classes), on the CPU. Each row sums to 1.

        Raises:
            DataError: If files are not images; the message names all.
            OSError: If a file cannot be read.
        """
        paths = [Path(file) for file in ([files] if isinstance(files, str | Path) else files)]
        half = Half(np.full(len(paths), NO_LABEL), (), lambda row: str(paths[row]), lambda rows: _contents(paths, rows))
        return self.probabilities(torch.from_numpy(pixels_of(half, self._form)))

    @property
    def _weights(self) -> Tensor:
        """Some of its weights: all have one type and device."""
        return next(self.discriminator.parameters())

    def _check(self, images: Tensor) -> None:
        if images.dtype == torch.uint8 and images.shape[1:] == self.image.tensor:
            return
        shape = ", ".join(map(str, ("n", *self.image.tensor)))
        raise ValueError(
            f"images must be a tensor of uint8, 0 to 255, and of shape ({shape}), but got "
            f"{str(images.dtype).removeprefix('torch.')} of shape {tuple(images.shape)}; scaling is inside, and "
            "`predict` takes image files of any size"
        )


def load_classifier(path: str | Path, weights: Weights = "averaged", own: str | Path | None = None) -> Classifier:
    """Load the classifier of a checkpoint that `train`, `search` or `evaluate` wrote. It is on the CPU.

    ```python
    from plgan_tune import load_classifier

    classifier = load_classifier("trained/best")
    chances = classifier.predict(["one.png", "two.png"])
    print([classifier.classes[place] for place in chances.argmax(dim=1)])
    ```

    Args:
        path: A checkpoint; the folder of a trial or of `train`, whose newest checkpoint is loaded; or a study's
            folder, whose best trial is loaded. A local path or a URL.
        weights: `averaged` are the weights that every reported error is measured with; `raw` are those of the last
            step.
        own: The file that builds the networks, if `trial.model.kind` is own: it must hold what the trial was trained
            with. Code that lies beside a checkpoint is never run.

    Returns:
        The classifier, in float32 or, if it was trained so, in float64.

    Raises:
        StoreError: If it cannot be read, there is none, or no trial of the study has completed.
        CheckpointError: If it is damaged, or from a version whose checkpoints did not name their classes, or if its
            networks are a user's own and `own` is not given.
        RuleError: If `own` cannot be read or run, or holds something else.
    """
    checkpoint, owned = read_trained(path, own)
    return classifier_of(checkpoint, weights, owned)


def classifier_of(checkpoint: Checkpoint, weights: Weights = "averaged", own: Own | None = None) -> Classifier:
    """Return the classifier of a checkpoint that has been read, with the user's own file that builds its networks.

    Raises:
        CheckpointError: If it was trained without labels.
    """
    if not checkpoint.content["classes"]:
        raise CheckpointError("it has no classes, for trial.data.labels was 0: its D tells real from generated alone")
    discriminator = build_pair(checkpoint, own).discriminator
    discriminator.load_state_dict(checkpoint.content["averaged" if weights == "averaged" else "discriminator"])
    image, data = image_of(checkpoint), checkpoint.trial.data
    form = Form(image.channels, image.size, data.fit, data.background)
    return Classifier(discriminator, image, checkpoint.content["classes"], form).requires_grad_(False).eval()


def export_onnx(classifier: Classifier, file: str | Path) -> None:
    """Write a classifier as an ONNX file, for programs without PyTorch.

    The input is `images`, uint8 of shape (n, channels, size, size). The output is `logits`, of shape (n, classes).

    Args:
        classifier: The classifier.
        file: The path of the file to write.

    Raises:
        ImportError: If the packages of PyTorch's exporter are missing (`pip install 'plgan-tune[onnx]'`).
    """
    example = torch.zeros(2, *classifier.image.tensor, dtype=torch.uint8)
    write_onnx(classifier, example, file, "images", "logits")


def _contents(paths: Sequence[Path], rows: Rows) -> Iterator[Sequence[Encoded]]:
    for batch in batches(rows):
        yield [paths[row].read_bytes() for row in batch]
