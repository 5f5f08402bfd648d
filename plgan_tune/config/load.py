"""Load a space file, with the overrides of `--set`, as a validated study or as one configuration."""

from collections.abc import Mapping, Sequence, Set
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from plgan_tune.config.check import check_resources, check_study, check_trial
from plgan_tune.config.edition import EDITION
from plgan_tune.config.errors import Finding, KeyPath, Problem, SpecError, dotted, lies_under, show
from plgan_tune.config.keys import KNOWN, descend, every_path, must_be_known
from plgan_tune.config.own import FILE, is_own_key, own_path, with_content
from plgan_tune.config.renamed import NEW, OLD, with_new_names
from plgan_tune.config.study import StudySpec, flatten, set_paths, threads_of
from plgan_tune.config.trial import LEAVES, TrialSpec
from plgan_tune.config.yaml import LONGEST, Document, read_yaml, too_long

_MOST_OVERRIDES = 1000

MOST_THREADS = 1024
"""Most threads of one process; torch aborts if the system cannot start as many."""


@dataclass(frozen=True, slots=True)
class LoadedStudy:
    """A study, with notes to the user on how its file was read.

    Attributes:
        study: The validated study.
        notes: For example, that `--set` fixed a key of a point in `search.first`, or that a key has a new name.
    """

    study: StudySpec
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Override:
    """One valid `--set KEY=VALUE`."""

    path: tuple[str, ...]
    value: Any


def load_study(path: str | Path, overrides: Sequence[str] = ()) -> LoadedStudy:
    """Read a space file.

    ```python
    from plgan_tune import load_study

    study = load_study("search_spaces/digits.yaml", ["trial.loss.alpha=0.5"]).study
    print(list(study.domains))
    ```

    Args:
        path: A YAML 1.2 file with the sections `study`, `search`, `resources` and `trial`.
        overrides: `KEY=VALUE`, with KEY dotted from the top of the file and VALUE in YAML. The last of one KEY counts.

    Returns:
        The validated study and notes on how it was read.

    Raises:
        SpecError: With every problem of the file and of the overrides.
    """
    return load_study_document(_read_file(Path(path)), str(path), overrides, Path(path).parent)


def load_study_document(
    document: Document, where: str, overrides: Sequence[str] = (), folder: Path | None = None
) -> LoadedStudy:
    """Return the study of a file that has been read, as `load_study` does.

    Args:
        document: The file's content.
        where: The file's name, for messages.
        overrides: As for `load_study`.
        folder: What the path of a user's own file is relative to; None if the file is not on this machine.
    """
    applied, mapping, problems = _overridden(document, where, overrides)
    mapping, notes = _without_fixed(mapping, {override.path for override in applied})
    mapping, unread = (mapping, []) if folder is None else with_content(mapping, folder)
    checked = check_study(mapping)
    if isinstance(checked, StudySpec) and not unread and not problems:
        return LoadedStudy(checked, (*with_new_names(document.value)[1], *notes))
    findings = [*unread, *([] if isinstance(checked, StudySpec) else checked)]
    raise SpecError(_in_order([*_placed(findings, where, document, applied), *problems]))


def load_trial(path: str | Path, overrides: Sequence[str] = (), edition: int | None = None) -> TrialSpec:
    """Read one configuration: a space file whose `trial` has no domain. Its other sections are ignored.

    ```python
    from plgan_tune import load_trial

    trial = load_trial("results/first/best.yaml", ["trial.training.epochs=5"])
    print(trial.loss.alpha)
    ```

    Args:
        path: A YAML 1.2 file. Only `trial.data.source`, `labels` and `validation` have no default.
        overrides: As for `load_study`.
        edition: The edition of defaults if the file names none; None infers it from the file's keys.

    Returns:
        The validated configuration.

    Raises:
        SpecError: With every problem of the file and of the overrides.
    """
    return _load_configuration(path, overrides, edition, with_resources=False)[0]


def load_trial_and_threads(
    path: str | Path, overrides: Sequence[str] = (), edition: int | None = None
) -> tuple[TrialSpec, int]:
    """Read one configuration as `load_trial` does, and the number of CPU threads that train it.

    The threads are `resources.cpus_per_rank` of the file, as in a search: rounded down, and at least 1.

    Raises:
        SpecError: With every problem of the file, including its resources, and of the overrides.
    """
    return _load_configuration(path, overrides, edition, with_resources=True)


