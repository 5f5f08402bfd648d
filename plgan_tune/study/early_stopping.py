"""A study's rule of early stopping, and what the log implies under it."""

from collections.abc import Iterable, Iterator, Mapping

from plgan_tune.config.advice import rungs
from plgan_tune.config.study import StudySpec
from plgan_tune.records import DecisionRow, Report, TrialRow, Value, Verdict
from plgan_tune.study.controls import Audited, draw_controls
from plgan_tune.study.halving import (
    Halving,
    NeverStop,
    StartOf,
    by_fronts,
    by_the_first,
    from_the_first_epoch,
)
from plgan_tune.study.history import History, Left, brought_to_date, unwritten_decisions
from plgan_tune.study.protocols import Rule
from plgan_tune.study.race import Race, race_of


def build_rule(spec: StudySpec) -> Rule:
    """Build the rule of `search.early_stopping`."""
    asha = spec.search.early_stopping.asha
    if asha is None:
        return NeverStop()
    halving = Halving(
        rungs(asha, spec.any_trial().training.epochs),
        asha.reduction_factor,
        asha.min_competitors,
        asha.smoothing,
        _start_of(spec) if asha.align == "switch" else from_the_first_epoch,
        spec.metric,
        spec.second,
        by_fronts if spec.judges_by_both else by_the_first,
    )
    return Audited(halving, draw_controls(asha.controls, spec.search.seed))


def _start_of(spec: StudySpec) -> StartOf:
    """Return a function that counts rungs from a trial's own switch epoch (patent paragraph 0060)."""
    return lambda point: spec.trial(point).loss.switch_epoch


def left_behind(known: History, spec: StudySpec, rule: Rule) -> Left:
    """Replay the whole log through the current rule and return what it implies.

    Args:
        known: what the log holds.
        spec: the study as it is now.
        rule: a new rule, which this function feeds.
    """
    points = {row.trial_id: row.params for row in known.trials if row.replicate_of is None}
    judged = (report for report in known.reports if report.trial_id in points)
    implied = list(replayed(judged, rule, points, spec.any_trial().training.epochs))
    decisions = unwritten_decisions(known, implied)
    history = brought_to_date(known, spec, decisions)
    drops = unwritten_drops(known, race_of(spec), history.trials)
    return Left(known, history, (*decisions, *drops), first_disagreement(known, implied))


def unwritten_drops(known: History, race: Race | None, rows: Iterable[TrialRow]) -> tuple[DecisionRow, ...]:
    """Return the race's decisions that the trials imply and that the driver died before writing."""
    if race is None:
        return ()
    written = {(row.seq, row.trial_id) for row in known.decisions if row.verdict is Verdict.DROP}
    return tuple(row for row in race.standing(rows).decisions if (row.seq, row.trial_id) not in written)


def first_disagreement(history: History, implied: Iterable[DecisionRow]) -> DecisionRow | None:
    """Return the first logged decision that the rule does not repeat; None if it repeats all of its time.

    Args:
        history: What the log holds.
        implied: What the rule decides on the logged epochs.
    """
    repeated = {(row.seq, row.trial_id, row.verdict) for row in implied}
    ours = (row for row in history.decisions if row.seq >= history.rule_since and row.verdict is not Verdict.DROP)
    return next((row for row in ours if (row.seq, row.trial_id, row.verdict) not in repeated), None)


def replayed(
    reports: Iterable[Report], rule: Rule, points: Mapping[str, Mapping[str, Value]], last: int
) -> Iterator[DecisionRow]:
    """Feed the log's reports to the rule in their order and yield its decisions.

    Args:
        reports: by seq.
        rule: a new rule.
        points: trial_id -> its point.
        last: epochs of a whole training; the last epoch is not judged.
    """
    for report in reports:
        if report.epoch < last:
            decision = rule.report(report, points[report.trial_id])
            if decision is not None:
                yield decision
