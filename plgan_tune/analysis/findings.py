"""Warnings and hints on a study, in sentences."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import pandas as pd

from plgan_tune.analysis.curves import values_at_equal_epoch
from plgan_tune.analysis.rungs import missed_by
from plgan_tune.analysis.seeds import expected_no_worse, seed_noise
from plgan_tune.analysis.study import Study
from plgan_tune.config.domains import Choice, Domain, Int, LogInt, LogUniform, Uniform, domain_as_mapping
from plgan_tune.config.errors import RuleError, SpecError
from plgan_tune.config.load import study_from_resolved
from plgan_tune.config.metrics import VAL_ERROR, Metric
from plgan_tune.config.study import StudySpec, set_paths
from plgan_tune.config.yaml import dump_yaml
from plgan_tune.console.format import brief, measured
from plgan_tune.console.judge import note_on_judge
from plgan_tune.records import TrialStatus, Value, Verdict

EDGE: Final = 0.05
"""Share of a domain next to its ends: a best value there suggests a wider domain."""

COLLAPSED: Final = 0.5
"""Below this share of the uniform distribution's entropy a generator makes only few classes."""

CLASSES: Final[Mapping[str, int]] = dict.fromkeys(("digits", "mnist", "fashion_mnist", "cifar10", "svhn"), 10)
"""Number of classes of known sources, and of folders and files with their names."""

MANY: Final = 0.1
"""Share of trials from which on something is worth a warning."""

ENOUGH: Final = 10
"""Trials that a rank correlation needs to be meaningful."""

SUM_MATTERS: Final = 1e-6
"""From about this eps on, Adam's steps depend on the size of the generator's gradient, which is of the order 1e-4."""


def findings(study: Study) -> list[str]:
    """Return sentences about the study, the most urgent first."""
    return [
        *_another_metric(study),
        *_unfinished(study),
        *_few_completed(study),
        *_diverged(study),
        *_edges(study),
        *_stopped_by_noise(study),
        *_never_switched(study),
        *_collapsed(study),
        *_averages_worse(study),
        *_weights(study),
        *_errs_often(study),
    ]


def _errs_often(study: Study) -> Iterator[str]:
    if study.judge is not None and (note := note_on_judge(study.judge)) is not None:
        yield note


def _another_metric(study: Study) -> Iterator[str]:
    if study.metric != study.spec.metric:
        yield (
            f"ranked by {study.metric.name}: the search, its early stopping and what it confirmed went by "
            f"{study.spec.metric.name}"
        )


def _unfinished(study: Study) -> Iterator[str]:
    left = int((study.trials["status"] == TrialStatus.RUNNING).sum())
    if left and not study.searching:
        which = "1 trial has" if left == 1 else f"{left} trials have"
        yield f"no search writes here, but {which} not ended: search --resume continues it"


def _few_completed(study: Study) -> Iterator[str]:
    completed, ended = len(study.ranked), (study.trials["status"] != TrialStatus.RUNNING).sum()
    if ended and completed == 0:
        yield f"none of {ended} ended trials completed, so none is ranked"
    elif 0 < completed < 3 <= ended:
        yield f"{completed} of {ended} ended trials completed: the best was chosen from few"


def _diverged(study: Study) -> Iterator[str]:
    """Yield how many trials diverged, and the searched key that best separates them from the others."""
    diverged = study.trials["status"] == TrialStatus.DIVERGED
    if diverged.mean() < MANY or not diverged.any():
        return
    sentence = f"{diverged.sum()} of {len(diverged)} trials diverged"
    yield sentence + (_where(study, diverged) if not diverged.all() else "")


