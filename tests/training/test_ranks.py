"""One rank, two and three compute the same trial. The ranks are this file, run as a program in processes of its own."""

import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from plgan_tune.config.trial import TrialSpec
from plgan_tune.data.dataset import Dataset
from plgan_tune.training.judge import Judge
from plgan_tune.training.launch import join_ranks, open_rendezvous
from plgan_tune.training.loop import epochs
from plgan_tune.training.ranks import ALONE, RankFailedError, RankLostError, Ranks, check_ranks
from plgan_tune.training.state import new_state
from tests.factories import OWN_PAIR, OWN_TERMS, load, own_section

COUNTS = (2, 3)
CPU = torch.device("cpu")
FLOAT64 = {"precision": "float64"}


CRITIC = {"game": "wasserstein", "ramp": "zero"}

Outcome = tuple[list[dict[str, float]], list[Tensor]]
"""What a rank holds at a trial's end: the epochs' rows without their times, and all weights."""


def train(trial: TrialSpec, data: Dataset, judge: Judge, ranks: Ranks) -> Outcome:
    state = new_state(trial, data, CPU, load(trial))
    rows = [metrics.cells() for metrics in epochs(state, data, ranks, judge=judge)]
    assert all(row["val_distance"] is not None for row in rows)
    for row in rows:
        del row["seconds"], row["images_per_second"]
    return [{name: value for name, value in row.items() if value is not None} for row in rows], state.tensors()


Case = tuple[TrialSpec, Dataset, Judge]

CASES = (
    "mlp",
    "mlp with tricks",
    "mlp that teaches itself",
    "mlp with own terms",
    "a pair of one's own",
    "mlp as printed",
    "conv",
    "conv with tricks",
    "conv as printed",
    "dcgan",
    "dcgan with tricks",
    "recurrent",
    "recurrent with tricks",
    "an image a rank",
    "a critic with a penalty",
    "a clipped critic without labels",
)


@pytest.fixture(scope="module")
def cases(
    make_trial: Callable[..., TrialSpec],
    make_data: Callable[..., Dataset],
    make_judge: Callable[[Dataset], Judge],
) -> dict[str, Case]:
    """Every pair of networks, with the recipe's choices and those that were printed; 3 steps an epoch."""
    hundred: dict[str, Any] = {**FLOAT64, "batch_size": 100}  # three ranks have 33, 33 and 34 of them
    vector, picture = make_data(pool=300), make_data(pool=300, size=16, channels=3)
    three = make_data(pool=15)
    unseen = replace(three.split, validation=three.split.validation[:2])  # one of three ranks has none
    made: dict[str, tuple[TrialSpec, Dataset]] = {
        "mlp": (make_trial(training=hundred | {"epochs": 2}), vector),
        "mlp with tricks": (
            make_trial(
                model={"fake_logit": "learned", "minibatch_kernels": 6},
                loss={"smoothing": 0.1, "supervised": "joint", "history": 0.01, "weight_decay": 0.01},
                training=hundred | {"epochs": 2},
            ),
            vector,
        ),
        "mlp that teaches itself": (
            make_trial(
                loss={"self_scale": 0.5, "self_threshold": 0.4, "self_epoch": 1},
                training=hundred | {"generator_steps": 2, "epochs": 2},
            ),
            vector,
        ),
        "mlp with own terms": (
            make_trial(own=own_section(OWN_TERMS), loss={"switch_epoch": 1}, training=hundred | {"epochs": 2}),
            vector,
        ),
        "a pair of one's own": (
            make_trial("own", own=own_section(OWN_PAIR), model={"width": 0.2}, training=hundred | {"epochs": 1}),
            picture,
        ),
        "mlp as printed": (
            make_trial(
                method="patent",
                loss={"supervised": "one_vs_all", "feature_norm": "sum", "switch_epoch": 1},
                training=hundred | {"discriminator_steps": 2, "epochs": 2},
            ),
            vector,
        ),
        "conv": (make_trial("conv", training=hundred | {"epochs": 1}), picture),
        "conv with tricks": (
            make_trial(
                "conv",
                model={"minibatch_kernels": 6, "minibatch_size": 2, "generator_norm": "virtual"},
                training=hundred | {"epochs": 1},
            ),
            picture,
        ),
        "conv as printed": (
            make_trial(
                "conv",
                "patent",
                model={"feature_layer": 2},
                loss={"self_scale": 1.0, "self_threshold": 0.34, "self_images": "unlabelled", "self_epoch": 0},
                training=hundred | {"epochs": 1},
            ),
            picture,
        ),
        "a critic with a penalty": (
            make_trial(loss=CRITIC | {"gradient_penalty": 10.0}, training=hundred | {"epochs": 2}),
            vector,
        ),
        "a clipped critic without labels": (
            make_trial(
                "dcgan",
                loss=CRITIC | {"supervised_scale": 0.0},
                data={"labels": 0},
                optim={"kind": "rmsprop", "beta1": 0.0, "clip": 0.05},
                training=hundred | {"discriminator_steps": 2, "epochs": 1},
            ),
            make_data(pool=300, size=20, labelled=0),
        ),
        "dcgan": (
            make_trial("dcgan", "dcgan_ssl", training=hundred | {"discriminator_steps": 2, "epochs": 2}),
            make_data(pool=300, size=20),
        ),
        "dcgan with tricks": (
            make_trial(
                "dcgan",
                "dcgan_ssl",
                model={"minibatch_kernels": 6, "generator_norm": "virtual"},
                training=hundred | {"epochs": 1},
            ),
            make_data(pool=300, size=20),
        ),
        "recurrent": (make_trial("recurrent", training=hundred | {"epochs": 2}), make_data(pool=300, size=8)),
        "recurrent with tricks": (
            make_trial(
                "recurrent",
                model={
                    **{"minibatch_kernels": 6, "generator_norm": "virtual", "discriminator_norm": "none"},
                    **{"canvas": "sum", "latent_each_step": False, "latent_layer": True, "head": 200},
                },
                training=hundred | {"epochs": 1},
            ),
            make_data(pool=300, size=9),
        ),
        "an image a rank": (
            make_trial(
                model={"minibatch_kernels": 2, "generator_norm": "virtual"},
                training=FLOAT64 | {"batch_size": 3, "epochs": 2},
            ),
            replace(three, split=unseen),
        ),
    }
    return {name: (trial, data, make_judge(data)) for name, (trial, data) in made.items()}


