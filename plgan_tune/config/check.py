"""Turn a mapping into a study or a trial, and report every broken rule at once."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from itertools import combinations, product
from math import prod
from random import Random
from typing import Any, Final, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from plgan_tune.config.defaults import METHOD, with_defaults
from plgan_tune.config.domains import NAMES, Domain, Leaf, check_length, domain_as_mapping, parse_domain
from plgan_tune.config.edition import EDITION, MADE_WITH, check_edition, edition_of
from plgan_tune.config.errors import SHOWN_PROBLEMS, Finding, KeyPath, RuleError, dotted, lies_under, show
from plgan_tune.config.keys import KNOWN, Keys, allowed, descend, keys_of, must_be_known
from plgan_tune.config.methods import METHODS
from plgan_tune.config.metrics import METRICS
from plgan_tune.config.own import FILE, OWN_NAME, SHA256, check_plain, in_order, is_own_key
from plgan_tune.config.renamed import with_new_names
from plgan_tune.config.rules import parse_rule
from plgan_tune.config.study import (
    CONFIRM,
    NAME,
    NAME_LENGTH,
    ResourcesSpec,
    SearchSpec,
    StudySpec,
    flatten,
    held,
    point_at,
    set_paths,
)
from plgan_tune.config.trial import (
    BOUND_IN_PAIRS,
    LEAVES,
    SECTIONS,
    Frozen,
    Kind,
    Method,
    OwnKind,
    TrialSpec,
    WeightNormInit,
)

Spec = TypeVar("Spec", bound=Frozen)

_TRIAL_KEYS: Final = keys_of(TrialSpec)
_ABSENT: Final = "nothing"
_MOST_CORNERS: Final = 50_000
"""Most corners of a space. Building and checking one takes 0.1 to 0.2 ms."""
MOST_RULES: Final = 100
MOST_DRAWS: Final = 10_000
"""Random points, of which one must keep the rules."""
MOST_GRID_POINTS: Final = 1_000_000
"""As many as a search may have trials; they are ordered all at once."""
_NEVER_SEARCHED: Final = ("data.", "training.epochs")
_DECIDING: Final = {
    "method": get_args(Method),
    "model.kind": (*get_args(Kind), *get_args(OwnKind)),
    "model.weight_norm_init": get_args(WeightNormInit),
}
"""Keys that decide defaults. The kind also decides which keys of the model apply."""

_INSTEAD: Final[Mapping[str, Sequence[Leaf]]] = {
    "method": [METHOD],
    "model.kind": [METHODS[METHOD].kind],
    "model.weight_norm_init": [],
}
"""Their values if the file gives only invalid ones, in place of `weight_norm_init` the method's."""


@dataclass(slots=True)
class _Draft:
    """A trial section split into leaves, which are not checked yet.

    Attributes:
        edition: The edition whose defaults fill in missing leaves.
        template: The leaves with a value.
        domains: Dotted path -> domain, of the leaves with a valid one.
        findings: The broken rules found so far.
        refused: Paths with a finding, which are not reported twice.
    """

    edition: int
    template: dict[str, Any] = field(default_factory=dict)
    domains: dict[str, Domain] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    refused: set[KeyPath] = field(default_factory=set)

    def refuse(self, path: KeyPath, rule: str, value: object) -> None:
        """Add a finding."""
        self.findings.append(Finding(path, rule, value if isinstance(value, str) else show(value)))
        self.refused.add(path)


