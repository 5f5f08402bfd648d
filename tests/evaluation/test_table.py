"""What an evaluation prints, from rows that are known."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import pytest
import torch
from rich.console import Console

from plgan_tune.config.load import study_from_mapping
from plgan_tune.config.metrics import METRICS
from plgan_tune.config.study import StudySpec
from plgan_tune.evaluation.battle import Battle
from plgan_tune.evaluation.configurations import (
    Configuration,
    changed,
    generator_configurations,
    patent_configuration,
)
from plgan_tune.evaluation.measure import JudgeOnTest, Measured
from plgan_tune.evaluation.plan import Evaluation
from plgan_tune.evaluation.table import print_evaluation
from plgan_tune.gan.pairs.base import ImageShape
from plgan_tune.records import EvaluationRow, TrialRow, TrialStatus
from plgan_tune.store.location import Location
from plgan_tune.training.judge import Judge, Network


def row(configuration: str, seed: int, error: float | None) -> EvaluationRow:
    return EvaluationRow(
        configuration=configuration,
        seed=seed,
        refit=False,
        trial_id=f"{configuration}-s{seed}",
        status=TrialStatus.DIVERGED if error is None else TrialStatus.COMPLETED,
        epochs=2,
        test_error=error,
        test_error_raw=error,
        test_images=10_000,
        value_last=error,
        classifier_score=None if error is None else 8.25,
        classifier_score_real=None if error is None else 9.5,
        inception_score=None,
        fid=None,
        split_hash="abc",
        seconds=1.0,
        evaluated_at=datetime(2026, 1, 1, tzinfo=UTC),
    )


ERRORS: Mapping[str, Sequence[float | None]] = {
    "t0001": [0.010, 0.012, 0.011],
    "patent": [0.020, 0.022, 0.0215],
    "t0002": [0.015, 0.030, None],
}


@pytest.fixture
def said(tiny: StudySpec, searched: list[TrialRow]) -> list[str]:
    """The lines, of 80 columns, for MNIST with 100 labels."""
    trial = changed(tiny.any_trial(), {"data.source": "mnist", "data.labels": 100})
    names = ("t0001", "patent", "t0002")
    configurations = tuple(Configuration(name, trial) for name in names)
    evaluation = Evaluation("mnist", Location.at("x"), configurations, (1, 2, 3), refit=False, notes=(), study_id=None)
    console = Console(file=io.StringIO(), width=80, _environ={})
    rows = [row(name, seed, error) for name, errors in ERRORS.items() for seed, error in enumerate(errors, start=1)]
    image = ImageShape(1, 8)
    judge = Judge(Network(image, 10, torch.Generator()), image, tuple("0123456789"), 49_210, 0.02, 1.0)
    print_evaluation(console, evaluation, Measured(rows, JudgeOnTest(judge, 0.009, 9.5, 0.02), ()), searched)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_a_title_is_not_broken_where_its_table_is_narrow(said: list[str]) -> None:
    assert "published: MNIST, 100 labels, test error, %" in said
    assert max(map(len, said[: said.index("")])) <= 80


def lines(said: list[str], name: str) -> list[list[str]]:
    """The name's cells in each table, a sign or a word a cell."""
    return [line.split()[1:] for line in said if line.startswith(f"{name} ")]


def test_means_intervals_and_differences_stand_in_their_tables(said: list[str]) -> None:
    """t(0.975) of two degrees of freedom is 4.303; three values 1.0, 1.2, 1.1 have deviation 0.1."""
    errors, differences, beside = lines(said, "t0001")
    assert errors == ["3", "1.10", "0.10", "0.85", "to", "1.35", "1.10"]
    assert differences[:2] == ["3", "-1.02"]
    assert differences[-1] == "better"
    assert beside == ["10.00", "1.10", "8.25"]
    assert lines(said, "patent")[0][0] == "3"
    assert len(lines(said, "patent")) == 2  # it does not differ from itself


def test_a_seed_without_an_error_is_counted_and_named(said: list[str]) -> None:
    errors, differences, _ = lines(said, "t0002")
    assert errors[:3] == ["2", "of", "3"]
    assert differences[0] == "2"
    assert " ".join(differences).endswith("not significant")
    assert any(line.endswith("the means are therefore too low: t0002-s3 (diverged).") for line in said)


