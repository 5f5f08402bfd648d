"""Ray's token is its owner's alone, however it came to be there."""

import os
from pathlib import Path

import pytest

from plgan_tune.backends.ray.token import keep_token_private


@pytest.fixture
def token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / ".ray" / "auth_token"


def rights(file: Path) -> int:
    return file.stat().st_mode & 0o777


def made(file: Path) -> Path:
    file.parent.mkdir(exist_ok=True)
    file.write_text("secret")
    file.chmod(0o644)
    return file


def test_it_is_drawn_once_and_for_its_owner(token: Path) -> None:
    keep_token_private(make=True)
    drawn = token.read_text()
    assert len(drawn) == 64
    assert rights(token) == 0o600
    keep_token_private(make=True)
    assert token.read_text() == drawn
    assert [file.name for file in token.parent.iterdir()] == ["auth_token"]


@pytest.mark.parametrize("make", [True, False])
def test_one_that_all_could_read_is_kept_and_closed(token: Path, make: bool) -> None:
    made(token)
    keep_token_private(make=make)
    assert token.read_text() == "secret"
    assert rights(token) == 0o600


def test_a_cluster_that_is_joined_has_its_own(token: Path) -> None:
    keep_token_private(make=False)
    assert not token.parent.exists()


@pytest.mark.parametrize(
    ("variable", "value"), [("RAY_AUTH_MODE", "disabled"), ("RAY_AUTH_TOKEN", "another"), ("RAY_AUTH_TOKEN_PATH", "x")]
)
def test_what_the_environment_says_stands(
    token: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    keep_token_private(make=True)
    assert not token.exists()
    made(token)
    keep_token_private(make=True)
    assert rights(token) == 0o644


def test_where_the_home_cannot_hold_it_only_this_search_s_processes_know_it(
    token: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "")  # and is as before after the test
    token.parent.write_text("a file in the folder's place")
    keep_token_private(make=True)
    assert len(os.environ["RAY_AUTH_TOKEN"]) == 64
    assert token.parent.is_file()
