"""What early stopping did, rung by rung."""

import pandas as pd

from plgan_tune.config.metrics import VAL_ERROR, Metric
from plgan_tune.records import Verdict


def rung_table(decisions: pd.DataFrame, metric: Metric = VAL_ERROR) -> pd.DataFrame:
    """Return one row per rung of a study's `decisions`, the first rung first.

    Args:
        decisions: of a study.
        metric: what the study searched by.

    Returns:
        Columns rung (epochs), came, went_on (controls among them), stopped (trials), cutoff (the latest one, in the
        metric's unit; NaN if too few trials came), and by how much stopped trials missed their cutoffs, above 0:
        missed_least with its trial `nearest`, missed_median, missed_most. Those are NaN if no trial was stopped.
    """
    stopped = decisions["verdict"] == Verdict.STOP
    missed = missed_by(decisions, metric).where(stopped)
    judged = decisions.assign(stopped=stopped, missed=missed.astype(float))
    rows = []
    for rung, here in judged.groupby("rung"):
        cutoffs = here["cutoff"].dropna()
        least = here["missed"].min()
        rows.append(
            {
                "rung": rung,
                "came": len(here),
                "went_on": len(here) - int(here["stopped"].sum()),
                "stopped": int(here["stopped"].sum()),
                "cutoff": cutoffs.iloc[-1] if len(cutoffs) else float("nan"),
                "missed_least": least,
                "missed_median": here["missed"].median(),
                "missed_most": here["missed"].max(),
                "nearest": next(iter(here.loc[here["missed"] == least, "trial_id"].astype(str)), ""),
            }
        )
    return pd.DataFrame(rows, columns=list(COLUMNS))


def missed_by(decisions: pd.DataFrame, metric: Metric) -> "pd.Series[float]":
    """Return by how much each judged trial was worse than its cutoff, below 0 if it was better."""
    missed: pd.Series[float] = metric.cost(decisions["value"] - decisions["cutoff"])
    return missed


COLUMNS = ("rung", "came", "went_on", "stopped", "cutoff", "missed_least", "missed_median", "missed_most", "nearest")
