"""Intervals of PED-ANOVA's shares: how often they hold what they should, on keys of known importance.

A trial has five keys, drawn evenly in [0, 1]; its error is the sum of weight * 3.3 (key - 0.6)^2 and noise of deviation
0.25. The mean share of searches of as many trials is that of all rounds. The share of endless trials is that of 400,000
(of keys without influence, where no key has any, an equal part).
"""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
from machine import machine
from numpy.typing import NDArray
from scipy.special import expit, logit, ndtr, ndtri

from plgan_tune.analysis.importance import HALVES, Z, _Key, _shares, _shares_and_intervals
from plgan_tune.analysis.ped_anova import Grid
from plgan_tune.config.domains import Uniform

Floats = NDArray[np.float64]
Ends = tuple[Floats, Floats]

WEIGHTS: Final = {
    "one leads": (1.0, 0.3, 0.0, 0.0, 0.0),
    "two are equal": (0.7, 0.7, 0.0, 0.0, 0.0),
    "weak": (0.3, 0.15, 0.0, 0.0, 0.0),
    "none": (0.0, 0.0, 0.0, 0.0, 0.0),
}
TRIALS: Final = (36, 100, 400)
ROUNDS: Final = 200
ENDLESS: Final = 400_000
GRID: Final = Grid.of(Uniform(0.0, 1.0))


def main() -> None:
    began, load = time.perf_counter(), os.getloadavg()[0]
    held: dict[str, dict[str, list[float]]] = {
        name: {"mean": [], "endless": [], "own": [], "width": []} for name in WAYS
    }
    rows = []
    for name, weights in WEIGHTS.items():
        endless = shares_of(*drawn(ENDLESS, weights, np.random.default_rng(0))) if any(weights) else np.full(5, 0.2)
        for trials in TRIALS:
            found, mean = rounds(trials, weights)
            rows.append(f"| {name} | {trials} | {listed(mean)} | {listed(endless)} |")
            for way, (low, high, own) in found.items():
                for kind, share in (("mean", mean), ("endless", endless), ("own", own)):
                    held[way][kind].append(float(((low <= share + 1e-9) & (share <= high + 1e-9)).mean()))
                held[way]["width"].append(float((high - low).mean()))
    table = [
        f"| {way} | {100 * np.mean(one['own']):.0f} % | {100 * np.mean(one['mean']):.0f} % "
        f"({100 * min(one['mean']):.0f} to {100 * max(one['mean']):.0f}) | {100 * np.mean(one['endless']):.0f} % | "
        f"{100 * np.mean(one['width']):.0f} |"
        for way, one in held.items()
    ]
    text = "\n".join(
        (
            "# Intervals of a key's importance",
            "",
            f"{machine()}.",
            f"{time.perf_counter() - began:.0f} s beside other work (load {load:.1f} at the start).",
            "",
            f"Of {ROUNDS} searches each of {', '.join(map(str, TRIALS))} trials on {len(WEIGHTS)} sets of five keys,",
            "how often an interval that is called 90 % holds: the share that was printed with it, the mean share of",
            "searches of as many trials (in brackets the least and greatest of the twelve rows below), and the share",
            "that endless trials would have.",
            "",
            "| interval | its own share | mean share | endless trials | mean width, points |",
            "| --- | --- | --- | --- | --- |",
            *table,
            "",
            *CONCLUSION,
            "",
            "| keys | trials | mean shares, % | of endless trials, % |",
            "| --- | --- | --- | --- |",
            *rows,
        )
    )
    print(text)
    Path(__file__).with_suffix(".md").write_text(text + "\n")


CONCLUSION: Final = (
    "A bootstrap's percentiles may leave out the very share that they are printed with: a trial that is drawn twice",
    "sharpens the densities, which moves the resampled shares. BCa cannot be had where that bias is as large as the",
    "deviation; its part without acceleration (BC) is in the table. Half samples, drawn without replacement, have no",
    "trial twice; their deviation is that of the whole (the delete-half jackknife). On the logit of a share the",
    "interval never reaches 0, where a key without influence belongs; on the arcsine of its root it does, and is",
    "narrower at the same coverage. That is `analyze`'s. No interval of few trials holds what endless ones would find,",
    "for the share itself is drawn towards equal ones: that is why `significant` is said beside it.",
)