def _where(study: Study, diverged: "pd.Series[bool]") -> str:
    separations: list[tuple[float, str, str]] = []
    for path, domain in study.spec.domains.items():
        if isinstance(domain, Choice):
            separations += _options(study, diverged, path)
            continue
        values = study.trials[study.spec.columns[path]].astype(float)
        ranks = values.rank()
        bad, good = int(diverged.sum()), int((~diverged).sum())
        # The probability that a diverged trial's value is above another's (Mann and Whitney 1947).
        above = (ranks[diverged].sum() - bad * (bad + 1) / 2) / (bad * good)
        edge = values[diverged].quantile(0.2 if above > 0.5 else 0.8)
        beyond = values >= edge if above > 0.5 else values <= edge
        sign = "≥" if above > 0.5 else "≤"
        counts = f"{(beyond & diverged).sum()} of the {beyond.sum()} trials with {path} {sign} {brief(float(edge))}"
        separations.append((abs(above - 0.5), path, counts))
    if not separations or max(separations)[0] < 0.25:
        return ", not in one region of a single key"
    return f"; {max(separations)[2]} did"


def _options(study: Study, diverged: "pd.Series[bool]", path: str) -> Iterator[tuple[float, str, str]]:
    """Yield for each option of a choice how well it separates the diverged from the others, as `_where` measures it."""
    for option, rows in study.trials.groupby(study.spec.columns[path], dropna=False):
        here = study.trials.index.isin(rows.index)
        share_of_bad, share_of_good = here[diverged].mean(), here[~diverged].mean()
        counts = f"{(here & diverged).sum()} of the {here.sum()} trials with {path} {option}"
        # The probability in `_where` minus 0.5, for a key of two values; an option without divergence gets 0.
        yield max(0.0, share_of_bad - share_of_good) / 2, path, counts


def _edges(study: Study) -> Iterator[str]:
    if study.ranked.empty:
        return
    best = study.ranked.iloc[0]
    for path, value in study.params(best.to_dict()).items():
        domain = study.spec.domains[path]
        place = unit(domain, value) if domain.contains(value) else None  # a resume may have narrowed the domain
        if place is None or EDGE <= place <= 1 - EDGE:
            continue
        end = "lower" if place < EDGE else "upper"
        sentence = f"the best trial's {path} {_text(value)} lies at the {end} end of {_domain(domain)}"
        wider = None if end == "upper" and _late_enough(study, path, domain) else _wider(study.spec, path, end)
        yield sentence + (f"; a wider domain: --set 'trial.{path}={_domain(wider)}'" if wider else "")


def unit(domain: Domain, value: Value) -> float | None:
    """Return where a value lies between its domain's ends, in [0, 1], on the domain's scale; None for a choice."""
    if isinstance(domain, Choice) or not isinstance(value, int | float) or domain.low == domain.high:
        return None
    if isinstance(domain, LogUniform | LogInt):
        return math.log(value / domain.low) / math.log(domain.high / domain.low)
    return (value - domain.low) / (domain.high - domain.low)


def _wider(spec: StudySpec, path: str, end: str) -> Domain | None:
    """Return the domain, extended beyond that end by half its length or as far as the key's rules allow, or None."""
    domain = spec.domains[path]
    for step in (0.5, 0.25, 0.1):
        try:
            wider = _stretched(domain, end, step)
            mapping = spec.as_mapping()
            trial = set_paths(mapping["trial"], {path: domain_as_mapping(wider)})
            study_from_resolved({**mapping, "trial": trial})
        except (RuleError, SpecError, OverflowError):
            continue
        if wider != domain:
            return wider
    return None


def _late_enough(study: Study, path: str, domain: Domain) -> bool:
    """Return whether a later switch epoch would leave no epoch to train after it."""
    return path == "loss.switch_epoch" and isinstance(domain, Int | LogInt) and domain.high >= study.last_epoch - 1


