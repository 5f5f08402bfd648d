"""A trial in training as one file: everything that the next epoch depends on, and the rows of the epochs so far."""

import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Final

import torch

from plgan_tune.config.changes import describe_changes
from plgan_tune.config.edition import completed
from plgan_tune.config.trial import TrialSpec
from plgan_tune.data.dataset import Dataset
from plgan_tune.records import EpochMetrics
from plgan_tune.training.state import TrainState, new_state

FORMAT: Final = "plgan_tune.checkpoint"
VERSION: Final = 2
"""2 has the diagnostics in its rows. Rows of another version are not this one's, so none but this is read."""

_DIGEST_BYTES: Final = 32
"""A sha256 of all before it ends the file: torch reads a zip whose bytes have changed without a word."""


class CheckpointError(Exception):
    """A file that is no checkpoint of ours, is damaged, or belongs to another configuration."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint's content, read but not yet put into networks.

    Attributes:
        trial: the configuration that was trained.
        rows: one an epoch, up to the checkpoint's own.
        content: the tensors and counters, as saved.
    """

    trial: TrialSpec
    rows: tuple[EpochMetrics, ...]
    content: Mapping[str, Any]


def encode_checkpoint(state: TrainState, rows: Sequence[EpochMetrics]) -> bytes:
    """The file's bytes. No generator is in it: every draw is a function of the seed and the step."""
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
            "discriminator": state.discriminator.state_dict(),
            "generator": state.generator.state_dict(),
            "averaged": state.averaged.state_dict(),
            "adam_d": state.adam_d.state_dict(),
            "adam_g": state.adam_g.state_dict(),
        },
        buffer,
    )
    content = buffer.getvalue()
    return content + hashlib.sha256(content).digest()


def decode_checkpoint(content: bytes, name: str) -> Checkpoint:
    """Reads a checkpoint; only tensors and plain values are loaded, never code.

    Raises:
        CheckpointError: naming `name`, where the bytes are damaged, foreign or of another version.
    """
    try:
        loaded = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # zipfile, pickle and torch each have their own
        raise CheckpointError(f"{name} is damaged or no checkpoint: {_brief(error)}") from error
    if not isinstance(loaded, dict) or loaded.get("format") != FORMAT:
        raise CheckpointError(f"{name} is no checkpoint of plgan_tune")
    if loaded.get("version") != VERSION:
        found = loaded.get("version")
        raise CheckpointError(f"{name} has version {found}, but this plgan_tune reads version {VERSION} only")
    if hashlib.sha256(content[:-_DIGEST_BYTES]).digest() != content[-_DIGEST_BYTES:]:
        raise CheckpointError(f"{name} is damaged: its checksum is not that of its content")
    trial = TrialSpec.model_validate(completed(loaded["trial"]))
    return Checkpoint(trial, tuple(map(_row, loaded["rows"])), loaded)


def _row(saved: Mapping[str, Any]) -> EpochMetrics:
    """A row of an epoch; a measure that was not there when it was saved is None."""
    known: dict[str, Any] = {field.name: saved.get(field.name) for field in fields(EpochMetrics)}
    return EpochMetrics(**known)


def _brief(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"


def restore_state(checkpoint: Checkpoint, trial: TrialSpec, data: Dataset, device: torch.device) -> TrainState:
    """The state as it was saved, to go on as `trial`, which may differ in `training.epochs` only.

    Raises:
        CheckpointError: naming every key in which `trial` differs from what was trained, or where the images are
            no longer of the shape or the number of classes that they had.
    """
    differing = differences(checkpoint.trial, trial)
    if differing:
        raise CheckpointError("only training.epochs may change at a resume, but so did " + "; ".join(differing))
    trained = checkpoint.content["epoch"]
    if trained > trial.training.epochs:
        raise CheckpointError(
            f"training.epochs must be at least the epochs that are trained, but got {trial.training.epochs} < {trained}"
        )
    state = new_state(trial, data, device)
    try:
        _load(state, checkpoint.content)
    except (RuntimeError, ValueError) as error:
        raise CheckpointError(f"the checkpoint's networks do not fit these images: {error}") from error
    return state


def _load(state: TrainState, content: Mapping[str, Any]) -> None:
    state.discriminator.load_state_dict(content["discriminator"])
    state.generator.load_state_dict(content["generator"])
    state.averaged.load_state_dict(content["averaged"])
    state.adam_d.load_state_dict(content["adam_d"])
    state.adam_g.load_state_dict(content["adam_g"])
    state.epoch, state.step = content["epoch"], content["step"]


MAY_CHANGE: Final = frozenset({"training.epochs"})


def differences(trained: TrialSpec, asked: TrialSpec) -> list[str]:
    """`key: old -> new` for every key, but those that may change, in which two configurations differ."""
    changes = describe_changes(trained.model_dump(mode="json"), asked.model_dump(mode="json"))
    return [change for key, change in changes.items() if key not in MAY_CHANGE]
