"""Measures an evaluation's trials on the test images: once, at the last epoch, from the checkpoint."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from math import isclose
from statistics import median
from typing import Any

import torch
from torch import Tensor

from plgan_tune.classifier import classifier_of
from plgan_tune.config.trial import TrialSpec
from plgan_tune.data.dataset import Dataset
from plgan_tune.evaluation.arena import Fighter, fighter
from plgan_tune.evaluation.battle import Battle
from plgan_tune.evaluation.configurations import is_generative
from plgan_tune.evaluation.fought import fight_battles
from plgan_tune.evaluation.generation import Fidelity, generated
from plgan_tune.evaluation.networks import last_checkpoint, own_networks
from plgan_tune.evaluation.pace import measure_paces
from plgan_tune.evaluation.plan import Evaluation
from plgan_tune.evaluation.quality import Quality, Yardstick
from plgan_tune.gan.own import Own
from plgan_tune.records import EvaluationRow, TrialRow, TrialStatus
from plgan_tune.store.location import Location, StoreError
from plgan_tune.store.read import EVALUATIONS, evaluation_rows, read_evaluations
from plgan_tune.store.schemas import evaluations_table
from plgan_tune.store.tables import write_table
from plgan_tune.training.checkpoint import Checkpoint, CheckpointError
from plgan_tune.training.generate import BATCH
from plgan_tune.training.judge import Judge
from plgan_tune.training.measures import classifier_score, score_deviation


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
        generators: for the trials of a study without labels; None if it has labels.
    """

    images: Tensor
    labels: Tensor
    judge: Judge | None
    fidelity: Fidelity | None
    device: torch.device
    now: Callable[[], datetime]
    generators: "GeneratorGauge | None" = None


@dataclass(frozen=True, slots=True)
class GeneratorGauge:
    """What generators of a study without labels are measured with.

    Attributes:
        yardstick: the test images.
        real: what training images come to on it.
        training: training images, of all classes alike.
        data: the images and their split, on which steps are timed.
    """

    yardstick: Yardstick
    real: Quality
    training: Tensor
    data: Dataset


@dataclass(frozen=True, slots=True)
class JudgeOnTest:
    """A judge and what it makes of the test images.

    Attributes:
        judge: the judge.
        error: its error on the test images.
        of_real: their score.
        doubt: 1 - the mean of its greatest probability.
    """

    judge: Judge
    error: float
    of_real: float
    doubt: float


@dataclass(frozen=True, slots=True)
class Measured:
    """The result of an evaluation.

    Attributes:
        rows: rows of the requested trials.
        judge: what gave their classifier scores.
        missing: a sentence for each of them that ended, but whose networks of the last epoch cannot be read.
        battles: of each pair of configurations of a study without labels, over their common seeds.
    """

    rows: list[EvaluationRow]
    judge: JudgeOnTest | None
    missing: tuple[str, ...]
    battles: Mapping[tuple[str, str], Battle] = field(default_factory=dict)


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
    if gauge.generators is not None and (timed := _timed(evaluation, rows, gauge.generators.data, gauge.device)):
        rows |= timed
        _write(evaluation, rows)
    asked = [rows[fixed.trial_id] for fixed in study.trials if fixed.trial_id in rows]
    return Measured(asked, judge, tuple(missing), _battles(evaluation, rows, ended, gauge))


def _battles(
    evaluation: Evaluation, rows: Mapping[str, EvaluationRow], ended: Mapping[str, TrialRow], gauge: Gauge
) -> Mapping[tuple[str, str], Battle]:
    generators = gauge.generators
    if generators is None:
        return {}

    def enter(trial: TrialRow) -> Fighter:
        checkpoint = last_checkpoint(evaluation.location, trial)
        own = own_networks(evaluation.location, checkpoint)
        return fighter(checkpoint, own, generators.training, gauge.images, gauge.device)

    return fight_battles(evaluation, {name: ended[name] for name in rows}, enter, gauge.device, gauge.now)


def _timed(
    evaluation: Evaluation, rows: Mapping[str, EvaluationRow], data: Dataset, device: torch.device
) -> dict[str, EvaluationRow]:
    """Return the rows of all configurations with the times of a step, if one of them lacks its: they take turns."""
    asked = {one.trial_id: one for one in evaluation.study.trials if one.trial_id in rows}
    trials = {rows[trial_id].configuration: one.trial for trial_id, one in asked.items()}
    lacks = {rows[trial_id].configuration for trial_id in asked if rows[trial_id].seconds_per_generator_step is None}
    if not any(trials[name].own.file is None for name in lacks):
        return {}
    paces = measure_paces(trials, data, device)
    return {
        trial_id: replace(
            rows[trial_id],
            seconds_per_discriminator_step=pace.discriminator,
            seconds_per_generator_step=pace.generator,
        )
        for trial_id in asked
        if (pace := paces.get(rows[trial_id].configuration)) is not None
    }


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
    doubt = float(1 - probabilities.amax(dim=1).mean())
    return JudgeOnTest(judge, float(wrong.double().mean()), classifier_score(probabilities), doubt)