def _stretched(domain: Domain, end: str, share: float) -> Domain:
    match domain:
        case Uniform(low, high, float() | int() as step) | Int(low, high, step):
            further = max(1, round(share * (high - low) / step))
            return replace(domain, **_moved(domain, end, round((high - low) / step), further))
        case Uniform(low, high):
            by = share * (high - low)
            return Uniform(_round(low - by, by), high) if end == "lower" else Uniform(low, _round(high + by, by))
        case LogUniform(low, high):
            factor = (high / low) ** share
            down, up = low / factor, high * factor
            if end == "lower":
                return LogUniform(_round(down, min(low - down, down)), high)
            return LogUniform(low, _round(up, up - high))
        case LogInt(low, high):
            factor = (high / low) ** share
            return LogInt(max(1, int(low / factor)), high) if end == "lower" else LogInt(low, math.ceil(high * factor))
        case Choice():
            return domain


def _moved(domain: Uniform | Int, end: str, steps: int, by: int) -> dict[str, Any]:
    """One end so many steps further out, of a domain of `steps` steps."""
    return {"low": domain.nth(-by)} if end == "lower" else {"high": domain.nth(steps + by)}


def _round(value: float, step: float) -> float:
    """Round to a few hundredths of `step`: the printed value must still lie beyond the old end."""
    return round(value, 1 - math.floor(math.log10(step)))


def _stopped_by_noise(study: Study) -> Iterator[str]:
    """Yield how many trials early stopping ended by chance, by the noise that an evaluation has measured, if any.

    The images' own noise is no measure: trials are judged on the same images, and nearly all misses lie within it.
    """
    judged = study.decisions
    stops = judged[(judged["verdict"] == Verdict.STOP) & judged["cutoff"].notna()]
    by_epoch = seed_noise(study) if len(stops) else pd.Series(dtype=float)
    noise = stops["epoch"].map(by_epoch).astype(float)
    metric = study.spec.metric
    by_chance = expected_no_worse(missed_by(stops, metric), noise)
    if by_chance >= max(1, MANY * len(stops)):
        yield (
            f"about {by_chance:.0f} of {len(stops)} trials that early stopping ended were no worse than their cutoff: "
            f"over the seeds of `evaluate` {_a(metric)} deviates by {measured(metric, float(noise.median()))} where "
            "they ended; a longer search.early_stopping.asha.grace_period, or smoothing, reduces this"
        )


def _never_switched(study: Study) -> Iterator[str]:
    """Yield how many trials ended before T, when PL-GAN's loss reaches its final form (patent paragraph 0060)."""
    if study.trials.empty:
        return
    switch = _switch_epochs(study)
    early = study.trials["epochs"] <= switch
    ended = (study.trials["status"] != TrialStatus.RUNNING) & switch.notna()
    if (early & ended).sum() >= max(1, MANY * ended.sum()):
        yield f"{(early & ended).sum()} of {ended.sum()} trials ended before their switch epoch: its effect is untested"
    if not study.ranked.empty and early[study.ranked.index[0]]:
        yield "the best trial's switch epoch is later than its last epoch: its loss never took its final form"


def _switch_epochs(study: Study) -> "pd.Series[float]":
    """Return each trial's T, NaN if its loss has none."""
    column = study.spec.columns.get("loss.switch_epoch")
    keys = [key for key in ("method", "model.kind", "loss.ramp") if key in study.spec.domains]
    columns = [study.spec.columns[key] for key in keys]
    alike = [rows for _, rows in study.trials.groupby(columns, dropna=False)] if columns else [study.trials]
    switch = pd.Series(math.nan, index=study.trials.index)
    for rows in alike:
        loss = (study.trial(rows["trial_id"].iloc[0]) if columns else study.spec.any_trial()).loss
        if loss.ramp in ("clamp", "literal"):
            switch[rows.index] = rows[column] if column else loss.switch_epoch
    return switch


