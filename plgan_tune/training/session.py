"""One configuration's training outside a search: epochs pass through, rows and files go to a sink."""

import time
from collections.abc import Generator, Sequence
from typing import Protocol

from plgan_tune.config.trial import TrialSpec
from plgan_tune.data.dataset import Dataset
from plgan_tune.records import EpochMetrics
from plgan_tune.training.checkpoint import encode_checkpoint
from plgan_tune.training.loop import Clock, epochs
from plgan_tune.training.ranks import ALONE, Ranks
from plgan_tune.training.samples import sample_grid
from plgan_tune.training.state import TrainState

CHECKPOINT_SECONDS = 120.0
"""Between checkpoints where `training.checkpoint_every` is null."""


class Sink(Protocol):
    """Where a session's rows and files go."""

    def epoch(self, metrics: EpochMetrics, /) -> None: ...
    def checkpoint(self, content: bytes, /) -> None: ...
    def samples(self, png: bytes, /) -> None: ...


def session(
    state: TrainState,
    earlier: Sequence[EpochMetrics],
    data: Dataset,
    sink: Sink,
    ranks: Ranks = ALONE,
    clock: Clock = time.perf_counter,
) -> Generator[EpochMetrics, None, None]:
    """Trains to the last epoch and yields each one, its row already with the sink.

    A checkpoint and a sample grid are written at the end, and where the caller closes the iterator between epochs.
    After an error in mid-epoch the last checkpoint stays: the state is then no epoch's.

    Args:
        state: new, or restored from a checkpoint.
        earlier: rows of the epochs that `state` has behind it.
        ranks: this process's place; of several ranks one alone has a session, the others only their `epochs`.
    """
    rows = list(earlier)
    saved_at, saved_epoch = clock(), -1
    try:
        for metrics in epochs(state, data, ranks, clock):
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
    """Whether `training.checkpoint_every` asks for a checkpoint after `epoch`, `seconds` after the last one."""
    every = trial.training.checkpoint_every
    return seconds >= CHECKPOINT_SECONDS if every is None else epoch % every == 0
