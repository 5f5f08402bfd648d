"""Decoded once a node; damage is seen, said and mended."""

import logging
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import numpy as np
import pytest
import torch

from plgan_tune.config.trial import DataSpec
from plgan_tune.data import cache as module
from plgan_tune.data.cache import cache_folder, cached
from plgan_tune.data.dataset import load_dataset
from plgan_tune.data.decode import Reading
from plgan_tune.data.errors import DataError

Make = Callable[..., DataSpec]

_ASK = """
import sys, time
from pathlib import Path
import numpy as np
from plgan_tune.data.cache import cached
from plgan_tune.data.decode import Reading

folder, mark = Path(sys.argv[1]), Path(sys.argv[2])

def read():
    with mark.open("a") as out:
        out.write("decoded\\n")
    time.sleep(1)
    blocks = iter([np.full((2, 1, 4, 4), 7, np.uint8)])
    return Reading((2, 1, 4, 4), np.arange(2), np.zeros(2, np.int64), ("a",), blocks)

print("ready", flush=True)
sys.stdin.readline()
assert cached(folder, "key", read).images.sum() == 224
"""


def reading(value: int = 7, blocks: int = 3) -> Reading:
    held = (np.full((2, 1, 4, 4), value + k, np.uint8) for k in range(blocks))
    n = 2 * blocks
    return Reading((n, 1, 4, 4), np.arange(n), np.arange(n) - 1, ("a", "ü"), held)


def never() -> Reading:
    raise AssertionError("decoded a second time")


def test_second_time_is_read_not_decoded(cache: Path) -> None:
    first, second = cached(cache, "key", reading), cached(cache, "key", never)
    for held in (first, second):
        assert held.images.shape == (6, 1, 4, 4)
        assert held.images[:, 0, 0, 0].tolist() == [7, 7, 8, 8, 9, 9]
        assert held.labels.tolist() == [-1, 0, 1, 2, 3, 4]
        assert held.classes == ("a", "ü")
    assert isinstance(second.images, np.memmap)


def test_what_a_trial_writes_stays_with_it(cache: Path) -> None:
    images = torch.from_numpy(cached(cache, "key", reading).images)
    images.zero_()
    assert cached(cache, "key", never).images.min() == 7


def test_two_processes_at_once_decode_once(cache: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", _ASK, str(cache), str(tmp_path / "mark")]
    root = Path(__file__).resolve().parents[2]
    processes = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root) for _ in range(2)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.communicate("go\n", timeout=60)
    assert [process.returncode for process in processes] == [0, 0]
    assert (tmp_path / "mark").read_text() == "decoded\n"


def test_what_waits_for_another_process_says_which(
    cache: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PATIENCE", 0.05)
    decoding, go_on = Event(), Event()

    def slowly() -> Reading:
        decoding.set()
        assert go_on.wait(60)
        return reading()

    def log(record: logging.LogRecord) -> bool:
        go_on.set()
        return True

    monkeypatch.setattr(logging.getLogger(module.__name__), "filters", [log])
    with ThreadPoolExecutor(1) as threads:
        other = threads.submit(cached, cache, "key", slowly)
        assert decoding.wait(60)
        assert cached(cache, "key", never).images.max() == 9
        other.result()
    (record,) = caplog.records
    assert f"waiting for process {os.getpid()} on {socket.gethostname()}, since 2" in record.getMessage()
    assert not [file for file in cache.iterdir() if file.suffix == ".holder"]


@pytest.mark.parametrize(
    "file", ["images.npy", "labels.npy", "rows.npy", "hashes.npy", "classes.json", "notes.json", "checksums.json"]
)
@pytest.mark.parametrize("damage", ["flipped", "short", "gone"])
def test_damage_is_said_and_mended(file: str, damage: str, cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    cached(cache, "key", reading)
    path = cache / "key" / file
    held = bytearray(path.read_bytes())
    held[-2] ^= 1
    match damage:
        case "flipped":
            path.write_bytes(held)
        case "short":
            path.write_bytes(held[:-5])
        case _:
            path.unlink()
    with caplog.at_level(logging.WARNING):
        assert cached(cache, "key", lambda: reading(20)).images.max() == 22
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "is damaged" in caplog.text
    assert cached(cache, "key", never).images.max() == 22


def test_a_decoding_that_fails_leaves_nothing(cache: Path) -> None:
    def broken() -> Reading:
        whole = reading()
        return Reading(whole.shape, whole.rows, whole.labels, whole.classes, (1 // 0 for _ in range(1)))  # type: ignore[misc]

    with pytest.raises(ZeroDivisionError):
        cached(cache, "key", broken)
    assert [entry for entry in cache.iterdir() if entry.suffix != ".lock"] == []


def test_what_a_killed_process_left_is_no_hindrance(cache: Path) -> None:
    (cache / "_key").mkdir(parents=True)
    (cache / "_key" / "images.npy").write_bytes(b"half")
    assert cached(cache, "key", reading).images.max() == 9


def test_a_cache_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="PLGAN_TUNE_CACHE"):
        cached(tmp_path / "file", "key", reading)


def _entries(cache: Path) -> set[str]:
    return {entry.name for entry in cache.iterdir() if entry.is_dir()}


def test_labels_and_validation_share_an_entry_size_and_limit_do_not(
    parquet_set: Path, make: Make, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_dataset(make("parquet", parquet_set))
    load_dataset(make("parquet", parquet_set, labels=4, validation=4, split_seed=3))
    monkeypatch.chdir(parquet_set)
    load_dataset(make("parquet", "../set"))
    assert len(_entries(cache)) == 1
    for keys in ({"size": 4}, {"limit": 8}, {"limit": 8, "split_seed": 1}):
        before = _entries(cache)
        load_dataset(make("parquet", parquet_set, **keys))
        assert before < _entries(cache)


def test_changed_source_files_are_decoded_again(
    parquet_set: Path, make: Make, write_parquet: Callable[..., None]
) -> None:
    spec = make("parquet", parquet_set)
    before = load_dataset(spec)
    name = parquet_set / "train-00001-of-00002.parquet"
    write_parquet(name, [np.full((8, 8), 9, np.uint8)] * 11, [0] * 11)
    os.utime(name, (1, 1))
    after = load_dataset(spec)
    assert torch.equal(before.images[:13], after.images[:13])
    assert (after.images[13:] == 9).all()


def test_cache_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PLGAN_TUNE_CACHE", str(tmp_path / "own"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "own"
    monkeypatch.delenv("PLGAN_TUNE_CACHE")
    assert cache_folder() == tmp_path / "xdg" / "plgan_tune"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "plgan_tune"