def test_published_numbers_and_their_epochs_are_said(said: list[str]) -> None:
    assert lines(said, "PL-GAN") == [["0.90", "0.06"]]
    assert "The published PL-GAN was trained for 300 epochs, these for 2." in said


def test_the_judge_s_own_error_is_said(said: list[str]) -> None:
    assert "The judge of the classifier score learned from 49,210 labels; its test error is 0.90 %." in said


def test_every_table_fits_into_80_columns(said: list[str]) -> None:
    sentences = ("Averaged", "Deviation", "Without", "The ", "Nothing")
    tables = [line for line in said if not line.startswith(sentences)]
    assert max(map(len, tables)) <= 80
    assert not any("\N{HORIZONTAL ELLIPSIS}" in line for line in said)


@pytest.fixture(scope="module")
def compared() -> list[str]:
    """The lines, of 80 columns, of WIRGAN and GP-WIRGAN at T = 3 and a trial of the search, on MNIST without labels."""
    data = {"source": "mnist", "labels": 0, "validation": 100}
    study = study_from_mapping(
        {
            "study": "mnist",
            "search": {"metric": "val_distance"},
            "trial": {"method": "wirgan", "data": data, "optim": {"lr_generator": {"log_uniform": [1e-5, 1e-2]}}},
        }
    )
    reference = patent_configuration(study)
    others = [one for one in generator_configurations(reference, 1) if one.name == "gp_wirgan-t3"]
    best = Configuration("t0001", changed(reference.trial, {"optim.lr_generator": 1e-3}))
    rows = [
        replace(
            row(one.name, seed, None),
            status=TrialStatus.COMPLETED,
            test_distance=40.0 + seed,
            test_transport=0.1,
            test_coverage=0.2,
            doubt=0.3,
            classifier_score=5.0 + seed,
            classifier_score_deviation=0.25,
            seconds_per_step=0.5,
            seconds_per_discriminator_step=0.0625,
            seconds_per_generator_step=0.125,
        )
        for one in (best, reference, *others)
        for seed in (1, 2)
    ]
    evaluation = Evaluation(
        "mnist",
        Location.at("x"),
        (best, reference, *others),
        (1, 2),
        refit=False,
        notes=(),
        study_id=None,
        metric=METRICS["val_distance"],
        reference="wirgan",
    )
    battles = {("gp_wirgan-t3", "wirgan"): Battle(1.25, 0.5, 0.4, 0.625, 1.5, 2)}
    console = Console(file=io.StringIO(), width=80, _environ={})
    print_evaluation(console, evaluation, Measured(rows, None, (), battles), [])
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_published_battles_stand_beside_ours_in_their_order(compared: list[str]) -> None:
    """The published pair is WIRGAN first, and WIRGAN at T = 3 is the evaluation's `wirgan`."""
    cells = [line.split() for line in compared if " : " in line]
    assert ["5", "wirgan-t3", ":", "gp_wirgan-t3", "0.95", "1.006", "0.8", "2"] in cells
    assert ["3", "wirgan-t1", ":", "wirgan-t3", "0.95", "1.003", "-", "-"] in cells
    assert sum(cell[0] in "34567" for cell in cells) == 15


def test_published_scores_and_times_stand_beside_ours_and_all_tables_with_their_warnings(compared: list[str]) -> None:
    assert lines(compared, "wirgan-t3") == [["1.055", "+-", "0.003", "0.0112", "6.5", "0.5"]]
    assert lines(compared, "wirgan-t5") == [["1.053", "+-", "0.003", "0.0116", "-", "-"]]
    assert lines(compared, "DRAW") == [["5.21"]]
    said = " ".join(compared)
    for table in ("Tables 3 to 7", "Tables 3 to 5", "Table 8", "Table 9", "Table 10"):
        assert f" {table}: " in said
    tables = compared[: next(n for n, line in enumerate(compared) if line.startswith("Averaged weights"))]
    assert max(map(len, tables)) <= 80


def test_scores_deviate_over_parts_and_over_seeds_and_steps_have_times_of_their_own(compared: list[str]) -> None:
    assert ["classifier", "score", "6.50", "0.25", "0.71"] in lines(compared, "t0001")
    assert ["62.5", "125", "5", "500"] in lines(compared, "t0001")
