"""The sampler, asked and told as a search does."""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.trial import TrialState

from plgan_tune.config.domains import Choice, Domain, Int, LogInt, LogUniform, Uniform
from plgan_tune.config.errors import RuleError
from plgan_tune.config.load import study_from_mapping
from plgan_tune.config.study import ResourcesSpec, SearchSpec, StudySpec, decode
from plgan_tune.records import TrialStatus
from plgan_tune.study.assignment import Assignment
from plgan_tune.study.history import History
from plgan_tune.tuning.distributions import distributions, from_optuna, to_optuna
from plgan_tune.tuning.sampler import OptunaSampler, build_sampler, check_sampler
from tests.factories import make_trial

EPOCHS = 9
TEMPLATE: dict[str, Any] = {
    "data": {"source": "digits", "labels": 20, "validation": 100},
    "model": {"kind": "mlp"},
    "training": {"epochs": EPOCHS},
}
ALPHA_BETA: dict[str, Domain] = {"loss.alpha": Uniform(0.0, 1.0), "loss.beta": Uniform(0.0, 1.0)}
TPE = {"tpe": {"startup_trials": 10}}

Point = Mapping[str, Any]


@dataclass(frozen=True)
class Course:
    """A trial's errors after its epochs, and how it ends."""

    errors: Sequence[float]
    ending: TrialStatus


def study(domains: Mapping[str, Domain], **search: Any) -> StudySpec:
    spec = SearchSpec.model_validate({"sampler": TPE, **search})
    return StudySpec("test", spec, ResourcesSpec(), TEMPLATE, domains)


def completed(error: float) -> Course:
    """Errors fall to `error` at the last epoch, with a lower one before it that must not count."""
    return Course([*([error + 0.1] * (EPOCHS - 2)), error / 2, error], TrialStatus.COMPLETED)


def stopped(errors: Sequence[float]) -> Course:
    return Course(errors, TrialStatus.STOPPED)


def diverged(after: int) -> Course:
    return Course([0.9] * after, TrialStatus.DIVERGED)


def report(sampler: OptunaSampler, trial_id: str, errors: Sequence[float], after: int = 0) -> None:
    for epoch, error in enumerate(errors, start=after + 1):
        sampler.report(trial_id, epoch, error)


def end(sampler: OptunaSampler, trial_id: str, course: Course) -> None:
    report(sampler, trial_id, course.errors)
    sampler.tell(trial_id, course.ending)


def search(sampler: OptunaSampler, course: Callable[[Point], Course]) -> list[Point]:
    """One trial at a time until the sampler has no more; the points."""
    points: list[Point] = []
    while (assignment := sampler.ask()) is not None:
        points.append(assignment.point)
        end(sampler, assignment.trial_id, course(assignment.point))
    return points


def bowl(point: Point) -> float:
    return float((point["loss.alpha"] - 0.2) ** 2 + (point["loss.beta"] - 0.7) ** 2)


def asked(sampler: OptunaSampler, trials: int) -> list[Assignment]:
    assignments = [sampler.ask() for _ in range(trials)]
    assert None not in assignments
    return [assignment for assignment in assignments if assignment is not None]


def test_an_assignment_holds_id_number_point_and_the_whole_trial() -> None:
    spec = study({"loss.alpha": Uniform(0.25, 0.5), "model.hidden": Choice(([8], [8, 4]))})
    first, second = asked(OptunaSampler(spec), 2)
    assert (first.trial_id, first.number, first.attempt, first.logged) == ("t0000", 0, 1, 0)
    assert (second.trial_id, second.number) == ("t0001", 1)
    assert first.point["model.hidden"] in ("[8]", "[8, 4]")
    assert first.trial == spec.trial(first.point)
    assert first.trial.loss.alpha == first.point["loss.alpha"]


def test_after_the_last_trial_it_is_finished() -> None:
    sampler = OptunaSampler(study(ALPHA_BETA, trials=3))
    assert len(search(sampler, lambda point: completed(0.5))) == 3
    assert sampler.ask() is None


def test_a_study_that_searches_no_key_trains_its_only_point() -> None:
    assert search(OptunaSampler(study({}, trials=2)), lambda point: completed(0.5)) == [{}]


