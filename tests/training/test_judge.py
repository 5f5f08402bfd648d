"""The judge is a function of the data: the same bytes whoever trains it, and it learns."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from plgan_tune.config.trial import DataSpec
from plgan_tune.data.dataset import Dataset
from plgan_tune.training import judge as module
from plgan_tune.training.judge import JudgeError, decode_judge, encode_judge, judge_of, measured, train_judge
from plgan_tune.training.threads import torch_threads

MakeData = Callable[..., Dataset]


@pytest.fixture(scope="module")
def data(make_data: MakeData) -> Dataset:
    return make_data(pool=60)


@pytest.fixture(scope="module")
def content(data: Dataset) -> bytes:
    judge = train_judge(data)
    assert judge is not None
    return encode_judge(judge)


@pytest.mark.parametrize(("size", "channels", "features"), [(6, 1, 32), (20, 3, 64)])
def test_a_second_training_gives_the_same_bytes_whatever_the_threads_and_the_global_generator(
    make_data: MakeData, size: int, channels: int, features: int
) -> None:
    data = make_data(size=size, channels=channels)
    files = []
    for threads in (1, 2):
        torch.manual_seed(threads)
        before = torch.get_rng_state()
        with torch_threads(threads):
            judge = train_judge(data)
            assert torch.get_num_threads() == threads
        assert judge is not None
        assert torch.equal(torch.get_rng_state(), before)
        assert judge.error == 0  # classes that differ in brightness
        assert judge.features(data.images).shape == (57, features)
        files.append(encode_judge(judge))
    assert files[0] == files[1]


def test_what_is_read_is_what_was_trained(data: Dataset, content: bytes) -> None:
    read, trained = decode_judge(content, "judge.pt"), train_judge(data)
    assert trained is not None
    assert encode_judge(read) == content
    features = read.features(data.images)
    assert torch.equal(features, trained.features(data.images))
    probabilities = read.probabilities(features)
    assert probabilities.sum(dim=1).numpy() == pytest.approx(1)
    wrong = probabilities.argmax(dim=1)[data.split.validation] != data.labels[data.split.validation]
    assert read.error == wrong.double().mean()
    assert read.labels == 60


def test_it_never_sees_the_validation_images_nor_their_labels(data: Dataset, content: bytes) -> None:
    images, labels = data.images.clone(), data.labels.clone()
    images[data.split.validation] = 0
    labels[data.split.validation] = 2
    blind = train_judge(replace(data, images=images, labels=labels))
    assert blind is not None
    held = decode_judge(content, "x").network.state_dict()
    assert all(torch.equal(tensor, held[name]) for name, tensor in blind.network.state_dict().items())


def test_it_is_not_of_a_trial_s_choice_of_labels(data: Dataset, content: bytes) -> None:
    split = replace(data.split, labelled=data.split.labelled[:3], pool=data.split.pool[6:])
    other = train_judge(replace(data, split=split))
    assert other is not None
    assert encode_judge(other) == content


def test_without_labels_of_two_classes_there_is_none(data: Dataset) -> None:
    labels = torch.where(torch.arange(len(data.labels)) < 60, -1, data.labels)
    assert train_judge(replace(data, labels=labels)) is None
    assert train_judge(replace(data, labels=labels.where(torch.arange(len(labels)) > 9, 1))) is None


@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_file_with_one_wrong_bit_is_refused(content: bytes, place: float, bit: int) -> None:
    changed = bytearray(content)
    changed[int(place * len(content))] ^= 1 << bit
    with pytest.raises(JudgeError, match=r"^there/judge\.pt is damaged or no judge"):
        decode_judge(bytes(changed), "there/judge.pt")


def test_another_file_and_another_version_are_refused(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    for foreign in (b"", b"judge", content[:-1]):
        with pytest.raises(JudgeError, match="damaged or no judge"):
            decode_judge(foreign, "x")
    monkeypatch.setattr(module, "VERSION", 2)
    with pytest.raises(JudgeError, match="x has version 1, but this plgan_tune reads version 2 only"):
        decode_judge(content, "x")


def test_images_that_are_measured_are_bounded_by_1000_by_validation_and_by_the_pool(make_data: MakeData) -> None:
    def of(pool: int, validation: int) -> int:
        split = replace(make_data().split, pool=torch.arange(pool), validation=torch.arange(validation))
        return measured(replace(make_data(), split=split))

    assert [of(55_000, 5000), of(1037, 400), of(45, 12), of(900, 400)] == [1000, 200, 12, 100]


DIGITS = {"source": "digits", "labels": 10, "validation": 10, "limit": 60}


def test_it_is_trained_once_for_the_same_data(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    trained: list[int] = []

    def counted(data: Dataset) -> object:
        trained.append(1)
        return train_judge(data)

    monkeypatch.setattr(module, "train_judge", counted)
    spec = DataSpec.model_validate(DIGITS)
    first = judge_of(spec, data, tmp_path)
    assert first == content
    assert judge_of(spec.model_copy(update={"labels": 20}), data, tmp_path) == first
    assert len(trained) == 1
    for other in ({"validation": 20}, {"split_seed": 1}, {"size": 6}, {"limit": 70}):
        judge_of(spec.model_copy(update=other), data, tmp_path)
    assert len(trained) == 5
    kept = min(tmp_path.glob("judge-*.pt"), key=lambda file: file.stat().st_mtime_ns)
    kept.write_bytes(b"damaged")
    assert judge_of(spec, data, tmp_path) == first
    assert hashlib.sha256(kept.read_bytes()).digest() == hashlib.sha256(content).digest()
    (tmp_path / "file").touch()
    assert judge_of(spec, data, tmp_path / "file" / "cache") == first  # a cache that cannot be written
