"""Nodes that differ from this machine: each is named before any trial starts, and code goes where it is not."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from plgan_tune.backends.errors import ClusterError
from plgan_tune.backends.ray import preflight as nodes_module
from plgan_tune.backends.ray.preflight import Node, data_problem, looker, prepare_nodes
from plgan_tune.config.load import study_from_mapping
from plgan_tune.config.trial import DataSpec
from plgan_tune.data.check import DataSummary, check_data, check_room
from plgan_tune.data.dataset import load_dataset
from plgan_tune.data.errors import DataError
from plgan_tune.study.trial_resources import TrialResources

ROOT = Path(__file__).resolve().parents[3]
LABELLED = 6


def folder_of_images(root: Path, count: int = LABELLED) -> Path:
    """Two classes of small grey images."""
    values = np.random.default_rng(0)
    for half in ("train", "test"):
        for name in ("ash", "oak"):
            (root / half / name).mkdir(parents=True)
            for number in range(count):
                pixels = values.integers(0, 256, (16, 16), dtype=np.uint8)
                Image.fromarray(pixels).save(root / half / name / f"{number}.png")
    return root


def spec_of(root: Path) -> DataSpec:
    data = {"source": "folder", "path": str(root), "labels": 2, "validation": 2}
    return study_from_mapping({"study": "s", "trial": {"data": data}}).any_trial().data


# The data


def test_a_machine_with_the_same_images_and_room_has_no_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLGAN_TUNE_CACHE", str(tmp_path / "cache"))
    spec = spec_of(folder_of_images(tmp_path / "images"))
    assert data_problem(spec, check_data(spec)) is None


def test_a_machine_without_the_path_or_with_other_images_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLGAN_TUNE_CACHE", str(tmp_path / "cache"))
    spec = spec_of(folder_of_images(tmp_path / "images"))
    expected = check_data(spec)
    (tmp_path / "images" / "train" / "oak" / "0.png").unlink()
    told = data_problem(spec, expected)
    assert told is not None
    here = expected.images_per_class
    assert told.endswith(f"but it has images_per_class {check_data(spec).images_per_class}, here {here}")
    assert check_data(spec).images == expected.images - 1
    shutil.rmtree(tmp_path / "images")
    told = data_problem(spec, expected)
    assert told is not None
    assert str(tmp_path / "images" / "train") in told


def test_room_is_asked_for_until_the_images_are_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "cache"
    spec = spec_of(folder_of_images(tmp_path / "images"))
    summary = check_data(spec, cache)

    def full(_: Path) -> SimpleNamespace:
        return SimpleNamespace(free=2 * LABELLED * 16 * 16 - 1)

    monkeypatch.setattr("plgan_tune.data.check.disk_usage", full)
    with pytest.raises(DataError, match=r"needs 0\.0 MB.*PLGAN_TUNE_CACHE"):
        check_room(spec, summary, cache)
    load_dataset(spec, cache)
    check_room(spec, summary, cache)


def test_digits_need_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("plgan_tune.data.check.disk_usage", lambda _: pytest.fail("looked"))
    spec = study_from_mapping(
        {"study": "s", "trial": {"data": {"source": "digits", "labels": 20, "validation": 200}}}
    ).any_trial()
    check_room(spec.data, DataSummary(("0",), (1,), 0, 1, 8))


# The code


def test_the_digest_is_of_the_code_and_none_of_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package's own, wherever it lies and whatever it is called."""
    copy = tmp_path / "plgan_tune_copied"
    shutil.copytree(ROOT / "plgan_tune", copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.syspath_prepend(tmp_path)
    here = looker()("plgan_tune")["code"]
    assert looker()(copy.name)["code"] == here
    with (copy / "search.py").open("a") as code:
        code.write("# changed\n")
    assert looker()(copy.name)["code"] != here


# What is wrong with a node is said with its address


HERE, THERE = Node("1", "10.0.0.1"), Node("2", "10.0.0.2")
Answer = Callable[..., Any]
Prepare = Callable[[DataSpec, Answer], list[Any]]


@pytest.fixture
def prepare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Prepare:
    """Looks at a node like this machine and at one that answers as the test says: how the cluster is joined anew."""
    monkeypatch.setenv("PLGAN_TUNE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(nodes_module, "training_nodes", lambda _: [HERE, THERE])
    monkeypatch.setattr("ray.shutdown", lambda: None)

    def run(data: DataSpec, there: Answer) -> list[Any]:
        anew: list[Any] = []

        def on_each(_: Any, function: Answer, arguments: tuple[Any, ...], __: float) -> dict[Node, Any]:
            return {HERE: function(*arguments), THERE: there(function, *arguments)}

        monkeypatch.setattr(nodes_module, "_on_each", on_each)
        monkeypatch.setattr(nodes_module, "connect", lambda *how, on_interrupt: anew.append(how))
        prepare_nodes("10.0.0.1:6379", TrialResources(1, 1, 0), data, check_data(data), on_interrupt=lambda: None)
        return anew

    return run


DIGITS = study_from_mapping(
    {"study": "s", "trial": {"data": {"source": "digits", "labels": 20, "validation": 200}}}
).any_trial()


@pytest.mark.parametrize("name", ["Python", "ray", "torch"])
@pytest.mark.parametrize(("version", "said"), [("0.1", "0.1"), (None, "is missing")])
def test_a_node_of_another_version_is_named(prepare: Prepare, name: str, version: str | None, said: str) -> None:
    def there(function: Answer, *arguments: Any) -> dict[str, str | None]:
        return {**function(*arguments), name: version}

    with pytest.raises(ClusterError) as refused:
        prepare(DIGITS.data, there)
    here = looker()("plgan_tune")[name]
    versions = f"versions must be the same on every node, but it has {name} {said} (here {here})"
    assert str(refused.value) == f"node 10.0.0.2: {versions}"


def test_code_goes_where_there_is_none(prepare: Prepare) -> None:
    def there(function: Answer, *arguments: Any) -> Any:
        return function("plgan_tune_is_not_there") if arguments == ("plgan_tune",) else function(*arguments)

    assert prepare(DIGITS.data, there) == [("10.0.0.1:6379", nodes_module.PACKAGE)]
    assert prepare(DIGITS.data, lambda function, *arguments: function(*arguments)) == []


def test_a_node_without_the_images_is_named(prepare: Prepare, tmp_path: Path) -> None:
    images = folder_of_images(tmp_path / "images")

    def there(function: Answer, *arguments: Any) -> Any:
        images.rename(tmp_path / "away")
        try:
            return function(*arguments)
        finally:
            (tmp_path / "away").rename(images)

    with pytest.raises(ClusterError) as refused:
        prepare(spec_of(images), there)
    (told,) = str(refused.value).splitlines()
    assert told.startswith("node 10.0.0.2: ")
    assert str(images / "train") in told


def test_a_node_without_room_is_named(prepare: Prepare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def there(function: Answer, *arguments: Any) -> Any:
        with monkeypatch.context() as full:
            full.setattr("plgan_tune.data.check.disk_usage", lambda _: SimpleNamespace(free=0))
            return function(*arguments)

    with pytest.raises(ClusterError) as refused:
        prepare(spec_of(folder_of_images(tmp_path / "images")), there)
    (told,) = str(refused.value).splitlines()
    cache = tmp_path / "cache"
    assert told.startswith(f"node 10.0.0.2: {cache}: the cache of decoded images needs 0.0 MB, but its disk has 0.0 MB")


# A cluster


SPACE = """
study: nodes
search: {confirm: null, trials: 2, concurrent: 2, sampler: random, early_stopping: none, max_failures: 0}
resources: {gpus_per_rank: 0}
trial:
  data: {source: digits, labels: 20, validation: 200}
  model: {width: 0.05}
  loss: {alpha: {uniform: [0.1, 1.0]}}
  training: {epochs: 1, batch_size: 20}
"""


Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def started(tmp_path: Path) -> Command:
    def run(module: str, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", module, *words],
            cwd=tmp_path,
            env=os.environ | {"PLGAN_TUNE_CACHE": str(tmp_path / "cache"), "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )

    return run


Search = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def search(cluster: Any, started: Command, tmp_path: Path) -> Search:
    def run(*options: str, space: str = SPACE) -> subprocess.CompletedProcess[str]:
        (tmp_path / "space.yaml").write_text(space)
        words: Sequence[str] = ["--space", "space.yaml", "--name", "mine", "--address", cluster.address, *options]
        return started("plgan_tune.search", *words)

    return run


def other_torch(folder: Path) -> str:
    """A folder that makes a Python see another version of torch than is installed."""
    (folder / "torch-1.2.3.dist-info").mkdir(parents=True)
    (folder / "torch-1.2.3.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 1.2.3\n")
    return f"{folder}:{ROOT}"


@pytest.mark.ray
@pytest.mark.slow
def test_code_goes_to_a_node_that_has_other_code(
    cluster: Any, started: Command, search: Search, tmp_path: Path
) -> None:
    """The node's own code would fail every trial, of a search and of an evaluation."""
    old = tmp_path / "old"
    shutil.copytree(ROOT / "plgan_tune", old / "plgan_tune", ignore=shutil.ignore_patterns("__pycache__"))
    (old / "plgan_tune" / "backends" / "ray" / "trainable.py").write_text("raise ImportError('old code')\n")
    cluster.add_node(num_cpus=2, env_vars={"PYTHONPATH": str(old)})
    done = search()
    assert done.returncode == 0, done.stdout + done.stderr
    assert list(pd.read_parquet(tmp_path / "results" / "mine" / "trials")["status"]) == ["completed"] * 2
    done = started("plgan_tune.evaluate", "results/mine", "--top", "1", "--seeds", "1", "--address", cluster.address)
    assert done.returncode == 0, done.stdout + done.stderr
    assert set(pd.read_parquet(tmp_path / "results" / "mine" / "evaluations")["status"]) == {"completed"}


@pytest.mark.ray
@pytest.mark.slow
def test_a_url_is_read_once_a_node_and_a_node_that_cannot_train_is_named(
    cluster: Any, search: Search, tmp_path: Path
) -> None:
    images = tmp_path / "images"
    images.mkdir()
    encoded = [file.read_bytes() for file in sorted(folder_of_images(tmp_path / "files").rglob("train/*/*.png"))]
    table = pa.table({"image": encoded, "label": [0] * LABELLED + [1] * LABELLED})
    pq.write_table(table, images / "train-0.parquet")
    at_url = f"source: parquet, path: 'file://{images}', labels: 2, validation: 2"
    space = SPACE.replace("source: digits, labels: 20, validation: 200", at_url).replace("trials: 2", "trials: 4")
    space = space.replace("batch_size: 20", "batch_size: 2")
    caches = [tmp_path / "cache1", tmp_path / "cache2"]
    for cache in caches:
        cluster.add_node(num_cpus=1, env_vars={"PLGAN_TUNE_CACHE": str(cache)})
    done = search(space=space)
    assert done.returncode == 0, done.stdout + done.stderr
    trials = pd.read_parquet(tmp_path / "results" / "mine" / "trials")
    assert list(trials["status"]) == ["completed"] * 4
    entries = [[entry.name for entry in cache.iterdir() if entry.is_dir()] for cache in caches]
    assert [len(names) for names in entries] == [1, 1]

    def refusal() -> str:
        refused = search("--name", "other", space=space)
        assert refused.returncode == 2, refused.stdout + refused.stderr
        assert not (tmp_path / "results" / "other").exists()
        return " ".join(refused.stderr.split())

    address = cluster.address.partition(":")[0]
    node = cluster.add_node(num_cpus=1, env_vars={"PYTHONPATH": other_torch(tmp_path / "other")})
    versions = "versions must be the same on every node, but it has torch 1.2.3 (here 2."
    assert f"node {address}: {versions}" in refusal()
    cluster.remove_node(node)
    cluster.add_node(num_cpus=1, env_vars={"PLGAN_TUNE_CACHE": "/proc/nowhere"})
    assert f"node {address}: /proc/nowhere: the cache of decoded images needs" in refusal()


def test_the_package_that_travels_is_this_one() -> None:
    assert (nodes_module.PACKAGE / "search.py").is_file()
    assert nodes_module.PACKAGE.name == "plgan_tune"