def _valid(found: list[Any]) -> bool:
    try:
        Choice(tuple(found))
    except ValueError:
        return False
    return not any(isinstance(option, str) and option.startswith("[") for option in found)


# Optuna divides by 0 in a domain that is as narrow as rounding.
ranges = st.tuples(st.floats(1e-6, 1e3), st.floats(1e-6, 1e3)).map(sorted).filter(lambda r: r[1] > 1.001 * r[0])
whole_ranges = st.tuples(st.integers(1, 500), st.integers(1, 500)).map(sorted)
options = st.lists(
    st.one_of(st.floats(-9, 9), st.text(max_size=3), st.none(), st.lists(st.integers(0, 9), max_size=2)),
    min_size=1,
    max_size=4,
    unique_by=repr,
)
domains = st.one_of(
    ranges.map(lambda ends: Uniform(*ends)),
    ranges.map(lambda ends: LogUniform(*ends)),
    whole_ranges.map(lambda ends: Int(*ends)),
    whole_ranges.map(lambda ends: LogInt(*ends)),
    options.filter(_valid).map(lambda found: Choice(tuple(found))),
    st.builds(lambda low, steps: Uniform(low / 10, (low + 3 * steps) / 10, 0.3), st.integers(0, 99), st.integers(0, 9)),
    st.builds(lambda low, steps: Int(low, low + 5 * steps, 5), st.integers(1, 99), st.integers(0, 9)),
    options.filter(_valid)
    .filter(lambda found: not any(isinstance(option, float) for option in found))
    .map(lambda found: Choice(tuple(found), ordered=True)),
)


@settings(max_examples=60)
@given(domain=domains, seed=st.integers(0, 99), startup=st.sampled_from([0, 99]))
def test_every_value_lies_in_its_domain_and_has_its_type(domain: Domain, seed: int, startup: int) -> None:
    spec = SearchSpec.model_validate({"sampler": {"tpe": {"startup_trials": startup}}, "seed": seed})
    known = optuna.create_study(sampler=build_sampler(spec))
    for _ in range(4):
        trial = known.ask(distributions({"key": domain}))
        value = from_optuna({"key": domain}, trial.params)["key"]
        assert to_optuna({"key": domain}, {"key": value}) == pytest.approx(trial.params)
        assert domain.contains(decode(domain, value))
        if not isinstance(domain, Choice):
            assert type(value) is (int if isinstance(domain, Int | LogInt) else float)
        known.tell(trial, 0.5)


def test_a_logarithmic_domain_gives_every_decade_its_share() -> None:
    spec = study({"optim.lr_generator": LogUniform(1e-6, 1.0)}, trials=200, sampler="random")
    values = [point["optim.lr_generator"] for point in search(OptunaSampler(spec), lambda _: completed(0.5))]
    assert 0.4 < sum(value < 1e-3 for value in values) / len(values) < 0.6


def test_tpe_takes_an_ordered_option_for_near_its_neighbours() -> None:
    """Of sixty sizes the forty-first is the best, and each is the worse the further it lies from it."""

    def misses(ordered: bool, seed: int) -> float:
        domain = Choice(tuple([units] for units in range(1, 61)), ordered=ordered)
        spec = study({"model.hidden": domain}, trials=40, seed=seed, sampler=TPE)
        points = search(OptunaSampler(spec), lambda point: completed(abs(int(point["model.hidden"][1:-1]) - 41) / 60))
        return sum(abs(int(point["model.hidden"][1:-1]) - 41) for point in points[20:]) / 20

    ordered, names = ([misses(kind, seed) for seed in range(8)] for kind in (True, False))
    assert sum(ordered) < 0.8 * sum(names)


def sobol(startup: int, **search: Any) -> StudySpec:
    domains = {**ALPHA_BETA, "loss.switch_epoch": Int(1, 8), "loss.ramp": Choice(("clamp", "one"))}
    return study(domains, sampler={"tpe": {"startup_trials": startup, "startup": "sobol"}}, **search)


