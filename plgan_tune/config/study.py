"""A study: a trial in which values may be domains, how to search it, and what one trial needs."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from math import prod
from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_serializer, model_validator

from plgan_tune.config.defaults import latest_edition, with_defaults
from plgan_tune.config.domains import (
    Choice,
    Domain,
    Int,
    Leaf,
    LogInt,
    LogUniform,
    Scalar,
    Uniform,
    domain_as_mapping,
)
from plgan_tune.config.edition import EDITION
from plgan_tune.config.errors import RuleError, show
from plgan_tune.config.metrics import METRICS, Metric, MetricName, Mode
from plgan_tune.config.own import in_order
from plgan_tune.config.rules import parse_rule
from plgan_tune.config.trial import LEAVES, Count, Frozen, Positive, Size, TrialSpec
from plgan_tune.config.urls import check_no_password

Point = Mapping[str, Scalar]
"""Values of the searched keys by dotted path under `trial`. A list of a choice is its JSON text."""


class TpeSpec(Frozen):
    """TPE, the tree-structured Parzen estimator."""

    startup_trials: Count = 20
    """Finished trials before TPE takes over from random sampling."""
    startup: Literal["random", "sobol"] = "random"
    """How the points of those trials are drawn: independently, or by a sequence that fills the space evenly."""


class RandomSpec(Frozen):
    """Random sampling."""


class CmaesSpec(Frozen):
    """CMA-ES."""

    startup_trials: Count = 20
    """Finished trials before CMA-ES takes over from random sampling."""


class GpSpec(Frozen):
    """A Gaussian process."""

    startup_trials: Count = 20
    """Finished trials before the Gaussian process takes over from random sampling."""


class GridSpec(Frozen):
    """Every point of a finite space once, in a random order."""


class SamplerSpec(Frozen):
    """Exactly one sampler. `random` is short for `{random: {}}`."""

    tpe: TpeSpec | None = None
    random: RandomSpec | None = None
    cmaes: CmaesSpec | None = None
    gp: GpSpec | None = None
    grid: GridSpec | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        return {value: {}} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        given = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if len(given) != 1:
            rule = f"exactly one of {', '.join(type(self).model_fields)} must be given"
            raise RuleError(rule, " and ".join(given) or "none")
        return self

    @model_serializer
    def _as_name(self) -> Any:
        if self.random is not None:
            return "random"
        if self.grid is not None:
            return "grid"
        return {
            name: chosen.model_dump()
            for name, chosen in (("tpe", self.tpe), ("cmaes", self.cmaes), ("gp", self.gp))
            if chosen is not None
        }


class AshaSpec(Frozen):
    """Asynchronous successive halving (Li et al. 2018) on the epoch."""

    grace_period: Positive
    """Epochs before the first decision."""
    reduction_factor: Annotated[int, Field(ge=2, le=1_000_000_000)] = 3
    """One in this many trials continues from each rung."""
    min_competitors: Positive = 3
    """Values at a rung before a trial is stopped there."""
    smoothing: Positive = 1
    """A trial's value is the mean of its last so many epochs."""
    align: Literal["epoch", "switch"] = "epoch"
    """Where rungs count from: a trial's start, or its switch epoch, before which no trial is judged."""
    controls: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """This share of the trials to be stopped, drawn at random, continues, to measure what stopping costs."""
    objectives: Literal["first", "all"] = "first"
    """What trials are judged by: the first metric, or their place among all by both, front by front."""


class EarlyStoppingSpec(Frozen):
    """ASHA, or none."""

    asha: AshaSpec | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        if value is None or value == "none":
            return {}
        if isinstance(value, str) and value not in cls.model_fields:
            raise RuleError("must be none or a mapping of asha", show(value))
        return {value: {}} if isinstance(value, str) else value

    @model_serializer
    def _as_name(self) -> Any:
        return "none" if self.asha is None else {"asha": self.asha.model_dump()}


class ConfirmSpec(Frozen):
    """Train the best trials again with fresh seeds, and choose by those."""

    seeds: Annotated[int, Field(ge=2, le=1000)] = 8
    """Fresh seeds of the last two, at most; the first point gets as many."""
    finalists: Annotated[int, Field(ge=1, le=1000)] = 16
    """Best trials that get a fresh seed, at most; the first point gets one with them."""
    share: Annotated[float, Field(gt=0, lt=1)] = 0.4
    """Share of the study's epochs, those of the search among them, that confirming may take."""
    vary: Literal["seed", "split"] = "seed"
    """What a fresh seed draws anew: weights and noise, or also which images have labels and which validate."""


NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
"""The name of a study and of its folder."""

NAME_LENGTH: Final = 80


Modes = Mode | Annotated[tuple[Mode, Mode], Field(strict=False)]
"""The direction of the metric, or those of both."""


