"""Say what the front of a search by two metrics offers, and what each end of it costs."""

from collections.abc import Sequence

from plgan_tune.config.metrics import Metric
from plgan_tune.console.format import measured
from plgan_tune.study.front import OnFront


def front_in_brief(front: Sequence[OnFront], metric: Metric, second: Metric) -> str:
    """Return one line: how many trials are on the front, its ends and its knee."""

    def said(one: OnFront) -> str:
        return f"{one.trial_id} ({measured(metric, one.first)}, {measured(second, one.second)})"

    ends = [said(front[0])] if len(front) == 1 else [said(front[0]), said(front[-1])]
    bend = next((f", knee {said(one)}" for one in front if one.is_knee), "")
    return f"{len(front)} trial{'s' * (len(front) > 1)} by {metric.name} and {second.name}: {' to '.join(ends)}{bend}"


def ends_in_words(front: Sequence[OnFront], metric: Metric, second: Metric) -> list[str]:
    """Return what the best by either metric costs of the other, and what the knee costs of both."""
    if not front:
        return []
    one, other = front[0], front[-1]
    if (one.first, one.second) == (other.first, other.second):
        return [f"{one.trial_id} is the best by both {metric.name} and {second.name}"]
    by_first = cost_in_words(second, one.second, other.second)
    by_second = cost_in_words(metric, other.first, one.first)
    sentences = [
        f"the {metric.best} {metric.name}, {measured(metric, one.first)} of {one.trial_id}, costs {by_first}",
        f"the {second.best} {second.name}, {measured(second, other.second)} of {other.trial_id}, costs {by_second}",
    ]
    for bend in [at for at in front if at.is_knee][:1]:
        costs = cost_in_words(metric, bend.first, one.first), cost_in_words(second, bend.second, other.second)
        sentences.append(f"the knee, {bend.trial_id}, costs {' and '.join(costs)}")
    return sentences


def cost_in_words(metric: Metric, value: float, best: float) -> str:
    """Return how much worse a value is than the best: `1.25 points of val_error`, or `12.3 of val_distance`."""
    gap = metric.cost(value) - metric.cost(best)
    return f"{100 * gap:.2f} points of {metric.name}" if metric.is_share else f"{gap:.3g} of {metric.name}"
