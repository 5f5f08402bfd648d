"""How long steps take, by a clock that counts."""

from itertools import accumulate, chain, repeat

import torch

from plgan_tune.data.dataset import load_dataset
from plgan_tune.evaluation.configurations import changed
from plgan_tune.evaluation.pace import TURNS, Pace, measure_paces
from tests.evaluation.test_generators import gan_study

CPU = torch.device("cpu")


def test_each_takes_a_step_of_each_player_in_turns() -> None:
    """The clock is read thrice a turn: at 10 and 3 s apart in the first configuration's, 20 and 4 in the other's."""
    trial = gan_study(optim={"lr_generator": 1e-4}).any_trial()
    trials = {"one": trial, "other": changed(trial, {"model.steps": 3})}
    gaps = chain([10000.0, 1000.0, 1000.0] * 2, *repeat([0.0, 10.0, 3.0, 0.0, 20.0, 4.0], TURNS))
    moments = accumulate(gaps)
    paces = measure_paces(trials, load_dataset(trial.data), CPU, lambda: next(moments))
    assert paces == {"one": Pace(10, 3), "other": Pace(20, 4)}
    assert next(moments, None) is None
