"""What a session hands to its sink, and when."""

from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from plgan_tune.config.trial import TrialSpec
from plgan_tune.data.dataset import Dataset
from plgan_tune.records import EpochMetrics
from plgan_tune.training.checkpoint import decode_checkpoint
from plgan_tune.training.loop import Diverged
from plgan_tune.training.session import CHECKPOINT_SECONDS, session
from plgan_tune.training.state import TrainState

MakeTrial = Callable[..., TrialSpec]
MakeData = Callable[..., Dataset]
Begin = Callable[[TrialSpec, Dataset], TrainState]


class Memory:
    """A sink that remembers: `e3` is epoch 3's row, `c3` a checkpoint that holds 3 rows, `s` the samples."""

    def __init__(self) -> None:
        self.news: list[str] = []

    def epoch(self, metrics: EpochMetrics) -> None:
        self.news.append(f"e{metrics.epoch}")

    def checkpoint(self, content: bytes) -> None:
        checkpoint = decode_checkpoint(content, "memory")
        assert [row.epoch for row in checkpoint.rows] == list(range(1, checkpoint.content["epoch"] + 1))
        self.news.append(f"c{checkpoint.content['epoch']}")

    def samples(self, png: bytes) -> None:
        self.news.append("s")


def clock(seconds_a_look: float) -> Callable[[], float]:
    def ticks() -> Iterator[float]:
        now = 0.0
        while True:
            yield now
            now += seconds_a_look

    running = ticks()
    return lambda: next(running)


@pytest.fixture
def memory() -> Memory:
    return Memory()


@pytest.mark.parametrize(
    ("every", "news"),
    [
        (None, "e1 e2 e3 e4 e5 c5 s"),
        (1, "e1 c1 e2 c2 e3 c3 e4 c4 e5 c5 s"),
        (2, "e1 e2 c2 e3 e4 c4 e5 c5 s"),
        (99, "e1 e2 e3 e4 e5 c5 s"),
    ],
)
def test_checkpoints_come_as_asked_and_once_at_the_end(
    make_trial: MakeTrial, make_data: MakeData, begin: Begin, memory: Memory, every: int | None, news: str
) -> None:
    data = make_data()
    state = begin(make_trial(training={"epochs": 5, "checkpoint_every": every}), data)
    assert len(list(session(state, [], data, memory))) == 5
    assert " ".join(memory.news) == news


def test_unasked_a_checkpoint_comes_about_every_two_minutes(
    make_trial: MakeTrial, make_data: MakeData, begin: Begin, memory: Memory
) -> None:
    """An epoch looks at the clock three times, the session once and once more after a checkpoint."""
    data = make_data()
    state = begin(make_trial(training={"epochs": 5}), data)
    list(session(state, [], data, memory, clock=clock(CHECKPOINT_SECONDS / 7)))
    assert " ".join(memory.news) == "e1 e2 c2 e3 e4 c4 e5 c5 s"


def test_closing_between_epochs_leaves_a_checkpoint_of_the_last_one(
    make_trial: MakeTrial, make_data: MakeData, begin: Begin, memory: Memory
) -> None:
    data = make_data()
    with closing(session(begin(make_trial(), data), [], data, memory)) as stream:
        next(stream)
        next(stream)
    assert " ".join(memory.news) == "e1 e2 c2 s"


def test_an_error_in_mid_epoch_leaves_the_last_checkpoint(
    make_trial: MakeTrial, make_data: MakeData, begin: Begin, memory: Memory
) -> None:
    data = make_data()
    state = begin(make_trial(training={"checkpoint_every": 2}), data)
    stream = session(state, [], data, memory)
    for _ in range(3):
        next(stream)
    state.D.network.get_parameter("out.b").data.fill_(float("nan"))
    with pytest.raises(Diverged):
        next(stream)
    assert " ".join(memory.news) == "e1 e2 c2 e3"


def test_rows_before_a_resume_are_in_the_next_checkpoint(
    make_trial: MakeTrial, make_data: MakeData, begin: Begin, memory: Memory
) -> None:
    data = make_data()
    state = begin(make_trial(training={"epochs": 3}), data)
    with closing(session(state, [], data, memory)) as stream:
        earlier = [next(stream), next(stream)]
    assert [row.epoch for row in session(state, earlier, data, memory)] == [3]
    assert " ".join(memory.news) == "e1 e2 c2 s e3 c3 s"
