"""Suggests the trials of a search, then replicates of its best on fresh seeds."""

from collections.abc import Callable
from typing import Final

from plgan_tune.config.study import StudySpec, set_paths
from plgan_tune.config.trial import TrialSpec
from plgan_tune.records import TrialRow, TrialStatus
from plgan_tune.study.assignment import NO_FURTHER_POINT, NONE_YET, Assignment, NoneYet, trial_name
from plgan_tune.study.history import History
from plgan_tune.study.protocols import Suggestions
from plgan_tune.study.race import Race
from plgan_tune.study.state import StudyState

SEED_LIMIT: Final = 2**63
"""Seeds are below this."""


class Confirming:
    """Hands out what the search suggests; once it has searched enough, the trainings of the race.

    The search has searched enough when it suggests no more, or when it has had its share of the epochs or the time, or
    has stopped improving. The race begins in slots that the search's last trials leave free.

    Args:
        search: Suggests the search's own trials. It must hand out the unfinished ones of earlier starts first.
        race: Says which configurations are trained with which fresh seeds.
        spec: The study.
        state: Every trial of the study.
        history: Rows of earlier starts.
        is_out_of_time: Returns whether the time of the search's own trials is over.
    """

    def __init__(
        self,
        search: Suggestions,
        race: Race,
        spec: StudySpec,
        state: StudyState,
        history: History,
        is_out_of_time: Callable[[], bool] = lambda: False,
    ) -> None:
        self._search, self._race, self._spec, self._state = search, race, spec, state
        self._is_out_of_time = is_out_of_time
        self._curves = history.curves
        self._unfinished = [row for row in history.unfinished if row.replicate_of is not None]
        self._to_continue = len(history.unfinished) - len(self._unfinished)
        self._next_number = history.next_number
        self._is_searching = True
        self._announced: set[str] = set()
        self._known = {row.trial_id for row in history.trials}
        self._running: dict[str, tuple[str, int] | None] = {}  # trial_id -> the replicate that it is, if it is one

    def ask(self) -> Assignment | NoneYet | None:
        """Return the next trial of the search or the next replicate; None after the last."""
        if self._unfinished:
            return self._handed_out(self._next_attempt(self._unfinished.pop(0)))
        found = self._next_of_search() if self._is_searching else None
        if isinstance(found, Assignment):
            return self._handed_out(found)
        return found if found is NONE_YET else self._next_replicate()

    def report(self, trial_id: str, epoch: int, value: float, *others: float) -> None:
        """Tell the search about its own trials. It learns of replicates when the study is resumed."""
        if self._running.get(trial_id) is None:
            self._search.report(trial_id, epoch, value, *others)

    def tell(self, trial_id: str, status: TrialStatus) -> None:
        """Take the end of a trial."""
        if self._running.pop(trial_id, None) is None:
            self._search.tell(trial_id, status)

    def _next_of_search(self) -> Assignment | NoneYet | None:
        """Return the search's next trial; None, from now on, if it has searched enough."""
        if self._to_continue:
            self._to_continue -= 1
            return self._search.ask()
        if self._state.searched_enough() is not None or self._is_out_of_time():
            self._is_searching = False
            self._state.no_more_come(self._known)
            return None
        to_begin = sum(trial_id not in self._state for trial_id in self._running)
        if not self._state.has_room_for_a_trial(to_begin):
            return NONE_YET
        found = self._search.ask()
        self._is_searching = found is not None
        return found

    def _next_replicate(self) -> Assignment | NoneYet | None:
        under_way = [replicate for replicate in self._running.values() if replicate is not None]
        all_have_begun = all(trial_id in self._state for trial_id in self._running)
        ready = self._race.next_replicates(self._state.all_rows(), under_way) if all_have_begun else []
        if ready:
            notes = (*self._note_the_last(), *self._news())
            self._state.one_more_comes()
            return self._handed_out(self._replicate(*ready[0], notes))
        return NONE_YET if self._running else None

    def _note_the_last(self) -> tuple[str, ...]:
        """Return a note if the search has suggested fewer trials than it was asked for."""
        asked_for = self._state.trials
        self._state.no_more_come(self._known)
        return () if self._state.trials == asked_for else (NO_FURTHER_POINT.format(self._state.trials, asked_for),)

    def _replicate(self, trial_id: str, number: int, notes: tuple[str, ...]) -> Assignment:
        return self._assigned(self._state.trial(trial_id), trial_id, number, self._next_number, 1, 0, notes)

    def _next_attempt(self, row: TrialRow) -> Assignment:
        assert row.replicate_of is not None
        assert row.replicate is not None
        logged = max(self._curves.get(row.trial_id, {}), default=0)
        return self._assigned(row, row.replicate_of, row.replicate, row.number, row.attempt + 1, logged)

    def _assigned(
        self,
        at: TrialRow,
        replicate_of: str,
        replicate: int,
        number: int,
        attempt: int,
        logged: int,
        notes: tuple[str, ...] = (),
    ) -> Assignment:
        trial = with_fresh_seed(self._spec, self._spec.trial(at.params), replicate)
        return Assignment(
            trial_id=trial_name(number),
            number=number,
            attempt=attempt,
            logged=logged,
            point=at.params,
            trial=trial,
            notes=notes,
            replicate_of=replicate_of,
            replicate=replicate,
        )

    def _news(self) -> tuple[str, ...]:
        """Return a note on the configurations that take part since the last one."""
        standing = self._race.standing(self._state.all_rows())
        new = [trial_id for trial_id in standing.active if trial_id not in self._announced]
        self._announced.update(new)
        named = [f"{trial_id} (the first point)" if trial_id == standing.first else trial_id for trial_id in new]
        return (f"confirming {', '.join(named)} on fresh seeds",) if named else ()

    def _handed_out(self, assignment: Assignment) -> Assignment:
        of, number = assignment.replicate_of, assignment.replicate
        self._running[assignment.trial_id] = None if of is None or number is None else (of, number)
        self._known.add(assignment.trial_id)
        self._next_number = max(self._next_number, assignment.number + 1)
        return assignment


def with_fresh_seed(spec: StudySpec, trial: TrialSpec, replicate: int) -> TrialSpec:
    """Return a configuration of the study with the seed of a replicate, which is the same for all configurations.

    Args:
        spec: The study.
        trial: The configuration.
        replicate: Which fresh seed, from 1.
    """
    usual = spec.any_trial()
    searched = spec.domains["seed"].corners() if "seed" in spec.domains else [usual.seed]
    used = max(seed for seed in searched if isinstance(seed, int))
    seeds = {"seed": (used + replicate) % SEED_LIMIT}
    if spec.search.confirm is not None and spec.search.confirm.vary == "split":
        seeds["data.split_seed"] = (usual.data.split_seed + replicate) % SEED_LIMIT
    return TrialSpec.model_validate(set_paths(trial.model_dump(), seeds))