@dataclass(frozen=True)
class Told:
    """What a rank of three says of its time.

    Attributes:
        outcomes: by the number of ranks and the case.
        failures: by what befell it: the exception's name, its message, and how many seconds it took to come.
    """

    outcomes: dict[tuple[int, str], Outcome]
    failures: dict[str, tuple[str, str, float]]


@pytest.fixture(scope="module")
def told(cases: dict[str, Case], tmp_path_factory: pytest.TempPathFactory) -> list[Told]:
    """Three processes that are ranks of two, then of three; what each says."""
    folder = tmp_path_factory.mktemp("ranks")
    (folder / "cases").write_bytes(pickle.dumps(cases))
    checkout = str(Path(__file__).resolve().parents[2])
    environ = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": checkout}
    ranks = [subprocess.Popen([sys.executable, __file__, str(index), str(folder)], env=environ) for index in range(3)]
    try:
        assert [rank.wait(timeout=300) for rank in ranks] == [0, 0, 0]
    finally:
        for rank in ranks:
            rank.kill()
    return [Told(*pickle.loads((folder / f"told by {index}").read_bytes())) for index in range(3)]


@pytest.mark.parametrize("name", CASES)
def test_more_ranks_compute_the_trial_of_one(name: str, cases: dict[str, Case], told: list[Told]) -> None:
    rows, tensors = train(*cases[name], ALONE)
    for count in COUNTS:
        rows_together, tensors_together = told[0].outcomes[count, name]
        assert rows_together == [pytest.approx(row, rel=1e-9, abs=1e-9) for row in rows]
        torch.testing.assert_close(tensors_together, tensors, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", CASES)
def test_ranks_of_a_trial_hold_the_same_bits(name: str, told: list[Told]) -> None:
    for count in COUNTS:
        (rows, tensors), *others = (told[index].outcomes[count, name] for index in range(count))
        for other_rows, other_tensors in others:
            assert other_rows == rows
            assert all(map(torch.equal, tensors, other_tensors))


def test_an_error_of_one_rank_is_raised_by_all(told: list[Told]) -> None:
    failures = [each.failures["one raises"][:2] for each in told]
    assert failures[1] == ("ValueError", "no images here")
    assert failures[0] == failures[2] == ("RankFailedError", "rank 1 of 3: ValueError: no images here")


@pytest.mark.parametrize("index", [0, 2])
def test_a_rank_that_does_not_come_is_waited_for_until_the_timeout(index: int, told: list[Told]) -> None:
    name, message, seconds = told[index].failures["one is late"]
    assert name == "RankLostError"
    assert f"rank {index} of 3 got no answer from another rank" in message
    assert 0.9 < seconds < 20


def test_a_rank_that_dies_is_not_waited_for(told: list[Told]) -> None:
    for index in (0, 1):
        name, message, seconds = told[index].failures["one dies"]
        assert (name, seconds < 20) == ("RankLostError", True)
        assert "which has died or hangs" in message


def test_ranks_that_never_meet_say_where(told: list[Told]) -> None:
    name, message, _ = told[0].failures["nobody comes"]
    assert name == "RankLostError"
    assert "rank 0 of 2 did not meet the others at tcp://127.0.0.1:" in message
    assert "within 1 s" in message


@given(batch=st.integers(1, 300), count=st.integers(1, 20))
def test_shards_are_the_batch_in_order_and_differ_by_one_at_most(batch: int, count: int) -> None:
    shards = [range(batch)[Ranks(index, count).rows(batch)] for index in range(count)]
    assert [row for shard in shards for row in shard] == list(range(batch))
    assert max(map(len, shards)) - min(map(len, shards)) <= 1


@given(batch=st.integers(1, 40), count=st.integers(2, 8), parts=st.integers(1, 3))
def test_a_rank_s_rows_of_several_batches_laid_end_to_end(batch: int, count: int, parts: int) -> None:
    laid = torch.arange(parts * batch).view(parts, batch)
    for index in range(count):
        ranks = Ranks(index, count)
        indices = ranks.row_indices(batch, parts, CPU)
        assert indices is not None
        assert indices.tolist() == laid[:, ranks.rows(batch)].flatten().tolist()


def test_a_rank_without_an_image_is_refused() -> None:
    check_ranks(count=3, batch_size=3)
    with pytest.raises(ValueError, match=r"must hold.*\(ranks=3, training.batch_size=2\)"):
        check_ranks(count=3, batch_size=2)


# From here on: the program that each of the three processes runs.


def take_part(index: int, folder: Path) -> None:
    cases: dict[str, Case] = pickle.loads((folder / "cases").read_bytes())
    told = Told({}, {})
    for count in COUNTS:
        if index < count:
            with join_ranks(_meet(index, count, folder), index, count, CPU, timedelta(minutes=2)) as ranks:
                for name, case in cases.items():
                    told.outcomes[count, name] = train(*case, ranks)
    with join_ranks(f"file://{folder}/raises", index, 3, CPU) as ranks, _noted(told, "one raises"), ranks.sync_errors():
        if index == 1:
            raise ValueError("no images here")
    with join_ranks(f"file://{folder}/late", index, 3, CPU, timedelta(seconds=1)) as ranks:
        if index == 1:
            _await(folder / "too late by 0")
            _await(folder / "too late by 2")
        else:
            with _noted(told, "one is late"):
                ranks.all_sum(torch.ones(1))
            (folder / f"too late by {index}").touch()
    with join_ranks(f"file://{folder}/dies", index, 3, CPU, timedelta(minutes=1)) as ranks:
        if index == 2:
            _tell(told, index, folder)
            os._exit(0)
        with _noted(told, "one dies"):
            ranks.all_sum(torch.ones(1))
    if index == 0:
        meeting = open_rendezvous("127.0.0.1")
        with _noted(told, "nobody comes"), join_ranks(meeting.url, 0, 2, CPU, timedelta(seconds=1)):
            pass
    _tell(told, index, folder)


def _tell(told: Told, index: int, folder: Path) -> None:
    (folder / f"told by {index}").write_bytes(pickle.dumps((told.outcomes, told.failures)))


def _meet(index: int, count: int, folder: Path) -> str:
    """By a file, or as a gang does: rank 0 opens a meeting and tells the others where it is."""
    if count == 2:
        return f"file://{folder}/two"
    address = folder / "address"
    if index > 0:
        return _await(address).read_text()
    meeting = open_rendezvous("127.0.0.1")
    kept.append(meeting)
    address.with_name("_address").write_text(meeting.url)
    address.with_name("_address").rename(address)
    return meeting.url


kept: list[object] = []


def _await(file: Path) -> Path:
    for _ in range(1200):
        if file.exists():
            return file
        time.sleep(0.05)
    raise TimeoutError(str(file))


@contextmanager
def _noted(told: Told, what: str) -> Iterator[None]:
    began = time.monotonic()
    try:
        yield
    except (ValueError, RankFailedError, RankLostError) as error:
        told.failures[what] = (type(error).__name__, str(error), time.monotonic() - began)


if __name__ == "__main__":
    take_part(int(sys.argv[1]), Path(sys.argv[2]))
