"""The frozen rows that pass between rooms.

Each field carries its meaning and unit as metadata; `store` turns that into Arrow schemas, so a column is described
in exactly one place. Errors are fractions in [0, 1], times are seconds or UTC instants. A study's metric has its own
unit.
"""

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from datetime import datetime
from enum import StrEnum
from math import nan
from typing import Any, Final

Value = bool | int | float | str | None
"""A value of a searched key, as a results file holds it."""


class TrialStatus(StrEnum):
    """The state of a trial.

    A trial that early stopping ended is `stopped`; one whose loss is no longer finite is `diverged`.
    """

    RUNNING = "running"
    COMPLETED = "completed"
    STOPPED = "stopped"
    DIVERGED = "diverged"
    FAILED = "failed"


class Verdict(StrEnum):
    """What early stopping decides for a trial at a rung.

    A `control` would be stopped, but continues: controls measure what early stopping costs. To `drop` is decided by the
    race: the configuration is trained with no further seed.
    """

    CONTINUE = "continue"
    STOP = "stop"
    CONTROL = "control"
    DROP = "drop"


def column(
    meaning: str, unit: str = "", least: float | None = None, most: float | None = None, default: Any = MISSING
) -> Any:
    """Return a dataclass field with its meaning, unit and bounds, which the schema shows and readers check."""
    return field(default=default, metadata={"meaning": meaning, "unit": unit, "least": least, "most": most})


@dataclass(frozen=True, slots=True)
class EpochMetrics:
    """The measures of one epoch of training. Losses are means over the epoch's steps.

    `epoch`, the learning rates and `seconds` are always present. Any other measure is None if the trial's method or
    data have no such quantity, or if the version that wrote the row did not measure it yet.
    """

    epoch: int = column("epochs completed when this was measured; the first row has 1", "epochs", least=1)
    val_error: float | None = column("error of the averaged weights on the validation images", "fraction", 0, 1)
    val_error_raw: float | None = column("error of the raw weights on the validation images", "fraction", 0, 1)
    loss_supervised: float | None = column("C_sup (patent eq. 13)", "nats")
    loss_unsupervised: float | None = column("C_unsup (patent eq. 14), scaled; a critic's has no unit", "nats")
    loss_adversarial: float | None = column("V_log, before alpha; a critic's has no unit", "nats")
    loss_feature: float | None = column("V_feature, before beta", "")
    ramp: float | None = column("w, the weight of the saturating loss in this epoch", "fraction", 0, 1)
    lr_discriminator: float = column("learning rate of the discriminator in this epoch, decay included", least=0)
    lr_generator: float = column("learning rate of the generator in this epoch, decay included", least=0)
    images_per_second: float | None = column(
        "unlabelled images of discriminator steps per second of training", "1/s", least=0
    )
    seconds: float = column("time of this epoch, validation included", "s", least=0)
    grad_norm_adversarial: float | None = column(
        "norm of V_log's gradient in the generator's parameters, before alpha, on the epoch's probe", ""
    )
    grad_norm_feature: float | None = column(
        "norm of V_feature's gradient in the generator's parameters, before beta, on the epoch's probe", ""
    )
    accuracy_real: float | None = column(
        "share of the probe's real images with D(x) > (1 - smoothing) / 2, of a critic those nearer to real ones",
        "fraction",
        0,
        1,
    )
    accuracy_generated: float | None = column(
        "share of the probe's generated images with D(G(z)) < (1 - smoothing) / 2, of a critic those nearer to such",
        "fraction",
        0,
        1,
    )
    real_max_logit_positive: float | None = column(
        "share of the probe's real images with max logit > 0", "fraction", 0, 1
    )
    entropy_generated: float | None = column(
        "entropy of the classes predicted for the probe's generated images; near 0 if modes collapse", "nats", 0
    )
    error_gap: float | None = column(
        "val_error_raw - val_error; negative if the averaged weights lag", "fraction", -1, 1
    )
    loss_self_training: float | None = column("C_self, before self_scale", "nats", default=None)
    val_balanced_error: float | None = column(
        "mean of the classes' own errors, of the averaged weights, on the validation images",
        "fraction",
        0,
        1,
        default=None,
    )
    val_distance: float | None = column(
        "Frechet distance of images by the averaged generator from the validation images, in the judge's features",
        "",
        0,
        default=None,
    )
    val_distance_raw: float | None = column(
        "val_distance of images by the generator's raw weights", "", 0, default=None
    )
    val_coverage: float | None = column(
        "share of validation images whose ball of 5 neighbours holds an image by the averaged generator",
        "fraction",
        0,
        1,
        default=None,
    )
    val_score: float | None = column(
        "classifier score by the judge of images by the averaged generator, 1 to the number of classes",
        "",
        1,
        default=None,
    )
    val_transport: float | None = column(
        "sliced W1 distance of pixels in [0, 1] of images by the averaged generator from the validation images",
        "",
        0,
        default=None,
    )
    loss_penalty: float | None = column("C_gp, the gradient penalty, before its weight", "", default=None)
    critic_gap: float | None = column(
        "mean of the critic's value over the probe's real images, less that over its generated ones", "", default=None
    )
    critic_gap_val: float | None = column(
        "the same with validation images in place of the real ones; below critic_gap if the critic overfits",
        "",
        default=None,
    )
    own: Mapping[str, float] = field(default_factory=dict, kw_only=True)
    """Terms of the user's own file (`trial.own`) by their names, one column `own_<name>` each."""

    def value(self, metric: str) -> float | None:
        """Return the measure of that name; None where it was not measured."""
        value: float | None = getattr(self, metric)
        return value

    def cells(self) -> dict[str, Any]:
        """Return the measures by their columns."""
        return {name: getattr(self, name) for name in MEASURES} | {OWN + name: self.own[name] for name in self.own}