def test_a_sobol_start_fills_every_part_of_the_space() -> None:
    """Of sixteen points one lies in each sixteenth of a key, and four in each quarter of two keys."""
    points = search(OptunaSampler(sobol(16, trials=16)), lambda point: completed(0.5))
    assert sorted(int(16 * point["loss.alpha"]) for point in points) == list(range(16))
    quarters = Counter((point["loss.alpha"] < 0.5, point["loss.beta"] < 0.5) for point in points)
    assert set(quarters.values()) == {4}
    assert Counter(point["loss.switch_epoch"] for point in points) == dict.fromkeys(range(1, 9), 2)
    others = search(OptunaSampler(sobol(16, trials=16, seed=1)), lambda point: completed(0.5))
    assert all(one != other for one, other in zip(points, others, strict=True))


@settings(max_examples=10)
@given(st.integers(0, 16), st.integers(0, 3))
def test_a_sobol_start_continues_where_it_was(begun: int, lost: int) -> None:
    """Trials that its driver did not live to log have the same points again, and then TPE begins."""
    first = [{"loss.alpha": 0.125}]
    whole = search(OptunaSampler(sobol(12, trials=16, first=first)), lambda point: completed(bowl(point)))
    rows = [make_trial(number, TrialStatus.COMPLETED, whole[number], bowl(whole[number])) for number in range(begun)]
    kept = History(tuple(row for row in rows if row.number != lost))
    resumed = OptunaSampler(sobol(12, trials=16, first=first), kept)
    left = [number for number in range(16) if number not in {row.number for row in kept.trials}]
    again = asked(resumed, len(left))
    assert [one.number for one in again] == left
    assert all(one.point == whole[one.number] for one in again if 0 < one.number < 12)
    assert whole[0]["loss.alpha"] == 0.125


def test_a_sobol_start_of_few_points_tries_each_once() -> None:
    domains: dict[str, Domain] = {"loss.switch_epoch": Int(1, 3), "loss.ramp": Choice(("clamp", "one"))}
    spec = study(domains, trials=9, sampler={"tpe": {"startup_trials": 9, "startup": "sobol"}})
    assert len(search(OptunaSampler(spec), lambda point: completed(0.5))) == 6


def test_first_points_come_first_in_their_order_and_leave_the_rest_to_the_sampler() -> None:
    spec = study_from_mapping(
        {
            "study": "test",
            "search": {
                "sampler": TPE,
                "trials": 6,
                "first": [{"loss.alpha": 1, "model.hidden": [8.0, 4]}, {"loss.alpha": 0.25, "loss.switch_epoch": 3}],
            },
            "trial": {
                "data": {"source": "digits", "labels": 20, "validation": 100},
                "loss": {"alpha": {"uniform": [0, 1]}, "switch_epoch": {"int": [1, 5]}},
                "model": {"hidden": {"choice": [[16], [8, 4]]}},
                "training": {"epochs": EPOCHS},
            },
        }
    )
    points = search(OptunaSampler(spec), lambda point: completed(0.5))
    assert points[0]["loss.alpha"] == 1
    assert type(points[0]["loss.alpha"]) is float
    assert points[0]["model.hidden"] == "[8, 4]"
    assert points[0]["loss.switch_epoch"] in range(1, 6)
    assert (points[1]["loss.alpha"], points[1]["loss.switch_epoch"]) == (0.25, 3)
    assert all(point["loss.alpha"] not in (0.25, 1) for point in points[2:])


def test_a_search_shorter_than_its_first_points_takes_the_earliest() -> None:
    first = [{"loss.alpha": value} for value in (0.1, 0.2, 0.3)]
    sampler = OptunaSampler(study(ALPHA_BETA, first=first, trials=2))
    assert [point["loss.alpha"] for point in search(sampler, lambda point: completed(0.5))] == [0.1, 0.2]
    assert len(sampler.study.trials) == 2


@pytest.mark.parametrize("sampler", ["random", TPE])
def test_the_same_seed_gives_the_same_suggestions(sampler: Any) -> None:
    def points(seed: int) -> list[Point]:
        spec = study(ALPHA_BETA, trials=25, seed=seed, sampler=sampler)
        return search(OptunaSampler(spec), lambda point: completed(bowl(point)))

    assert points(1) == points(1)
    assert points(1) != points(2)