def _load_configuration(
    path: str | Path, overrides: Sequence[str], edition: int | None, *, with_resources: bool
) -> tuple[TrialSpec, int]:
    document = _read_file(Path(path))
    applied, mapping, problems = _overridden(document, str(path), overrides)
    mapping, unread = with_content(mapping, Path(path).parent)
    trial = check_trial(mapping, edition)
    threads = _check_threads(mapping) if with_resources and isinstance(mapping, dict) else 1
    if isinstance(trial, TrialSpec) and isinstance(threads, int) and not unread and not problems:
        return trial, threads
    findings = [item for checked in (unread, trial, threads) if isinstance(checked, list) for item in checked]
    raise SpecError(_in_order([*_placed(findings, str(path), document, applied), *problems]))


def _check_threads(mapping: Mapping[str, Any]) -> int | list[Finding]:
    resources = check_resources(mapping)
    if isinstance(resources, list):
        return resources
    if resources.cpus_per_rank > MOST_THREADS:
        rule = f"must be at most {MOST_THREADS} where one process trains"
        return [Finding(("resources", "cpus_per_rank"), rule, show(resources.cpus_per_rank))]
    return threads_of(resources.cpus_per_rank)


def study_from_mapping(mapping: Mapping[str, Any]) -> StudySpec:
    """Return the study of a mapping that a script or notebook has built, under the same rules as a file.

    Example:
        >>> data = {"source": "digits", "labels": 20, "validation": 400}
        >>> optim = {"lr_generator": {"log_uniform": [1e-4, 1e-2]}}
        >>> study = study_from_mapping({"study": "rates", "trial": {"data": data, "optim": optim}})
        >>> study.domains
        {'optim.lr_generator': LogUniform(low=0.0001, high=0.01)}

    Raises:
        SpecError: With every problem of the mapping.
    """
    return _study_of(*with_content(_plain(mapping), Path()))


def study_from_resolved(mapping: Mapping[str, Any]) -> StudySpec:
    """Return the study of a changed `StudySpec.as_mapping`, whose own file, if any, is not read again.

    Raises:
        SpecError: With every problem of the mapping.
    """
    return _study_of(_plain(mapping), [])


def _study_of(mapping: Any, unread: Sequence[Finding]) -> StudySpec:
    checked = check_study(mapping)
    if isinstance(checked, StudySpec) and not unread:
        return checked
    findings = [*unread, *([] if isinstance(checked, StudySpec) else checked)]
    raise SpecError([Problem("mapping", dotted(item.path), item.rule, item.value) for item in findings])


def in_edition(study: StudySpec, edition: int) -> StudySpec:
    """Return the study of the same file under another edition's defaults; unchanged if the file names its edition."""
    if study.edition == edition or EDITION not in study.left_out:
        return study
    given = {path: value for path, value in flatten(study.as_mapping()).items() if path not in study.left_out}
    read = study_from_resolved(set_paths({}, {**given, EDITION: edition}))
    return replace(read, left_out=study.left_out)


def default_space() -> Path:
    """Return the space file of the embedded digits: inside an installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "search_spaces"
    return (installed if installed.is_dir() else package.parent / "search_spaces") / "digits.yaml"


def _overridden(document: Document, where: str, overrides: Sequence[str]) -> tuple[list[_Override], Any, list[Problem]]:
    """Return the applicable overrides, the file's mapping with them, and the problems of both."""
    overrides = _not_too_many(overrides)
    problems = [_problem(item, where, document, set()) for item in document.findings]
    mapping, applied = with_new_names(deepcopy(document.value))[0], []
    for text in overrides:
        try:
            override = _read_override(text)
            mapping = _with_override(mapping, override)
            applied.append(override)
        except SpecError as error:
            problems += error.problems
    return applied, mapping, problems


def _not_too_many(overrides: Sequence[str]) -> Sequence[str]:
    """Raise SpecError if reading them would take too long."""
    if len(overrides) > _MOST_OVERRIDES:
        raise _refused("", f"may be given at most {_MOST_OVERRIDES} times", f"{len(overrides):,}")
    return overrides


def _read_file(path: Path) -> Document:
    try:
        with path.open("rb") as file:
            content = file.read(LONGEST + 1)  # /dev/zero has no end
        if len(content) > LONGEST:
            return Document(None, findings=(too_long(len(content)),), unread=((),))
        return read_yaml(content.decode("utf-8-sig"))
    except FileNotFoundError:
        finding = Finding((), "must be a file that exists", "no such file")
    except UnicodeDecodeError as error:
        finding = Finding((), "must be text in UTF-8", f"byte {error.object[error.start]:#04x} at {error.start}")
    except OSError as error:
        finding = Finding((), "must be a file that can be read", error.strerror or str(error))
    return Document(None, findings=(finding,), unread=((),))