def rounds(trials: int, weights: tuple[float, ...]) -> tuple[dict[str, tuple[Floats, Floats, Floats]], Floats]:
    """Of each way the ends of all rounds, and the shares; and these shares' mean."""
    draw = np.random.default_rng(1)
    ends: dict[str, list[Ends]] = {name: [] for name in WAYS}
    shares = []
    for _ in range(ROUNDS):
        keys, errors = drawn(trials, weights, draw)
        share = shares_of(keys, errors)
        shares.append(share)
        every = np.arange(trials)
        boot = np.stack([draw.integers(trials, size=trials) for _ in range(HALVES)])
        half = np.stack([draw.permutation(every)[: trials // 2] for _ in range(HALVES)])
        samples = [_shares(np.array([key.divergence(errors, one) for key in keys])).T for one in (boot, half)]
        for name, (sample, way) in BY_SAMPLES.items():
            ends[name].append(way(share, samples[sample]))
        ours = np.array(_shares_and_intervals(keys, errors, draw)[1])
        ends[OURS].append((ours[:, 0], ours[:, 1]))
    own = np.array(shares)
    found = {
        name: (np.array([low for low, _ in some]), np.array([high for _, high in some]), own)
        for name, some in ends.items()
    }
    return found, own.mean(axis=0)


def drawn(trials: int, weights: tuple[float, ...], draw: np.random.Generator) -> tuple[list[_Key], Floats]:
    values = draw.random((len(weights), trials))
    errors = 3.3 * np.array(weights) @ (values - 0.6) ** 2 + draw.normal(0, 0.25, trials)
    return [_Key(GRID, GRID.places(one.tolist())) for one in values], errors


def shares_of(keys: list[_Key], errors: Floats) -> Floats:
    return _shares(np.array([key.divergence(errors, np.arange(len(errors))) for key in keys]))


def listed(shares: Floats) -> str:
    return ", ".join(f"{100 * share:.0f}" for share in shares)


def _logit(share: Floats) -> Floats:
    return np.asarray(logit(np.clip(share, 1e-9, 1 - 1e-9)))


def percentiles(_: Floats, samples: Floats) -> Ends:
    low, high = np.percentile(samples, [5, 95], axis=0)
    return low, high


def widened(share: Floats, samples: Floats) -> Ends:
    low, high = percentiles(share, samples)
    return np.minimum(low, share), np.maximum(high, share)


def bias_corrected(share: Floats, samples: Floats) -> Ends:
    below = np.clip((samples < share).mean(axis=0), 0.5 / len(samples), 1 - 0.5 / len(samples))
    ends = (ndtr(2 * ndtri(below) + z) for z in (-Z, Z))
    low, high = (np.array([np.quantile(samples[:, key], part[key]) for key in range(len(share))]) for part in ends)
    return low, high


def logit_reflected(share: Floats, samples: Floats) -> Ends:
    low, high = np.percentile(_logit(samples) - _logit(share), [5, 95], axis=0)
    return expit(_logit(share) - high), expit(_logit(share) - low)


def logit_deviation(share: Floats, samples: Floats) -> Ends:
    reach = Z * _logit(samples).std(axis=0, ddof=1)
    return expit(_logit(share) - reach), expit(_logit(share) + reach)


BOOTSTRAP, HALF = 0, 1
BY_SAMPLES: Final[dict[str, tuple[int, Callable[[Floats, Floats], Ends]]]] = {
    "bootstrap, percentiles (before)": (BOOTSTRAP, percentiles),
    "bootstrap, percentiles widened to the share": (BOOTSTRAP, widened),
    "bootstrap, bias-corrected (BC)": (BOOTSTRAP, bias_corrected),
    "half samples, logit, reflected": (HALF, logit_reflected),
    "half samples, logit, deviation": (HALF, logit_deviation),
}
OURS: Final = "half samples, arcsine of the root, deviation"
WAYS: Final = (*BY_SAMPLES, OURS)


if __name__ == "__main__":
    main()
