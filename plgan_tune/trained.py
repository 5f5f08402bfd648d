"""The networks of a trial that was trained: its checkpoint found, read, and built without a step."""

from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from plgan_tune.config.own import own_path, read_own
from plgan_tune.config.trial import TrialSpec
from plgan_tune.gan.layers import Whitening
from plgan_tune.gan.own import Own
from plgan_tune.gan.own_contract import Shapes
from plgan_tune.gan.own_file import load_own
from plgan_tune.gan.pairs.base import ImageShape, Pair, latent_shape
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
"""`averaged` are the weights that an epoch's errors and distances are measured with, `raw` those of the last step."""


def read_trained(path: str | Path, own: str | Path | None) -> tuple[Checkpoint, Own | None]:
    """Return the checkpoint at `path`, and the user's own file that builds its networks, run.

    Args:
        path: A checkpoint; the folder of a trial or of `train`, whose newest checkpoint is read; or a study's folder,
            whose best trial is. A local path or a URL.
        own: That file; None if the networks are of the package.

    Raises:
        StoreError: If it cannot be read, there is none, or no trial of the study has completed.
        CheckpointError: If it is damaged, or from a version whose checkpoints did not name their classes, or if its
            networks are a user's own and `own` is not given.
        RuleError: If `own` cannot be read or run, or holds something else.
    """
    checkpoint = read_checkpoint(path)
    content = None if own is None else read_own(own_path(own))
    return checkpoint, own_of(checkpoint, content, str(own))


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
        raise StoreError(f"{study.url} must have a completed trial, whose networks are loaded, but has none")
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
        reference_images=torch.zeros(batch, *image.tensor, dtype=torch.uint8) if model.minibatch_kernels else None,
        reference_latent=torch.zeros(batch, *latent_shape(model)) if model.generator_norm == "virtual" else None,
        own=own,
    )
    dtype = torch.float64 if trial.training.precision == "float64" else torch.float32
    return Pair(pair.discriminator.to(dtype), pair.generator.to(dtype))


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
            "its networks are a user's own, whose code is never run unasked: give own=FILE (--own FILE), a file "
            f"that you have read and that has sha256 {trial.own.sha256}; own/ in the folder of the study holds a copy"
        )
    return load_own(
        content, trial.own, name, Shapes.of(image_of(checkpoint), len(checkpoint.content["classes"]), trial.data)
    )


def write_onnx(network: nn.Module, example: Tensor, file: str | Path, given: str, made: str) -> None:
    """Write a network of one input and one output, any number of rows, as an ONNX file.

    Args:
        network: The network.
        example: An input of two rows.
        file: The path of the file to write.
        given: Name of the input: that of the network's argument.
        made: Name of the output.

    Raises:
        ImportError: If the packages of PyTorch's exporter are missing.
    """
    missing = [package for package in ("onnx", "onnxscript") if find_spec(package) is None]
    if missing:
        raise ImportError(f"ONNX export needs {' and '.join(missing)}: pip install 'plgan-tune[onnx]'")
    torch.onnx.export(
        network,
        (example,),
        file,
        input_names=[given],
        output_names=[made],
        dynamic_shapes={given: {0: torch.export.Dim("n")}},
        dynamo=True,
        external_data=False,
        verbose=False,
    )
