"""The front of a search by two metrics, as a frame."""

from statistics import fmean
from typing import Any

import pandas as pd

from plgan_tune.analysis.study import Study
from plgan_tune.records import TrialStatus
from plgan_tune.study.front import OnFront, front_among
from plgan_tune.study.race import Confirmed


def front(study: Study) -> pd.DataFrame:
    """Return the completed trials that no other is better than in both metrics, the best of the first one first.

    ```python
    from plgan_tune.analysis.front import front
    from plgan_tune.analysis.study import read_study

    print(front(read_study("results/mine")))
    ```

    Their values are of one seed each, and chosen for being good: a front of noisy values is optimistic. The means are
    over fresh seeds, of the trials that the search has confirmed.

    Args:
        study: a study; one of a single metric has no front.

    Returns:
        Columns trial_id, the two metrics at the last epoch (`<metric>_last`), knee (whether it is the front's knee),
        seeds (fresh ones that the means are of) and the two means over them (`<metric>_mean`), NaN without any.
    """
    names = study.spec.metric_names
    fresh = {place.trial_id: _fresh(study, place) for place in study.standing.places}
    rows = [
        {"trial_id": one.trial_id, "knee": one.is_knee, "seeds": 0}
        | {f"{name}_last": value for name, value in zip(names, (one.first, one.second), strict=True)}
        | fresh.get(one.trial_id, {})
        for one in members(study)
    ]
    means = [f"{name}_mean" for name in names]
    return pd.DataFrame(rows, columns=["trial_id", *(f"{name}_last" for name in names), "knee", "seeds", *means])


def members(study: Study) -> tuple[OnFront, ...]:
    """Return the trials of the front, none of a study of a single metric."""
    first, second = study.spec.metric, study.spec.second
    if second is None:
        return ()
    columns = ["trial_id", f"{first.name}_last", f"{second.name}_last"]
    whole = study.trials.loc[study.trials["status"] == TrialStatus.COMPLETED, columns].dropna()
    return front_among(whole.itertuples(index=False, name=None), first, second)


def _fresh(study: Study, place: Confirmed) -> dict[str, Any]:
    """Return the means of both metrics over the seeds that the race's own mean is of."""
    race = study.race.trials
    judging = race["replicate"].between(place.earlier + 1, len(place.values))
    rows = race[(race["replicate_of"] == place.trial_id) & (race["status"] == TrialStatus.COMPLETED) & judging]
    means = {f"{name}_mean": fmean(rows[f"{name}_last"]) for name in study.spec.metric_names if len(rows)}
    return {"seeds": len(rows), **means}