def _collapsed(study: Study) -> Iterator[str]:
    last = study.epochs.drop_duplicates("trial_id", keep="last").set_index("trial_id")["entropy_generated"]
    data = study.spec.any_trial().data
    known = data.source if data.source in CLASSES else (data.path or "").rstrip("/").rpartition("/")[2]
    classes = CLASSES.get(known)
    # The log has no number of classes of other data: take the highest entropy of any generator for all classes.
    whole = math.log(classes) if classes else study.epochs["entropy_generated"].max()
    few = last[last < COLLAPSED * whole]
    if len(few) < max(1, MANY * len(last)):
        return
    sentence = f"{len(few)} of {len(last)} generators make few classes (entropy below half of that of all classes)"
    best = study.ranked["trial_id"].iloc[0] if not study.ranked.empty else None
    yield sentence + (", the best trial's among them" if best in set(few.index) else "")


def _averages_worse(study: Study) -> Iterator[str]:
    """Compare the metric, of the averaged weights, with the raw ones: if it is worse, the average lags."""
    completed = study.ranked["trial_id"]
    last = study.epochs[study.epochs["trial_id"].isin(completed)].drop_duplicates("trial_id", keep="last")
    gaps = _gaps(last, study.metric)
    worse = gaps < 0
    if len(gaps) >= 3 and worse.mean() > 0.5:
        yield (
            f"averaged weights are worse than raw ones in {worse.sum()} of {len(gaps)} completed trials, by "
            f"{measured(study.metric, -float(gaps.median()))} at the median: train longer, or lower optim.average_decay"
        )


def _gaps(epochs: pd.DataFrame, metric: Metric) -> "pd.Series[float]":
    """By how much the raw weights are worse than the averaged ones, of the epochs that measured both."""
    if metric == VAL_ERROR:
        return epochs["error_gap"].astype(float)
    if (raw := f"{metric.name}_raw") not in epochs:
        return pd.Series(dtype=float)
    gaps: pd.Series[float] = metric.cost((epochs[raw] - epochs[metric.name]).dropna().astype(float))
    return gaps


def _weights(study: Study) -> Iterator[str]:
    """Yield the ratio and sum of alpha and beta: the sum matters only if eps damps Adam's steps (METHOD)."""
    columns = [column for path, column in study.spec.columns.items() if path in ("loss.alpha", "loss.beta")]
    if len(columns) < 2 or study.ranked.empty:
        return
    best = study.ranked.iloc[0]
    a, b = (float(best[column]) for column in columns)
    eps = study.trial(best["trial_id"]).optim.eps
    role = "also acts as the generator's learning rate" if eps >= SUM_MATTERS else "hardly matters to Adam"
    has = f"alpha / (alpha + beta) {brief(a / (a + b))} and alpha + beta {brief(a + b)}" if a + b else "both at 0"
    yield (
        f"alpha and beta matter by their ratio; with eps {eps:g} their sum {role}. The best trial has {has}"
        f"{_correlations(study, columns)}"
    )


def _correlations(study: Study, columns: Sequence[str]) -> str:
    """Return correlations of ratio and sum with the metric; nothing for too few or equal trials."""
    _, values = values_at_equal_epoch(study)
    rows = study.trials.set_index("trial_id").loc[values.index]
    alpha, beta = (rows[column].astype(float) for column in columns)
    drawn = (alpha / (alpha + beta), alpha + beta)
    if len(values) < ENOUGH or min(one.nunique() for one in (*drawn, values)) < 2:
        return ""
    ratio, total = (one.rank().corr(values.rank()) for one in drawn)
    return f"; rank correlation with the {study.metric.noun} at equal epochs {ratio:+.2f} and {total:+.2f}"


def _a(metric: Metric) -> str:
    return f"{'an' if metric.noun[0] in 'aeiou' else 'a'} {metric.noun}"


def _domain(domain: Domain) -> str:
    """As a space file or `--set` says it."""
    return dump_yaml({"domain": domain_as_mapping(domain)}).removeprefix("domain: ").strip()


def _text(value: Value) -> str:
    return brief(value) if isinstance(value, float) else str(value)
