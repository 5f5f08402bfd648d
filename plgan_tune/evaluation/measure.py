"""Measures an evaluation's trials on the test images: once, at the last epoch, from the checkpoint."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from math import isclose

import torch
from torch import Tensor

from plgan_tune.classifier import classifier_of
from plgan_tune.config.trial import TrialSpec
from plgan_tune.evaluation.configurations import is_generative
from plgan_tune.evaluation.generation import Fidelity, generated
from plgan_tune.evaluation.plan import Evaluation
from plgan_tune.gan.own import Own
from plgan_tune.records import EvaluationRow, TrialRow, TrialStatus
from plgan_tune.store.checkpoints import TrialFiles
from plgan_tune.store.location import Location, StoreError
from plgan_tune.store.own import own_copy
from plgan_tune.store.read import EVALUATIONS, evaluation_rows, read_evaluations
from plgan_tune.store.schemas import evaluations_table
from plgan_tune.store.tables import write_table
from plgan_tune.trained import own_of, read_checkpoint
from plgan_tune.training.checkpoint import Checkpoint, CheckpointError
from plgan_tune.training.judge import Judge
from plgan_tune.training.measures import classifier_score


@dataclass(frozen=True, slots=True)
class Gauge:
    """What trials are measured with.

    Attributes:
        images: the test images, (n, channels, size, size) uint8.
        labels: their labels, (n,) int64.
        judge: gives the classifier score; None if the data have no labels for one.
        fidelity: for Inception score and FID; None leaves them out.
        device: where networks run.
        now: returns the UTC time.
    """

    images: Tensor
    labels: Tensor
    judge: Judge | None
    fidelity: Fidelity | None
    device: torch.device
    now: Callable[[], datetime]


@dataclass(frozen=True, slots=True)
class JudgeOnTest:
    """A judge and what it makes of the test images.

    Attributes:
        judge: the judge.
        error: its error on the test images.
        of_real: their score.
    """

    judge: Judge
    error: float
    of_real: float


@dataclass(frozen=True, slots=True)
class Measured:
    """The result of an evaluation.

    Attributes:
        rows: rows of the requested trials.
        judge: what gave their classifier scores.
        missing: a sentence for each of them that ended, but whose networks of the last epoch cannot be read.
    """

    rows: list[EvaluationRow]
    judge: JudgeOnTest | None
    missing: tuple[str, ...]


def measure(evaluation: Evaluation, gauge: Gauge) -> Measured:
    """Measure the trials that have ended and are not measured yet; write the rows of all trials in the log.

    Measures of an earlier start are kept, unless they lack requested scores, or have those of another judge. The row of
    a training that is not in the log, because the folder was removed to start over, is dropped.

    Raises:
        StoreError: if the log or the table cannot be read or written.
    """
    study = evaluation.study
    ended = {row.trial_id: row for row in study.rows().ended}
    metric = evaluation.metric.name
    earlier = evaluation_rows(read_evaluations(evaluation.search, evaluation.study_id, metric), metric)
    rows = {row.trial_id: row for row in earlier if row.trial_id in ended and _is_of(row, ended[row.trial_id])}
    missing: list[str] = []
    judge = _tested(gauge)
    for fixed in study.trials:
        trial, row = ended.get(fixed.trial_id), rows.get(fixed.trial_id)
        if trial is None or (row is not None and not _lacks(row, fixed.trial, judge, gauge)):
            continue
        try:
            rows[fixed.trial_id] = _measured(study.location, trial, fixed.trial, judge, gauge, row)
        except (StoreError, CheckpointError) as error:
            missing.append(f"{fixed.trial_id} is not measured: {error}")
        # An Inception network takes minutes per trial: an interruption must not lose them.
        _write(evaluation, rows)
    if len(rows) < len(earlier):
        _write(evaluation, rows)
    asked = [rows[fixed.trial_id] for fixed in study.trials if fixed.trial_id in rows]
    return Measured(asked, judge, tuple(missing))


def _write(evaluation: Evaluation, rows: Mapping[str, EvaluationRow]) -> None:
    table = evaluations_table(list(rows.values()), evaluation.metric.name)
    write_table(table, evaluation.search.join(*EVALUATIONS), study_id=evaluation.study_id)


def _is_of(row: EvaluationRow, trial: TrialRow) -> bool:
    """Return whether the row belongs to this training: an evaluation that starts over uses the same trial names."""
    measured = (row.status, row.epochs, row.split_hash, row.seconds)
    return measured == (trial.status, trial.epochs, trial.split_hash, trial.seconds)


def _tested(gauge: Gauge) -> JudgeOnTest | None:
    if gauge.judge is None:
        return None
    judge = gauge.judge.to(gauge.device)
    probabilities = judge.probabilities(judge.features(gauge.images.to(gauge.device)))
    wrong = probabilities.argmax(dim=1).cpu() != gauge.labels
    return JudgeOnTest(judge, float(wrong.double().mean()), classifier_score(probabilities))


def _lacks(row: EvaluationRow, trial: TrialSpec, judge: JudgeOnTest | None, gauge: Gauge) -> bool:
    """Return whether the row lacks a score that can be measured now, or has that of another judge."""
    if row.status is not TrialStatus.COMPLETED or not is_generative(trial):
        return False
    scored = row.classifier_score is not None and row.classifier_score_real is not None
    same = judge is None or (scored and isclose(row.classifier_score_real or 0.0, judge.of_real, rel_tol=1e-4))
    return not same or (gauge.fidelity is not None and row.fid is None)


def _measured(
    location: Location,
    row: TrialRow,
    trial: TrialSpec,
    judge: JudgeOnTest | None,
    gauge: Gauge,
    earlier: EvaluationRow | None,
) -> EvaluationRow:
    """Measure a training; FID and Inception score of its earlier row stay where they are not measured now."""
    completed = row.status is TrialStatus.COMPLETED
    checkpoint = _checkpoint(location, row) if completed else None
    own = _own(location, checkpoint) if checkpoint else None
    error, raw = _errors(checkpoint, own, gauge) if checkpoint else (None, None)
    images = generated(checkpoint, gauge.device, own=own) if checkpoint and is_generative(trial) else None
    score = _score(judge.judge, images, gauge.device) if judge and images is not None else None
    kept = (None, None) if earlier is None else (earlier.inception_score, earlier.fid)
    inception, fid = gauge.fidelity.measure(images) if gauge.fidelity and images is not None else kept
    return EvaluationRow(
        configuration=str(row.params["configuration"]),
        seed=row.seed,
        refit=trial.data.refit,
        trial_id=row.trial_id,
        status=row.status,
        epochs=row.epochs,
        test_error=error,
        test_error_raw=raw,
        test_images=len(gauge.labels),
        value_last=None if trial.data.refit else row.value_last,
        classifier_score=score,
        classifier_score_real=None if score is None or judge is None else judge.of_real,
        inception_score=inception,
        fid=fid,
        split_hash=row.split_hash,
        seconds=row.seconds,
        evaluated_at=gauge.now(),
    )


def _score(judge: Judge, images: Tensor, device: torch.device) -> float:
    return classifier_score(judge.probabilities(judge.features(images.to(device))))


def _own(location: Location, checkpoint: Checkpoint) -> Own | None:
    """Return the user's own file that builds the networks, from the evaluation's copy; None if none does."""
    if checkpoint.trial.model.kind != "own":
        return None
    copy = own_copy(location, str(checkpoint.trial.own.sha256))
    return own_of(checkpoint, copy.read_bytes(), copy.url)


def _errors(checkpoint: Checkpoint, own: Own | None, gauge: Gauge) -> tuple[float, float]:
    """Return the test errors of the averaged and of the raw weights."""
    averaged, raw = (
        classifier_of(checkpoint, weights, own).to(gauge.device).error(gauge.images, gauge.labels)
        for weights in ("averaged", "raw")
    )
    return averaged, raw


def _checkpoint(location: Location, row: TrialRow) -> Checkpoint:
    """Read the checkpoint of the last epoch; a store that failed at a trial's end may hold an earlier one or none."""
    folder = TrialFiles.of(location, row.trial_id).location
    checkpoint = read_checkpoint(folder)
    if checkpoint.content["epoch"] != row.epochs:
        raise CheckpointError(
            f"{folder.url} must hold a checkpoint of epoch {row.epochs}, the trial's last, but its newest is of epoch "
            f"{checkpoint.content['epoch']}"
        )
    return checkpoint
