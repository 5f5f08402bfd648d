"""Waiting for a store that does not answer."""

from collections.abc import Iterator

import pytest

from plgan_tune.store.location import StoreError
from plgan_tune.store.retry import WAITS, retry


def test_it_tries_again_until_the_store_answers() -> None:
    answers: Iterator[StoreError | str] = iter([StoreError("away"), StoreError("away"), "there"])
    waited: list[float] = []

    def ask() -> str:
        answer = next(answers)
        if isinstance(answer, StoreError):
            raise answer
        return answer

    assert retry(ask, (1, 2, 3), waited.append) == "there"
    assert waited == [1, 2]


def test_it_gives_up_with_the_last_error() -> None:
    waited: list[float] = []

    def fail() -> None:
        raise StoreError(f"away after {len(waited)}")

    with pytest.raises(StoreError, match="away after 2"):
        retry(fail, (1, 2), waited.append)


def test_it_outlasts_a_minute() -> None:
    assert sum(WAITS) >= 60


def test_other_errors_are_not_waited_out() -> None:
    def fail() -> None:
        raise ValueError("a defect")

    with pytest.raises(ValueError, match="a defect"):
        retry(fail, (1,), lambda _: pytest.fail("waited"))
