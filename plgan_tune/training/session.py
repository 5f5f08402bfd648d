"""Training of one configuration outside a search: yields epochs and sends rows and files to a sink."""

import time
from collections.abc import Generator, Sequence
from typing import Protocol

from plgan_tune.config.trial import TrialSpec
from plgan_tune.data.dataset import Dataset
from plgan_tune.records import EpochMetrics
from plgan_tune.training.checkpoint import encode_checkpoint
from plgan_tune.training.judge import Judge
from plgan_tune.training.loop import Clock, epochs
from plgan_tune.training.ranks import ALONE, Ranks
from plgan_tune.training.samples import sample_grid
from plgan_tune.training.state import TrainState

CHECKPOINT_SECONDS = 120.0
"""Between checkpoints if `training.checkpoint_every` is null."""


class Sink(Protocol):
    """Where a session's rows and files go."""

    def epoch(self, metrics: EpochMetrics, /) -> None:
        """Take an epoch's row."""

    def checkpoint(self, content: bytes, /) -> None:
        """Take a checkpoint's bytes."""

    def samples(self, png: bytes, /) -> None:
        """Take a sample grid."""


def session(
    state: TrainState,
    earlier: Sequence[EpochMetrics],
    data: Dataset,
    sink: Sink,
    ranks: Ranks = ALONE,
    clock: Clock = time.perf_counter,
    judge: Judge | None = None,
) -> Generator[EpochMetrics, None, None]:
    """Train to the last epoch; yield each epoch after its row is in the sink.

    A checkpoint and a sample grid are written at the end, or when the caller closes the iterator between epochs. After
    an error within an epoch the last checkpoint is kept, because the state is then between epochs.

    Args:
        state: new, or restored from a checkpoint.
        earlier: rows of the epochs that `state` has already completed.
        data: the images.
        sink: takes rows, checkpoints and the sample grid.
        ranks: this process's place; with several ranks only one has a session, the others only run `epochs`.
        clock: seconds, for measures and checkpoints.
        judge: measures generated images.
    """
    rows = list(earlier)
    saved_at, saved_epoch = clock(), -1
    try:
        for metrics in epochs(state, data, ranks, clock, judge):
            rows.append(metrics)
            sink.epoch(metrics)
            if is_due(state.trial, state.epoch, clock() - saved_at):
                sink.checkpoint(encode_checkpoint(state, rows))
                saved_at, saved_epoch = clock(), state.epoch
            yield metrics
    except GeneratorExit:
        _finish(state, rows, sink, saved_epoch)
        raise
    _finish(state, rows, sink, saved_epoch)


def _finish(state: TrainState, rows: list[EpochMetrics], sink: Sink, saved_epoch: int) -> None:
    if saved_epoch != state.epoch:
        sink.checkpoint(encode_checkpoint(state, rows))
    sink.samples(sample_grid(state))


def is_due(trial: TrialSpec, epoch: int, seconds: float) -> bool:
    """Return whether a checkpoint is due after `epoch`, `seconds` after the last (`training.checkpoint_every`)."""
    every = trial.training.checkpoint_every
    return seconds >= CHECKPOINT_SECONDS if every is None else epoch % every == 0
