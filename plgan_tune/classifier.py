"""Use a trained classifier: load a checkpoint as a module that takes uint8 images."""

from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from plgan_tune.config.own import own_path, read_own
from plgan_tune.config.trial import TrialSpec
from plgan_tune.data.decode import Form, read
from plgan_tune.data.half import NO_LABEL, Encoded, Half, Rows, batches
from plgan_tune.gan.layers import Whitening
from plgan_tune.gan.own import Own
from plgan_tune.gan.own_contract import Shapes
from plgan_tune.gan.own_file import load_own
from plgan_tune.gan.pairs.base import Discriminator, ImageShape, Pair, latent_shape
from plgan_tune.gan.pairs.build import build
from plgan_tune.store.checkpoints import TrialFiles
from plgan_tune.store.folder import CHECKPOINT
from plgan_tune.store.location import Location, StoreError
from plgan_tune.store.read import read_trials, trial_rows
from plgan_tune.study.race import race_of
from plgan_tune.study.ranking import rank, trained_whole
from plgan_tune.study.study_file import STUDY_FILE, read_study_file
from plgan_tune.training.checkpoint import Checkpoint, CheckpointError, decode_checkpoint

Weights = Literal["averaged", "raw"]


class Classifier(nn.Module):
    """A trained discriminator as a classifier of uint8 images. Scaling and whitening are inside, noise is off.

    Args:
        discriminator: The network, with its weights loaded.
        image: Channels and size of the images that it takes.
        classes: Names of the classes.

    Attributes:
        classes: Names of the classes, in the order of the logits.
        image: Channels and size of the images that it takes.
    """

    def __init__(self, discriminator: Discriminator, image: ImageShape, classes: Sequence[str]) -> None:
        super().__init__()
        self.discriminator = discriminator
        self.classes = tuple(classes)
        self.image = image

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
            files: One path of an image file, or several. Each image is scaled and cropped to the size that the
                classifier takes.

        Returns:
            Of shape (n, classes), on the CPU. Each row sums to 1.

        Raises:
            DataError: If a file is not an image; the message names it.
            OSError: If a file cannot be read.
        """
        paths = [Path(file) for file in ([files] if isinstance(files, str | Path) else files)]
        half = Half(np.full(len(paths), NO_LABEL), (), lambda row: str(paths[row]), lambda rows: _contents(paths, rows))
        form = Form(self.image.channels, self.image.size, resize=True)
        pixels = list(read(half, np.arange(len(paths)), form).blocks)
        images = np.concatenate(pixels) if pixels else np.empty((0, *_shape(self.image)), np.uint8)
        return self.probabilities(torch.from_numpy(images))

    @property
    def _weights(self) -> Tensor:
        """Some of its weights: all have one type and device."""
        return next(self.discriminator.parameters())

    def _check(self, images: Tensor) -> None:
        if images.dtype == torch.uint8 and images.shape[1:] == _shape(self.image):
            return
        shape = ", ".join(map(str, ("n", *_shape(self.image))))
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
    checkpoint = read_checkpoint(path)
    content = None if own is None else read_own(own_path(own))
    return classifier_of(checkpoint, weights, own_of(checkpoint, content, str(own)))


def own_of(checkpoint: Checkpoint, content: bytes | None, name: str) -> Own | None:
    """Return the user's own file that builds the checkpoint's networks, run; None if they are of the package.

    Args:
        checkpoint: The checkpoint.
        content: What the file holds.
        name: Of the file, for messages.

    Raises:
        CheckpointError: If there must be one and `content` is None.
        RuleError: If it cannot be run, or does not have the hash that the checkpoint names.
    """
    trial = checkpoint.trial
    if trial.model.kind != "own":
        return None
    if content is None:
        raise CheckpointError(
            "its networks are a user's own, whose code is never run unasked: give load_classifier own=FILE, a file "
            f"that you have read and that has sha256 {trial.own.sha256}; own/ in the folder of the study holds a copy"
        )
    return load_own(content, trial.own, name, Shapes(image_of(checkpoint), len(checkpoint.content["classes"])))


def classifier_of(checkpoint: Checkpoint, weights: Weights = "averaged", own: Own | None = None) -> Classifier:
    """Return the classifier of a checkpoint that `read_checkpoint` has read, with `own_of` it.

    Raises:
        CheckpointError: If it was trained without labels.
    """
    if not checkpoint.content["classes"]:
        raise CheckpointError("it has no classes, for trial.data.labels was 0: its D tells real from generated alone")
    discriminator = build_pair(checkpoint, own).discriminator
    discriminator.load_state_dict(checkpoint.content["averaged" if weights == "averaged" else "discriminator"])
    return Classifier(discriminator, image_of(checkpoint), checkpoint.content["classes"]).requires_grad_(False).eval()


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
    location = _newest(path if isinstance(path, Location) else Location.at(path))
    checkpoint = decode_checkpoint(location.read_bytes(), location.url)
    if "classes" not in checkpoint.content:
        raise CheckpointError(f"{location.url} does not say which classes it knows: train it again")
    return checkpoint


def _newest(place: Location) -> Location:
    """Return the file of the newest checkpoint at a place."""
    if place.name.endswith(".pt"):
        return place
    names = place.list()
    folder = TrialFiles.of(place, _best_trial(place)) if STUDY_FILE in names else TrialFiles(place)
    found = next(folder.newest_first(), None)
    if found is None and CHECKPOINT not in names:
        rule = "it must be the folder of a study, of one of its trials or of `train`, or a file that ends in .pt"
        raise StoreError(f"there is no checkpoint in {folder.location.url}; {rule}")
    return found or place.join(CHECKPOINT)


def _best_trial(study: Location) -> str:
    """Return the id of a completed trial of the configuration of `best.yaml`."""
    held = read_study_file(study)
    spec, metric = held.spec, held.spec.metric
    rows = trial_rows(read_trials(study, held.study_id, metric.name), spec.columns, spec.options, metric.name)
    best_first = rank(rows, race_of(spec), metric)
    whole = trained_whole(best_first[0], rows) if best_first else None
    if whole is None:
        raise StoreError(f"{study.url} must have a completed trial, whose classifier is loaded, but has none")
    return whole.trial_id


def image_of(checkpoint: Checkpoint) -> ImageShape:
    """Return channels and size of the images that the checkpoint's networks take."""
    return ImageShape(*checkpoint.content["image"])


