"""What a user's own file imports, and the check of such a file (docs/extending/loss.md, network_pair.md)."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from plgan_tune.config.defaults import with_defaults
from plgan_tune.config.own import own_path, read_own
from plgan_tune.config.trial import ModelSpec, OwnSpec
from plgan_tune.gan.layers import BatchNorm, Conv, Dense
from plgan_tune.gan.own import PAIR, Keys, Seen, View
from plgan_tune.gan.own_contract import Shapes
from plgan_tune.gan.own_file import check_own
from plgan_tune.gan.pairs.base import (
    Apply,
    Discriminator,
    DiscriminatorOutput,
    Generator,
    Hidden,
    ImageShape,
    Pair,
    PixelRange,
    Traits,
    linear,
    scaled,
)
from plgan_tune.gan.passes import Pass

__all__ = [
    "Apply",
    "BatchNorm",
    "Conv",
    "Dense",
    "Discriminator",
    "DiscriminatorOutput",
    "Generator",
    "Hidden",
    "ImageShape",
    "Keys",
    "ModelSpec",
    "Pair",
    "Pass",
    "PixelRange",
    "Seen",
    "Traits",
    "View",
    "check",
    "linear",
    "scaled",
]

NONE: Final[Mapping[str, Any]] = MappingProxyType({})


def check(
    file: str | Path,
    keys: Mapping[str, Any] = NONE,
    *,
    model: Mapping[str, Any] = NONE,
    channels: int = 3,
    size: int = 32,
    classes: int = 10,
) -> dict[str, tuple[str, ...]]:
    """Run a user's own file, and check what `search` checks before it trains.

    ```python
    from plgan_tune.own import check

    print(check("mine.py", {"entropy": 0.3}))
    ```

    Args:
        file: The file.
        keys: Values of `trial.own`; the others have the defaults of the file.
        model: Values of `trial.model` with which a pair is checked, such as its `width`.
        channels: Of the images that the file is tried on.
        size: Height and width of those images.
        classes: Their number of classes.

    Returns:
        The names of the terms by function.

    Raises:
        RuleError: If a rule is broken. The message names the file, the function, the rule and the value.
    """
    content, own = read_own(own_path(file)), OwnSpec(**keys)
    shapes = Shapes(ImageShape(channels, size), classes)
    loaded = check_own(content, own, str(file), shapes)
    if PAIR in loaded.functions:
        spec = ModelSpec.model_validate(with_defaults({"model": {**model, "kind": "own"}})["model"])
        check_own(content, own, str(file), shapes, spec)
    return dict(loaded.names)