def check_study(mapping: Any) -> StudySpec | list[Finding]:
    """Return the study that a mapping describes, or everything that is wrong with it."""
    mapping, _ = with_new_names(mapping)
    if not isinstance(mapping, dict):
        return [Finding((), f"must be {allowed(KNOWN)}", _ABSENT if mapping is None else show(mapping))]
    draft = _read_trial(mapping.get("trial"), edition_of(mapping))
    raw_search = mapping.get("search")
    raw_first = raw_search.get("first") if isinstance(raw_search, dict) else None
    if isinstance(raw_search, dict):
        raw_search = {key: value for key, value in raw_search.items() if key != "first"}
        if MADE_WITH in mapping:  # a study of a version that confirmed nothing
            raw_search = {"confirm": None, **raw_search}
    search, search_findings = _check_section(SearchSpec, "search", raw_search)
    resources, resource_findings = _check_section(ResourcesSpec, "resources", mapping.get("resources"))
    first, first_findings = _check_first(raw_first, draft)
    template = _with_certain_defaults(draft)
    findings = [
        *_unknown_keys(mapping),
        *_check_name(mapping),
        *check_edition(mapping),
        *search_findings,
        *first_findings,
        *_check_grid(search, draft),
        *_check_objectives(search),
        *_check_rules(search),
        *resource_findings,
        *draft.findings,
        *_check_corners(draft),
        *_check_epochs(template, draft),
        *_check_refit(template),
    ]
    if findings or search is None or resources is None:
        return findings
    search = search.model_copy(update={"first": first})
    left_out = _left_out(mapping, draft)
    study = StudySpec(mapping["study"], search, resources, template, draft.domains, draft.edition, left_out)
    return _check_kept(study) or _check_metric(study) or study


def check_trial(mapping: Any, edition: int | None = None) -> TrialSpec | list[Finding]:
    """Return the single configuration that a mapping describes, or everything that is wrong with it.

    Args:
        mapping: The content of a file.
        edition: The edition of defaults if the mapping names none; None infers it (`edition_of`).
    """
    mapping, _ = with_new_names(mapping)
    if not isinstance(mapping, dict):
        return [Finding((), "must be a mapping with a trial", _ABSENT if mapping is None else show(mapping))]
    edition = edition_of(mapping) if edition is None or EDITION in mapping else edition
    draft = _read_trial(mapping.get("trial"), edition)
    for path, domain in draft.domains.items():
        rule = f"one configuration holds no domain; give the key a value with --set trial.{path}=VALUE"
        draft.refuse(("trial", *path.split(".")), rule, domain_as_mapping(domain))
    findings = [*_unknown_keys(mapping), *check_edition(mapping), *draft.findings, *_check_corners(draft)]
    return findings or TrialSpec.model_validate(with_defaults(draft.template, draft.edition))


def check_resources(mapping: Mapping[str, Any]) -> ResourcesSpec | list[Finding]:
    """Return the resources that a mapping gives a trial, or everything that is wrong with them."""
    resources, findings = _check_section(ResourcesSpec, "resources", mapping.get("resources"))
    return findings if findings or resources is None else resources


def broken_keys(error: ValidationError, model: type[BaseModel], place: KeyPath, raw: Any) -> list[Finding]:
    """Return what is wrong with a mapping that a model has refused.

    Args:
        error: The refusal.
        model: The model.
        place: Where the mapping stands in its file.
        raw: The mapping.
    """
    return _findings(error.errors(include_url=False), keys_of(model), place, raw)


def corners(template: Mapping[str, Any], domains: Mapping[str, Domain]) -> Iterator[dict[str, Leaf]]:
    """Yield points that test every rule of a trial: the ends of each domain for every choice of defaults.

    Some keys bound each other in pairs, as hidden bounds feature_layer, so their ends are combined.
    """
    ends = {path: domain.corners() for path, domain in domains.items()}
    base = {path: values[0] for path, values in ends.items()}
    groups = _varied_together(domains)
    for deciding in _deciding_values(template, domains):
        start = base | deciding
        for group in groups:
            for values in product(*(ends[path] for path in group)):
                yield start | dict(zip(group, values, strict=True))


def count_corners(template: Mapping[str, Any], domains: Mapping[str, Domain]) -> int:
    """Return the number of points that `corners` yields."""
    ends = {path: len(domain.corners()) for path, domain in domains.items()}
    deciding = prod(len(_valid_options(path, template, domains)) or 1 for path in _DECIDING)
    return deciding * sum(prod(ends[path] for path in group) for group in _varied_together(domains))


