"""What early stopping costs, by its controls: trials that it would have ended, and that went on to their last epoch."""

from dataclasses import dataclass
from math import ceil
from typing import Final

from scipy.special import betaincinv

from plgan_tune.analysis.study import Study
from plgan_tune.config.metrics import VAL_ERROR, Metric
from plgan_tune.console.format import measured
from plgan_tune.records import TrialStatus, Verdict

CLOSE: Final = 0.01
"""A control is close to the best of the other trials if its last error, or other share, is at most this much worse."""

CLOSE_PART: Final = 0.05
"""The same of a metric that is no share, as a part of the best value: it has no scale but its own."""

CONFIDENCE: Final = 0.95


@dataclass(frozen=True, slots=True)
class Audit:
    """The controls of a study.

    Attributes:
        ended: How many completed or diverged.
        close: How many of these came within CLOSE of the best other trial, or are better.
        best: The last value of the best other trial.
        at_most: Upper 95 % bound of the share of stops that are false: that end a trial which would have come close.
        epochs: Epochs that controls trained after they would have been stopped.
        metric: What the values are of.
    """

    ended: int
    close: int
    best: float
    at_most: float
    epochs: int
    metric: Metric = VAL_ERROR


def audit(study: Study) -> Audit | None:
    """Judge early stopping by its controls. None if no control, or no other trial, has ended."""
    drawn = study.decisions[study.decisions["verdict"] == Verdict.CONTROL]
    spared = study.trials.merge(drawn[["trial_id", "epoch"]].astype({"trial_id": str}), on="trial_id")
    ended = spared[spared["status"].isin([TrialStatus.COMPLETED, TrialStatus.DIVERGED])]
    others = study.ranked[~study.ranked["trial_id"].isin(spared["trial_id"])]
    if ended.empty or others.empty:
        return None
    metric, best = study.metric, float(others[study.last].iloc[0])
    completed = ended["status"] == TrialStatus.COMPLETED
    limit = metric.cost(best) + (CLOSE if metric.is_share else CLOSE_PART * abs(best))
    close = int((completed & (metric.cost(ended[study.last]) <= limit)).sum())
    epochs = int((spared["epochs"] - spared["epoch"]).sum())
    return Audit(len(ended), close, best, upper_bound(close, len(ended)), epochs, metric)


def upper_bound(found: int, among: int) -> float:
    """Return the one-sided 95 % upper bound of a share of which `found` of `among` were seen (Clopper, Pearson 1934).

    The true share exceeds it in at most 5 % of samples, of any size.

    Args:
        found: From 0 to `among`.
        among: At least 1.
    """
    return 1.0 if found == among else float(betaincinv(found + 1, among - found, CONFIDENCE))


def audit_in_words(found: Audit) -> str:
    """Return what the controls say, for terminal and report."""
    near = CLOSE if found.metric.is_share else CLOSE_PART
    return (
        f"{found.close or 'none'} of {found.ended:,} came within {100 * near:g} % of the best other trial "
        f"({measured(found.metric, found.best)}): at most {ceil(100 * found.at_most)} % of the stops are false (95 %); "
        f"they took {found.epochs:,} epochs"
    )