def _lacks(row: EvaluationRow, trial: TrialSpec, judge: JudgeOnTest | None, gauge: Gauge) -> bool:
    """Return whether the row lacks a score that can be measured now, or has that of another judge."""
    if row.status is not TrialStatus.COMPLETED or not is_generative(trial):
        return False
    scored = row.classifier_score_deviation is not None and row.classifier_score_real is not None
    same = judge is None or (scored and isclose(row.classifier_score_real or 0.0, judge.of_real, rel_tol=1e-4))
    unmeasured = gauge.generators is not None and row.test_transport is None
    return not same or unmeasured or (gauge.fidelity is not None and row.inception_score_deviation is None)


def _measured(
    location: Location,
    row: TrialRow,
    trial: TrialSpec,
    judge: JudgeOnTest | None,
    gauge: Gauge,
    earlier: EvaluationRow | None,
) -> EvaluationRow:
    """Measure a training; FID and Inception score of its earlier row stay where they are not measured now."""
    found: dict[str, Any] = dict.fromkeys(_FOUND)
    if earlier is not None:
        found |= {name: getattr(earlier, name) for name in _BY_INCEPTION}
    if row.status is TrialStatus.COMPLETED:
        checkpoint = last_checkpoint(location, row)
        own = own_networks(location, checkpoint)
        if gauge.generators is None:
            found |= _of_classifier(checkpoint, own, judge, gauge)
        else:
            found |= _of_generator(checkpoint, own, judge, gauge.generators, gauge)
    return EvaluationRow(
        configuration=str(row.params["configuration"]),
        seed=row.seed,
        refit=trial.data.refit,
        trial_id=row.trial_id,
        status=row.status,
        epochs=row.epochs,
        test_images=len(gauge.labels),
        value_last=None if trial.data.refit else row.value_last,
        split_hash=row.split_hash,
        seconds=row.seconds,
        evaluated_at=gauge.now(),
        **found,
    )


_FOUND = ("test_error", "test_error_raw", "classifier_score", "classifier_score_real", "inception_score", "fid")
"""What a trial that did not complete lacks, of the fields without a default."""

_BY_INCEPTION = ("inception_score", "inception_score_deviation", "fid")
"""The fields of `Scores`."""


def _of_classifier(checkpoint: Checkpoint, own: Own | None, judge: JudgeOnTest | None, gauge: Gauge) -> dict[str, Any]:
    """Return the fields of a trial with labels: errors of D, and scores of G if it was trained."""
    error, raw = _errors(checkpoint, own, gauge)
    found = {"test_error": error, "test_error_raw": raw}
    if not is_generative(checkpoint.trial):
        return found
    images = generated(checkpoint, gauge.device, own=own)
    if judge is not None:
        probabilities = judge.judge.probabilities(judge.judge.features(images.to(gauge.device)))
        found["classifier_score"] = classifier_score(probabilities)
        found["classifier_score_deviation"] = score_deviation(probabilities)
        found["classifier_score_real"] = judge.of_real
    return found | _inception(images, gauge)


def _of_generator(
    checkpoint: Checkpoint, own: Own | None, judge: JudgeOnTest | None, generators: GeneratorGauge, gauge: Gauge
) -> dict[str, Any]:
    """Return the fields of a trial without labels: measures of G, and what a step took."""
    yardstick, real = generators.yardstick, generators.real
    averaged = generated(checkpoint, gauge.device, own=own, weights="averaged")
    found = yardstick.measure(averaged)
    raw = yardstick.measure(generated(checkpoint, gauge.device, -(-yardstick.compared // BATCH) * BATCH, own))
    return {
        "test_distance": found.distance,
        "test_distance_raw": raw.distance,
        "test_distance_real": real.distance,
        "test_coverage": found.coverage,
        "test_coverage_real": real.coverage,
        "test_transport": found.transport,
        "test_transport_real": real.transport,
        "classifier_score": found.score,
        "classifier_score_deviation": found.score_deviation,
        "classifier_score_real": None if judge is None else judge.of_real,
        "doubt": found.doubt,
        "doubt_real": None if judge is None else judge.doubt,
        "seconds_per_step": _seconds_per_step(checkpoint),
        **_inception(averaged, gauge),
    }


def _inception(images: Tensor, gauge: Gauge) -> dict[str, Any]:
    if gauge.fidelity is None:
        return {}
    return dict(zip(_BY_INCEPTION, gauge.fidelity.measure(images), strict=True))


def _seconds_per_step(checkpoint: Checkpoint) -> float | None:
    """Return the time of a step of G with its share of D's steps, median over the epochs."""
    training = checkpoint.trial.training
    images = training.batch_size * training.discriminator_steps / training.generator_steps
    speeds = [row.images_per_second for row in checkpoint.rows if row.images_per_second]
    return images / median(speeds) if speeds else None


def _errors(checkpoint: Checkpoint, own: Own | None, gauge: Gauge) -> tuple[float, float]:
    """Return the test errors of the averaged and of the raw weights."""
    averaged, raw = (
        classifier_of(checkpoint, weights, own).to(gauge.device).error(gauge.images, gauge.labels)
        for weights in ("averaged", "raw")
    )
    return averaged, raw
