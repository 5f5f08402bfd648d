import math
import uuid
from dataclasses import astuple, fields, replace
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plgan_tune.records import MEASURES, EpochMetrics, EpochRow, TrialRow, TrialStatus
from plgan_tune.store.location import Location
from plgan_tune.store.log import StudyLog
from plgan_tune.store.read import epoch_rows, read_epochs, read_trials, trial_rows
from plgan_tune.store.schemas import epochs_schema, trials_schema

COLUMNS = {
    "loss.alpha": "params_alpha",
    "loss.switch_epoch": "params_switch_epoch",
    "model.zca": "params_zca",
    "model.kind": "params_kind",
}
TYPES: dict[str, type] = {
    "loss.alpha": float,
    "loss.switch_epoch": int,
    "model.zca": bool,
    "model.kind": str,
}

counts = st.integers(1, 2**40)
numbers = st.floats()
instants = st.datetimes(datetime(1970, 1, 2), datetime(2200, 1, 1)).map(lambda time: time.replace(tzinfo=UTC))


def measures(name: str, record: type = EpochMetrics) -> st.SearchStrategy[float]:
    """Whatever a column of numbers may hold: all there are where it has no bounds."""
    (told,) = (f.metadata for f in fields(record) if f.name == name)
    bounded = (told["least"], told["most"]) != (None, None)
    return st.floats(told["least"], told["most"]) if bounded else numbers


metrics = st.builds(
    EpochMetrics,
    counts,
    *map(measures, MEASURES[1:]),
    own=st.dictionaries(st.sampled_from(["entropy", "consistency"]), numbers),
)
epochs = st.builds(EpochRow, counts, st.text(), counts, metrics, instants)
params = st.fixed_dictionaries(
    {
        "loss.alpha": st.none() | numbers,
        "loss.switch_epoch": st.none() | counts,
        "model.zca": st.none() | st.booleans(),
        "model.kind": st.none() | st.text(),
    }
)
trials = st.builds(
    TrialRow,
    seq=counts,
    trial_id=st.text(),
    number=counts,
    status=st.sampled_from(TrialStatus),
    attempt=counts,
    epochs=counts,
    value_last=st.none() | measures("val_error"),
    value_best=st.none() | measures("val_error"),
    best_epoch=st.none() | counts,
    params=params,
    seed=counts,
    split_hash=st.none() | st.text(),
    seconds=measures("seconds", TrialRow),
    node=st.none() | st.text(),
    started_at=instants,
    ended_at=st.none() | instants,
    error=st.none() | st.text(),
)


def same(a: Any, b: Any) -> bool:
    """Equality of rows in which NaN is NaN, and None something else."""
    if isinstance(a, float) and isinstance(b, float) and math.isnan(a):
        return math.isnan(b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, tuple | list):
        return len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and bool(a == b)


@settings(max_examples=30)
@given(
    st.lists(epochs, max_size=7),
    st.lists(trials, max_size=5, unique_by=(lambda row: row.trial_id, lambda row: row.number)),
)
def test_what_is_written_is_read(epoch_list: list[EpochRow], trial_list: list[TrialRow]) -> None:
    study = Location.at(f"memory://{uuid.uuid4()}")
    study.join("study.yaml").write_text("")
    with StudyLog(study, COLUMNS, TYPES, interval=0.01, rows_per_part=3) as log:
        for trial in trial_list:
            log.trial(trial)
        in_order = [replace(epoch, seq=seq) for seq, epoch in enumerate(epoch_list)]
        for epoch in in_order:
            log.epoch(epoch)
    read = epoch_rows(read_epochs(study))
    assert same([astuple(row) for row in read], [astuple(row) for row in in_order])
    if trial_list:
        found = trial_rows(read_trials(study), COLUMNS)
        assert same([astuple(row) for row in found], [astuple(row) for row in trial_list])
    study.remove()


def test_the_columns_of_epochs() -> None:
    assert ", ".join(epochs_schema().names) == (
        "seq, trial_id, attempt, epoch, val_error, val_error_raw, loss_supervised, loss_unsupervised, "
        "loss_adversarial, loss_feature, ramp, lr_discriminator, lr_generator, images_per_second, seconds, "
        "grad_norm_adversarial, grad_norm_feature, accuracy_real, accuracy_generated, real_max_logit_positive, "
        "entropy_generated, error_gap, loss_self_training, val_balanced_error, val_distance, val_distance_raw, "
        "val_coverage, val_score, val_transport, loss_penalty, critic_gap, critic_gap_val, reported_at"
    )


def test_the_columns_of_trials() -> None:
    assert ", ".join(trials_schema({"loss.alpha": "params_alpha"}, {"loss.alpha": float}).names) == (
        "seq, trial_id, number, status, attempt, epochs, val_error_last, val_error_best, best_epoch, "
        "params_alpha, seed, split_hash, seconds, node, started_at, ended_at, error, replicate_of, replicate"
    )


def test_the_metric_names_its_columns_which_have_its_bounds() -> None:
    of_error, of_distance = trials_schema({}, {}), trials_schema({}, {}, "val_distance")
    assert of_distance.names == [name.replace("val_error", "val_distance") for name in of_error.names]
    last = of_distance.field("val_distance_last").metadata
    assert last == {b"meaning": b"val_distance at the last epoch: what ranks trials", b"unit": b"", b"least": b"0"}


def test_columns_carry_meaning_unit_and_version() -> None:
    schema = trials_schema(COLUMNS, TYPES)
    assert schema.metadata == epochs_schema().metadata == {b"plgan_tune.schema_version": b"1"}
    last = schema.field("val_error_last")
    assert last.metadata == {
        b"meaning": b"val_error at the last epoch: what ranks trials",
        b"unit": b"fraction",
        b"least": b"0",
        b"most": b"1",
    }
    assert schema.field("status").metadata[b"one_of"] == b"running, completed, stopped, diverged, failed"
    assert schema.field("params_alpha").metadata[b"meaning"] == b"the searched key loss.alpha"


def test_types_are_fixed_and_only_what_may_be_missing_is_nullable() -> None:
    schema = trials_schema(COLUMNS, TYPES)
    assert [schema.field(COLUMNS[path]).type for path in TYPES] == [
        pa.float64(),
        pa.int64(),
        pa.bool_(),
        pa.string(),
    ]
    assert schema.field("status").type == pa.string()
    assert schema.field("started_at").type == pa.timestamp("us", tz="UTC")
    optional = {"val_error_last", "val_error_best", "best_epoch", "split_hash", "node", "ended_at", "error"}
    optional |= {"replicate_of", "replicate"}
    assert {column.name for column in schema if column.nullable} == optional | set(COLUMNS.values())


@pytest.mark.parametrize(
    ("columns", "types", "message"),
    [
        ({"a.x": "params_x"}, {}, "every searched key needs a type"),
        ({"a.x": "params_x"}, {"a.x": list}, "bool, int, float or str"),
        ({"a.x": "params_x", "b.x": "params_x"}, {"a.x": int, "b.x": int}, "params_x stands twice"),
        ({"a.seed": "seed"}, {"a.seed": int}, "seed stands twice"),
    ],
)
def test_columns_that_make_no_schema_are_refused(columns: dict[str, str], types: dict[str, type], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        trials_schema(columns, types)
