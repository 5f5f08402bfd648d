"""Learning curves cut at one epoch, so that trials of different lengths are comparable."""

import pandas as pd

from plgan_tune.analysis.study import Study
from plgan_tune.records import TrialStatus


def errors_at_equal_epoch(study: Study) -> tuple[int, "pd.Series[float]"]:
    """Return the last epoch that at least half of the trials reached, and their errors there by trial_id.

    Trials that diverged before it are included with the worst error there: an error of 1 would dominate a variance.
    """
    reached = study.epochs["epoch"].value_counts()
    enough = reached[reached >= len(study.trials) / 2]
    if enough.empty:
        return 0, pd.Series(dtype=float)
    epoch = int(enough.index.max())
    rows = study.epochs[study.epochs["epoch"] == epoch]
    errors = pd.Series(rows["val_error"].to_numpy(), index=rows["trial_id"].astype(str))
    broken = study.trials[(study.trials["status"] == TrialStatus.DIVERGED) & (study.trials["epochs"] < epoch)]
    errors = errors[~errors.index.isin(broken["trial_id"])]  # an earlier attempt may have reached the epoch
    return epoch, pd.concat([errors, pd.Series(errors.max(), index=broken["trial_id"])])


def switches(epochs: pd.DataFrame) -> pd.DataFrame:
    """Return the rows in which a trial first trained on the generator's final loss; none for one that began on it.

    Args:
        epochs: rows of one or more trials, each trial's in order.
    """
    final = epochs[epochs["ramp"] >= 1].drop_duplicates("trial_id")
    return final[final["epoch"] > 1]
