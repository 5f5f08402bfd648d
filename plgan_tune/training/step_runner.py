"""Runs the two steps of successive trials on tensors with fixed addresses, so that a GPU can replay them.

On a CPU, and with several ranks, the steps run eagerly. On a GPU each of the two is captured once as a CUDA graph: one
launch instead of some hundred. A graph keeps addresses, so all that changes between steps is written in place: rows,
numbers (`DeviceScalar`), seeds of generators. A later trial of the same shapes reuses the tensors
(`TrainState.take_over`), and with them the graphs.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import torch
from torch import Tensor

from plgan_tune.config.errors import RuleError
from plgan_tune.config.study import flatten
from plgan_tune.config.trial import TrialSpec
from plgan_tune.data.dataset import Dataset
from plgan_tune.training.ranks import ALONE, Ranks
from plgan_tune.training.state import STREAMS_D, STREAMS_G, TrainState
from plgan_tune.training.step import LabelledImages, StepContext, discriminator_step, generator_step

logger = logging.getLogger(__name__)

Play = Callable[[], Tensor]
"""Takes a step with the current rows, numbers and seeds; returns its terms, shape (k,), valid until the next call."""

WARM_UP = 3
"""Steps before a capture: libraries choose kernels and allocate in their first calls (torch's notes on CUDA graphs)."""

TOLERANCE = 1e-2
"""How far terms of a replayed step may differ from those of an eager one, relative or, below 1, absolute.

Convolutions in bf16 sum in a different order each time; a seed or an update that a graph missed makes a much larger
difference.
"""


MAY_DIFFER: Final = frozenset(
    {
        "method",
        "seed",
        "own.file",  # what it holds is fixed by its hash
        # These affect only the initial tensors, which a later trial brings itself.
        *("model.initial_spread", "model.weight_norm_init"),
        *("model.generator_initial_spread", "model.generator_weight_norm_init"),
        # These are written to a device, or read between steps.
        *("loss.alpha", "loss.beta", "loss.switch_epoch", "loss.ramp"),
        *("loss.supervised_scale", "loss.unsupervised_scale"),
        *("loss.self_threshold", "loss.self_epoch"),
        *("optim.lr_discriminator", "optim.lr_generator", "optim.decay_epoch", "optim.min_factor"),
        "optim.average_decay",
        *("training.epochs", "training.discriminator_steps", "training.generator_steps", "training.checkpoint_every"),
    }
)
"""Keys of a trial that a later trial in the same tensors may change. The steps fix all others."""

SWITCHES: Final = frozenset(
    {
        *("loss.smoothing", "loss.history", "loss.weight_decay", "loss.self_scale", "loss.gradient_penalty"),
        "optim.clip",
    }
)
"""Keys whose 0 or null leaves a term out of the steps. A later trial may change any other value of theirs."""


class StepRunner:
    """Runs a trial's steps.

    Args:
        state: the state that they change; its tensors stay with the runner.
        data: the images, on the state's device.
        ranks: this process's place.
    """

    def __init__(self, state: TrainState, data: Dataset, ranks: Ranks = ALONE) -> None:
        self.state, self.data, self.ranks = state, data, ranks
        batch, device = state.trial.training.batch_size, state.device
        own = len(range(batch)[ranks.rows(batch)])
        self._unlabelled, self._others = torch.zeros(2, own, dtype=torch.int64, device=device).unbind()
        self._labelled = torch.zeros(own if state.trial.data.labels else 0, dtype=torch.int64, device=device)
        self._place_rows(0)
        self._context = StepContext.of(state, ranks)
        self._play_d: Play = self._plain_d
        self._play_g: Play = self._plain_g
        self._prepared = device.type != "cuda"

    def fits(self, trial: TrialSpec, data: Dataset) -> bool:
        """Return whether a trial on these data can reuse this runner."""
        return data is self.data and _fixed(trial) == _fixed(self.state.trial)

    def discriminator(self, labelled: Tensor, unlabelled: Tensor) -> Tensor:
        """Take D's step on this rank's rows of the data, each (b,), or none labelled; see `discriminator_step`."""
        self._labelled.copy_(labelled)
        self._unlabelled.copy_(unlabelled)
        self.state.before_d()
        return self._play_d()

    def generator(self, unlabelled: Tensor, turn: int = 0) -> Tensor:
        """Take G's step of this `turn` on this rank's rows of the data, (b,); see `generator_step`."""
        self._others.copy_(unlabelled)
        self.state.before_g(turn)
        return self._play_g()

    def prepare(self) -> None:
        """Capture the steps once, if possible; otherwise log the reason once."""
        if self._prepared:
            return
        self._prepared = True
        if self.ranks.count > 1:
            logger.warning("steps are launched kernel by kernel: those of several ranks are not captured")
            return
        try:
            with unchanged(self.state):
                _warm_up([self._plain_d, self._plain_g])
            play_d = capture_graph(self._plain_d, [self.state.rngs[stream] for stream in STREAMS_D])
            play_g = capture_graph(self._plain_g, [self.state.rngs[stream] for stream in STREAMS_G])
            check_alike(self, play_d, play_g)
        except (RuntimeError, RuleError, CaptureError) as error:  # RuleError: a user's own terms have raised one
            logger.warning("steps are launched kernel by kernel, since they could not be captured: %s", error)
            return
        self._play_d, self._play_g = play_d, play_g

    def trial_run(self, play_d: Play, play_g: Play) -> Tensor:
        """Return the terms of two rounds of these plays, shape (2, terms), and restore the state."""
        terms = []
        with unchanged(self.state):
            for round_ in range(2):
                self._place_rows(round_)
                self.state.before_d()
                of_d = play_d().clone()
                self.state.before_g()
                terms.append(torch.cat([of_d, play_g()]))
            return torch.stack(terms)

    def _place_rows(self, first: int) -> None:
        """Fill in some valid rows, for steps that only warm up or compare."""
        split = self.data.split
        for rows, pool in (
            (self._labelled, split.labelled),
            (self._unlabelled, split.pool),
            (self._others, split.pool),
        ):
            rows.copy_(pool[(first + torch.arange(len(rows), device=pool.device)) % max(len(pool), 1)])

    def _plain_d(self) -> Tensor:
        labelled = None
        if self.state.trial.data.labels:
            labelled = LabelledImages(self._images(self._labelled), self.data.labels[self._labelled])
        return discriminator_step(self._context, labelled, self._images(self._unlabelled))

    def _plain_g(self) -> Tensor:
        return generator_step(self._context, self._images(self._others))

    def _images(self, rows: Tensor) -> Tensor:
        state = self.state
        pixels = state.D.network.traits.pixels
        return pixels.from_uint8(self.data.images.index_select(0, rows), state.precision.dtype)


def _fixed(trial: TrialSpec) -> dict[str, object]:
    """Return the keys of a trial that its steps fix, with their values."""
    values = {path: value for path, value in flatten(trial.model_dump()).items() if path not in MAY_DIFFER}
    return {path: bool(value) if path in SWITCHES else value for path, value in values.items()}


class CaptureError(Exception):
    """A captured step gives other terms than the eager one."""


def capture_graph(step: Play, generators: Sequence[torch.Generator]) -> Play:
    """Capture the step as one CUDA graph that reads its generators' seeds at each replay."""
    graph = torch.cuda.CUDAGraph()
    for generator in generators:
        graph.register_generator_state(generator)
    with torch.cuda.graph(graph):
        terms = step()

    def play() -> Tensor:
        graph.replay()
        return terms

    return play


def check_alike(runner: StepRunner, play_d: Play, play_g: Play) -> None:
    """Check that two rounds of these plays give the terms of the eager steps.

    Raises:
        CaptureError: if they do not.
    """
    plain, played = runner.trial_run(runner._plain_d, runner._plain_g), runner.trial_run(play_d, play_g)
    if not torch.allclose(played, plain, rtol=TOLERANCE, atol=TOLERANCE):
        raise CaptureError(f"replayed terms {played.tolist()} are not the plain ones {plain.tolist()}")


def _warm_up(steps: Sequence[Play]) -> None:
    """Run the steps on a separate stream, as a capture does."""
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP):
            for step in steps:
                step()
    torch.cuda.current_stream().wait_stream(stream)


@contextmanager
def unchanged(state: TrainState) -> Iterator[None]:
    """Restore the state at the end of the block, in the same tensors."""
    step, before = state.step, [(tensor, tensor.clone()) for tensor in state.memory()]
    try:
        yield
    finally:
        state.step = step
        with torch.no_grad():
            for tensor, value in before:
                tensor.copy_(value)


def step_runner_for(state: TrainState, data: Dataset, ranks: Ranks, earlier: StepRunner | None) -> StepRunner:
    """Return `earlier` with this trial's state if it fits, for its tensors and graphs, else a new runner."""
    if earlier is None or not earlier.fits(state.trial, data):
        return StepRunner(state, data, ranks)
    earlier.state.take_over(state)
    return earlier
