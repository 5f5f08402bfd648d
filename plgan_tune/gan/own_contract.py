"""What a user's own terms must keep, tried on tiny tensors: no term that breaks it would train as it says.

A term is a value of each image; it is finite at the first step; it draws from no global random numbers; and two ranks,
of which each has its rows, get the numbers of one.
"""

import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Barrier, BrokenBarrierError
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from torch import Tensor

from plgan_tune.config.trial import DataSpec
from plgan_tune.gan.draws import Draws
from plgan_tune.gan.own import TERMS_D, TERMS_G, Own, Seen, View
from plgan_tune.gan.pairs.base import ImageShape
from plgan_tune.gan.passes import AllSum

BATCH: Final = 7
"""Images of each kind: two ranks have 3 and 4."""

TOLERANCE: Final = 1e-9
_DTYPE: Final = torch.float64

Values = Mapping[str, Tensor]


class Shapes(NamedTuple):
    """What the images of a study have.

    Attributes:
        image: channels and size.
        classes: their number, which is that of D's logits: one if no image has a label.
        labelled: whether some have a label.
    """

    image: ImageShape
    classes: int
    labelled: bool = True

    @classmethod
    def of(cls, image: ImageShape, classes: int, data: DataSpec) -> "Shapes":
        """Return those of a trial on these data."""
        return cls(image, data.logits(classes), data.labels > 0)


def term_names(own: Own, shapes: Shapes) -> dict[str, tuple[str, ...]]:
    """Return the names of a file's terms by function, after a look at what each returns.

    Raises:
        RuleError: if it returns no value of each image by name, or both functions use one name.
    """
    names = {name: tuple(own.checked(name, _Tiny(shapes).run(own, name), BATCH)) for name in (TERMS_D, TERMS_G)}
    if twice := sorted(set(names[TERMS_D]) & set(names[TERMS_G])):
        raise own.refuse(TERMS_G, f"its terms must have other names than those of {TERMS_D}", ", ".join(twice))
    return names


def check_terms(own: Own, shapes: Shapes) -> None:
    """Check the contract of a file's functions.

    Raises:
        RuleError: naming the function, the term and what it breaks.
    """
    for function in own.functions.keys() & {TERMS_D, TERMS_G}:
        one, again = (_untouched(own, function, shapes, seed) for seed in (1, 2))
        for name, values in one.items():
            _check_finite(own, function, name, values)
            if not torch.equal(values, again[name]):
                raise own.refuse(function, f"{name} must be the same for the same images and draws", "two values")
        _check_two_ranks(own, function, shapes)


def _check_finite(own: Own, function: str, name: str, values: Tensor) -> None:
    broken = values.isfinite().logical_not().nonzero().flatten().tolist()
    if broken:
        rule = f"{name} must be finite at the first step"
        raise own.refuse(function, rule, f"{values[broken[0]].item()} for {len(broken)} of {len(values)} images")


def _untouched(own: Own, function: str, shapes: Shapes, seed: int) -> Values:
    """Return the values, after a check that the function has not drawn from a global generator."""
    with own_random_numbers() as touched:
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002 - what a user's file may draw from
        touched()
        values = own.checked(function, _Tiny(shapes).run(own, function), BATCH)
        if found := touched():
            rule = "must draw from no global random numbers, which no seed of the trial decides: view.draws has some"
            raise own.refuse(function, rule, f"draws from those of {' and '.join(found)}")
    return values


@contextmanager
def own_random_numbers() -> Iterator[Callable[[], list[str]]]:
    """Leave the global generators as they were; yield which of them have changed since the last call."""
    of_torch, of_random, of_numpy = torch.get_rng_state(), random.getstate(), np.random.get_state()  # noqa: NPY002
    last = _global_states()

    def touched() -> list[str]:
        nonlocal last
        before, last = last, _global_states()
        return [name for name, state in last.items() if state != before[name]]

    try:
        yield touched
    finally:
        torch.set_rng_state(of_torch)
        random.setstate(of_random)
        np.random.set_state(of_numpy)  # noqa: NPY002 - as above


def _global_states() -> dict[str, object]:
    _, words, place, *_ = np.random.get_state()  # noqa: NPY002 - as above
    return {
        "torch": torch.get_rng_state().numpy().tobytes(),
        "random": random.getstate(),
        "numpy": (np.asarray(words).tobytes(), place),
    }


def _check_two_ranks(own: Own, function: str, shapes: Shapes) -> None:
    one, two = _Tiny(shapes), _Tiny(shapes)
    alone = own.checked(function, one.run(own, function), BATCH)
    try:
        shares = on_two_ranks(lambda rows, all_sum: two.run(own, function, rows, all_sum))
    except BrokenBarrierError:
        raise own.refuse(function, "each rank must call view.mean as often as the others", "another number") from None
    for share, rows in zip(shares, ROWS, strict=True):
        own.checked(function, share, len(range(BATCH)[rows]))
    for name, values in alone.items():
        together = torch.cat([share[name] for share in shares])
        _check_alike(own, function, f"the values of {name}", values, together)
    for which, expected, found in zip(
        one.what_learns(function), one.gradients(function, [alone]), two.gradients(function, shares), strict=True
    ):
        if not bool(expected.isfinite().all()):
            raise own.refuse(function, f"the gradient in {which} must be finite at the first step", "nan or inf")
        _check_alike(own, function, f"the gradient in {which}", expected, found)