def test_tpe_comes_nearer_to_a_planted_minimum_than_random_search() -> None:
    def best(sampler: Any, seed: int) -> float:
        spec = study(ALPHA_BETA, trials=50, seed=seed, sampler=sampler)
        return min(map(bowl, search(OptunaSampler(spec), lambda point: completed(bowl(point)))))

    tpe, random = ([best(sampler, seed) for seed in range(5)] for sampler in (TPE, "random"))
    assert math.prod(tpe) < math.prod(random) / 10**5  # ten times nearer on geometric average


def test_what_optuna_holds_of_each_ending() -> None:
    sampler = OptunaSampler(study(ALPHA_BETA, trials=6))
    courses = [
        completed(0.3),
        stopped([0.9, 0.7, 0.8]),
        diverged(after=2),
        Course([], TrialStatus.FAILED),
        stopped([]),
        Course([*completed(0.3).errors[:-1], math.nan], TrialStatus.COMPLETED),
    ]
    for assignment, course in zip(asked(sampler, 6), courses, strict=True):
        end(sampler, assignment.trial_id, course)
    a, b, c, d, e, f = sampler.study.trials
    assert (a.state, a.value, a.intermediate_values[EPOCHS]) == (TrialState.COMPLETE, 0.3, 0.3)
    assert (b.state, b.value, b.last_step) == (TrialState.PRUNED, 0.8, 3)
    assert [sum(trial.constraints.values()) for trial in (a, b, c, d, e, f)] == [
        0,
        0,
        EPOCHS - 2,
        EPOCHS,
        0,
        1,
    ]
    assert {trial.state for trial in (c, d, e, f)} == {TrialState.PRUNED}
    assert not any(math.isnan(value) for t in (a, b, c, d, e, f) for value in t.intermediate_values.values())


def test_a_second_attempt_may_repeat_epochs() -> None:
    sampler = OptunaSampler(study(ALPHA_BETA))
    (assignment,) = asked(sampler, 1)
    report(sampler, assignment.trial_id, [0.9, 0.8, 0.7])
    report(sampler, assignment.trial_id, completed(0.3).errors[1:], after=1)
    sampler.tell(assignment.trial_id, TrialStatus.COMPLETED)
    (trial,) = sampler.study.trials
    assert sorted(trial.intermediate_values) == list(range(1, EPOCHS + 1))
    assert trial.value == 0.3


def test_tpe_avoids_a_diverging_half() -> None:
    def share_diverging(points: list[Point]) -> float:
        return float(sum(point["loss.alpha"] > 0.5 for point in points) / len(points))

    def course(point: Point) -> Course:
        if point["loss.alpha"] > 0.5:
            return diverged(after=3)
        error = 0.2 + 0.1 * point["loss.beta"]
        return completed(error) if point["loss.beta"] < 0.05 else stopped([error] * 3)

    late = [
        share_diverging(search(OptunaSampler(study(ALPHA_BETA, trials=60, seed=seed)), course)[20:])
        for seed in range(5)
    ]
    assert sum(late) / 5 < 0.25  # half of the square diverges


@pytest.mark.parametrize("name", ["cmaes", pytest.param("gp", marks=pytest.mark.slow)])
def test_the_samplers_without_constraints_avoid_a_diverging_half_too(name: str) -> None:
    """A diverged trial's last error is the lowest of all: told so, it would attract."""

    def course(point: Point) -> Course:
        low = Course([0.01] * 3, TrialStatus.DIVERGED)
        return low if point["loss.alpha"] > 0.5 else completed(0.3 + 0.1 * point["loss.beta"])

    late: list[Point] = []
    for seed in range(3):
        spec = study(ALPHA_BETA, trials=50, seed=seed, sampler={name: {"startup_trials": 10}})
        late += search(OptunaSampler(spec), course)[30:]
    assert sum(point["loss.alpha"] > 0.5 for point in late) / len(late) < 0.25


def test_cmaes_goes_on_where_it_stood() -> None:
    """It keeps its state in trials that it suggested itself; those of the log are given it apart."""
    grid = [{"loss.alpha": place / 7, "loss.beta": other / 7} for place in range(8) for other in range(8)]
    rows = [make_trial(number, TrialStatus.COMPLETED, point, bowl(point)) for number, point in enumerate(grid)]
    spec = study(ALPHA_BETA, trials=100, sampler={"cmaes": {"startup_trials": 10}})
    resumed = OptunaSampler(spec, History(tuple(rows)))
    points = [assignment.point for assignment in asked(resumed, 20)]
    assert sum(map(bowl, points)) / 20 < sum(map(bowl, grid)) / len(grid) / 3


