"""Warm start: finished trials of older studies, which the sampler gets before its first suggestion."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from plgan_tune.config.own import FILE, is_own_key
from plgan_tune.config.study import StudySpec, encode, flatten
from plgan_tune.config.trial import trial_as_mapping
from plgan_tune.records import TrialRow, Value
from plgan_tune.store.location import Location, StoreError
from plgan_tune.study.history import read_history
from plgan_tune.study.study_file import read_study_file


@dataclass(frozen=True, slots=True)
class Older:
    """What one older study contributes.

    Attributes:
        trials: its finished trials within this study's domains, with values for all of this study's keys.
        curves: trial_id -> epoch -> the metric's value.
        note: what was taken and what was not, for the user.
    """

    trials: tuple[TrialRow, ...]
    curves: Mapping[str, Mapping[int, float]]
    note: str


def read_older(spec: StudySpec) -> list[Older]:
    """Read the studies of `search.warm_start`.

    Raises:
        StoreError: if one of them does not exist or cannot be read.
    """
    return [_read(spec, Location.at(place)) for place in spec.search.warm_start]


def _read(spec: StudySpec, location: Location) -> Older:
    try:
        older = read_study_file(location).spec
    except StoreError as error:
        raise StoreError(f"search.warm_start: {error}") from error
    foreign = sorted(older.domains.keys() - spec.domains.keys())
    if foreign:
        why = f"because it searches {', '.join(foreign)}, which this study does not"
        return Older((), {}, f"warm start from {location.url}: took none, {why}")
    if older.objectives[: len(spec.objectives)] != spec.objectives:
        theirs, ours = (" and ".join(study.metric_names) for study in (older, spec))
        why = f"because it ranks trials by {theirs}, and this study by {ours}"
        return Older((), {}, f"warm start from {location.url}: took none, {why}")
    given = flatten(older.template).keys() | older.domains.keys()
    unknown = [path for path in spec.domains if is_own_key(path) and path not in given]
    if unknown:
        why = f"because it gives {', '.join(unknown)} no value: the default is known to the user's own file alone"
        return Older((), {}, f"warm start from {location.url}: took none, {why}")
    history = read_history(location, older)
    complete = [replace(row, params={**_fixed_values(older, spec, row), **row.params}) for row in history.ended]
    taken = tuple(row for row in complete if spec.holds(row.params))
    said = [f"took {len(taken)} of {len(complete)} finished trials"]
    if len(taken) < len(complete):
        said.append(f"{len(complete) - len(taken)} lie outside the current domains")
    if differing := _differing(older, spec):
        said.append(f"their {spec.metric.noun}s may not be comparable, since it has {', '.join(differing)}")
    return Older(taken, history.curves, f"warm start from {location.url}: {'; '.join(said)}")


def _fixed_values(older: StudySpec, spec: StudySpec, row: TrialRow) -> dict[str, Value]:
    """Return a trial's values of the keys that only this study searches; defaults may depend on other keys."""
    fixed = [path for path in spec.domains if path not in older.domains]
    if not fixed:
        return {}
    trial = flatten(trial_as_mapping(older.trial(row.params))["trial"])
    return {path: encode(spec.domains[path], trial[path]) for path in fixed}


def _differing(older: StudySpec, spec: StudySpec) -> list[str]:
    """Return `key value` for each key that both studies fix to different values.

    Where the user's own file lies does not count: the hash says what it holds.
    """
    theirs, ours = (flatten(study.template) for study in (older, spec))
    both = [key for key in theirs if key in ours and key != FILE]
    return [f"{key} {theirs[key]!r}" for key in both if theirs[key] != ours[key]]
