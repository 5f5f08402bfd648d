"""Statistics of an evaluation: a configuration's error over seeds, and its paired difference from a reference.

Of a study without labels the distance of generated images stands in the error's place.

Seeds are few and errors are means over many images, so intervals are Student's t (Student 1908). Differences are paired
by seed: two configurations of one seed share its labels and initial draws, so the effect of a lucky draw on both
cancels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan, nan, sqrt
from typing import Final

import numpy as np
import pandas as pd
from scipy.special import ndtr, stdtrit

from plgan_tune.analysis.published import published
from plgan_tune.analysis.study import Study
from plgan_tune.config.defaults import METHOD
from plgan_tune.config.methods import METHODS
from plgan_tune.config.metrics import VAL_ERROR, Metric
from plgan_tune.config.study import StudySpec
from plgan_tune.store.read import read_epochs, read_evaluations
from plgan_tune.store.schemas import column_of

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean with its deviation and interval.

    Attributes:
        count: number of values.
        mean: NaN if there are no values.
        deviation: sample deviation (the variance divides by count - 1); NaN for fewer than two values.
        low: lower end of the mean's 95 % interval; NaN for fewer than two values, which bound nothing.
        high: its upper end.
    """

    count: int
    mean: float
    deviation: float
    low: float
    high: float


def estimate(values: Sequence[float], confidence: float = CONFIDENCE) -> Estimate:
    """Return the mean of independent, roughly normal values with Student's interval.

    The interval is mean +- t(count - 1) deviation / sqrt(count).

    Args:
        values: finite.
        confidence: in (0, 1).
    """
    count = len(values)
    if count == 0:
        return Estimate(0, nan, nan, nan, nan)
    mean = float(np.mean(values))
    if count == 1:
        return Estimate(1, mean, nan, nan, nan)
    deviation = float(np.std(values, ddof=1))
    half = float(stdtrit(count - 1, (1 + confidence) / 2)) * deviation / sqrt(count)
    return Estimate(count, mean, deviation, mean - half, mean + half)


def paired_difference(values: "pd.Series[float]", reference: "pd.Series[float]") -> Estimate:
    """Return the mean of `values` - `reference` over the seeds that both have, with its interval.

    Args:
        values: a measure by seed, the index; NaN if a seed has none.
        reference: likewise.
    """
    difference = (values - reference).dropna()
    return estimate(difference.to_list())


PATENT: Final = "patent"
"""The configuration of the patent's settings, the reference of all differences."""

JUDGE: Final = "judge"
"""The classifier that scores generated images; it does not compete."""

SEEDS: Final = "seeds"
"""The folder, in the search's, of the study that an evaluation is: its log and its checkpoints."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an evaluation measures on the test images; lower is better.

    Attributes:
        column: its column.
        noun: what a sentence calls it.
        words: it and what it is measured on.
        is_share: whether it is a fraction, printed in per cent.
    """

    column: str
    noun: str
    words: str
    is_share: bool

    @property
    def unit(self) -> str:
        """What follows its name at the head of a table."""
        return ", %" if self.is_share else ""

    def shown(self, value: float, sign: str = "") -> str:
        """Return a value, or with the sign "+" a difference, in this unit; - if it is NaN."""
        return "-" if isnan(value) else f"{(100 if self.is_share else 1) * value:{sign}.{self._digits(value)}}"

    def _digits(self, value: float) -> str:
        return "2f" if self.is_share or abs(value) >= 0.1 else "4f"


ERROR: Final = Outcome("test_error", "error", "error on the test images", is_share=True)
DISTANCE: Final = Outcome("test_distance", "distance", "distance from the test images", is_share=False)
TRANSPORT: Final = Outcome("test_transport", "distance", "distance of pixels from the test images", is_share=False)


def reference_of(spec: StudySpec) -> str:
    """Return from which configuration an evaluation takes differences: the patent's; without labels, the method's."""
    template = spec.template
    return PATENT if template["data"]["labels"] else METHODS[template.get("method", METHOD)].root


def settings_of(reference: str) -> str:
    """Return the reference of an evaluation in words."""
    return "the patent's settings" if reference == PATENT else f"the settings of {reference}"


