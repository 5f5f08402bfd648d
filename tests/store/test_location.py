import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from plgan_tune.store.location import Location, StoreError, check_writable


def test_a_written_text_is_read_listed_and_removed(study: Location) -> None:
    file = study.join("deep", "best.yaml")
    assert not file.exists()
    file.write_text("größe: 1\n")
    file.write_text("größe: 2\n")
    assert file.exists()
    assert file.read_text() == "größe: 2\n"
    assert file.name == "best.yaml"
    assert study.list() == ["deep"]
    assert study.join("deep").list() == ["best.yaml"]
    file.remove()
    assert not file.exists()
    assert study.join("deep").list() == []


def test_a_removed_folder_takes_all_in_it_and_nothing_else(study: Location) -> None:
    for path in ("a/1", "a/b/2", "ab/3"):
        study.join(*path.split("/")).write_text(path)
    study.join("a").remove()
    study.join("a").remove()
    assert study.list() == ["ab"]
    assert study.join("ab", "3").read_text() == "ab/3"


def test_a_name_is_no_pattern(study: Location) -> None:
    study.join("x1").write_text("kept")
    study.join("x*").write_text("gone")
    study.join("x*").remove()
    assert study.list() == ["x1"]


def test_a_missing_folder_lists_nothing(study: Location) -> None:
    assert study.join("nowhere").list() == []


def test_a_missing_file_is_named(study: Location) -> None:
    missing = study.join("study.yaml")
    with pytest.raises(StoreError, match=r"cannot read .*study\.yaml"):
        missing.read_text()


def test_a_store_that_does_not_answer_is_not_an_empty_one(study: Location, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_answer(*args: Any, **kwargs: Any) -> None:
        raise ConnectionError("no route")

    monkeypatch.setattr(study.fs, "info", no_answer)
    with pytest.raises(StoreError, match=r"cannot look for .*f: ConnectionError: no route"):
        study.join("f").exists()


def test_the_url_leads_back(study: Location) -> None:
    study.join("f").write_text("here")
    assert Location.at(study.url).join("f").read_text() == "here"


def test_a_failed_write_keeps_the_old_content(troubled: tuple[Location, Any]) -> None:
    place, trouble = troubled
    file = place.join("trials", "f.yaml")
    file.write_text("old")
    trouble.cause = OSError(28, "No space left on device")
    with pytest.raises(StoreError, match=r"cannot write .*f\.yaml: No space left on device"):
        file.write_text("new content")
    assert file.read_text() == "old"


def test_an_unfinished_local_write_begins_with_an_underscore(tmp_path: Path, troubled: tuple[Location, Any]) -> None:
    place, trouble = troubled
    trouble.cause = OSError(28, "No space left on device")
    with pytest.raises(StoreError):
        place.join("trials", "f.yaml").write_text("new content")
    assert all(name.startswith("_") for name in place.join("trials").list())


def test_a_local_path_may_be_relative_or_below_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "my home"))
    monkeypatch.chdir(tmp_path)
    assert Location.at("~/results").local == tmp_path / "my home" / "results"
    assert Location.at("some results").local == tmp_path / "some results"
    assert Location.at((tmp_path / "x").as_uri()).local == tmp_path / "x"
    assert Location.at("memory://x").local is None


@pytest.mark.parametrize("url", ["nonsense://bucket/folder", "~nobody-of-this-name/results"])
def test_a_place_that_cannot_be_opened_is_named(url: str) -> None:
    with pytest.raises(StoreError, match=f"cannot open {url}: "):
        Location.at(url)


def test_a_writable_place_is_left_empty(study: Location) -> None:
    check_writable(study)
    assert study.list() == []


def test_a_place_below_a_file_is_not_writable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"but .*file/results refuses: Not a directory"):
        check_writable(Location.at(tmp_path / "file" / "results"))


def test_a_protected_folder_is_not_writable(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write anywhere")
    tmp_path.chmod(0o500)
    with pytest.raises(StoreError, match=r"refuses: Permission denied"):
        check_writable(Location.at(tmp_path / "results"))


def test_many_may_look_at_the_same_moment_whether_a_folder_can_be_written(tmp_path: Path) -> None:
    folder = Location.at(tmp_path / "study")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: check_writable(folder), range(200)))
    assert folder.list() == []


def test_what_is_written_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a power cut leaves a name without content: on XFS all of it, on ext4 what is younger than 30 s."""
    calls: list[tuple[str, str]] = []
    sync, move, link = os.fsync, os.replace, os.link

    def note_sync(handle: int) -> None:
        calls.append(("sync", Path(f"/proc/self/fd/{handle}").readlink().name))
        sync(handle)

    def note_move(source: str, target: str) -> None:
        calls.append(("move", Path(source).name))
        move(source, target)

    def note_link(source: str, target: str) -> None:
        calls.append(("move", Path(source).name))
        link(source, target)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(os, "replace", note_move)
    monkeypatch.setattr(os, "link", note_link)
    for write in ("write_bytes", "create"):
        calls.clear()
        getattr(Location.at(tmp_path / write / "new" / "file"), write)(b"content")
        moved = next(place for place, (call, _) in enumerate(calls) if call == "move")
        assert ("sync", calls[moved][1]) in calls[:moved]
        assert ("sync", "new") in calls[moved:]  # the file's own name
        assert {("sync", write), ("sync", tmp_path.name)} <= set(calls)  # those of the folders that were made


def test_a_write_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = Location.at(tmp_path / "file")
    file.write_bytes(b"before")

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match="No space left"):
        file.write_bytes(b"after")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert file.read_bytes() == b"before"
