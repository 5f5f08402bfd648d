"""A trial in training as one file: all that the next epoch depends on, and the rows of the epochs so far."""

import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any, Final

import torch
from torch import Tensor

from plgan_tune.config.changes import describe_changes
from plgan_tune.config.edition import completed
from plgan_tune.config.trial import TrialSpec
from plgan_tune.data.dataset import Dataset
from plgan_tune.gan.own import Own
from plgan_tune.records import MEASURES, EpochMetrics
from plgan_tune.training.state import TrainState, new_state

FORMAT: Final = "plgan_tune.checkpoint"
VERSION: Final = 4
"""Version 4 has optimisers of either kind, and trials without labels; version 3 the trial's method in place of its
profile; version 2 added the diagnostics to the rows."""

READABLE: Final = (2, 3, 4)
"""Version 1 cannot be read, because its rows differ."""

_DIGEST_BYTES: Final = 32
"""The file ends with a sha256 of its content: torch reads a zip with changed bytes without an error."""


class CheckpointError(Exception):
    """The file is not a plgan_tune checkpoint, is damaged, or belongs to another configuration."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint's content, read but not yet loaded into networks.

    Attributes:
        trial: the configuration that was trained.
        rows: one per epoch, up to the checkpoint's.
        content: the tensors and counters, as saved.
    """

    trial: TrialSpec
    rows: tuple[EpochMetrics, ...]
    content: Mapping[str, Any]

    @property
    def grids(self) -> dict[int, bytes]:
        """PNGs of images after some epochs, by epoch; none in a checkpoint of a version without them."""
        return {epoch: png.numpy().tobytes() for epoch, png in self.content.get("grids", {}).items()}


def encode_checkpoint(
    state: TrainState, rows: Sequence[EpochMetrics], grids: Mapping[int, bytes] = MappingProxyType({})
) -> bytes:
    """Return the file's bytes. They hold no random state: every draw is a function of the seed and the step.

    Args:
        state: what is saved.
        rows: one per epoch, up to the state's.
        grids: PNGs of images after some of the epochs, which the trial leaves at its end.
    """
    buffer = io.BytesIO()
    torch.save(
        {
            "format": FORMAT,
            "version": VERSION,
            "trial": state.trial.model_dump(mode="json"),
            "epoch": state.epoch,
            "step": state.step,
            "rows": [asdict(row) for row in rows],
            "image": list(state.image),
            "classes": list(state.classes),
            "images": state.images,
            "discriminator": state.D.network.state_dict(),
            "generator": state.G.network.state_dict(),
            "averaged": state.averaged.state_dict(),
            "averaged_generator": state.averaged_g.state_dict(),
            "optimiser_d": state.D.optimiser.state_dict(),
            "optimiser_g": state.G.optimiser.state_dict(),
            "remembered_d": state.D.remembered(),
            "remembered_g": state.G.remembered(),
            "grids": {epoch: torch.frombuffer(bytearray(png), dtype=torch.uint8) for epoch, png in grids.items()},
        },
        buffer,
    )
    content = buffer.getvalue()
    return content + hashlib.sha256(content).digest()


def decode_checkpoint(content: bytes, name: str) -> Checkpoint:
    """Read a checkpoint. Only tensors and plain values are loaded, never code.

    Raises:
        CheckpointError: if the bytes are damaged, foreign or of another version; the message starts with `name`.
    """
    try:
        loaded = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # zipfile, pickle and torch each have their own
        raise CheckpointError(f"{name} is damaged or no checkpoint: {_brief(error)}") from error
    if not isinstance(loaded, dict) or loaded.get("format") != FORMAT:
        raise CheckpointError(f"{name} is no checkpoint of plgan_tune")
    if loaded.get("version") not in READABLE:
        found, readable = loaded.get("version"), f"{READABLE[0]} to {READABLE[-1]}"
        raise CheckpointError(f"{name} has version {found}, but this plgan_tune reads versions {readable} only")
    if hashlib.sha256(content[:-_DIGEST_BYTES]).digest() != content[-_DIGEST_BYTES:]:
        raise CheckpointError(f"{name} is damaged: its checksum is not that of its content")
    trial = TrialSpec.model_validate(completed(loaded["trial"]))
    return Checkpoint(trial, tuple(map(_row, loaded["rows"])), loaded)