MEASURES: Final = tuple(f.name for f in fields(EpochMetrics) if f.name != "own")
"""The measures that every trial has a column for."""

OWN: Final = "own_"
"""How the columns of own terms begin."""

NAMED_BY_METRIC: Final = ("value_last", "value_best")
"""Fields of rows whose columns are `<metric>_last` and `<metric>_best`, in the unit and bounds of that measure."""

NAMED_BY_SECOND: Final = ("second_last", "second_best")
"""The same of the second metric, for rows of a study that searches by two; others have no such columns."""


def about(measure: str) -> Mapping[str, Any]:
    """Return a measure's meaning, unit, least and greatest value, as `column` keeps them."""
    (found,) = (f.metadata for f in fields(EpochMetrics) if f.name == measure)
    return found


@dataclass(frozen=True, slots=True)
class Report:
    """An epoch as early stopping sees it: the part of the row that a replay needs.

    `value` is that of the study's metric, in its own unit; NaN where it was not measured. `second` is that of its
    second metric, if it searches by two.
    """

    seq: int
    trial_id: str
    attempt: int
    epoch: int
    value: float
    second: float | None = None


@dataclass(frozen=True, slots=True)
class EpochRow:
    """One epoch of one attempt of one trial, as the study's log holds it."""

    seq: int = column("order of arrival at the driver, over the whole study", least=0)
    trial_id: str = column("the study's own trial id")
    attempt: int = column("the trial's n-th start; the first is 1", least=1)
    metrics: EpochMetrics = column("spread over its columns")
    reported_at: datetime = column("when the epoch ended", "UTC")

    def report(self, metric: str = "val_error", second: str | None = None) -> Report:
        """Return the epoch as early stopping sees it that goes by this measure, or by two."""
        value, other = self.metrics.value(metric), None if second is None else self.metrics.value(second)
        at = (self.seq, self.trial_id, self.attempt, self.metrics.epoch)
        return Report(*at, nan if value is None else value, other)


@dataclass(frozen=True, slots=True)
class TrialRow:
    """The current state of one trial."""

    seq: int = column("seq of the study's next epoch when this row was made", least=0)
    trial_id: str = column("the study's own trial id")
    number: int = column("order of suggestion, from 0", least=0)
    status: TrialStatus = column("running, completed, stopped, diverged or failed")
    attempt: int = column("the trial's latest start; the first is 1", least=1)
    epochs: int = column("epochs completed", "epochs", least=0)
    value_last: float | None = column("{metric} at the last epoch: what ranks trials")
    value_best: float | None = column("best {metric} of any epoch; reported only")
    best_epoch: int | None = column("epoch of that best value", "epochs", least=1)
    params: Mapping[str, Value] = column("searched keys, one column params_<leaf> each")
    seed: int = column("trial.seed")
    split_hash: str | None = column("hash of the labelled, unlabelled and validation rows")
    seconds: float = column("training time of all attempts", "s", least=0)
    node: str | None = column("address of the machine that ran the latest attempt")
    started_at: datetime = column("when the first attempt started", "UTC")
    ended_at: datetime | None = column("when the trial ended", "UTC")
    error: str | None = column("why a trial diverged or failed")
    replicate_of: str | None = column(
        "trial_id of the search's trial whose point this one trains with a fresh seed; null for the search's own",
        default=None,
    )
    replicate: int | None = column(
        "which fresh seed, from 1; all replicates of a number have the same seed", least=1, default=None
    )
    second_last: float | None = column("{metric} at the last epoch", default=None)
    second_best: float | None = column("best {metric} of any epoch, not that of best_epoch", default=None)


