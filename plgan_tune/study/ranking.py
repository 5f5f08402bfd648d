"""The ranking of trials."""

from collections.abc import Iterable

from plgan_tune.config.metrics import VAL_ERROR, Metric
from plgan_tune.records import TrialRow, TrialStatus
from plgan_tune.study.race import Race


def rank(rows: Iterable[TrialRow], race: Race | None = None, metric: Metric = VAL_ERROR) -> list[TrialRow]:
    """Return the search's own trials whose value is known, the best configuration first. Replicates have no place.

    Those that were confirmed on fresh seeds come first, in the order of the race. Then the other completed trials, the
    best value at the LAST epoch first; of equals, the first suggested. A minimum over noisy epochs is luck, and the
    final value of a stopped trial is unknown, unless replicates of it say more.

    Args:
        rows: All trials.
        race: What confirms the best trials; None if nothing does.
        metric: What the trials are ranked by.
    """
    rows = list(rows)
    own = {row.trial_id: row for row in rows if row.replicate_of is None}
    places = race.latest(rows).places if race is not None and len(own) < len(rows) else ()
    confirmed = [own[place.trial_id] for place in places]
    known = {row.trial_id for row in confirmed}
    completed = [
        (metric.cost(row.value_last), row.number, row)
        for row in own.values()
        if row.status is TrialStatus.COMPLETED and row.value_last is not None and row.trial_id not in known
    ]
    return confirmed + [row for _, _, row in sorted(completed, key=lambda entry: entry[:2])]


def trained_whole(row: TrialRow, rows: Iterable[TrialRow]) -> TrialRow | None:
    """Return a completed trial at this trial's point: itself, or else its first replicate that completed."""
    if row.status is TrialStatus.COMPLETED:
        return row
    replicates = (one for one in rows if one.replicate_of == row.trial_id and one.status is TrialStatus.COMPLETED)
    return min(replicates, key=lambda one: one.replicate or 0, default=None)
