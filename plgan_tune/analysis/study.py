"""A study as data frames: its specification and the content of its log, running or finished."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import pandas as pd
from scipy.special import stdtrit

from plgan_tune.analysis.whole import check_columns, check_epochs, check_trials
from plgan_tune.config.domains import Choice, Int, Uniform
from plgan_tune.config.metrics import METRICS, Metric
from plgan_tune.config.study import StudySpec
from plgan_tune.config.trial import TrialSpec
from plgan_tune.records import TrialStatus, Value, Verdict
from plgan_tune.store.location import Location
from plgan_tune.store.lock import is_writing
from plgan_tune.store.read import read_tables, trial_rows
from plgan_tune.store.schemas import cell, column_of, value_of
from plgan_tune.study.judge_facts import JudgeFacts
from plgan_tune.study.race import Standing, race_of
from plgan_tune.study.study_file import read_study_file

REPORT_FILE: Final = "report.html"
"""The report's name in a study's folder."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of a study.

    Attributes:
        trials: one row per trial, by number, with the columns of `results/README.md`; searched keys are `spec.columns`.
        epochs: one row per epoch of a trial, by seq; the latest attempt's if several attempts trained it.
        decisions: decisions of early stopping, by seq.
    """

    trials: pd.DataFrame
    epochs: pd.DataFrame
    decisions: pd.DataFrame


@dataclass(frozen=True, slots=True)
class Study:
    """One study.

    Attributes:
        location: the study's folder.
        spec: its specification.
        metric: what its trials are ranked by here; `spec.metric` is what the search went by.
        trials: the search's own trials, as in `Rows`.
        epochs: their epochs.
        decisions: decisions of early stopping on them.
        race: replicates of the best of them, their epochs, and who was dropped.
        standing: how the finalists came out on fresh seeds.
        searching: whether a search is writing the study.
        study_id: id that its files carry; None for a study from before ids existed.
        judge: what measured its generated images; None if nothing did.
    """

    location: Location
    spec: StudySpec
    metric: Metric
    trials: pd.DataFrame
    epochs: pd.DataFrame
    decisions: pd.DataFrame
    race: Rows
    standing: Standing
    searching: bool
    study_id: str | None
    judge: JudgeFacts | None

    @property
    def everything(self) -> Rows:
        """The whole log, that of the race included."""
        own, race = Rows(self.trials, self.epochs, self.decisions), self.race
        if race.trials.empty:
            return own
        ids = [*own.trials["trial_id"], *race.trials["trial_id"]]
        return Rows(
            _joined(own.trials, race.trials, "number"),
            _joined(_of(own.epochs, ids), _of(race.epochs, ids), "seq"),
            _joined(_of(own.decisions, ids), _of(race.decisions, ids), "seq"),
        )

    @property
    def name(self) -> str:
        """Name of the study's folder."""
        return self.location.name

    @property
    def last_epoch(self) -> int:
        """Epochs of a whole training."""
        return self.spec.any_trial().training.epochs

    @property
    def validation(self) -> int:
        """Number of images that an error is counted on."""
        return self.spec.any_trial().data.validation

    @property
    def last(self) -> str:
        """The column of the metric at a trial's last epoch."""
        return column_of("value_last", self.metric.name)

    @property
    def best(self) -> str:
        """The column of the metric's best value at any epoch."""
        return column_of("value_best", self.metric.name)

    @property
    def costs(self) -> "pd.Series[float]":
        """Each trial's value at its last epoch as a number of which the lower is better."""
        costs: pd.Series[float] = self.metric.cost(self.trials[self.last].astype(float))
        return costs

    @property
    def reach(self) -> float | None:
        """Half of a single value's 95 % interval, as values deviate over the fresh seeds of one configuration.

        The deviation is pooled over all configurations that the search confirmed; None where none has two seeds.
        """
        race = self.race.trials
        completed = race[race["status"] == TrialStatus.COMPLETED] if self.last in race else race.head(0)
        by_point = completed.groupby("replicate_of")[self.last] if len(completed) else None
        free = 0 if by_point is None else int((by_point.size() - 1).sum())
        if by_point is None or free == 0:
            return None
        squares = ((completed[self.last] - by_point.transform("mean")) ** 2).sum()
        return float(stdtrit(free, 0.975) * (squares / free) ** 0.5)

    @property
    def ranked(self) -> pd.DataFrame:
        """Trials whose value is known, the best configuration first, as `study.ranking.rank` orders them.

        Those that were confirmed come first, in the order of the race; then the other completed trials, the best value
        at the last epoch first; of equals, the first suggested.
        """
        place = {one.trial_id: number for number, one in enumerate(self.standing.places)}
        trials = self.trials.assign(place=self.trials["trial_id"].map(place), cost=self.costs)
        completed = (trials["status"] == TrialStatus.COMPLETED) & trials["cost"].notna()
        known = trials[completed | trials["place"].notna()]
        return known.sort_values(["place", "cost", "number"]).drop(columns=["place", "cost"])

    @property
    def stopped_early(self) -> "pd.Series[bool]":
        """Which trials early stopping ended; a narrower domain and a limit stop trials, too."""
        judged = self.decisions["trial_id"][self.decisions["verdict"] == Verdict.STOP].astype(str)
        return (self.trials["status"] == TrialStatus.STOPPED) & self.trials["trial_id"].isin(judged)

    @property
    def inside(self) -> "pd.Series[bool]":
        """Which trials lie in the current domains and keep the rules; a resume may have changed both."""
        inside = pd.Series(True, index=self.trials.index)
        for path, column in self.spec.columns.items() if len(self.trials) else ():
            domain, kind, cells = self.spec.domains[path], self.spec.types[path], self.trials[column]
            if isinstance(domain, Choice):
                options = [cell(option, kind) for option in self.spec.options[path]]
                inside &= cells.isin([option for option in options if option is not None]) | (
                    cells.isna() & (None in options)
                )
            else:
                inside &= cells.between(domain.low, domain.high)
                if isinstance(domain, Uniform | Int) and domain.step not in (None, 1):
                    inside &= cells.map(domain.contains, na_action="ignore").astype(bool)
        if self.spec.search.rules:
            rows = zip(self.trials.to_dict("records"), inside, strict=True)
            kept = [lies and self.spec.broken_rule(self.params(row)) is None for row, lies in rows]
            inside = pd.Series(kept, index=inside.index, dtype=bool)
        return inside

    def params(self, row: Mapping[Hashable, Any]) -> dict[str, Value]:
        """Return the point of a row of `trials`, as the sampler suggested it: searched path -> value."""
        types, options = self.spec.types, self.spec.options
        return {
            path: _value(row[column], types[path], options.get(path, ())) for path, column in self.spec.columns.items()
        }

    def trial(self, trial_id: str) -> TrialSpec:
        """Return the configuration of a trial.

        Raises:
            KeyError: if the study has no such trial.
        """
        rows = self.trials[self.trials["trial_id"] == trial_id].to_dict("records")
        if not rows:
            raise KeyError(f"{self.location.url} has no trial {trial_id}; it has {_span(self.trials)}")
        return self.spec.trial(self.params(rows[0]))


