"""The battles of an evaluation: every pair of its GANs at equal seed. Each is fought once and kept in a file."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from itertools import combinations

import torch

from plgan_tune.evaluation.arena import Fighter, fight
from plgan_tune.evaluation.battle import Battle
from plgan_tune.evaluation.plan import Evaluation
from plgan_tune.records import BattleRow, TrialRow, TrialStatus
from plgan_tune.store.location import StoreError
from plgan_tune.store.read import BATTLES, battle_rows, read_battles
from plgan_tune.store.schemas import battles_table
from plgan_tune.store.tables import write_table
from plgan_tune.training.checkpoint import CheckpointError

Key = tuple[str, str, int, bool]
"""First and second configuration, seed, refit."""

VERDICTS = {"one": "first", "other": "second"}


def fight_battles(
    evaluation: Evaluation,
    trials: Mapping[str, TrialRow],
    enter: Callable[[TrialRow], Fighter],
    device: torch.device,
    now: Callable[[], datetime],
) -> dict[tuple[str, str], Battle]:
    """Fight the battles that are not in the file, add them, and return each pair's over the seeds of which both are.

    Those of trainings that are no longer in the log, or were trained again since, are dropped from the file. A trial
    whose checkpoint cannot be read takes no part.

    Args:
        evaluation: its configurations and seeds.
        trials: the measured trials that have ended, by trial_id.
        enter: makes a fighter of a trial.
        device: where networks run.
        now: returns the UTC time.

    Raises:
        StoreError: if the file cannot be read or written.
    """
    earlier = battle_rows(read_battles(evaluation.search, evaluation.study_id))
    rows = {_key(row): row for row in earlier if _is_of(row, trials)}
    if len(rows) < len(earlier):
        _write(evaluation, rows)
    found: dict[tuple[str, str], list[Battle]] = {}
    for seed in evaluation.seeds:
        able = _able(evaluation, trials, seed)
        pairs = [(_name(one), _name(other), seed, evaluation.refit) for one, other in combinations(able, 2)]
        if new := [pair for pair in pairs if pair not in rows]:
            rows |= _fight(new, able, enter, device, now)
            _write(evaluation, rows)
        for pair in (pair for pair in pairs if pair in rows):
            found.setdefault(pair[:2], []).append(_battle(rows[pair]))
    return {pair: Battle.over_seeds(battles) for pair, battles in found.items()}


def _able(evaluation: Evaluation, trials: Mapping[str, TrialRow], seed: int) -> list[TrialRow]:
    """Return the completed trials of this seed, in the order of the configurations."""
    asked = (one.trial_id for one in evaluation.study.trials if one.trial.seed == seed)
    rows = (trials[trial_id] for trial_id in asked if trial_id in trials)
    return [row for row in rows if row.status is TrialStatus.COMPLETED]


def _fight(
    pairs: Sequence[Key],
    trials: Sequence[TrialRow],
    enter: Callable[[TrialRow], Fighter],
    device: torch.device,
    now: Callable[[], datetime],
) -> dict[Key, BattleRow]:
    """Return the battles of these pairs of one seed."""
    names = {name for pair in pairs for name in pair[:2]}
    fighters: dict[str, Fighter] = {}
    for trial in (trial for trial in trials if _name(trial) in names):
        with suppress(StoreError, CheckpointError):
            fighters[_name(trial)] = enter(trial)
    return {
        pair: _row(pair, fighters[pair[0]], fighters[pair[1]], device, now())
        for pair in pairs
        if fighters.keys() >= {*pair[:2]}
    }


def _row(pair: Key, one: Fighter, other: Fighter, device: torch.device, now: datetime) -> BattleRow:
    battle = fight(one, other, device)
    first, second, seed, refit = pair
    return BattleRow(
        first=first,
        second=second,
        seed=seed,
        refit=refit,
        r_test=battle.r_test,
        r_sample=battle.r_sample,
        r_sample_low=battle.low,
        r_sample_high=battle.high,
        accuracy_sample=battle.accuracy_sample,
        threshold_first=float(one.calibration.threshold),
        threshold_second=float(other.calibration.threshold),
        verdict=VERDICTS.get(battle.verdict, battle.verdict),
        fought_at=now,
    )


def _battle(row: BattleRow) -> Battle:
    return Battle(row.r_test, row.r_sample, row.r_sample_low, row.r_sample_high, row.accuracy_sample)


def _key(row: BattleRow) -> Key:
    return row.first, row.second, row.seed, row.refit


def _name(trial: TrialRow) -> str:
    return str(trial.params["configuration"])


def _is_of(row: BattleRow, trials: Mapping[str, TrialRow]) -> bool:
    """Return whether the battle is one of these trainings: an evaluation that starts over uses the same names."""
    ends = [
        trial.ended_at
        for trial in trials.values()
        if (trial.seed, trial.params["refit"]) == (row.seed, row.refit) and _name(trial) in (row.first, row.second)
    ]
    return len(ends) == 2 and all(end is not None and end <= row.fought_at for end in ends)


def _write(evaluation: Evaluation, rows: Mapping[Key, BattleRow]) -> None:
    write_table(battles_table(list(rows.values())), evaluation.search.join(*BATTLES), study_id=evaluation.study_id)
