"""Published battles, scores and times of generators that draw in T steps: tables 3 to 10 of Feng et al. 2020.

Feng et al.: GP-WIRGAN, Chinese Journal of Computers 43 (2020), doi 10.11897/SP.J.1016.2020.00190.
A warning stands beside each table, for none of them can be compared as it is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from plgan_tune.analysis.published import data_name, plain

T: Final = (1, 3, 5)
"""In how many steps the published generators draw."""


class PublishedBattle(NamedTuple):
    """Ratios of a published battle of `first` and `second`; r_sample above 1: `second` wins, as in `Battle`."""

    table: int
    first: str
    second: str
    r_test: float
    r_sample: float


class PublishedGenerator(NamedTuple):
    """What is published of one generator.

    Attributes:
        name: such as `wirgan-t3`.
        score: its Inception score; None for GRAN, of which none is published.
        deviation: what is printed after +-.
        seconds: an iteration's.
    """

    name: str
    score: float | None
    deviation: float | None
    seconds: float


@dataclass(frozen=True, slots=True)
class GeneratorSetting:
    """What is published on one data set.

    Attributes:
        data: its name.
        battles: of tables 3 to 7.
        generators: of tables 9 and 10.
        errors: method -> "error" of its images, a fraction (table 8).
        warnings: what speaks against each table's numbers, a line each.
    """

    data: str
    battles: tuple[PublishedBattle, ...]
    generators: tuple[PublishedGenerator, ...]
    errors: Mapping[str, float]
    warnings: tuple[str, ...]


_BATTLES: Final = (
    "Tables 3 to 7: all 60 r_sample exceed 1, none has a deviation, and r_test so near 1 smells of accuracies' ratios."
)
_TIMES: Final = (
    "Table 10: the penalty, which differentiates twice, is printed as faster than clipping, and GRAN on MNIST as "
    "equally fast at any T: these are not times of these algorithms."
)

_RATIOS: Final[Mapping[str, Sequence[tuple[float, float]]]] = {
    # Tables 3 and 4: T = 1 to 3, 1 to 5, 3 to 5. Tables 5 to 7: T = 1, 3, 5.
    "MNIST": (
        *((0.95, 1.003), (0.95, 1.007), (0.99, 1.581)),
        *((1.00, 1.245), (1.00, 1.653), (1.00, 1.008)),
        *((0.95, 1.001), (0.95, 1.006), (1.00, 2.287)),
        *((0.94, 1.684), (0.89, 1.367), (0.92, 6.585)),
        *((0.92, 3.751), (0.89, 2.683), (0.92, 5.517)),
    ),
    "CIFAR-10": (
        *((1.00, 1.009), (1.00, 1.001), (1.00, 1.875)),
        *((1.00, 1.018), (1.00, 1.754), (1.00, 6.437)),
        *((1.00, 1.638), (1.00, 3.681), (1.00, 2.568)),
        *((0.88, 6.821), (0.91, 1.525), (0.91, 5.759)),
        *((0.95, 11.36), (0.93, 1.751), (0.90, 10.62)),
    ),
    "LSUN": (
        *((1.08, 1.331), (1.00, 2.151), (1.03, 17.81)),
        *((1.00, 5.822), (1.00, 5.100), (1.00, 1.821)),
        *((0.93, 5.020), (0.98, 1.498), (0.98, 5.267)),
        *((0.89, 1.398), (0.95, 1.213), (0.90, 3.993)),
        *((0.87, 1.539), (0.89, 4.341), (0.91, 3.989)),
    ),
    "CelebA": (
        *((0.97, 3.366), (0.99, 3.214), (0.99, 14.22)),
        *((1.00, 2.770), (1.00, 3.362), (1.00, 5.891)),
        *((0.96, 7.152), (0.99, 4.212), (0.99, 3.354)),
        *((0.99, 15.72), (0.99, 10.21), (0.99, 13.02)),
        *((0.91, 11.65), (0.88, 16.72), (0.96, 14.11)),
    ),
}
"""Data set -> r_test and r_sample of `_PAIRS`."""

_PAIRS: Final = (
    *((3, f"wirgan-t{one}", f"wirgan-t{other}") for one, other in ((1, 3), (1, 5), (3, 5))),
    *((4, f"gp_wirgan-t{one}", f"gp_wirgan-t{other}") for one, other in ((1, 3), (1, 5), (3, 5))),
    *((5, f"wirgan-t{steps}", f"gp_wirgan-t{steps}") for steps in T),
    *((6, f"gran-t{steps}", f"wirgan-t{steps}") for steps in T),
    *((7, f"gran-t{steps}", f"gp_wirgan-t{steps}") for steps in T),
)

_SCORES: Final[Mapping[str, Sequence[tuple[float, float]]]] = {
    # WIRGAN at T = 1, 3, 5, then GP-WIRGAN.
    "MNIST": ((1.052, 0.002), (1.055, 0.003), (1.053, 0.003), (1.053, 0.003), (1.055, 0.002), (1.055, 0.003)),
    "CIFAR-10": ((7.73, 0.03), (7.77, 0.09), (7.77, 0.06), (7.76, 0.03), (7.83, 0.06), (7.84, 0.02)),
    "LSUN": ((3.00, 0.12), (3.10, 0.07), (3.11, 0.10), (3.05, 0.10), (3.15, 0.15), (3.17, 0.09)),
    "CelebA": ((1.92, 0.20), (2.00, 0.20), (2.00, 0.10), (2.10, 0.10), (2.12, 0.09), (2.15, 0.10)),
}

_SECONDS: Final[Mapping[str, Sequence[float]]] = {
    # GRAN at T = 1, 3, 5, then WIRGAN, then GP-WIRGAN.
    "MNIST": (0.0301, 0.0302, 0.0303, 0.0074, 0.0112, 0.0116, 0.0073, 0.0107, 0.0115),
    "CIFAR-10": (0.1130, 0.2015, 0.3100, 0.0700, 0.0846, 0.1424, 0.0626, 0.0817, 0.1262),
    "LSUN": (0.2612, 0.3455, 0.4384, 0.2498, 0.3420, 0.4108, 0.2422, 0.2894, 0.3521),
    "CelebA": (0.3781, 0.5355, 0.7119, 0.3348, 0.5166, 0.6516, 0.2676, 0.4168, 0.5535),
}

_ERRORS: Final[Mapping[str, Mapping[str, float]]] = {
    "MNIST": {"DAVE": 0.1093, "DRAW": 0.0521, "WIRGAN": 0.0163, "GP-WIRGAN": 0.0099}
}
"""Table 8; which T it is of is not printed."""

_WARNINGS: Final[Mapping[str, tuple[str, ...]]] = {
    "MNIST": (
        "Tables 3 to 5: 1.001 to 1.008 lie within the noise of two equal models, and GAM is not transitive: T = 3 to 5 "
        "is 1.581, though 1 to 3 and 1 to 5 are 1.00.",
        'Table 8: images without a label have no error; "doubt" is what can be measured of them.',
        "Table 9: ImageNet's Inception sees one class in all digits, hence 1.05; our classifier score knows ten.",
    ),
    "CIFAR-10": (
        "Tables 3 and 4: 1.001 to 1.018 lie within the noise of two equal models.",
        "Table 9: 7.73 by clipping a plain convolutional critic is not credible.",
    ),
    "LSUN": (),
    "CelebA": (
        "Table 3: GAM is not transitive: T = 3 to 5 is 14.2, though 1 to 3 is 3.37 and 1 to 5 is 3.21.",
        "Images have 128 pixels a side in section 4.1, and 64 in table 2.",
    ),
}


def _setting(data: str) -> GeneratorSetting:
    names = [f"{method}-t{steps}" for method in ("gran", "wirgan", "gp_wirgan") for steps in T]
    scores = [*[(None, None)] * len(T), *_SCORES[data]]
    return GeneratorSetting(
        data,
        tuple(PublishedBattle(*pair, *ratios) for pair, ratios in zip(_PAIRS, _RATIOS[data], strict=True)),
        tuple(
            PublishedGenerator(name, score, deviation, seconds)
            for name, (score, deviation), seconds in zip(names, scores, _SECONDS[data], strict=True)
        ),
        _ERRORS.get(data, {}),
        (_BATTLES, *_WARNINGS[data], _TIMES),
    )


GENERATORS: Final = tuple(map(_setting, _RATIOS))


def published_generators(source: str, path: str | None) -> GeneratorSetting | None:
    """Return what is published of generators on a data set; None if there is nothing.

    Args:
        source: `trial.data.source`; for `parquet` and `folder` the last name of `path` is the name of the set.
        path: `trial.data.path`.
    """
    name = data_name(source, path)
    return next((one for one in GENERATORS if plain(one.data) == name), None)
