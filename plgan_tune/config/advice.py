"""Notes on settings that are valid but rarely intended, and the rungs of early stopping."""

from plgan_tune.config.check import corners
from plgan_tune.config.defaults import with_defaults
from plgan_tune.config.study import AshaSpec, StudySpec, set_paths
from plgan_tune.config.trial import TrialSpec


def rungs(asha: AshaSpec, epochs: int) -> tuple[int, ...]:
    """Return the epochs at which trials are compared: grace_period * reduction_factor**k < epochs (Li et al. 2018)."""
    found = []
    rung = asha.grace_period
    while rung < epochs:
        found.append(rung)
        rung *= asha.reduction_factor
    return tuple(found)


def corner_trials(study: StudySpec) -> list[TrialSpec]:
    """Return the configurations at the ends of the study's domains, for every method and kind that it searches."""
    return [
        TrialSpec.model_validate(with_defaults(set_paths(study.template, point), study.edition))
        for point in corners(study.template, study.domains)
    ]


def advice(study: StudySpec) -> list[str]:
    """Return notes that a user should read before a valid study starts; usually none."""
    trials = corner_trials(study)
    return [*_about_trials(trials), *_about_start(study, trials), *_about_search(study, trials[0].training.epochs)]


def _about_trials(trials: list[TrialSpec]) -> list[str]:
    sentences = []
    epochs = trials[0].training.epochs
    decays = [trial.optim.decay_epoch for trial in trials if trial.optim.min_factor == 0]
    if decays and 2 * (low := min(decays)) < epochs:
        sentences.append(
            f"trial.optim.decay_epoch may be {low}: learning rates then reach 0 after {2 * low} of {epochs} "
            f"epochs and training stands still; {-(-epochs // 2)} or more avoids that"
        )
    switches = [trial.loss.switch_epoch for trial in trials if trial.loss.ramp in ("clamp", "literal")]
    if switches and (high := max(switches)) >= epochs:
        sentences.append(
            f"trial.loss.switch_epoch may be {high}: with {epochs} epochs the ramp then never reaches 1; "
            f"{epochs - 1} or less avoids that"
        )
    starts = [trial.loss.self_start for trial in trials if trial.loss.self_scale]
    if starts and (high := max(starts)) >= epochs:
        sentences.append(
            f"self-training may begin in epoch {high}: with {epochs} epochs it then never does; a "
            f"trial.loss.self_epoch of {epochs - 1} or less avoids that"
        )
    return sentences


def _about_start(study: StudySpec, trials: list[TrialSpec]) -> list[str]:
    searched = "model.generator_weight_norm_init"
    if searched not in study.domains or any(trial.model.generator_weight_norm for trial in trials):
        return []
    return [f"trial.{searched} is searched, but generator_weight_norm is false: it changes nothing"]


def _about_search(study: StudySpec, epochs: int) -> list[str]:
    sentences = []
    search = study.search
    asha = search.early_stopping.asha
    if asha is not None and not rungs(asha, epochs):
        sentences.append(
            f"search.early_stopping.asha.grace_period is {asha.grace_period}: "
            f"with {epochs} epochs no trial is stopped early"
        )
    if asha is not None and asha.objectives == "all" and study.second is None:
        sentences.append(
            "search.early_stopping.asha.objectives is all, but search.metric names one metric: it is first"
        )
    if not study.domains:
        sentences.append(
            "no key of trial holds a domain: there is one configuration to train, and the search ends then"
        )
    elif (points := study.points) is not None and points < search.trials:
        sentences.append(
            f"the domains have {points:,} points in all: the search ends once all are tried, before its "
            f"{search.trials:,} trials"
        )
    if search.epochs is not None and search.epochs < epochs:
        sentences.append(f"search.epochs is {search.epochs}: no trial of {epochs} epochs can complete")
    if len(search.first) > search.trials:
        sentences.append(f"search.first has {len(search.first)} points, but search.trials is {search.trials}")
    return sentences