def outcome_of(evaluations: pd.DataFrame) -> Outcome:
    """Return what these rows measure: errors with labels; without them a distance, without a judge of pixels."""
    return next((one for one in (DISTANCE, TRANSPORT) if evaluations[one.column].notna().any()), ERROR)


SUMMARY = (
    "configuration",
    "seeds",
    "count",
    "mean",
    "deviation",
    "low",
    "high",
    "raw_mean",
    "val_mean",
    "pairs",
    "difference",
    "difference_low",
    "difference_high",
)


def summarise(evaluations: pd.DataFrame, reference: str, measure: Outcome = ERROR) -> pd.DataFrame:
    """Return one row per configuration, the lowest mean first, those without an error last.

    Args:
        evaluations: rows of the table `evaluations`, at most one per configuration and seed; errors are fractions.
        reference: the configuration from which differences are taken; if it is missing, they are NaN.
        measure: what is summarised as the error.

    Returns:
        `SUMMARY`: number of trained seeds; `count`, how many of them have an error (the others diverged or failed);
        mean, deviation and interval of the error; means of that of the raw weights and of value_last; number, mean and
        interval of the pairs' differences, NaN for the reference itself.

    Raises:
        ValueError: if a configuration has a seed twice, which would be paired with itself.
    """
    twice = evaluations[evaluations.duplicated(["configuration", "seed"])]
    if len(twice):
        names = ", ".join(f"{name} {seed}" for name, seed in zip(twice.configuration, twice.seed, strict=True))
        raise ValueError(f"at most one row per configuration and seed can be averaged, but there are more of {names}")
    by_seed = {str(name): rows.set_index("seed") for name, rows in evaluations.groupby("configuration", sort=False)}
    nothing = pd.Series(dtype=float)
    column, raw = measure.column, f"{measure.column}_raw"
    of_reference = by_seed[reference][column] if reference in by_seed else nothing
    lines = []
    for name, rows in by_seed.items():
        error = estimate(rows[column].dropna().to_list())
        difference = paired_difference(rows[column], nothing if name == reference else of_reference)
        means = (rows[raw].mean() if raw in rows else nan, rows.value_last.mean())
        # Student's interval knows no bounds. What of it no error can be is cut off, which leaves out no mean.
        most = 1.0 if measure.is_share else None
        own = (error.count, error.mean, error.deviation, *np.clip((error.low, error.high), 0.0, most).tolist())
        lines.append((name, len(rows), *own, *means, difference.count, *_interval(difference)))
    return pd.DataFrame(lines, columns=list(SUMMARY)).sort_values("mean", kind="stable", ignore_index=True)


def seed_noise(study: Study) -> "pd.Series[float]":
    """How far the search's metric deviates over seeds, by epoch, as `evaluate` has measured it; empty where it has not.

    It is of trainings on the same images, as a search's are: see `noise_by_epoch`.

    Raises:
        StoreError: where the evaluation cannot be read.
    """
    metric = study.spec.metric
    table = _evaluations(study)
    seeds = study.location.join(SEEDS)
    ours = table[(table.configuration != JUDGE) & ~table.refit]
    if ours.empty or not seeds.exists():
        return pd.Series(dtype=float)
    epochs = read_epochs(seeds, study.study_id).select(["trial_id", "attempt", "epoch", metric.name]).to_pandas()
    latest = epochs.sort_values("attempt", kind="stable").drop_duplicates(["trial_id", "epoch"], keep="last")
    return noise_by_epoch(latest.merge(ours[["trial_id", "configuration", "seed"]], on="trial_id"), metric)


def _evaluations(study: Study) -> pd.DataFrame:
    """Read the evaluations, with the search's metric in a column `value_last` whatever it is."""
    metric = study.spec.metric.name
    table: pd.DataFrame = read_evaluations(study.location, study.study_id, metric).to_pandas()
    return table.rename(columns={column_of("value_last", metric): "value_last"})