def build_pair(checkpoint: Checkpoint, own: Own | None = None) -> Pair:
    """Build networks of the checkpoint's shapes and type on the CPU; their weights are still to be loaded."""
    trial: TrialSpec = checkpoint.trial
    image, classes = image_of(checkpoint), checkpoint.content["classes"]
    whitening = Whitening(torch.zeros(image.pixels), torch.eye(image.pixels)) if trial.model.zca else None
    model, batch = trial.model, trial.training.batch_size
    pair = build(
        model,
        image,
        trial.data.logits(len(classes)),
        (torch.Generator(), torch.Generator()),
        whitening,
        reference_images=torch.zeros(batch, *_shape(image), dtype=torch.uint8) if model.minibatch_kernels else None,
        reference_latent=torch.zeros(batch, *latent_shape(model)) if model.generator_norm == "virtual" else None,
        own=own,
    )
    dtype = torch.float64 if trial.training.precision == "float64" else torch.float32
    return Pair(pair.discriminator.to(dtype), pair.generator.to(dtype))


def _contents(paths: Sequence[Path], rows: Rows) -> Iterator[Sequence[Encoded]]:
    for batch in batches(rows):
        yield [paths[row].read_bytes() for row in batch]


def _shape(image: ImageShape) -> tuple[int, int, int]:
    return image.channels, image.size, image.size