def _varied_together(domains: Mapping[str, Domain]) -> list[tuple[str, ...]]:
    free = [path for path in domains if path not in _DECIDING]
    pairs = combinations(free, 2)
    return [(), *((path,) for path in free), *(pair for pair in pairs if _bound_each_other(*pair))]


def _bound_each_other(one: str, other: str) -> bool:
    return frozenset({one, other}) in BOUND_IN_PAIRS or (one.startswith("model.") and other.startswith("model."))


def _unknown_keys(mapping: Mapping[str, Any]) -> list[Finding]:
    unknown = [key for key in mapping if key not in KNOWN and key != MADE_WITH]
    return [Finding((str(key),), must_be_known(key, KNOWN), show(key)) for key in unknown]


def _check_name(mapping: Mapping[str, Any]) -> list[Finding]:
    name = mapping.get("study")
    if isinstance(name, str) and NAME.fullmatch(name) and len(name) <= NAME_LENGTH:
        return []
    signs = "letters, digits, '.', '_' and '-', first a letter or digit"
    rule = f"must be text that can name a folder: at most {NAME_LENGTH} {signs}"
    return [Finding(("study",), rule, show(name) if "study" in mapping else _ABSENT)]


def _check_section(model: type[Spec], name: str, raw: Any) -> tuple[Spec | None, list[Finding]]:
    raw = {} if raw is None else raw
    keys = KNOWN[name]
    assert isinstance(keys, dict)
    if not isinstance(raw, dict):
        return None, [Finding((name,), f"must be {allowed(keys)}", show(raw))]
    misplaced = dict.fromkeys(_domains_in(raw, (name,))).keys()  # in the file's order
    findings = [Finding(path, "no domain is allowed outside trial", show(_at(raw, path[1:]))) for path in misplaced]
    try:
        return model.model_validate(raw), findings
    except ValidationError as error:
        broken = _findings(error.errors(include_url=False), keys, (name,), raw)
        return None, [*findings, *(item for item in broken if not lies_under(item.path, misplaced))]


def _domains_in(value: Any, path: KeyPath) -> Iterator[KeyPath]:
    if isinstance(value, dict):
        for key, item in value.items():
            if isinstance(item, dict) and any(name in NAMES for name in item):
                yield (*path, key)
            else:
                yield from _domains_in(item, (*path, key))


def _at(value: Any, path: KeyPath) -> Any:
    for key in path:
        if not isinstance(value, dict) or key not in value:
            return value
        value = value[key]
    return value


def _findings(errors: Sequence[ErrorDetails], keys: Keys, prefix: KeyPath, raw: Any) -> list[Finding]:
    """Turn pydantic's errors into findings, one for each key and rule."""
    findings: dict[Finding, None] = {}
    misfits: set[KeyPath] = set()
    for item in errors:
        path, node = descend(keys, item["loc"])
        reason = item.get("ctx", {}).get("error")
        if item["type"] == "extra_forbidden" and isinstance(node, dict):
            key = item["loc"][len(path)]
            finding = Finding((*prefix, *path, key), must_be_known(key, node), show(key))
        elif isinstance(reason, RuleError):
            place = reason.key.split(".") if reason.key else ()
            finding = Finding((*prefix, *path, *place), reason.rule, reason.value)
        elif item["type"] == "missing" and path == item["loc"]:
            finding = Finding((*prefix, *path), f"must be given: {allowed(node)}", _ABSENT)
        elif path in misfits:  # one finding per list is enough
            continue
        else:
            finding = Finding((*prefix, *path), f"must be {allowed(node)}", show(_at(raw, path)))
            misfits.add(path)
        findings[finding] = None
    return list(findings)


def _read_trial(raw: Any, edition: int) -> _Draft:
    draft = _Draft(edition)
    if raw is not None and not isinstance(raw, dict):
        draft.refuse(("trial",), f"must be {allowed(_TRIAL_KEYS)}", raw)
        return draft
    for key, value in (raw or {}).items():
        if key in SECTIONS:
            _read_section(draft, key, value)
        else:
            _read_leaf(draft, (key,), value)
    draft.domains = {path: draft.domains[path] for path in in_order(draft.domains)}
    own = [path for path in (*flatten(draft.template), *draft.domains) if is_own_key(path)]
    if "own" in _options("model.kind", draft.template, draft.domains):
        own.insert(0, "the networks of kind own")
    if own and flatten(draft.template).get(FILE) is None and ("trial", "own", "file") not in draft.refused:
        draft.refuse(("trial", "own", "file"), f"must be given: the file that defines {', '.join(own)}", _ABSENT)
    return draft