def noise_by_epoch(values: pd.DataFrame, metric: Metric = VAL_ERROR) -> "pd.Series[float]":
    """The deviation of one training's value from its configuration's mean, by epoch.

    What a seed does to all configurations is taken off where there are several: trials of a search share their images,
    so an easy draw of them tells none from another.

    Args:
        values: columns configuration, seed, epoch and the metric's, at most one row of each three.
        metric: what the values are of. Those of a configuration that has none, such as one without generated images,
            are left out.

    Returns:
        Of the epochs that two seeds or more of every configuration reached.
    """
    wide = values.pivot(index=["epoch", "seed"], columns="configuration", values=metric.name)
    wide = wide.dropna(axis=1, how="all").dropna()
    by_epoch = wide.groupby("epoch")
    residual = wide - by_epoch.transform("mean")
    if (configurations := wide.shape[1]) > 1:
        residual = residual.sub(residual.mean(axis=1), axis=0)
    free = (by_epoch.size() - 1) * max(1, configurations - 1)
    squares: pd.Series[float] = (residual**2).sum(axis=1).groupby("epoch").sum()
    return (squares[free > 0] / free[free > 0]) ** 0.5


def expected_no_worse(missed: "pd.Series[float]", noise: "pd.Series[float]") -> float:
    """How many trials that missed a cutoff are expected to be no worse than the trial that set it.

    Both errors deviate by the noise, so their difference deviates by its double root; where any true difference is as
    likely as another, it is below 0 with the normal probability of -missed / (noise * sqrt(2)).

    Args:
        missed: by how much each was above its cutoff, above 0.
        noise: of each one's error and of its cutoff; where it is NaN or 0, noise has ended none.
    """
    known = noise > 0
    return float(ndtr(-missed[known] / (sqrt(2) * noise[known])).sum())


def verdict(low: float, high: float) -> str:
    """Return what the interval of a paired difference of errors shows: better, worse, or not significant."""
    if isnan(low):
        return "one pair is not enough"
    if high < 0:
        return "better"
    return "worse" if low > 0 else "not significant"


def outcome_of_study(study: Study) -> Outcome:
    """Return what the rows of `beside_published` are of."""
    return outcome_of(_evaluations(study))


def beside_published(study: Study) -> pd.DataFrame | None:
    """Return what `evaluate` measured of a study and published results on its data; None if nothing was evaluated.

    Errors of `--refit` are left out: they use more labels than the study and the published results.

    Returns:
        Rows of name, error, low, high (fractions, or of a study without labels distances), seeds (trained), count
        (seeds with an error), broken (the other trials, in words), difference, difference_low and difference_high (from
        `reference_of`, paired by seed; NaN if nothing is paired) and verdict, the lowest error first. For a published
        error, low and high come from its printed deviation, and all numbers after them are NaN.
    """
    table = _evaluations(study)
    ours = table[(table.configuration != JUDGE) & ~table.refit]
    if ours.empty:
        return None
    measure = outcome_of(ours)
    own = summarise(ours, reference_of(study.spec), measure).rename(columns={"configuration": "name", "mean": "error"})
    broken = _broken(ours, measure)
    verdicts = [
        verdict(low, high) if pairs else ""
        for pairs, low, high in zip(own.pairs, own.difference_low, own.difference_high, strict=True)
    ]
    measured = own.assign(broken=[broken.get(name, "") for name in own.name], verdict=verdicts)[list(BESIDE)]
    data = study.spec.any_trial().data
    setting = published(data.source, data.path, data.labels)
    others = [
        (f"{row.method} (published)", row.error, row.error - (row.deviation or nan), row.error + (row.deviation or nan))
        for row in (setting.rows if setting else ())
    ]
    printed = pd.DataFrame(others, columns=["name", "error", "low", "high"]).assign(broken="", verdict="")
    both = pd.concat([measured, printed.reindex(columns=list(BESIDE))]) if others else measured
    return both.sort_values("error", kind="stable", ignore_index=True)


BESIDE = (
    "name",
    "error",
    "low",
    "high",
    "seeds",
    "count",
    "broken",
    "difference",
    "difference_low",
    "difference_high",
    "verdict",
)


def _broken(evaluations: pd.DataFrame, measure: Outcome) -> dict[str, str]:
    """Return, by configuration, the trials without an error, and why."""
    rows = evaluations[evaluations[measure.column].isna()]
    words = rows.trial_id.astype(str) + " (" + rows.status.astype(str) + ")"
    return {str(name): ", ".join(some) for name, some in words.groupby(rows.configuration)}


def _interval(difference: Estimate) -> tuple[float, float, float]:
    return difference.mean, difference.low, difference.high
