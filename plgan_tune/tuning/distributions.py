"""A study's domains as Optuna distributions, and a block in which Optuna logs no announcements."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from threading import Lock

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from plgan_tune.config.domains import Choice, Domain, Int, LogInt, LogUniform, Uniform
from plgan_tune.config.study import encode


def distributions(domains: Mapping[str, Domain]) -> dict[str, BaseDistribution]:
    """Return Optuna's distribution of each searched key; a list among a choice's options becomes JSON text."""
    return {path: _distribution(domain) for path, domain in domains.items()}


def _distribution(domain: Domain) -> BaseDistribution:
    match domain:
        case Uniform(low, high):
            return FloatDistribution(low, high)
        case LogUniform(low, high):
            return FloatDistribution(low, high, log=True)
        case Int(low, high):
            return IntDistribution(low, high)
        case LogInt(low, high):
            return IntDistribution(low, high, log=True)
        case Choice(options):
            return CategoricalDistribution([encode(domain, option) for option in options])


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