def _value(stored: Any, kind: type, options: Sequence[Value]) -> Value:
    """Restore a value: a frame holds integers as floats if one is missing, and None as NaN."""
    return None if pd.isna(stored) else value_of(kind(stored), options)


def _span(trials: pd.DataFrame) -> str:
    return f"{trials['trial_id'].iloc[0]} to {trials['trial_id'].iloc[-1]}" if len(trials) else "none"


def read_study(place: str | Path, metric: str | None = None) -> Study:
    """Read the study in a folder or at an fsspec URL. If it is running, read what has been written so far.

    Args:
        place: the folder or URL.
        metric: what to rank its trials by; None is what the search went by.

    Raises:
        MetricError: if its rows do not have that metric.
        StoreError: if there is no study, its file cannot be read, its trials do not match the file, or as in
            `read_tables`.
    """
    location = Location.at(place)
    held, searching = read_study_file(location), is_writing(location)
    tables = read_tables(location, held.study_id, *held.spec.metric_names)
    check_columns(location, held.spec, tables.trials)
    check_epochs(location, tables.epochs)
    trials = tables.trials.to_pandas().sort_values("number", ignore_index=True)
    ids = trials["trial_id"].tolist()
    own, race = _split(Rows(trials, _latest(_frame(tables.epochs, ids)), _frame(tables.decisions, ids)))
    standing = Standing() if race.trials.empty else _standing(held.spec, tables.trials)
    study = Study(
        location,
        held.spec,
        held.spec.metric,
        own.trials,
        own.epochs,
        own.decisions,
        race,
        standing,
        searching,
        held.study_id,
        held.judge,
    )
    check_trials(location, held.spec, trials, study.params)
    return study if metric in (None, held.spec.metric.name) else ranked_by(study, str(metric))