def _named(names: MetricName | tuple[MetricName, MetricName]) -> tuple[Metric, ...]:
    return tuple(METRICS[name] for name in (names if isinstance(names, tuple) else (names,)))


class SearchSpec(Frozen):
    """How to search: trials, limits, sampler, early stopping and first points."""

    trials: Size = 50
    hours: Annotated[float, Field(gt=0, le=100_000)] | None = None
    """End the search after this time; null is no limit."""
    epochs: Positive | None = None
    """End the search once so many epochs are logged, those of earlier starts included; null is no limit."""
    patience: Positive | None = None
    """End the search once so many trials in a row have not improved the best value by more than its noise."""
    metric: MetricName | Annotated[tuple[MetricName, MetricName], Field(strict=False)] = "val_error"
    """What ranks trials, by its value at the last epoch; or two, the first of which ranks them."""
    mode: Annotated[Modes | None, Field(validate_default=True)] = None
    """The metric's own direction, which null stands for, or those of both; it cannot be turned round."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Seed of the sampler."""
    concurrent: Literal["auto"] | Positive = "auto"
    """Trials at a time; auto is as many as the cluster holds."""
    max_failures: Count = 3
    """How often a trial may start again after an error of its own; a lost machine does not count."""
    trial_timeout: Annotated[float, Field(gt=0, le=1_000_000_000)] | None = None
    """Seconds without a report after which a trial starts again; null is never."""
    trial_hours: Annotated[float, Field(gt=0, le=100_000)] | None = None
    """Hours of training after which a trial is stopped; null is no limit."""
    keep_checkpoints: Count = 5
    """Checkpoints of this many of the best completed trials are kept."""
    sampler: SamplerSpec = SamplerSpec(tpe=TpeSpec())
    early_stopping: EarlyStoppingSpec = EarlyStoppingSpec()
    confirm: ConfirmSpec | None = ConfirmSpec()
    """How the best trials are confirmed on fresh seeds; null is not at all."""
    warm_start: tuple[str, ...] = Field(default=(), strict=False)
    """Folders or URLs of older studies, whose finished trials the sampler learns from first."""
    first: tuple[dict[str, Any], ...] = Field(default=(), strict=False)
    """`Point`s to try before the sampler suggests any. A point may leave searched keys to the sampler."""
    rules: tuple[str, ...] = Field(default=(), strict=False)
    """Linear comparisons between keys of the trial, which every point must keep."""

    @field_validator("metric", mode="before")
    @classmethod
    def _are_one_or_two(cls, value: Any) -> Any:
        if not isinstance(value, list | tuple):
            return value
        if len(value) not in (1, 2) or (len(value) == 2 and value[0] == value[1]):
            raise RuleError("must be one metric, or a list of two different ones", show(value))
        return value[0] if len(value) == 1 else value

    @field_validator("mode")
    @classmethod
    def _is_the_metric_s(cls, value: Modes | None, info: ValidationInfo) -> Modes | None:
        if "metric" not in info.data:  # it was refused
            return value
        metrics = _named(info.data["metric"])
        first, *others = (metric.mode for metric in metrics)
        own: Modes = (first, others[0]) if others else first
        if value not in (None, own):
            best = " and ".join(f"the {metric.best} {metric.name}" for metric in metrics)
            rule = f"must be {show(own) if others else own} or null: {best} {'are' if others else 'is'} the best"
            raise RuleError(rule, show(value))
        return own

    @field_validator("confirm", mode="before")
    @classmethod
    def _may_be_none(cls, value: Any) -> Any:
        return None if value == "none" else value

    @field_validator("warm_start")
    @classmethod
    def _hold_no_password(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(check_no_password(place) for place in value)


CONFIRM: Final = "search.confirm"
"""The key of `ConfirmSpec`."""

Placement = Literal["pack", "strict_pack", "strict_spread"]

ACCELERATOR_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class ResourcesSpec(Frozen):
    """What one trial needs."""

    ranks: Annotated[int, Field(ge=1, le=10_000)] = 1
    cpus_per_rank: Annotated[float, Field(gt=0)] = 1
    gpus_per_rank: Literal["auto"] | Annotated[float, Field(ge=0)] = "auto"
    """auto is one if the cluster has GPUs, else none. Below 1, ranks share a GPU and its memory."""
    accelerator: str | None = None
    """Train only on nodes with this accelerator, by Ray's name for it, such as H100; null is any."""
    placement: Placement = "pack"
    """pack: ranks on as few nodes as possible; strict_pack: on one node; strict_spread: each on another node."""

    @field_validator("gpus_per_rank")
    @classmethod
    def _whole_or_shared(cls, value: float | Literal["auto"]) -> float | Literal["auto"]:
        if value != "auto" and value > 1 and value != int(value):
            raise RuleError("must be a whole number of GPUs, or less than 1 of one", show(value))
        return value

    @field_validator("accelerator")
    @classmethod
    def _is_a_name(cls, value: str | None) -> str | None:
        if value is not None and not ACCELERATOR_NAME.fullmatch(value):
            raise RuleError("must be letters, digits, '.', '_' and '-', such as H100", show(value))
        return value


def threads_of(cpus: float) -> int:
    """Return the CPU threads of a rank that has `cpus` cores or a part of one."""
    return max(1, int(cpus))


@dataclass(frozen=True, slots=True)
class StudySpec:
    """A validated space file.

    Attributes:
        study: Its name.
        search: How to search.
        resources: What a trial takes.
        template: The `trial` section without the searched keys, with every default that they do not decide.
        domains: Dotted path under `trial` -> domain, in the order of `LEAVES`.
        edition: The edition of all defaults, including those that searched keys decide.
        left_out: Keys that the file leaves to their defaults, by their dotted path from its top.
    """

    study: str
    search: SearchSpec
    resources: ResourcesSpec
    template: Mapping[str, Any]
    domains: Mapping[str, Domain]
    edition: int = field(default_factory=latest_edition)
    left_out: frozenset[str] = field(default=frozenset(), compare=False)

    def trial(self, point: Point) -> TrialSpec:
        """Return the configuration at `point`, which holds every searched key.

        Raises:
            KeyError: If `point` lacks a searched key or has another key.
        """
        if point.keys() != self.domains.keys():
            raise KeyError(f"point has {sorted(point)}, the study searches {sorted(self.domains)}")
        values = {path: decode(self.domains[path], value) for path, value in point.items()}
        return TrialSpec.model_validate(with_defaults(set_paths(self.template, values), self.edition))

    def holds(self, point: Point) -> bool:
        """Return whether `point`, of this study or of another that searched the same keys, lies in the domains.

        A point that breaks a rule of `search.rules` does not.
        """
        options = self.options
        inside = point.keys() == self.domains.keys() and all(
            point[path] in options[path] if path in options else domain.contains(point[path])
            for path, domain in self.domains.items()
        )
        return inside and self.broken_rule(point) is None

    def broken_rule(self, point: Point) -> str | None:
        """The first of `search.rules` that the point breaks; a rule of a key that the point leaves open is kept."""
        if not self.search.rules:
            return None
        chosen = {path: decode(self.domains[path], value) for path, value in point.items()}
        rules = [parse_rule(text) for text in self.search.rules]
        if chosen.keys() != self.domains.keys():
            rules = [rule for rule in rules if all(self._knows(key, chosen) for key in rule.factors)]
        values = self.values({key for rule in rules for key in rule.factors}, chosen)
        return next((rule.text for rule in rules if not rule.keeps(values)), None)

    def _knows(self, key: str, chosen: Mapping[str, Leaf]) -> bool:
        return key in chosen or _leaf(self.template, key) is not None

    def values(self, keys: Iterable[str], chosen: Mapping[str, Leaf]) -> dict[str, Any]:
        """What a trial has at these keys where it has been given the chosen values; defaults may hang on them."""
        found: dict[str, Any] = {key: _leaf(self.template, key) for key in keys} | dict(chosen)
        if any(value is None for value in found.values()):
            trial = with_defaults(set_paths(self.template, chosen), self.edition)
            found = {key: _leaf(trial, key) for key in found}
        return found

    def as_mapping(self) -> dict[str, Any]:
        """Return the study as a space file, with every default that no searched key decides.

        A space file of this mapping loads as an equal study.
        """
        domains = {path: domain_as_mapping(domain) for path, domain in self.domains.items()}
        search = self.search.model_dump(mode="json")
        search["first"] = [
            {path: decode(self.domains[path], value) for path, value in point.items()} for point in search["first"]
        ]
        return {
            "study": self.study,
            EDITION: self.edition,
            "search": search,
            "resources": self.resources.model_dump(mode="json"),
            "trial": _in_order(set_paths(self.template, domains)),
        }

    def any_trial(self) -> TrialSpec:
        """Return the configuration at the first corner of every domain, for keys that cannot be searched."""
        return self.trial({path: encode(domain, domain.corners()[0]) for path, domain in self.domains.items()})

    def with_path(self, path: str) -> "StudySpec":
        """Return the same study with its data at `path`."""
        template = set_paths(self.template, {"data.path": path})
        return replace(self, template=template, left_out=self.left_out - {"trial.data.path"})

    @property
    def objectives(self) -> tuple[Metric, ...]:
        """What it searches by: one metric or two."""
        return _named(self.search.metric)

    @property
    def metric(self) -> Metric:
        """What ranks its trials: the first of its objectives."""
        return self.objectives[0]

    @property
    def second(self) -> Metric | None:
        """The second of its objectives; None if it has one."""
        return self.objectives[1] if len(self.objectives) > 1 else None

    @property
    def judges_by_both(self) -> bool:
        """Whether early stopping judges trials by both objectives."""
        asha = self.search.early_stopping.asha
        return self.second is not None and asha is not None and asha.objectives == "all"

    @property
    def metric_names(self) -> tuple[str, ...]:
        """The names of its objectives, which name the columns of its trials."""
        return tuple(metric.name for metric in self.objectives)

    @property
    def points(self) -> int | None:
        """How many points the domains have; None where they are not finitely many."""
        counts = [domain.count() for domain in self.domains.values()]
        return prod(count for count in counts if count is not None) if None not in counts else None

    @property
    def types(self) -> dict[str, type]:
        """Searched path -> the type of its column: bool, int, float or str."""
        return {path: _column_type(domain) for path, domain in self.domains.items()}

    @property
    def options(self) -> dict[str, tuple[Scalar, ...]]:
        """Searched path of a choice -> its options, encoded as in a point."""
        return {
            path: tuple(encode(domain, option) for option in domain.options)
            for path, domain in self.domains.items()
            if isinstance(domain, Choice)
        }

    @property
    def columns(self) -> dict[str, str]:
        """Searched path -> its column, `params_<leaf>`, or with the full path if two leaves share a name."""
        leaves = [path.rpartition(".")[2] for path in self.domains]
        return {
            path: f"params_{path if leaves.count(leaf) > 1 else leaf}"
            for path, leaf in zip(self.domains, leaves, strict=True)
        }


def _leaf(mapping: Mapping[str, Any], path: str) -> Any:
    """What stands at the dotted path; None where nothing does."""
    value: Any = mapping
    for key in path.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def set_paths(mapping: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return `mapping` with each dotted path of `values` set. All mappings are copied, values are not."""
    result = _new_mappings(mapping)
    for path, value in values.items():
        *parents, leaf = path.split(".")
        section = result
        for parent in parents:
            section = section.setdefault(parent, {})
        section[leaf] = value
    return result


def _new_mappings(mapping: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _new_mappings(value) if isinstance(value, Mapping) else value for key, value in mapping.items()}


def flatten(mapping: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the leaves by dotted path: the inverse of `set_paths` on an empty mapping."""
    flat: dict[str, Any] = {}
    for key, value in mapping.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def _in_order(trial: Mapping[str, Any]) -> dict[str, Any]:
    ordered: dict[str, Any] = {}
    for path in in_order([*LEAVES, *(f"own.{key}" for key in trial.get("own", ()))]):
        section, _, leaf = path.rpartition(".")
        source = trial.get(section, {}) if section else trial
        if leaf in source:
            (ordered.setdefault(section, {}) if section else ordered)[leaf] = source[leaf]
    return ordered


def _column_type(domain: Domain) -> type:
    match domain:
        case Uniform() | LogUniform():
            return float
        case Int() | LogInt():
            return int
        case Choice(options):
            kinds = {type(encode(domain, option)) for option in options if option is not None}
            return float if kinds == {int, float} else kinds.pop() if len(kinds) == 1 else str


def encode(domain: Domain, value: Leaf) -> Scalar:
    """Return a value as samplers and results files hold it: a list of a choice becomes JSON text."""
    return json.dumps(value) if isinstance(domain, Choice) and isinstance(value, list) else value  # type: ignore[return-value]


def held(domain: Domain, value: Leaf) -> Scalar:
    """Return a value of the domain as samplers hold it: 1 in a real domain as 1.0, a choice as its encoded option."""
    match domain:
        case Uniform():
            assert isinstance(value, int | float)
            return domain.nearest(value)
        case LogUniform():
            assert isinstance(value, int | float)
            return float(value)
        case Choice():
            return encode(domain, domain.option(value))
        case _:
            return encode(domain, value)


def point_at(domains: Mapping[str, Domain], shares: Iterable[float]) -> dict[str, Scalar]:
    """Return the point whose values have these shares of random draws below them: a random point for random shares.

    Args:
        domains: The domains.
        shares: A number in [0, 1) for each domain, in their order.
    """
    return {
        path: held(domain, domain.at(share)) for (path, domain), share in zip(domains.items(), shares, strict=False)
    }


def decode(domain: Domain, value: Scalar) -> Leaf:
    """Return the value that `encode` has encoded."""
    if isinstance(domain, Choice) and isinstance(value, str) and value.startswith("["):
        decoded: Leaf = json.loads(value)
        return decoded
    return value
