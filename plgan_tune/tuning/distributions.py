"""A study's domains as Optuna distributions, and a block in which Optuna logs no announcements."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from threading import Lock

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from plgan_tune.config.domains import Choice, Domain, Int, LogInt, LogUniform, Uniform
from plgan_tune.config.study import decode, encode
from plgan_tune.records import Value


def distributions(domains: Mapping[str, Domain]) -> dict[str, BaseDistribution]:
    """Return Optuna's distribution of each searched key; a list among a choice's options becomes JSON text.

    For an ordered choice, Optuna searches the options' places: its samplers know no other order.
    """
    return {path: _distribution(domain) for path, domain in domains.items()}


def _distribution(domain: Domain) -> BaseDistribution:
    match domain:
        case Uniform(low, high, step):
            return FloatDistribution(low, high, step=step)
        case LogUniform(low, high):
            return FloatDistribution(low, high, log=True)
        case Int(low, high, step):
            return IntDistribution(low, high, step=step)
        case LogInt(low, high):
            return IntDistribution(low, high, log=True)
        case Choice(options, ordered=True):
            return IntDistribution(0, len(options) - 1)
        case Choice(options):
            return CategoricalDistribution([encode(domain, option) for option in options])


def to_optuna(domains: Mapping[str, Domain], point: Mapping[str, Value]) -> dict[str, Value]:
    """A point, or a part of one, as these distributions hold it."""
    return {path: _place(domains[path], value) for path, value in point.items()}


def from_optuna(domains: Mapping[str, Domain], params: Mapping[str, Value]) -> dict[str, Value]:
    """The inverse of `to_optuna`, without the last digits that Optuna's multiples of a step have."""
    return {path: _value(domain, params[path]) for path, domain in domains.items()}


def _place(domain: Domain, value: Value) -> Value:
    if isinstance(domain, Choice) and domain.ordered:
        return domain.place(decode(domain, value))
    return value


def _value(domain: Domain, value: Value) -> Value:
    match domain:
        case Choice(options, ordered=True):
            assert isinstance(value, int)
            return encode(domain, options[value])
        case Uniform():
            assert isinstance(value, float)
            return domain.nearest(value)
        case _:
            return value


_VERBOSITY = Lock()
"""Guards Optuna's verbosity, which is process-wide: the mirror changes it from its own thread."""


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress Optuna's announcement of every study at INFO, which would break the display."""
    with _VERBOSITY:
        verbosity = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        try:
            yield
        finally:
            optuna.logging.set_verbosity(verbosity)
