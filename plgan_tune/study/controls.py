"""Controls: trials that early stopping would end, and lets go on, so that its cost can be measured."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from hashlib import blake2b

from plgan_tune.records import DecisionRow, Report, Value, Verdict
from plgan_tune.study.protocols import Rule


def draw_controls(share: float, seed: int) -> Callable[[str], bool]:
    """Return a function that says of a trial id whether the trial is a control if it comes to be stopped.

    The draw depends on the seed and the id alone, so a replay of the log draws the same trials.

    Args:
        share: The probability, in [0, 1].
        seed: Of the draw.
    """

    def is_control(trial_id: str) -> bool:
        digest = blake2b(f"{seed}/{trial_id}".encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big") < share * 2**64

    return is_control


class Audited:
    """A rule of early stopping with controls.

    Where the rule stops a trial that is a control, the verdict is `control`, and the trial goes on to its last epoch.
    The rule gets no more of its reports: it decides about all other trials as if it had stopped the control.

    Args:
        rule: The rule.
        is_control: Whether a trial is a control if the rule comes to stop it.
    """

    def __init__(self, rule: Rule, is_control: Callable[[str], bool]) -> None:
        self._rule, self._is_control = rule, is_control
        self._controls: set[str] = set()

    def report(self, report: Report, point: Mapping[str, Value]) -> DecisionRow | None:
        """See `Rule.report`."""
        if report.trial_id in self._controls:
            return None
        decision = self._rule.report(report, point)
        if decision is None or decision.verdict is not Verdict.STOP or not self._is_control(report.trial_id):
            return decision
        self._controls.add(report.trial_id)
        return replace(decision, verdict=Verdict.CONTROL)
