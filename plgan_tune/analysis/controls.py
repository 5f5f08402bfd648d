"""What early stopping costs, by its controls: trials that it would have ended, and that went on to their last epoch."""

from dataclasses import dataclass
from math import ceil
from typing import Final

from scipy.special import betaincinv

from plgan_tune.analysis.study import Study
from plgan_tune.console.format import percent
from plgan_tune.records import TrialStatus, Verdict

CLOSE: Final = 0.01
"""A control is close to the best of the other trials if its last error is at most this much higher."""

CONFIDENCE: Final = 0.95


@dataclass(frozen=True, slots=True)
class Audit:
    """The controls of a study.

    Attributes:
        ended: How many completed or diverged.
        close: How many of these came within CLOSE of the best other trial, or are better.
        best: The last val_error of the best other trial, a fraction.
        at_most: Upper 95 % bound of the share of stops that are false: that end a trial which would have come close.
        epochs: Epochs that controls trained after they would have been stopped.
    """

    ended: int
    close: int
    best: float
    at_most: float
    epochs: int


def audit(study: Study) -> Audit | None:
    """Judge early stopping by its controls. None if no control, or no other trial, has ended."""
    drawn = study.decisions[study.decisions["verdict"] == Verdict.CONTROL]
    spared = study.trials.merge(drawn[["trial_id", "epoch"]].astype({"trial_id": str}), on="trial_id")
    ended = spared[spared["status"].isin([TrialStatus.COMPLETED, TrialStatus.DIVERGED])]
    others = study.ranked[~study.ranked["trial_id"].isin(spared["trial_id"])]
    if ended.empty or others.empty:
        return None
    best = float(others["val_error_last"].iloc[0])
    completed = ended["status"] == TrialStatus.COMPLETED
    close = int((completed & (ended["val_error_last"] <= best + CLOSE)).sum())
    epochs = int((spared["epochs"] - spared["epoch"]).sum())
    return Audit(len(ended), close, best, upper_bound(close, len(ended)), epochs)


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
    return (
        f"{found.close or 'none'} of {found.ended:,} came within {100 * CLOSE:g} % of the best other trial "
        f"({percent(found.best)}): at most {ceil(100 * found.at_most)} % of the stops are false (95 %); "
        f"they took {found.epochs:,} epochs"
    )
