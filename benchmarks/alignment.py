"""Should early stopping count epochs from a trial's start or from its own switch epoch? Full curves, replayed.

    python -m plgan_tune.search --set search.early_stopping=none --set search.sampler=random --set search.first=[] \\
        --set search.trials=48 --name curves
    python benchmarks/alignment.py --record results/curves
    python benchmarks/alignment.py

The first two make alignment_curves.parquet: 48 random trials of the digits space, none of them stopped. The last
replays both rules on these curves, in many orders of suggestion, as a search with several trials at a time would see
them. Prints a table and writes it to alignment.md.
"""

import argparse
import heapq
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import pandas as pd

from plgan_tune.config.advice import rungs
from plgan_tune.config.study import AshaSpec
from plgan_tune.records import Report, Value, Verdict
from plgan_tune.study.halving import Halving, from_the_first_epoch
from plgan_tune.study.protocols import Rule

CURVES = Path(__file__).with_name("alignment_curves.parquet")
SWITCH = "loss.switch_epoch"
ORDERS = 500
AT_A_TIME = 4
GRACES = (3, 5, 10, 15)
HEADER = """# Rungs from the start or from the switch epoch

{trials} full curves of {epochs} epochs of the digits space, random points (`alignment_curves.parquet`, made as
`alignment.py` says). {orders} random orders of suggestion, {at_a_time} trials at a time, a new one where one ends.
The best trial is the one of lowest val_error at its last epoch, {best:.2f} %. ASHA with reduction factor 3.

| grace period | rungs count from | the best trial was stopped | best error of those that completed | epochs saved |
| --- | --- | --- | --- | --- |
"""


@dataclass(frozen=True)
class Curve:
    """A trial's errors, epoch by epoch, and the epoch of its switch."""

    switch_epoch: int
    errors: Sequence[float]


@dataclass(frozen=True)
class Outcome:
    completed: frozenset[str]
    epochs: int


def record(study: Path) -> None:
    trials = pd.read_parquet(study / "trials").set_index("trial_id")["params_switch_epoch"]
    epochs = pd.read_parquet(study / "epochs")[["trial_id", "epoch", "val_error"]]
    epochs = epochs.assign(switch_epoch=epochs["trial_id"].map(trials)).sort_values(["trial_id", "epoch"])
    epochs.to_parquet(CURVES, index=False)


def read() -> dict[str, Curve]:
    return {
        str(trial_id): Curve(int(rows["switch_epoch"].iloc[0]), rows["val_error"].tolist())
        for trial_id, rows in pd.read_parquet(CURVES).groupby("trial_id")
    }


def search(curves: Mapping[str, Curve], order: Sequence[str], rule: Rule) -> Outcome:
    """What a search makes of the curves: trials report in turn, an epoch each takes the same time."""
    waiting = list(reversed(order))
    under_way = [(0.0, place, waiting.pop(), 1) for place in range(min(AT_A_TIME, len(waiting)))]
    completed, trained, place = set(), 0, len(under_way)
    while under_way:
        time, turn, trial_id, epoch = heapq.heappop(under_way)
        curve = curves[trial_id]
        trained += 1
        last = epoch == len(curve.errors)
        report = Report(trained, trial_id, 1, epoch, curve.errors[epoch - 1])
        decision = None if last else rule.report(report, {SWITCH: curve.switch_epoch})
        if last:
            completed.add(trial_id)
        if not last and (decision is None or decision.verdict is Verdict.CONTINUE):
            heapq.heappush(under_way, (time + 1, turn, trial_id, epoch + 1))
        elif waiting:
            heapq.heappush(under_way, (time + 1, place, waiting.pop(), 1))
            place += 1
    return Outcome(frozenset(completed), trained)


def switch_epoch(point: Mapping[str, Value]) -> int:
    return int(point[SWITCH] or 0)


def row(curves: Mapping[str, Curve], grace: int, *, from_switch: bool) -> str:
    epochs = max(len(curve.errors) for curve in curves.values())
    asha = AshaSpec(grace_period=grace)
    last = {trial_id: curve.errors[-1] for trial_id, curve in curves.items()}
    best = min(last.values())
    draws = random.Random(0)
    outcomes = []
    for _ in range(ORDERS):
        order = draws.sample(sorted(curves), len(curves))
        start_of = switch_epoch if from_switch else from_the_first_epoch
        rule = Halving(rungs(asha, epochs), asha.reduction_factor, asha.min_competitors, start_of=start_of)
        outcomes.append(search(curves, order, rule))
    missed = fmean(all(last[trial_id] > best for trial_id in outcome.completed) for outcome in outcomes)
    found = fmean(min(last[trial_id] for trial_id in outcome.completed) for outcome in outcomes)
    saved = 1 - fmean(outcome.epochs for outcome in outcomes) / sum(len(curve.errors) for curve in curves.values())
    where = "the switch epoch" if from_switch else "the start"
    return f"| {grace} | {where} | {100 * missed:.0f} % | {100 * found:.2f} % | {100 * saved:.0f} % |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--record", type=Path, metavar="STUDY", help="make the curves from this study and stop")
    study = parser.parse_args().record
    if study is not None:
        record(study)
        return
    curves = read()
    table = HEADER.format(
        trials=len(curves),
        epochs=max(len(curve.errors) for curve in curves.values()),
        orders=ORDERS,
        at_a_time=AT_A_TIME,
        best=100 * min(curve.errors[-1] for curve in curves.values()),
    )
    for grace in GRACES:
        for from_switch in (False, True):
            table += row(curves, grace, from_switch=from_switch) + "\n"
    print(table)
    Path(__file__).with_suffix(".md").write_text(table)


if __name__ == "__main__":
    main()