@dataclass(frozen=True, slots=True)
class DecisionRow:
    """One decision of early stopping, or of the race of the finalists."""

    seq: int = column("seq of the judged epoch", least=0)
    trial_id: str = column("the study's own trial id")
    attempt: int = column("the trial's n-th start; the first is 1", least=1)
    epoch: int = column("epochs completed when it was judged", "epochs", least=1)
    rung: int = column("epochs after the start of its rungs: the trial's own start, or its switch epoch", "epochs")
    value: float = column("what was compared: the study's metric, or its mean over the last epochs")
    cutoff: float | None = column("the worst value that continues")
    competitors: int = column("values at this rung so far, the trial's own among them", least=1)
    verdict: Verdict = column("continue, stop, control: would be stopped, but continues; or drop: of a race")
    reason: str = column("the verdict in words")


@dataclass(frozen=True, slots=True)
class EvaluationRow:
    """One configuration trained with one seed to the last epoch, and measured on the test images."""

    configuration: str = column("a trial_id of the search, patent, a method, one of --methods, or judge")
    seed: int = column("trial.seed and trial.data.split_seed: seed of the weights and of the choice of labelled images")
    refit: bool = column("whether the validation images were trained on, too")
    trial_id: str = column("its trial in seeds/, where its epochs and checkpoint are")
    status: TrialStatus = column("completed, diverged or failed")
    epochs: int = column("epochs completed", "epochs", least=0)
    test_error: float | None = column(
        "error of the averaged weights on the test images, at the last epoch", "fraction", 0, 1
    )
    test_error_raw: float | None = column(
        "error of the raw weights on the test images, at the last epoch", "fraction", 0, 1
    )
    test_images: int = column("how many test images there are", least=0)
    value_last: float | None = column("{metric} at the last epoch; null at a refit")
    classifier_score: float | None = column("classifier score of generated images (docs/evaluation.md), from 1")
    classifier_score_real: float | None = column("classifier score of the test images, by the same judge")
    inception_score: float | None = column("Inception score of generated images, mean of 10 parts")
    fid: float | None = column("Frechet Inception distance of generated images from the test images")
    split_hash: str | None = column("hash of the labelled, unlabelled and validation rows")
    seconds: float = column("training time of all attempts", "s", least=0)
    evaluated_at: datetime = column("when it was measured", "UTC")
    test_distance: float | None = column(
        "Frechet distance of images by the averaged generator from the test images, in the judge's features",
        "",
        0,
        default=None,
    )
    test_distance_raw: float | None = column(
        "test_distance of images by the generator's raw weights", "", 0, default=None
    )
    test_distance_real: float | None = column("test_distance of training images", "", 0, default=None)
    test_coverage: float | None = column(
        "share of test images whose ball of 5 neighbours holds an image by the averaged generator",
        "fraction",
        0,
        1,
        default=None,
    )
    test_coverage_real: float | None = column("test_coverage by training images", "fraction", 0, 1, default=None)
    test_transport: float | None = column(
        "sliced W1 distance of pixels in [0, 1] of images by the averaged generator from the test images",
        "",
        0,
        default=None,
    )
    test_transport_real: float | None = column("test_transport of training images", "", 0, default=None)
    doubt: float | None = column(
        "1 - the mean of the judge's greatest probability, of images by the averaged generator",
        "fraction",
        0,
        1,
        default=None,
    )
    doubt_real: float | None = column("doubt of the test images", "fraction", 0, 1, default=None)
    seconds_per_step: float | None = column(
        "seconds of G's step with D's steps before it, median over the epochs", "s", 0, default=None
    )
    seconds_per_discriminator_step: float | None = column(
        "seconds of a step of D on one rank, in turns with the other configurations, by the process that evaluated",
        "s",
        0,
        default=None,
    )
    seconds_per_generator_step: float | None = column("the same of a step of G", "s", 0, default=None)
    classifier_score_deviation: float | None = column(
        "deviation of the classifier score over 10 parts of the generated images", "", 0, default=None
    )
    inception_score_deviation: float | None = column(
        "deviation of the Inception score over 10 parts of the generated images", "", 0, default=None
    )


@dataclass(frozen=True, slots=True)
class BattleRow:
    """One battle of two configurations of an evaluation that were trained with the same seed, from their checkpoints.

    `verdict` is that of this seed's images alone; several seeds together have their own.
    """

    first: str = column("a configuration of the evaluation")
    second: str = column("another one, which comes after it in the evaluation's order")
    seed: int = column("the seed of both")
    refit: bool = column("whether the validation images were trained on, too")
    r_test: float = column("ratio of the errors of their D on the test images", "", 0)
    r_sample: float = column("ratio of the errors of their D on each other's images; below 1 the first one wins", "", 0)
    r_sample_low: float = column("lower end of its 95 % interval, of the images and the thresholds alone", "", 0)
    r_sample_high: float = column("upper end of that interval", "", 0)
    accuracy_sample: float = column("ratio of the accuracies on each other's images, as GRAN's code prints it", "", 0)
    threshold_first: float = column("realness above which the first one's D takes an image for real")
    threshold_second: float = column("the same of the second one's D")
    verdict: str = column("first, second, not told apart or invalid")
    fought_at: datetime = column("when it was fought, from the checkpoints of then", "UTC")
