"""Learning curves cut at one epoch, so that trials of different lengths are comparable."""

from dataclasses import dataclass
from math import inf

import pandas as pd

from plgan_tune.analysis.study import Study
from plgan_tune.records import TrialStatus


@dataclass(frozen=True, slots=True)
class Standings:
    """Trials as their values rank them.

    Attributes:
        places: by trial_id, the best first from 0; equal values share one.
        epoch: at which they are compared.
        reached: how many reached it.
        stopped: how many early stopping ended before it.
        diverged: how many diverged before it.
        best: of the values at it.
    """

    places: "pd.Series[int]"
    epoch: int
    reached: int
    stopped: int
    diverged: int
    best: float


def standings(study: Study, least: int) -> Standings | None:
    """Ranks the trials in the current domains at one epoch, the last that at least `least` of them reached.

    Those that reached it rank by their values there. Those that early stopping ended before rank behind, the later the
    better, by their last values; and behind these those that diverged before. Without them the survivors alone would be
    compared, which hardly differ any more in the keys that made them survive: in a synthetic search of 400 trials the
    key that decides was no longer significant. A trial that runs, failed or was stopped by a limit before that epoch
    has not been judged and is left out.

    Where rungs count from a trial's switch (`align: switch`), a late switch epoch lets a trial live longer, and ranks
    better for that.

    Returns:
        None where fewer trials have trained an epoch.
    """
    trials, epochs = _inside(study)
    metric = study.metric
    epochs = epochs[epochs[metric.name].notna()]
    reached = epochs["epoch"].value_counts()
    epoch = int(reached[reached >= least].index.max()) if (reached >= least).any() else 0
    if not epoch:
        return None
    here = epochs[epochs["epoch"] == epoch]
    before = trials[trials["epochs"] < epoch]
    stopped = before[before.index.isin(study.trials["trial_id"][study.stopped_early])]
    diverged = before[before["status"] == TrialStatus.DIVERGED]
    costs = metric.cost(here[metric.name])
    parts = (
        pd.DataFrame({"behind": 0, "cost": costs.to_numpy()}, index=here["trial_id"].astype(str)),
        pd.DataFrame({"behind": epoch - stopped["epochs"], "cost": metric.cost(stopped[study.last])}),
        pd.DataFrame({"behind": epoch, "cost": inf}, index=diverged.index),  # alike, whatever they came to
    )
    places = pd.concat(parts).groupby(["behind", "cost"]).ngroup()
    return Standings(places, epoch, len(here), len(stopped), len(diverged), float(metric.cost(costs.min())))


def trained(study: Study) -> tuple[int, int]:
    """How many trials have trained an epoch, inside the current domains and outside."""
    has = study.trials["epochs"] > 0
    return int((has & study.inside).sum()), int((has & ~study.inside).sum())


def _inside(study: Study) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Trials in the current domains by trial_id, and their epochs, without later ones of an earlier attempt."""
    trials = study.trials[study.inside].set_index("trial_id")
    last = study.epochs["trial_id"].map(trials["epochs"]).astype(float)
    return trials, study.epochs[study.epochs["epoch"] <= last]


def values_at_equal_epoch(study: Study) -> tuple[int, "pd.Series[float]"]:
    """Return the last epoch that at least half of the trials reached, and their values there by trial_id.

    Trials that diverged before it are included with the worst value there: the metric's worst, an error of 1, would
    dominate a variance.
    """
    metric = study.metric
    epochs = study.epochs[study.epochs[metric.name].notna()]
    reached = epochs["epoch"].value_counts()
    enough = reached[reached >= len(study.trials) / 2]
    if enough.empty:
        return 0, pd.Series(dtype=float)
    epoch = int(enough.index.max())
    rows = epochs[epochs["epoch"] == epoch]
    values = pd.Series(rows[metric.name].to_numpy(), index=rows["trial_id"].astype(str))
    broken = study.trials[(study.trials["status"] == TrialStatus.DIVERGED) & (study.trials["epochs"] < epoch)]
    values = values[~values.index.isin(broken["trial_id"])]  # an earlier attempt may have reached the epoch
    worst = metric.cost(float(metric.cost(values).max()))
    return epoch, pd.concat([values, pd.Series(worst, index=broken["trial_id"])])


def switches(epochs: pd.DataFrame) -> pd.DataFrame:
    """Return the rows in which a trial first trained on the generator's final loss; none for one that began on it.

    Args:
        epochs: rows of one or more trials, each trial's in order.
    """
    final = epochs[epochs["ramp"] >= 1].drop_duplicates("trial_id")
    return final[final["epoch"] > 1]
