"""Runs a user's own file, and gives it the values of a trial."""

import inspect
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import ModuleType

from pydantic import ValidationError

from plgan_tune.config.check import broken_keys
from plgan_tune.config.errors import RuleError, dotted, show
from plgan_tune.config.own import sha256_of
from plgan_tune.config.trial import ModelSpec, OwnSpec
from plgan_tune.gan.own import GIVEN, Keys, Own
from plgan_tune.gan.own_contract import Shapes, check_terms, own_random_numbers, term_names
from plgan_tune.gan.own_pair_contract import check_pair


def load_own(content: bytes, own: OwnSpec, name: str, shapes: Shapes) -> Own:
    """Run a user's file, and give it the values of a trial.

    Args:
        content: what the file holds.
        own: the section of the trial. If it has a hash, the content must have it, or nothing is run.
        name: of the file, for messages and tracebacks.
        shapes: those of the images.

    Raises:
        RuleError: if the content has another hash or cannot be run, if it defines none of the functions, or if the
            trial has a key or a value that it does not allow.
    """
    loaded = _loaded(content, own, name)
    with naming(name):
        return replace(loaded, names=term_names(loaded, shapes))


def check_own(content: bytes, own: OwnSpec, name: str, shapes: Shapes, model: ModelSpec | None = None) -> Own:
    """Run a user's file as `load_own` does, and check its contract (`own_contract.py`, `own_pair_contract.py`).

    Args:
        content: what the file holds.
        own: the section of the trial.
        name: of the file, for messages and tracebacks.
        shapes: those of the images.
        model: the trial's; the file's pair is checked if its kind is own.

    Raises:
        RuleError: as `load_own`, and if a term or the pair breaks the contract.
    """
    with own_random_numbers() as touched:
        loaded = _loaded(content, own, name)
        if found := touched():
            rule = f"{name} must leave the global random numbers alone as it is loaded"
            raise RuleError(rule, f"a draw from, or a seed of, those of {' and '.join(found)}")
    with naming(name):
        check_terms(loaded, shapes)
        if model is not None and model.kind == "own":
            check_pair(loaded, model, shapes)
        return replace(loaded, names=term_names(loaded, shapes))


def _loaded(content: bytes, own: OwnSpec, name: str) -> Own:
    """Return the file without the names of its terms."""
    found = sha256_of(content)
    if own.sha256 not in (None, found):
        raise RuleError(f"{name} must hold what the trial's own.sha256 names, {own.sha256}", found)
    module = _run(content, f"plgan_tune_own_{found[:16]}", name)
    functions = {known: getattr(module, known) for known in GIVEN if hasattr(module, known)}
    if not functions:
        raise RuleError(f"{name} must define {' or '.join(GIVEN)}", _defined(module))
    for known, function in functions.items():
        _check_arguments(name, known, function)
    return Own(name, _keys(module, own, name), functions, {})


def _run(content: bytes, module_name: str, name: str) -> ModuleType:
    module = ModuleType(module_name)
    sys.modules[module_name] = module  # where pydantic looks up what annotations name
    with naming(name):
        exec(compile(content, name, "exec"), module.__dict__)
    return module


@contextmanager
def naming(name: str, passing: type[Exception] = RuleError) -> Iterator[None]:
    """Turn whatever a user's file raises, but `passing`, into one message with its line."""
    try:
        yield
    except (RuleError, passing):
        raise
    except SyntaxError as error:
        at = name if error.lineno is None else f"{name}:{error.lineno}"
        rule = f"{at}: must be Python that can be run, {error.msg}"
        raise RuleError(rule, show((error.text or "").strip())) from error
    except (Exception, SystemExit) as error:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == name]
        at = f"{name}:{lines[-1]}" if lines else name
        raise RuleError(f"{at}: must run without an error", f"{type(error).__name__}: {error}") from error


def _keys(module: ModuleType, own: OwnSpec, name: str) -> Keys:
    model = getattr(module, "Own", Keys)
    if not (isinstance(model, type) and issubclass(model, Keys)):
        raise RuleError(f"{name}: Own must be a class of plgan_tune.own.Keys", show(str(model)))
    if own.values and not model.model_fields:
        raise RuleError(f"{name} must define a class Own(Keys) for trial.own", ", ".join(own.values))
    try:
        return model.model_validate(own.values)
    except ValidationError as error:
        first = broken_keys(error, model, ("trial", "own"), own.values)[0]
        raise RuleError(f"{dotted(first.path)}: {first.rule} ({name})", first.value) from None


def _check_arguments(name: str, known: str, function: object) -> None:
    if not callable(function):
        raise RuleError(f"{name}: {known} must be a function", show(str(function)))
    for argument in inspect.signature(function).parameters:
        if argument not in GIVEN[known]:
            rule = f"each argument must be one of {', '.join(GIVEN[known])}"
            raise RuleError(f"{name}: {known}: {rule}", argument)


def _defined(module: ModuleType) -> str:
    names = [name for name, held in vars(module).items() if getattr(held, "__module__", "") == module.__name__]
    return ", ".join(names) or "nothing"