class MetricError(Exception):
    """A study cannot be ranked by a metric: its rows do not have it."""


def ranked_by(study: Study, name: str) -> Study:
    """Return the study with its trials ranked by another metric of its epochs.

    Nothing is confirmed by that metric: the fresh seeds were spent on those that were best by the search's own.

    Raises:
        MetricError: if its rows do not have it.
    """
    epochs = study.everything.epochs
    there = [one for one in METRICS if one in epochs and epochs[one].notna().any()]
    if name not in there:
        known = ", ".join(there) if there else "none yet"
        raise MetricError(f"--metric {name}: must be one that the rows of {study.location.url} have: {known}")
    metric = next(METRICS[one] for one in there if one == name)
    return replace(
        study,
        metric=metric,
        trials=_with_values(study.trials, study.epochs, metric),
        race=replace(study.race, trials=_with_values(study.race.trials, study.race.epochs, metric)),
        standing=Standing(),
    )


def _with_values(trials: pd.DataFrame, epochs: pd.DataFrame, metric: Metric) -> pd.DataFrame:
    """Return the trials with the columns that they would have if the search had gone by this metric."""
    reached = epochs["trial_id"].astype(str).map(trials.set_index("trial_id")["epochs"]).astype(float)
    measured = (epochs["epoch"] <= reached) & epochs[metric.name].notna()
    rows = epochs.assign(trial_id=epochs["trial_id"].astype(str))[measured]
    last = rows[rows["epoch"] == reached].set_index("trial_id")[metric.name]
    by_cost = rows.assign(cost=metric.cost(rows[metric.name])).sort_values("cost", kind="stable")
    best = by_cost.drop_duplicates("trial_id").set_index("trial_id")
    ids = trials["trial_id"]
    return trials.assign(
        **{
            column_of("value_last", metric.name): ids.map(last).astype(float),
            column_of("value_best", metric.name): ids.map(best[metric.name]).astype(float),
            "best_epoch": ids.map(best["epoch"]),
        }
    )


def _split(rows: Rows) -> tuple[Rows, Rows]:
    """Return the search's own trials with their rows, and those of the race."""
    is_replicate = rows.trials["replicate_of"].notna()
    dropped = rows.decisions["verdict"] == Verdict.DROP
    if not is_replicate.any():
        return rows, Rows(rows.trials.head(0), rows.epochs.head(0), rows.decisions.head(0))
    own, race = rows.trials[~is_replicate], rows.trials[is_replicate]
    ids = race["trial_id"].tolist()
    trained = rows.epochs["trial_id"].isin(ids)
    return (
        Rows(*map(_renumbered, (own, rows.epochs[~trained], rows.decisions[~dropped]))),
        Rows(*map(_renumbered, (race, rows.epochs[trained], rows.decisions[dropped]))),
    )


def _renumbered(frame: pd.DataFrame) -> pd.DataFrame:
    """Number the rows from 0 and forget ids that have none."""
    ids = frame["trial_id"]
    kept = ids.cat.remove_unused_categories() if isinstance(ids.dtype, pd.CategoricalDtype) else ids
    return frame.assign(trial_id=kept).reset_index(drop=True)


def _of(frame: pd.DataFrame, ids: Sequence[str]) -> pd.DataFrame:
    return frame.assign(trial_id=frame["trial_id"].cat.set_categories(ids))


def _joined(own: pd.DataFrame, race: pd.DataFrame, by: str) -> pd.DataFrame:
    return pd.concat([own, race]).sort_values(by, kind="stable", ignore_index=True)


def _standing(spec: StudySpec, trials: Any) -> Standing:
    race = race_of(spec)
    if race is None:
        return Standing()
    return race.latest(trial_rows(trials, spec.columns, spec.options, *spec.metric_names))


def _frame(table: Any, ids: Sequence[str]) -> pd.DataFrame:
    """Store ids as categories: a million of them as text would take as much memory as all numbers together."""
    frame: pd.DataFrame = table.to_pandas(strings_to_categorical=True)
    return frame.assign(trial_id=frame["trial_id"].cat.set_categories(ids))


def _latest(epochs: pd.DataFrame) -> pd.DataFrame:
    """Keep the latest report of each epoch: a trial's later attempts report some epochs again."""
    if (epochs["attempt"] == 1).all():
        return epochs
    return epochs.drop_duplicates(["trial_id", "epoch"], keep="last", ignore_index=True)