def _read_section(draft: _Draft, name: str, raw: Any) -> None:
    if raw is not None and not isinstance(raw, dict):
        _, keys = descend(KNOWN, ("trial", name))
        draft.refuse(("trial", name), f"must be {allowed(keys)}", raw)
        return
    for key, value in (raw or {}).items():
        _read_leaf(draft, (name, key), value)


def _read_leaf(draft: _Draft, place: tuple[str, ...], value: Any) -> None:
    *parents, key = place
    _, keys = descend(KNOWN, ("trial", *parents))
    path, full = ".".join(map(str, place)), ("trial", *place)
    assert isinstance(keys, dict)
    if key not in keys and not is_own_key(path):
        draft.refuse(full, OWN_NAME if parents == ["own"] else must_be_known(key, keys), show(key))
    elif not isinstance(value, dict):
        try:
            check_length(value)
            if is_own_key(path):
                check_plain(value)
        except RuleError as error:
            draft.refuse(full, error.rule, error.value)
        else:
            draft.template = set_paths(draft.template, {path: value})
    elif path.startswith(_NEVER_SEARCHED):
        draft.refuse(full, "no domain is allowed here: it would make the trials' errors incomparable", value)
    elif path in (FILE, SHA256):
        draft.refuse(full, "no domain is allowed here: a study has one file, whose keys may be searched", value)
    else:
        try:
            domain = parse_domain(value)
            for end in domain.corners() if is_own_key(path) else ():
                check_plain(end)
            draft.domains[path] = domain
        except RuleError as error:
            draft.refuse(full, error.rule, error.value)


def _deciding_values(template: Mapping[str, Any], domains: Mapping[str, Domain]) -> Iterator[dict[str, Leaf]]:
    """Yield every combination of values that decide a trial's defaults."""
    options = {path: _valid_options(path, template, domains) for path in _DECIDING}
    named = {path: values for path, values in options.items() if values}
    for values in product(*named.values()):
        yield dict(zip(named, values, strict=True))


def _valid_options(path: str, template: Mapping[str, Any], domains: Mapping[str, Domain]) -> Sequence[Leaf]:
    """Return the valid values that the file allows at a key that decides defaults; none where it leaves it out."""
    options = _options(path, template, domains)
    valid = [value for value in options if value in _DECIDING[path]]
    return valid or (_INSTEAD[path] if options else [])


def _options(path: str, template: Mapping[str, Any], domains: Mapping[str, Domain]) -> Sequence[Leaf]:
    if path in domains:
        return domains[path].corners()
    value = _at(template, tuple(path.split(".")))
    return [] if isinstance(value, dict) else [value]


def _check_corners(draft: _Draft) -> list[Finding]:
    """Check the trial's rules at the corners of the space."""
    if (count := count_corners(draft.template, draft.domains)) > _MOST_CORNERS:
        widest = max(draft.domains, key=lambda path: len(draft.domains[path].corners()))
        rule = f"all choices together must give at most {_MOST_CORNERS:,} configurations to check; this key has most"
        return [Finding(("trial", *widest.split(".")), rule, f"{count:,} configurations")]
    found = dict.fromkeys(_check_shape(draft))
    # If the kind is unknown, so are the keys of the model that apply.
    kind = ("trial", "model", "kind")
    uncertain = {"value_error"} if kind in draft.refused or any(item.path == kind for item in found) else set()
    for point in corners(draft.template, draft.domains):
        trial = with_defaults(set_paths(draft.template, point), draft.edition)
        try:
            TrialSpec.model_validate(trial)
        except ValidationError as error:
            errors = [item for item in error.errors(include_url=False) if item["type"] not in uncertain]
            for item in _findings(errors, _TRIAL_KEYS, (), trial):
                found[_at_corner(dotted(item.path), item.rule, item.value, draft)] = None
    return [item for item in found if not lies_under(item.path, draft.refused)]