def test_where_all_diverged_tpe_goes_to_those_that_lived_longest() -> None:
    def course(point: Point) -> Course:
        return diverged(after=round(8 * (1 - point["loss.alpha"])))

    points = search(OptunaSampler(study(ALPHA_BETA, trials=60)), course)
    assert sum(point["loss.alpha"] for point in points[40:]) / 20 < 0.2


@settings(max_examples=25)
@given(st.lists(st.sampled_from(["complete", "stop", "diverge", "fail", "stop at once", "leave"]), max_size=8))
def test_no_trial_is_left_running(endings: list[str]) -> None:
    sampler = OptunaSampler(study(ALPHA_BETA, trials=8, sampler={"tpe": {"startup_trials": 0}}))
    courses = {
        "complete": completed(0.4),
        "stop": stopped([0.9, 0.8]),
        "diverge": diverged(after=0),
        "fail": Course([0.9], TrialStatus.FAILED),
        "stop at once": stopped([]),
    }
    for assignment, ending in zip(asked(sampler, len(endings)), endings, strict=True):
        if ending in courses:
            end(sampler, assignment.trial_id, courses[ending])
    under_way = sum(trial.state == TrialState.RUNNING for trial in sampler.study.trials)
    assert under_way == endings.count("leave")
    assert len(sampler.study.trials) == len(endings)


def test_an_unknown_or_ended_trial_is_passed_over() -> None:
    sampler = OptunaSampler(study(ALPHA_BETA))
    (assignment,) = asked(sampler, 1)
    end(sampler, assignment.trial_id, completed(0.3))
    end(sampler, assignment.trial_id, completed(0.1))
    end(sampler, "nobody", completed(0.1))
    assert [trial.value for trial in sampler.study.trials] == [0.3]


def test_every_setting_of_the_samplers_is_seeded_and_stated() -> None:
    random = build_sampler(SearchSpec.model_validate({"sampler": "random", "seed": 3}))
    tpe = build_sampler(SearchSpec.model_validate({"sampler": {"tpe": {"startup_trials": 7}}, "seed": 3}))
    assert isinstance(random, optuna.samplers.RandomSampler)
    assert isinstance(tpe, optuna.samplers.TPESampler)
    assert (tpe._n_startup_trials, tpe._multivariate, tpe._constant_liar, tpe._group) == (
        7,
        True,
        True,
        False,
    )


def test_it_is_silent_and_leaves_optunas_verbosity_alone(capfd: pytest.CaptureFixture[str]) -> None:
    optuna.logging.set_verbosity(optuna.logging.INFO)
    search(OptunaSampler(study(ALPHA_BETA, trials=2)), lambda point: completed(0.5))
    assert optuna.logging.get_verbosity() == optuna.logging.INFO
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["cmaes", "gp", "tpe", "random"])
def test_every_sampler_fills_a_study_and_is_seeded(name: str) -> None:
    """Diverged and stopped trials among them, and a choice, which CMA-ES and GP sample apart."""
    chosen = "random" if name == "random" else {name: {"startup_trials": 3}}
    spec = study(
        {"loss.alpha": Uniform(0, 1), "loss.switch_epoch": Int(1, 5), "loss.ramp": Choice(("clamp", "one"))},
        trials=8,
        sampler=chosen,
    )

    def course(point: Mapping[str, Any]) -> Course:
        return diverged(2) if point["loss.alpha"] < 0.2 else completed(point["loss.alpha"] / 2)

    points = search(OptunaSampler(spec), course)
    assert len(points) == 8
    assert points == search(OptunaSampler(spec), course)
    assert len({point["loss.alpha"] for point in points}) == 8


def test_a_sampler_without_its_package_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("plgan_tune.tuning.sampler.find_spec", lambda name: None)
    with pytest.raises(RuleError, match="needs the package cmaes"):
        check_sampler(study({}, sampler="cmaes").search)
    check_sampler(study({}).search)
