"""Run one rank of a trial. Data and device stay loaded from trial to trial."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import torch

from plgan_tune.config.trial import DataSpec, TrialSpec
from plgan_tune.data.dataset import Dataset, load_dataset
from plgan_tune.gan.own_contract import Shapes
from plgan_tune.gan.own_file import load_own
from plgan_tune.gan.pairs.base import ImageShape
from plgan_tune.records import EpochMetrics, TrialStatus
from plgan_tune.store.checkpoints import TrialFiles
from plgan_tune.store.judge import JUDGE_FILE, read_judge
from plgan_tune.store.location import Location, StoreError
from plgan_tune.store.own import own_copy
from plgan_tune.store.retry import retry
from plgan_tune.study.assignment import Assignment, EpochReport
from plgan_tune.training.checkpoint import (
    Checkpoint,
    CheckpointError,
    decode_checkpoint,
    encode_checkpoint,
    restore_state,
)
from plgan_tune.training.judge import decode_judge
from plgan_tune.training.loop import Diverged, run
from plgan_tune.training.ranks import Ranks, check_ranks
from plgan_tune.training.reference import Reference
from plgan_tune.training.samples import averaged_grid, averaged_steps, grid_epochs, sample_grid
from plgan_tune.training.session import is_due
from plgan_tune.training.state import TrainState, new_state
from plgan_tune.training.step_runner import StepRunner, step_runner_for


def device_for(gpus: float) -> torch.device:
    """Return the device of a rank: the GPU that Ray assigned, or the CPU if `gpus` is 0.

    Ray shows all of a node's GPUs to a process that requested none. A rank with a fraction of a GPU may use that
    fraction of its memory, so that one that needs more fails alone and not its neighbours.
    """
    if not gpus:
        return torch.device("cpu")
    device = torch.device("cuda", 0)
    if gpus < 1:
        torch.cuda.set_per_process_memory_fraction(gpus, device)
    return device


@dataclass(slots=True)
class _Attempt:
    """The current attempt of a trial.

    Attributes:
        rows: Rows of the epochs that `state` has completed.
        grids: PNGs of images after some of these epochs. They are written at the trial's end: of one that is stopped
            nobody looks at them. Rank 0 alone has them.
        unlogged: Those of `rows` that an earlier attempt saved but did not report.
        whole: Name of the trial's last checkpoint that was read or written, if any.
        notes: Notes to the user that no report has carried yet.
    """

    number: int
    trial: TrialSpec
    files: TrialFiles
    state: TrainState
    rows: list[EpochMetrics]
    grids: dict[int, bytes]
    unlogged: list[EpochMetrics]
    epochs: Iterator[EpochMetrics]
    saved_at: float
    saved_epoch: int
    whole: str | None
    notes: list[str]


class TrialWorker:
    """Trains one trial after another, as one rank. The images stay loaded between trials.

    Args:
        ranks: This process's place among the ranks of a trial; `ALONE` if there is one.
        device: Where it trains.
        node: The address of this machine, for the results.
        study: The folder of the study.
        threads: CPU threads.
    """

    def __init__(self, ranks: Ranks, device: torch.device, node: str, study: Location, threads: int) -> None:
        self._ranks = ranks
        self._device = device
        self._node = node
        self._study = study
        self._threads = threads
        self._data: tuple[DataSpec, Dataset, Reference] | None = None
        self._runner: StepRunner | None = None
        self._attempt: _Attempt | None = None

    def begin(self, assignment: Assignment) -> None:
        """Start an attempt, from the trial's last checkpoint if there is one.

        Args:
            assignment: The attempt.
        """
        self._attempt = None
        torch.set_num_threads(self._threads)
        trial = assignment.trial
        files = TrialFiles.of(self._study, assignment.trial_id)
        judge = None if self._has(trial.data) else self._ranks.run_on_rank0(lambda: retry(self._judge_file))
        with self._ranks.sync_errors():
            check_ranks(self._ranks.count, trial.training.batch_size)
            data, reference = self._load(trial.data, judge)
        saved, whole, notes = self._ranks.run_on_rank0(
            lambda: retry(lambda: newest_checkpoint(files)) if assignment.attempt > 1 else (None, None, [])
        )
        content = self._own_content(trial)
        with self._ranks.sync_errors():
            shapes = Shapes.of(ImageShape(data.channels, data.size), data.n_classes, trial.data)
            own = None if content is None else load_own(content, trial.own, str(trial.own.file), shapes)
            device = self._device
            state = restore_state(saved, trial, data, device, own) if saved else new_state(trial, data, device, own)
            self._runner = step_runner_for(state, data, self._ranks, self._runner)
        self._attempt = _Attempt(
            number=assignment.attempt,
            trial=trial,
            files=files,
            state=self._runner.state,
            rows=list(saved.rows) if saved else [],
            grids=saved.grids if saved else {},
            unlogged=[row for row in saved.rows if row.epoch > assignment.logged] if saved else [],
            epochs=run(self._runner, reference=reference),
            saved_at=time.monotonic(),
            saved_epoch=state.epoch,
            whole=whole,
            notes=notes,
        )

    def step(self) -> EpochReport:
        """Train one epoch. A checkpoint is written when it is due, and at the trial's end.

        Returns:
            The report for `Coordinator.report`.
        """
        assert self._attempt is not None
        attempt = self._attempt
        if attempt.unlogged:
            return self._report_epoch(attempt, attempt.unlogged.pop(0))
        self._attempt = None  # an epoch that fails midway leaves a state that must not be saved
        try:
            metrics = next(attempt.epochs)
        except Diverged as error:
            return self._report(attempt, None, TrialStatus.DIVERGED, str(error))
        self._attempt = attempt
        attempt.rows.append(metrics)
        if self._ranks.index == 0 and metrics.epoch in grid_epochs(attempt.trial):
            attempt.grids[metrics.epoch] = averaged_grid(attempt.state)
        last = metrics.epoch == attempt.trial.training.epochs
        if last:
            self._save_whole_trial(attempt)
        elif is_due(attempt.trial, metrics.epoch, time.monotonic() - attempt.saved_at):
            self._save_or_say_why_not(attempt)
        return self._report_epoch(attempt, metrics)

    def save(self) -> None:
        """Write a checkpoint of the last epoch, if there is none yet and an epoch has ended."""
        attempt = self._attempt
        if attempt is None or attempt.saved_epoch == attempt.state.epoch:
            return
        if self._ranks.index == 0:
            content = encode_checkpoint(attempt.state, attempt.rows, attempt.grids)
            attempt.whole = attempt.files.write(attempt.number, attempt.state.epoch, content, attempt.whole)
        attempt.saved_at, attempt.saved_epoch = time.monotonic(), attempt.state.epoch

    def _save_or_say_why_not(self, attempt: _Attempt) -> None:
        """Write a checkpoint. If the store fails, only add a note: the attempt continues, and the next may succeed."""
        try:
            self.save()
        except StoreError as error:
            attempt.notes.append(f"no checkpoint could be written after epoch {attempt.state.epoch}: {error}")

    def _save_whole_trial(self, attempt: _Attempt) -> None:
        def write() -> None:
            self.save()
            if self._ranks.index == 0:
                self._write_pictures(attempt)

        try:
            retry(write)
        except StoreError as error:  # the trial's epochs count without it
            attempt.notes.append(f"its last checkpoint and samples are missing: {error}")

    def _write_pictures(self, attempt: _Attempt) -> None:
        attempt.files.write_samples(sample_grid(attempt.state))
        for epoch, png in attempt.grids.items():
            attempt.files.write_grid(epoch, png)
        if attempt.grids and (steps := averaged_steps(attempt.state)) is not None:
            attempt.files.write_steps(steps)

    def _report_epoch(self, attempt: _Attempt, metrics: EpochMetrics) -> EpochReport:
        last = metrics.epoch == attempt.trial.training.epochs
        return self._report(attempt, metrics, TrialStatus.COMPLETED if last else TrialStatus.RUNNING)

    def _own_content(self, trial: TrialSpec) -> bytes | None:
        """Return, on every rank, what the study's copy of the user's own file holds; None if the trial has none."""
        if trial.own.sha256 is None:
            return None
        copy = own_copy(self._study, trial.own.sha256)
        return self._ranks.run_on_rank0(lambda: retry(copy.read_bytes))

    def _judge_file(self) -> bytes | None:
        return read_judge(self._study)

    def _has(self, spec: DataSpec) -> bool:
        return self._data is not None and self._data[0] == spec

    def _load(self, spec: DataSpec, judge_file: bytes | None) -> tuple[Dataset, Reference]:
        if self._data is None or self._data[0] != spec:
            data = load_dataset(spec).to(self._device)
            judge = None if judge_file is None else decode_judge(judge_file, self._study.join(JUDGE_FILE).url)
            self._data = spec, data, Reference.of(data, judge)
        return self._data[1:]

    def _report(
        self, attempt: _Attempt, metrics: EpochMetrics | None, status: TrialStatus, error: str | None = None
    ) -> EpochReport:
        assert self._data is not None
        notes, attempt.notes = tuple(attempt.notes), []
        return EpochReport(
            status=status,
            attempt=attempt.number,
            metrics=metrics,
            split_hash=self._data[1].split.hash,
            node=self._node,
            reported_at=datetime.now(UTC),
            notes=notes,
            error=error,
        )


def newest_checkpoint(files: TrialFiles) -> tuple[Checkpoint | None, str | None, list[str]]:
    """Return the trial's latest readable checkpoint, its name, and a note on each newer one that is damaged."""
    notes: list[str] = []
    for file in files.newest_first():
        try:
            return decode_checkpoint(file.read_bytes(), file.url), file.name, notes
        except CheckpointError as error:
            notes.append(f"{error}; the one before it is used, or the trial starts over")
    return None, None, notes