def _check_alike(own: Own, function: str, what: str, one: Tensor, two: Tensor) -> None:
    if not torch.allclose(one, two, rtol=TOLERANCE, atol=TOLERANCE):
        rule = (
            f"{what} must be the same on one rank and on two, which have the rows of a batch between them "
            "(view.mean takes a mean over all ranks)"
        )
        raise own.refuse(function, rule, f"a difference of {(one - two).abs().max().item():.2g}")


ROWS: Final = (slice(0, BATCH // 2), slice(BATCH // 2, BATCH))


def on_two_ranks(run: Callable[[slice, AllSum], Any]) -> list[Any]:
    """Return what each of two ranks, threads with a half of the rows each, gets.

    Their sums stay in one graph, so that a gradient is that of both ranks together.

    Raises:
        BrokenBarrierError: if one of them sums more often than the other.
    """
    barrier = Barrier(2)
    held: list[Tensor | None] = [None, None]

    def exchange(index: int, share: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        held[index] = share
        barrier.wait()
        first, second = held
        barrier.wait()
        return first, second

    def rank(index: int) -> Any:
        def all_sum(share: Tensor) -> Tensor:
            first, second = exchange(index, share)
            if first is None or second is None:  # the other rank has ended
                raise BrokenBarrierError
            return first + second

        try:
            found = run(ROWS[index], all_sum)
            exchange(index, None)
        except BaseException:
            barrier.abort()
            raise
        return found

    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(rank, index) for index in range(2)]
    raised = [error for future in futures if (error := future.exception()) is not None]
    for error in sorted(raised, key=lambda error: isinstance(error, BrokenBarrierError)):
        raise error
    return [future.result() for future in futures]


@dataclass(slots=True)
class _Tiny:
    """Two networks of a layer or two, and a batch: what a function sees of a step, in a few numbers.

    Attributes:
        shapes: those of the images.
        hidden: D's weights from pixels to features.
        out: D's weights from features to logits.
        image: G's weights from z to pixels.
    """

    shapes: Shapes
    hidden: Tensor
    out: Tensor
    image: Tensor
    labelled: Tensor
    unlabelled: Tensor
    latent: Tensor
    teacher: Tensor

    def __init__(self, shapes: Shapes) -> None:
        rng, pixels = torch.Generator().manual_seed(0), shapes.image.pixels

        def normal(*shape: int, fan: int = 1) -> Tensor:
            return torch.randn(shape, generator=rng, dtype=_DTYPE) / math.sqrt(fan)

        self.shapes = shapes
        self.hidden = normal(pixels, 5, fan=pixels).requires_grad_()
        self.out = normal(5, shapes.classes).requires_grad_()
        self.image, self.teacher = normal(6, pixels).requires_grad_(), normal(pixels, 5, fan=pixels)
        self.labelled, self.unlabelled = (torch.sigmoid(self._images(normal(BATCH, pixels))) for _ in range(2))
        self.latent = normal(BATCH, 6)

    def run(self, own: Own, function: str, rows: slice = slice(None), all_sum: AllSum = lambda own: own) -> Any:
        """Return what the function returns for these rows of the batch."""
        fakes = torch.sigmoid(self._images(self.latent[rows] @ self.image))
        index = torch.arange(BATCH)[rows]
        draws = Draws(torch.Generator().manual_seed(1), BATCH, index, _DTYPE)
        view = View(BATCH, 0.5, draws, self._judge, self._average, all_sum)
        if function == TERMS_D:
            parts: dict[str, object] = {"view": view}
            if self.shapes.labelled:
                parts |= {"labelled": self._judge(self.labelled[rows]), "labels": index % self.shapes.classes}
            unlabelled, generated = self._judge(self.unlabelled[rows]), self._judge(fakes.detach())
        else:
            parts = {"view": view}
            with torch.no_grad():
                unlabelled = self._judge(self.unlabelled[rows])
            generated = self._judge(fakes)
        return own.per_image(function, unlabelled=unlabelled, generated=generated, **parts)

    def what_learns(self, function: str) -> Sequence[str]:
        """Return names of the weights that the function's player trains."""
        return ("D's first layer", "D's output layer") if function == TERMS_D else ("G's weights",)

    def gradients(self, function: str, shares: Sequence[Values]) -> Sequence[Tensor]:
        """Return the gradients of all ranks' terms in those weights; 0 where there is none."""
        weights = [self.hidden, self.out] if function == TERMS_D else [self.image]
        total = sum((values.sum() for share in shares for values in share.values()), torch.zeros((), dtype=_DTYPE))
        if not total.requires_grad:
            return [torch.zeros_like(weight) for weight in weights]
        return torch.autograd.grad(total, weights, allow_unused=True, materialize_grads=True)

    def _images(self, pixels: Tensor) -> Tensor:
        channels, size = self.shapes.image
        return pixels.view(-1, channels, size, size)

    def _judge(self, images: Tensor) -> Seen:
        features = torch.tanh(images.flatten(1) @ self.hidden)
        return Seen(images, features @ self.out, features)

    @torch.no_grad()
    def _average(self, images: Tensor) -> Seen:
        features = torch.tanh(images.flatten(1) @ self.teacher)
        return Seen(images, features @ self.out, features)
