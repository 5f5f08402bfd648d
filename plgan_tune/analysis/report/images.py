"""What generators draw: the pictures that trials left, and figures of how far those are from real images."""

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from plgan_tune.analysis.report.best import NONE_COMPLETED, epochs_of_best, has
from plgan_tune.analysis.report.look import INK, Absent, Drawn, level_at, lines, titled, value_axis
from plgan_tune.analysis.study import Study
from plgan_tune.config.metrics import METRICS, MetricName
from plgan_tune.console.format import measured
from plgan_tune.records import TrialStatus
from plgan_tune.store.checkpoints import TrialFiles

GRIDS = 3
WIDE = 300
"""Width in pixels that a grid of small images is enlarged to, by a whole number."""
HIGH = 230
"""Height that a picture of steps is enlarged to, likewise."""


def distance(study: Study) -> Drawn:
    """Plot the best trial's distance over its epochs, without a judge that of pixels; and that of real images."""
    if study.ranked.empty:
        return NONE_COMPLETED
    if not has(study, "val_distance"):
        return _over_epochs(study, "val_transport", {"val_transport": ("averaged weights", INK, "solid")})
    floor = study.judge.floor if study.judge is not None else None
    told = {
        "val_distance": ("averaged weights", INK, "solid"),
        "val_distance_raw": ("raw weights", "var(--stopped)", "dash"),
    }
    return _over_epochs(study, "val_distance", told, floor)


def coverage(study: Study) -> Drawn:
    """Plot the share of validation images that the best trial's images cover, over its epochs."""
    if study.ranked.empty:
        return NONE_COMPLETED
    return _over_epochs(study, "val_coverage", {"val_coverage": ("averaged weights", INK, "solid")})


def _over_epochs(
    study: Study, metric: MetricName, told: Mapping[str, tuple[str, str, str]], floor: float | None = None
) -> Drawn:
    rows = epochs_of_best(study)
    if rows[metric].isna().all():
        return Absent("The best trial's images were not measured.")
    values = [*rows[list(told)].to_numpy(dtype=float).ravel(), *([] if floor is None else [floor])]
    axis = value_axis(METRICS[metric], np.asarray(values))
    return lines(rows, told, axis, [] if floor is None else [level_at(floor, "real images")])


def critic_gap(study: Study) -> Drawn:
    """Plot the best trial's critic_gap on training and on validation images over its epochs."""
    if study.ranked.empty:
        return NONE_COMPLETED
    told = {
        "critic_gap": ("training images", "var(--completed)", "solid"),
        "critic_gap_val": ("validation images", "var(--stopped)", "dash"),
    }
    return lines(epochs_of_best(study), told, titled("gap", nticks=6, rangemode="tozero"))


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture that a trial left.

    Attributes:
        label: what it is of, in a word or two.
        note: the trial's value there, in words; may be empty.
        uri: the PNG as a data URI.
        width: width in pixels at which it is shown, an integer multiple of its own.
    """

    label: str
    note: str
    uri: str
    width: int


def sample_grids(study: Study) -> list[Picture]:
    """Return at most `GRIDS` grids of completed trials that have one, the best trial's first."""
    found: list[Picture] = []
    best = study.ranked.head(4 * GRIDS)  # a search keeps only the files of its best trials
    for trial_id, value in zip(best["trial_id"], best[study.last], strict=True):
        png = TrialFiles.of(study.location, trial_id).samples()
        if png is not None and len(found) < GRIDS:
            found.append(_picture(png, trial_id, measured(study.metric, float(value))))
    return found


@dataclass(frozen=True, slots=True)
class Progress:
    """How the best trial came to draw.

    Attributes:
        trial_id: the trial; of a best one that was stopped early, its first replicate.
        grids: the same images after some epochs, the first first.
        steps: the steps in which the last epoch's are drawn; None if there is one step.
    """

    trial_id: str
    grids: list[Picture]
    steps: Picture | None


def progress(study: Study) -> Progress | None:
    """Return the pictures of the best trial's epochs; None if it has left none, as those of earlier versions have."""
    for trial_id in _trainings_of_best(study):
        files = TrialFiles.of(study.location, trial_id)
        if grids := files.grids():
            epochs = study.everything.epochs
            rows = epochs[epochs["trial_id"] == trial_id].set_index("epoch")[study.metric.name]
            shown = [_picture(png, f"epoch {epoch}", _value(study, rows.get(epoch))) for epoch, png in grids.items()]
            steps = files.steps()
            return Progress(trial_id, shown, None if steps is None else _picture(steps, "", "", high=HIGH))
    return None


def _trainings_of_best(study: Study) -> Iterable[str]:
    """Return the best trial and its replicates that completed: one that was stopped early has no last epoch."""
    if study.ranked.empty:
        return []
    trial_id = study.ranked["trial_id"].iloc[0]
    race = study.race.trials
    done = race[race["status"] == TrialStatus.COMPLETED].sort_values("replicate") if len(race) else race
    return [trial_id, *done["trial_id"][done["replicate_of"] == trial_id]]


def _value(study: Study, value: float | None) -> str:
    if value is None or not np.isfinite(value):
        return ""
    return f"{study.metric.noun} {measured(study.metric, float(value))}"


def _picture(png: bytes, label: str, note: str, high: int | None = None) -> Picture:
    width, height = (int.from_bytes(png[at : at + 4], "big") for at in (16, 20))  # the PNG's header
    times = WIDE // max(width, 1) if high is None else min(high // max(height, 1), WIDE // max(width, 1))
    return Picture(label, note, "data:image/png;base64," + base64.b64encode(png).decode(), width * max(1, times))
