"""A user's own file of Python (`trial.own.file`): loss terms that are added to those of the method, or a pair.

    class Own(Keys):
        entropy: float = 0.1

    def discriminator_terms(keys: Own, unlabelled: Seen) -> dict[str, Tensor]:
        p = unlabelled.logits.softmax(1)
        return {"entropy": -keys.entropy * torch.xlogy(p, p).sum(1)}

A term has a value for each image of this rank, shape (b,): divided by the global batch, the sums of all ranks are its
mean, as with the method's own terms. The keys' values do not change within a trial.
"""

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor

from plgan_tune.config.errors import RuleError
from plgan_tune.config.trial import Frozen, ModelSpec
from plgan_tune.gan.draws import Draws
from plgan_tune.gan.games import Number
from plgan_tune.gan.objective import Term, Terms
from plgan_tune.gan.pairs.base import Discriminator, Generator, ImageShape, Pair
from plgan_tune.gan.passes import AllSum


class Keys(Frozen):
    """Base of a file's class `Own`: its keys under `trial.own`, their types, bounds and defaults.

    A default must be a value that a space file can hold: a number, text, true or false.
    """


class Seen(NamedTuple):
    """Images of one kind, and what D says of them: this rank's rows of the global batch.

    Attributes:
        images: (b, channels, size, size), in the pair's range of pixels.
        logits: (b, N), that of "generated" taken off.
        features: (b, F), those that V_feature compares.
    """

    images: Tensor
    logits: Tensor
    features: Tensor


@dataclass(frozen=True, slots=True)
class View:
    """What a term may know of its step, beside the images.

    Attributes:
        batch: images of each kind, over all ranks.
        w: the ramp.
        draws: random tensors of this step, a row for each of this rank's images. Other randomness is refused.
        judge: D on further images, as in evaluation: without noise. Its weights get a gradient in the step of D.
        average: the averaged D on images, likewise, without a gradient.
        all_sum: sums over ranks, differentiably.
    """

    batch: int
    w: Number
    draws: Draws
    judge: Callable[[Tensor], Seen]
    average: Callable[[Tensor], Seen]
    all_sum: AllSum

    def mean(self, rows: Tensor) -> Tensor:
        """Return the mean over the global batch, of rows (b, ...) of which every rank has its own."""
        return self.all_sum(rows.sum(dim=0)) / self.batch


TERMS_D: Final = "discriminator_terms"
TERMS_G: Final = "generator_terms"
PAIR: Final = "build_pair"

GIVEN: Final[Mapping[str, tuple[str, ...]]] = {
    TERMS_D: ("keys", "labelled", "labels", "unlabelled", "generated", "view"),
    TERMS_G: ("keys", "unlabelled", "generated", "view"),
    PAIR: ("keys", "model", "image", "classes", "rng_d", "rng_g"),
}
"""What a function may take, by its arguments' names."""

PREFIX: Final = "own_"
"""How the names of a file's terms begin among those of a loss."""


_NAME: Final = re.compile(r"[a-z][a-z0-9_]*")


@dataclass(frozen=True, slots=True)
class Own:
    """A user's file with the values of a trial.

    Attributes:
        name: of the file, for messages.
        keys: the trial's values of its keys.
        functions: its functions, of those in `GIVEN`.
        names: function -> the names of its terms, in their order; none for one that the file lacks.
    """

    name: str
    keys: Keys
    functions: Mapping[str, Callable[..., Any]]
    names: Mapping[str, tuple[str, ...]]

    def terms(self, function: str, batch: int, *, generated: Seen, **given: object) -> Terms:
        """Return the terms of one function, none if the file does not have it.

        Args:
            function: of `GIVEN`.
            batch: images of each kind, over all ranks.
            generated: its argument of this name.
            given: its other arguments but the keys.

        Raises:
            RuleError: if the function returns other terms than it did when the file was loaded.
        """
        if function not in self.functions:
            return {}
        found = self.per_image(function, generated=generated, **given)
        if tuple(self.checked(function, found, len(generated.logits))) != self.names[function]:
            rule = f"must return the terms of its first call in every step, {', '.join(self.names[function]) or 'none'}"
            raise self.refuse(function, rule, ", ".join(found) or "none")
        return {PREFIX + name: Term(values.sum() / batch, 1.0) for name, values in found.items()}

    def per_image(self, function: str, **given: object) -> Mapping[str, Tensor]:
        """Return what the function returns: a name -> a value for each of this rank's images, (b,)."""
        return self._call(function, given) if function in self.functions else {}

    def checked(self, function: str, found: object, rows: int) -> Mapping[str, Tensor]:
        """Return what the function has returned, if it is a value of each of these `rows` images by name.

        Raises:
            RuleError: if it is something else.
        """
        if not isinstance(found, Mapping):
            raise self.refuse(function, "must return a dict of a term's name to its tensor", type(found).__name__)
        for name, values in found.items():
            if not isinstance(name, str) or not _NAME.fullmatch(name):
                rule = "a term's name must have small letters, digits and '_' only, the first a letter"
                raise self.refuse(function, rule, repr(name))
            if not isinstance(values, Tensor) or not values.is_floating_point():
                raise self.refuse(function, f"{name} must be a tensor of real numbers", _kind(values))
            if values.shape != (rows,):
                rule = f"{name} must have a value of each image, shape (b,), here ({rows},)"
                raise self.refuse(function, rule, f"shape {tuple(values.shape)}")
        return found

    def pair(
        self, model: ModelSpec, image: ImageShape, classes: int, generators: tuple[torch.Generator, torch.Generator]
    ) -> Pair:
        """Return the file's pair of networks; see `build`.

        Raises:
            RuleError: if it has none, or returns something else.
        """
        if PAIR not in self.functions:
            raise RuleError(f"{self.name} must define {PAIR}, for trial.model.kind is own", ", ".join(self.functions))
        for_d, for_g = generators
        made = self._call(PAIR, {"model": model, "image": image, "classes": classes, "rng_d": for_d, "rng_g": for_g})
        networks = tuple(made) if isinstance(made, tuple) else (made,)
        match networks:
            case Discriminator() as D, Generator() as G:
                return Pair(D, G)
        rule = "must return a Pair of a Discriminator and a Generator (plgan_tune.own)"
        raise self.refuse(PAIR, rule, ", ".join(type(network).__name__ for network in networks))

    def _call(self, function: str, given: Mapping[str, object]) -> Any:
        call, known = self.functions[function], {"keys": self.keys, **given}
        takes = inspect.signature(call).parameters
        if missing := [name for name in takes if name not in known]:
            raise self.refuse(function, "must take no labelled images, for trial.data.labels is 0", ", ".join(missing))
        return call(**{name: known[name] for name in takes})

    def refuse(self, function: str, rule: str, value: str) -> RuleError:
        """Return the error of a function that breaks a rule."""
        return RuleError(f"{self.name}: {function}: {rule}", value)


def _kind(value: object) -> str:
    return str(value.dtype) if isinstance(value, Tensor) else type(value).__name__