def _read_override(text: str) -> _Override:
    key, equals, value = text.partition("=")
    path = tuple(part.strip() for part in key.split("."))
    if not equals:
        raise _refused(text, "must be KEY=VALUE", show(text))
    if not all(path):
        raise _refused(key, "KEY must be a dotted path such as trial.loss.alpha", show(text))
    if path == ("trial", OLD):
        raise _refused(key, f"must be called trial.{NEW}, with pl_gan for the profile recipe", show(text))
    known, node = descend(KNOWN, path)
    if path[0] == "trial" and is_own_key(".".join(path[1:])):
        known = path
    if len(known) < len(path) and isinstance(node, str):
        raise _refused(key, f"{dotted(known)} is set as a whole and has no keys below", show(text))
    if len(known) < len(path):
        raise _refused(key, must_be_known(".".join(path), every_path(KNOWN)), show(text))
    document = read_yaml(value)
    if document.findings:
        raise SpecError(
            [Problem("--set", dotted((*path, *item.path)), item.rule, item.value) for item in document.findings]
        )
    value_here = document.value
    if path == ("trial", *FILE.split(".")) and isinstance(value_here, str):
        value_here = str(own_path(value_here))  # typed in this folder, not in that of the space file
    return _Override(path, value_here)


def _with_override(mapping: Any, override: _Override) -> Any:
    """Return the mapping with one key set, and missing sections on the way created."""
    result = {} if mapping is None else mapping
    section = result
    for depth, key in enumerate(override.path):
        if not isinstance(section, dict):
            above = dotted(override.path[:depth]) or "the file"
            raise _refused(dotted(override.path), f"{above} must be a mapping to set a key in it", show(section))
        if depth == len(override.path) - 1:
            section[key] = override.value
        elif section.get(key) is None:
            section[key] = {}
        section = section[key]
    return result


def _refused(key: str, rule: str, value: str) -> SpecError:
    return SpecError([Problem("--set", key, rule, value)])


def _without_fixed(mapping: Any, overridden: Set[KeyPath]) -> tuple[Any, tuple[str, ...]]:
    """Remove the keys that `--set` has fixed from the points to try first; return a note on each."""
    search = mapping.get("search") if isinstance(mapping, dict) else None
    first = search.get("first") if isinstance(search, dict) else None
    if not isinstance(first, list):
        return mapping, ()
    named = {path for point in first if isinstance(point, dict) for path in point if is_own_key(str(path))}
    paths = {*LEAVES, *named}
    fixed = {path for path in paths if lies_under(_in_file(path), overridden) and not _is_domain(mapping, path)}
    points = [
        {k: v for k, v in point.items() if k not in fixed} if isinstance(point, dict) else point for point in first
    ]
    notes = tuple(
        f"search.first[{number}] loses {key}, which --set has fixed"
        for number, point in enumerate(first)
        if isinstance(point, dict)
        for key in point
        if key in fixed
    )
    return set_paths(mapping, {"search.first": points}), notes


def _in_file(path: str) -> KeyPath:
    return ("trial", *path.split("."))


def _is_domain(mapping: Any, path: str) -> bool:
    value = mapping
    for key in _in_file(path):
        value = value.get(key) if isinstance(value, dict) else None
    return isinstance(value, dict)


def _placed(
    findings: Sequence[Finding], where: str, document: Document, overrides: Sequence[_Override]
) -> list[Problem]:
    """Return the findings as problems, without what the YAML reader has refused already."""
    paths, unread = {override.path for override in overrides}, set(document.unread)
    return [_problem(item, where, document, paths) for item in findings if not lies_under(item.path, unread)]


def _in_order(problems: Sequence[Problem]) -> list[Problem]:
    """Sort the file's problems by line; those of `--set` come last."""
    return sorted(problems, key=lambda problem: (problem.where == "--set", problem.line or 0))


def _problem(finding: Finding, where: str, document: Document, overridden: Set[KeyPath]) -> Problem:
    if lies_under(finding.path, overridden):
        return Problem("--set", dotted(finding.path), finding.rule, finding.value)
    line = finding.line
    for depth in range(len(finding.path), 0, -1):
        line = line or document.lines.get(finding.path[:depth])
    return Problem(where, dotted(finding.path), finding.rule, finding.value, line)


def _plain(value: Any) -> Any:
    """Turn mappings into dicts and tuples into lists, as YAML would give them."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