def _row(saved: Mapping[str, Any]) -> EpochMetrics:
    """Return an epoch's row; a measure that did not exist when it was saved is None."""
    known: dict[str, Any] = {name: saved.get(name) for name in MEASURES}
    return EpochMetrics(**known, own=saved.get("own", {}))


def _brief(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"


def restore_state(
    checkpoint: Checkpoint, trial: TrialSpec, data: Dataset, device: torch.device, own: Own | None = None
) -> TrainState:
    """Return the saved state, to continue as `trial`, which may differ only in `training.epochs`.

    The trial's own file and its images may lie elsewhere, but must hold what they held.

    Raises:
        CheckpointError: if `trial` differs from what was trained, naming every such key, or if the images changed.
    """
    trained_on = checkpoint.content.get("images")  # None in checkpoints of earlier versions
    differing = differences(checkpoint.trial, trial, images_known=trained_on is not None)
    if differing:
        raise CheckpointError("only training.epochs may change on resume, but got " + "; ".join(differing))
    trained = checkpoint.content["epoch"]
    if trained > trial.training.epochs:
        raise CheckpointError(
            f"training.epochs must be at least the epochs already trained, but got {trial.training.epochs} < {trained}"
        )
    if trained_on not in (None, data.fingerprint):
        where = f" of {trial.data.path}" if trial.data.path is not None else ""
        raise CheckpointError(
            f"the images and labels{where} must be those that were trained on, of fingerprint {trained_on}, but got "
            f"{data.fingerprint}"
        )
    state = new_state(trial, data, device, own)
    try:
        _load(state, checkpoint.content)
    except (RuntimeError, ValueError) as error:
        raise CheckpointError(f"the checkpoint's networks do not fit these images: {error}") from error
    return state


def _load(state: TrainState, content: Mapping[str, Any]) -> None:
    state.D.network.load_state_dict(content["discriminator"])
    state.G.network.load_state_dict(content["generator"])
    state.averaged.load_state_dict(content["averaged"])
    # Checkpoints of earlier versions lack it: the average then starts from the weights that it would follow.
    state.averaged_g.load_state_dict(content.get("averaged_generator", content["generator"]))
    before = "adam" if "adam_d" in content else "optimiser"  # until version 3
    state.D.optimiser.load_state_dict(content[f"{before}_d"])
    state.G.optimiser.load_state_dict(content[f"{before}_g"])
    if "remembered_d" in content:  # since version 3
        _copy(content["remembered_d"], state.D.remembered())
        _copy(content["remembered_g"], state.G.remembered())
    state.epoch, state.step = content["epoch"], content["step"]


def _copy(saved: Sequence[Tensor], tensors: Sequence[Tensor]) -> None:
    for value, tensor in zip(saved, tensors, strict=True):
        tensor.copy_(value)


MAY_CHANGE: Final = frozenset({"training.epochs", "own.file"})


def differences(trained: TrialSpec, asked: TrialSpec, *, images_known: bool = True) -> list[str]:
    """Return `key: old -> new` for every key that differs, except those that may change.

    Args:
        trained: the configuration of the checkpoint.
        asked: the one to continue as.
        images_known: whether the checkpoint tells which images it was trained on, wherever they lie.
    """
    changes = describe_changes(trained.model_dump(mode="json"), asked.model_dump(mode="json"))
    may_change = MAY_CHANGE | ({"data.path"} if images_known else set())
    return [change for key, change in changes.items() if key not in may_change]