def _check_shape(draft: _Draft) -> Iterator[Finding]:
    for path, known in _DECIDING.items():
        for value in _options(path, draft.template, draft.domains):
            if value not in known:
                yield _at_corner(path, f"must be one of {', '.join(known)}", show(value), draft)


def _at_corner(path: str, rule: str, value: str, draft: _Draft) -> Finding:
    full = ("trial", *path.split("."))
    if path not in draft.domains:
        return Finding(full, rule, value)
    domain = show(domain_as_mapping(draft.domains[path]))
    return Finding(full, f"for every value of the domain: {rule}", f"{value} in {domain}")


def _with_certain_defaults(draft: _Draft) -> dict[str, Any]:
    """Return the template with every default that no searched key changes."""
    every = _deciding_values(draft.template, draft.domains)
    filled = [with_defaults(set_paths(draft.template, deciding), draft.edition) for deciding in every]
    certain: dict[str, Any] = {}
    for path in in_order(key for trial in filled for key in flatten(trial)):
        place = tuple(path.split("."))
        values = [_at(trial, place) for trial in filled]
        given = not any(isinstance(value, dict) for value in values)
        if path not in draft.domains and given and all(value == values[0] for value in values):
            certain = set_paths(certain, {path: values[0]})
    return certain


def _left_out(mapping: Mapping[str, Any], draft: _Draft) -> frozenset[str]:
    given = flatten(draft.template).keys() | draft.domains.keys()
    keys = {f"trial.{path}" for path in LEAVES if path not in given}
    if "confirm" not in (mapping.get("search") or {}):
        keys.add(CONFIRM)
    return frozenset(keys if EDITION in mapping else {EDITION, *keys})


def _check_grid(search: SearchSpec | None, draft: _Draft) -> list[Finding]:
    if search is None or search.sampler.grid is None:
        return []
    counts = {path: domain.count() for path, domain in draft.domains.items()}
    endless = [path for path, count in counts.items() if count is None]
    if endless:
        rule = "grid needs domains of finitely many values: int, log_int, choice, or uniform with a step"
        domains = {path: domain_as_mapping(draft.domains[path]) for path in endless}
        return [Finding(("search", "sampler"), rule, show(domains))]
    points = prod(count for count in counts.values() if count is not None)
    if points > MOST_GRID_POINTS:
        rule = f"grid takes domains of at most {MOST_GRID_POINTS:,} points in all"
        return [Finding(("search", "sampler"), rule, f"{points:,} points")]
    return []


def _check_rules(search: SearchSpec | None) -> list[Finding]:
    """What is wrong with the text of the rules."""
    findings: list[Finding] = []
    rules = () if search is None else search.rules
    if len(rules) > MOST_RULES:
        return [Finding(("search", "rules"), f"must be at most {MOST_RULES} rules", f"{len(rules):,}")]
    for number, text in enumerate(rules):
        place = ("search", "rules", number)
        try:
            keys = parse_rule(text).factors
        except RuleError as error:
            findings.append(Finding(place, error.rule, error.value))
        else:
            unknown = [key for key in keys if key not in LEAVES and not is_own_key(key)]
            findings += [Finding(place, must_be_known(key, LEAVES), show(key)) for key in unknown]
    return findings


def _check_kept(study: StudySpec) -> list[Finding]:
    """Whether there are points that keep the rules, those to try first among them."""
    if not study.search.rules:
        return []
    for number, text in enumerate(study.search.rules):
        for key in parse_rule(text).factors:
            if (value := _no_number(study, key)) is not None:
                rule = "every key of a rule must hold numbers"
                return [Finding(("search", "rules", number), rule, f"{key}: {value}")]
    draw = Random(0)
    drawn = (point_at(study.domains, (draw.random() for _ in study.domains)) for _ in range(MOST_DRAWS))
    if all(study.broken_rule(point) is not None for point in drawn):
        rule = "must leave points of the domains that keep all rules"
        return [Finding(("search", "rules"), rule, f"none among {MOST_DRAWS:,} random ones")]
    return [
        Finding(("search", "first", number), f"must keep the rule `{broken}`", show(point))
        for number, point in enumerate(study.search.first)
        if (broken := study.broken_rule(point)) is not None
    ]


def _no_number(study: StudySpec, key: str) -> str | None:
    """A value of the key that is no number, as text; None where all are."""
    every = _deciding_values(study.template, study.domains)
    fixed = [study.values([key], deciding)[key] for deciding in every]
    values = study.domains[key].corners() if key in study.domains else fixed
    return next((show(value) for value in values if type(value) not in (int, float)), None)


def _check_epochs(template: Mapping[str, Any], draft: _Draft) -> list[Finding]:
    path = ("trial", "training", "epochs")
    if "epochs" in template.get("training", {}) or lies_under(path, draft.refused):
        return []
    return [Finding(path, "must be given if method or model.kind is searched and their defaults differ", _ABSENT)]


def _check_refit(template: Mapping[str, Any]) -> list[Finding]:
    if template.get("data", {}).get("refit") is not True:
        return []
    rule = "must be false in a search, which would rank trials by images that they were trained on"
    return [Finding(("trial", "data", "refit"), rule, "true")]


def _check_metric(study: StudySpec) -> list[Finding]:
    refused = [metric.name for metric in study.objectives if metric.needs_labels]
    if study.template["data"]["labels"] or not refused:
        return []
    others = ", ".join(name for name, metric in METRICS.items() if not metric.needs_labels)
    rule = f"must be one of {others} where trial.data.labels is 0"
    return [Finding(("search", "metric"), rule, show(refused[0]))]


def _check_objectives(search: SearchSpec | None) -> list[Finding]:
    if search is None or search.sampler.cmaes is None or isinstance(search.metric, str):
        return []
    rule = "must be tpe, gp, random or grid where search.metric names two metrics: CMA-ES minimises one"
    return [Finding(("search", "sampler"), rule, "cmaes")]


def _check_first(raw: Any, draft: _Draft) -> tuple[tuple[dict[str, Any], ...], list[Finding]]:
    if raw is None:
        return (), []
    place = ("search", "first")
    if not isinstance(raw, list):
        return (), [Finding(place, "must be a list of points, each a mapping of searched keys", show(raw))]
    hints = _Hints(draft.domains)
    checked = [_check_point(point, (*place, number), draft, hints) for number, point in enumerate(raw)]
    return tuple(point for point, _ in checked if point), [item for _, findings in checked for item in findings]


@dataclass(slots=True)
class _Hints:
    """Suggests the intended key for unknown keys of points, only for the first ones because the look-up is slow."""

    domains: Mapping[str, Domain]
    left: int = SHOWN_PROBLEMS

    def hint(self, key: object) -> str:
        """Return the nearest searched key, or all of them."""
        self.left -= 1
        near = get_close_matches(str(key), self.domains, n=1) if self.left >= 0 else []
        return f"nearest: {near[0]}" if near else f"searched: {', '.join(self.domains) or 'none here'}"


def _check_point(raw: Any, place: KeyPath, draft: _Draft, hints: _Hints) -> tuple[dict[str, Any], list[Finding]]:
    if not isinstance(raw, dict):
        return {}, [Finding(place, "must be a mapping of searched keys to values", show(raw))]
    point: dict[str, Any] = {}
    findings: list[Finding] = []
    for path, value in raw.items():
        domain = draft.domains.get(path)
        if domain is not None and domain.contains(value):
            point[path] = held(domain, value)
        elif domain is not None:
            rule = f"must lie in {show(domain_as_mapping(domain))}, or search.first be []"
            findings.append(Finding((*place, path), rule, show(value)))
        elif not lies_under(("trial", *str(path).split(".")), draft.refused):
            findings.append(Finding((*place, path), f"must name a searched key ({hints.hint(path)})", show(path)))
    return point, findings
