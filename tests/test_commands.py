"""What the documents promise of the commands, and the commands from where a user stands."""

import ast
import importlib
import os
import re
import shlex
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Mapping, Sequence
from io import BytesIO
from itertools import dropwhile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from plgan_tune.__main__ import main
from plgan_tune.config.load import load_study

ROOT = Path(__file__).resolve().parents[1]
README, CONTRIBUTING, CI = (
    (ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "CONTRIBUTING.md", ".ci/run")
)
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    ROOT / "benchmarks" / "README.md",
    ROOT / "results" / "README.md",
    ROOT / "cluster" / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]


def blocks(language: str) -> list[str]:
    """The README's fenced blocks of a language."""
    return [body.strip() for body in re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)]


def elsewhere(folder: Path, *words: str, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Python started in another folder than the checkout's; `path` is looked through first for packages."""
    env = os.environ | {"COLUMNS": "120", "TERM": "dumb", "PLGAN_TUNE_CACHE": str(folder / "cache")}
    return subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env=env | ({"PYTHONPATH": str(path)} if path else {}),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


Options = Mapping[str, set[str]]


@pytest.fixture(scope="module")
def options() -> Options:
    """The options that each command's --help lists, itself left out."""
    return {module: options_in(help_of(module)) for module in (f"plgan_tune.{command}" for command in COMMANDS)}


def help_of(module: str) -> str:
    said = CliRunner().invoke(importlib.import_module(module).app, ["--help"], prog_name=f"python -m {module}")
    assert said.exit_code == 0, said.output
    return said.stdout


def options_in(shown: str) -> set[str]:
    return set(re.findall(r"^ {2}(--[a-z-]+)", shown, re.MULTILINE)) - {"--help"}


COMMANDS = {
    "search": "[OPTIONS]",
    "train": "--config FILE [OPTIONS]",
    "analyze": "RESULTS... [OPTIONS]",
    "evaluate": "RESULTS [OPTIONS]",
    "generate": "CHECKPOINT [OPTIONS]",
}


@pytest.mark.parametrize("command", COMMANDS)
def test_help_fits_80_columns_and_names_no_type(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    shown = help_of(f"plgan_tune.{command}")
    lines = shown.splitlines()
    assert lines[0] == f"Usage: python -m plgan_tune.{command} {COMMANDS[command]}"
    assert max(map(len, lines)) <= 80
    assert [line for line in lines if line != line.rstrip()] == []
    assert "<" not in shown
    assert re.search(r"^ {2}--help +Show this message and exit\.$", shown, re.MULTILINE)


def test_help_says_defaults_and_bounds() -> None:
    said = " ".join(help_of("plgan_tune.evaluate").split())
    assert "--seeds N Seeds of each configuration. [default: 5; 1 to 1,000]" in said


# The documents


def test_the_readme_opens_with_the_two_commands() -> None:
    assert blocks("sh")[:2] == [
        "python3 -m venv .venv && .venv/bin/pip install -e . && .venv/bin/python -m plgan_tune.search",
        'python3 -m venv .venv && .venv/bin/pip install -e ".[dev]" && .venv/bin/python -m pytest',
    ]


def steps(script: str) -> list[str]:
    """What a script installs and starts, in its order, wherever its Python stands."""
    return re.findall(r'(?<=-m )venv|(?<=-e )(?:"[^"]+"|\S+)|(?<=-m )(?:plgan_tune\.\w+|pytest\b)', script)


def test_ci_runs_the_readme_s_commands_in_a_fresh_environment() -> None:
    search, test = (steps(command) for command in blocks("sh")[:2])
    assert (search, test) == (["venv", ".", "plgan_tune.search"], ["venv", '".[dev]"', "pytest"])
    done = steps(CI)
    assert done[:3] == search  # before anything of [dev] is there to help
    installed = done.index(test[1])
    assert installed > done.index(search[-1])
    assert done[installed + 1] == test[2]
    assert "home=$(mktemp -d)" in CI
    assert 'python="$home/venv/bin/python"' in CI


def test_ci_holds_every_check_and_stops_at_the_first_that_fails() -> None:
    commands = [shlex.split(line) for line in CI.splitlines() if line.startswith('"$')]
    checks = [" ".join([command[0].rpartition("/")[2], *command[1:]]) for command in commands]
    for check in ("ruff check", "ruff format --check", "mypy", "lint-imports"):
        assert check in checks
    lanes = "-n 2 --dist loadfile --no-loadscope-reorder"
    assert checks[-2:] == [f"$python -m pytest {lanes}", f"$python -m pytest -m slow {lanes}"]
    assert "set -euo pipefail" in CI
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def test_ci_tests_lower_bounds_that_pyproject_names() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    bounded = {need.partition(">=")[0] for need in project["dependencies"] if re.search(r">=[\d.]+$", need)}
    asked = [name for names in re.findall(r"\$\(lowest ([^)]+)\)", CI) for name in names.split()]
    assert sorted(asked) == ["fsspec", "optuna", "pandas", "pyarrow", "pydantic"]
    assert bounded.issuperset(asked)


def test_the_hooks_at_a_commit_are_ci_s_checks() -> None:
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    (local,) = config["repos"]
    assert [hook["entry"] for hook in local["hooks"]] == ["ruff check", "ruff format --check", "mypy", "lint-imports"]
    commands = [shlex.split(line) for line in CI.splitlines() if line.startswith('"$home')]
    in_ci = [" ".join([command[0].rpartition("/")[2], *command[1:]]) for command in commands]
    for hook in local["hooks"]:
        assert hook["entry"] in in_ci
        assert (hook["language"], hook["pass_filenames"]) == ("system", False)


def test_the_readme_s_space_file_loads(tmp_path: Path) -> None:
    (example,) = blocks("yaml")
    (tmp_path / "mine.yaml").write_text(example)
    loaded = load_study(tmp_path / "mine.yaml")
    assert set(loaded.study.domains) == {"loss.alpha", "loss.switch_epoch", "optim.lr_discriminator"}
    assert loaded.notes == ()


def test_the_readme_s_table_lists_exactly_the_options_of_search(options: Options) -> None:
    listed = re.findall(r"^\| `(--[a-z-]+)", README, re.MULTILINE)
    assert len(listed) == len(set(listed))
    assert set(listed) == options["plgan_tune.search"]
    known = {"--space", "--set", "--results", "--name", "--address", "--in-process", "--resume", "--dry-run"}
    assert set(listed) == {*known, "--check-data"}


def test_the_readme_s_commands_use_options_that_there_are(options: Options) -> None:
    commands = [command for block in blocks("sh")[2:] for command in re.split(r"\n(?=\.venv/)", block)]
    split = [shlex.split(command, comments=True) for command in commands]
    used = [list(dropwhile(lambda word: re.match(r"\w+=", word), words)) for words in split]  # OMP_NUM_THREADS=1
    assert {words[2] for words in used} == options.keys() - {"plgan_tune.generate"}  # it is in docs/
    for words in used:
        assert {word for word in words if word.startswith("--")} <= options[words[2]]


def test_the_readme_s_python_imports_what_there_is() -> None:
    trees = [ast.parse(block) for block in blocks("python")]
    imports = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    ours = [(node.module, name.name) for node in imports for name in node.names if "plgan_tune" in str(node.module)]
    functions = {"load_study", "load_trial", "train_trial", "run_study", "load_classifier"}
    assert {name for _, name in ours} == functions | {"InProcess"}
    for module, name in ours:
        assert callable(getattr(importlib.import_module(str(module)), name))


def test_every_file_names_the_same_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))["version"] == version
    for file in ("Dockerfile", "kuberay.yaml"):
        assert set(re.findall(r"/plgan-tune:(\S+)", (ROOT / "cluster" / file).read_text(encoding="utf-8"))) == {version}


def test_the_changelog_is_by_version_and_kind_and_a_line_a_change() -> None:
    """keepachangelog.com; what is not released yet is the version that is being made."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    _, *releases = re.split(r"^## ", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    titles = [release.partition("\n")[0] for release in releases]
    assert titles[0].startswith(f"[{version.removesuffix('.dev0')}] - ")
    assert titles[0].endswith(" - Unreleased") == version.endswith(".dev0")
    for release, title in zip(releases, titles, strict=True):
        assert re.fullmatch(r"\[\d+\.\d+\.\d+\] - (Unreleased|\d{4}-\d\d-\d\d)", title)
        for line in filter(None, release.splitlines()[1:]):
            assert re.fullmatch(r"### (Added|Changed|Fixed|Removed)|- \S.+[.]", line), line
            assert len(line) <= 120


@pytest.mark.parametrize("document", ["README.md", "docs/search.md"])
def test_the_four_statuses_stand_in_a_table(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    assert re.findall(r"^\| `(\d+)` \|", text, re.MULTILINE) == ["0", "1", "2", "130"]


def slug(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def prose(document: Path) -> str:
    """A document without its fenced blocks, where a comment looks like a heading."""
    return re.sub(r"^```.*?^```", "", document.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_relative_link_leads_somewhere(document: Path) -> None:
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", prose(document)) if "://" not in link]
    assert links or document.name != "README.md" or document.parent != ROOT
    for link in links:
        file, _, anchor = link.partition("#")
        target = (document.parent / file).resolve() if file else document
        assert target.exists(), link
        assert target.is_relative_to(ROOT), link
        if anchor:
            assert anchor in {slug(heading) for heading in re.findall(r"^#+ (.+)$", prose(target), re.MULTILINE)}, link


def test_contributing_names_the_rooms_there_are() -> None:
    table = [line.split("|")[1] for line in CONTRIBUTING.splitlines() if line.startswith("| `")]
    named = {name for cell in table for name in re.findall(r"`([^`]+)`", cell)}
    package = ROOT / "plgan_tune"
    files = {path.name for path in package.glob("*.py")} - {"__init__.py"}
    assert named == files | {f"{path.parent.name}/" for path in package.glob("*/__init__.py")}


def test_contributing_names_no_file_that_is_not_there() -> None:
    code = re.findall(r"`([^`\n]+)`", prose(ROOT / "CONTRIBUTING.md"))
    files = [text for text in code if re.fullmatch(r"[\w./-]+(\.py|\.toml|\.md|/)", text)]
    assert {"gan/draws.py", "pyproject.toml"} <= set(files)
    assert [file for file in files if not any((base / file).exists() for base in (ROOT, ROOT / "plgan_tune"))] == []


def test_contributing_names_the_markers() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    markers = [marker.partition(":")[0] for marker in project["tool"]["pytest"]["ini_options"]["markers"]]
    (sentence,) = re.findall(r"Markers: ([^.]+)\.", CONTRIBUTING)
    assert re.findall(r"`(\w+)`", sentence) == markers


# The commands from another folder, and from a wheel


def test_the_document_of_evaluate_lists_exactly_its_options(options: Options) -> None:
    document = (ROOT / "docs" / "evaluation.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `(--[a-z-]+)", document, re.MULTILINE)
    assert len(listed) == len(set(listed))
    assert set(listed) == options["plgan_tune.evaluate"]


def test_what_trains_without_ray_imports_nothing_large_on_its_way_to_the_first_step(tmp_path: Path) -> None:
    """Seconds in every process: scikit-learn for its digits, torch's compiler for its Adam, sympy for a layer."""
    code = """
import sys, torch
import plgan_tune.backends.in_process, plgan_tune.evaluate, plgan_tune.train
print(sorted({"ray", "optuna", "torch", "torchvision"} & sys.modules.keys()))

from plgan_tune.data.dataset import load_dataset
from plgan_tune.config.load import default_space, load_study
from plgan_tune.training.loop import epochs
from plgan_tune.training.state import new_state

trial = load_study(default_space(), ["trial.training.epochs=1"]).study.any_trial()
next(epochs(new_state(trial, load_dataset(trial.data), torch.device("cpu")), load_dataset(trial.data)))
print(sorted({"ray", "optuna", "sklearn", "torch._dynamo", "sympy", "torchvision"} & sys.modules.keys()))
"""
    trained = elsewhere(tmp_path, "-c", code)
    assert trained.stdout.splitlines() == ["['torch']", "[]"], trained.stderr


def test_train_shows_its_options_in_any_folder(options: Options) -> None:
    assert options["plgan_tune.train"] == {"--config", "--set", "--out", "--resume", "--threads", "--explain"}


# plgan-tune


def script(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """What the console script of pyproject.toml does with these words."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    module, function = project["scripts"]["plgan-tune"].split(":")
    code = f"import sys; sys.argv[0] = 'plgan-tune'; from {module} import {function}; {function}()"
    return elsewhere(folder, "-c", code, *words)


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"]])
def test_plgan_tune_lists_the_commands(tmp_path: Path, options: Options, words: list[str]) -> None:
    said, as_module = script(tmp_path, *words), elsewhere(tmp_path, "-m", "plgan_tune", *words)
    assert (said.returncode, as_module.returncode) == (0, 0)
    assert said.stdout.startswith("Usage: plgan-tune COMMAND [OPTIONS]\n")
    assert as_module.stdout == said.stdout.replace("plgan-tune ", "python -m plgan_tune ")
    assert {f"plgan_tune.{name}" for name in re.findall(r"^  (\w+)  ", said.stdout, re.MULTILINE)} == options.keys()


def test_plgan_tune_lists_the_commands_without_importing_one(tmp_path: Path) -> None:
    code = "import sys; sys.argv[1:] = []; from plgan_tune.__main__ import main; main(); print(sorted(sys.modules))"
    listed = elsewhere(tmp_path, "-c", code)
    assert "'plgan_tune'" in listed.stdout
    for module in ("torch", "ray", "typer", "plgan_tune.search"):
        assert f"'{module}'" not in listed.stdout


@pytest.mark.parametrize("module", COMMANDS)
def test_plgan_tune_starts_a_command_with_its_words(
    options: Options, module: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["plgan-tune", module, "--help"])
    with pytest.raises(SystemExit, match=r"^0$"):
        main()
    shown = capsys.readouterr().out
    assert re.search(rf"^ *Usage: plgan-tune {module} ([-A-Z].*)?\[OPTIONS\]", shown, re.MULTILINE)
    assert options_in(shown) == options[f"plgan_tune.{module}"]


def test_plgan_tune_ends_with_the_command_s_status(tmp_path: Path) -> None:
    planned = script(tmp_path, "search", "--dry-run", "--set", "search.trials=7")
    assert planned.returncode == 0, planned.stderr
    assert "trials: 7" in planned.stdout
    refused = script(tmp_path, "analyze", "nowhere")
    assert refused.returncode == 2
    assert "nowhere" in refused.stderr


def test_plgan_tune_refuses_another_command_and_names_those_there_are(tmp_path: Path) -> None:
    refused = script(tmp_path, "serch\x1b[2J", "--dry-run")
    assert (refused.returncode, refused.stdout) == (2, "")
    told = "COMMAND must be one of search, train, evaluate, analyze, generate, but got 'serch\\x1b[2J'\n"
    assert refused.stderr == told


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    built = elsewhere(folder, "-m", "pip", "wheel", "--no-deps", "--disable-pip-version-check", "-w", ".", str(ROOT))
    if "No matching distribution found for hatchling" in built.stdout + built.stderr:
        pytest.skip("needs hatchling, and no package index can be reached")
    assert built.returncode == 0, built.stdout + built.stderr
    (path,) = folder.glob("*.whl")
    return path


@pytest.mark.slow
def test_a_wheel_holds_the_package_and_every_space_file_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    spaces = {f"plgan_tune/{path.relative_to(ROOT)}" for path in (ROOT / "search_spaces").glob("*.yaml")}
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "plgan_tune").rglob("*.py")}
    page = {f"plgan_tune/analysis/report/page.{kind}" for kind in ("html", "css", "js")}
    assert len(spaces) >= 4
    assert len(names) == len(set(names))
    held = {name for name in names if ".dist-info/" not in name}
    assert held == spaces | modules | page | {"plgan_tune/py.typed"}


@pytest.mark.slow
def test_the_default_space_is_found_in_an_unpacked_wheel(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    code = "from plgan_tune.config.load import default_space; print(default_space())"
    found = elsewhere(tmp_path, "-c", code, path=site)
    assert found.stdout.strip() == str(site / "plgan_tune" / "search_spaces" / "digits.yaml"), found.stderr
    planned = elsewhere(tmp_path, "-m", "plgan_tune.search", "--dry-run", path=site)
    assert planned.returncode == 0, planned.stdout + planned.stderr
    assert "study: digits" in planned.stdout


# Images that cannot be used


def png(size: int, seed: int) -> bytes:
    buffer = BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size, size), np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def write(file: Path, images: Sequence[bytes]) -> None:
    held = pa.array([{"bytes": image, "path": None} for image in images])
    pq.write_table(pa.table({"image": held, "label": [row % 2 for row in range(len(images))]}), file)


SPACE = """
study: s
search: {confirm: null, trials: 1}
trial:
  data: {source: parquet, path: PATH, labels: 2, validation: 2}
  loss: {alpha: {uniform: [0, 1]}}
"""


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (png(8, seed=99)[:60], "the image cannot be decoded"),
        (png(9, seed=99), "must have the first one's 8x8 pixels, but got 9x9"),
    ],
    ids=["truncated", "of another size"],
)
def test_a_bad_image_ends_the_search_with_its_file_and_row_before_ray_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bad: bytes, why: str
) -> None:
    import ray  # noqa: PLC0415 - seconds

    from plgan_tune.search import app  # noqa: PLC0415

    def refuse(**_: object) -> None:
        raise AssertionError("Ray was started")

    monkeypatch.setattr(ray, "init", refuse)
    monkeypatch.setenv("PLGAN_TUNE_CACHE", str(tmp_path / "cache"))
    good = [png(8, seed) for seed in range(10)]
    data = tmp_path / "data"
    data.mkdir()
    write(data / "train-0.parquet", good)
    write(data / "train-1.parquet", [*good[:7], bad, *good[8:]])
    write(data / "test-0.parquet", good)
    (tmp_path / "space.yaml").write_text(SPACE.replace("PATH", str(data)))
    before = ray.is_initialized()
    words = ["--space", str(tmp_path / "space.yaml"), "--results", str(tmp_path / "results")]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 2, result.output
    assert f"{data}/train-1.parquet, row 7: " in result.output
    assert why in result.output
    assert ray.is_initialized() == before
    assert not (tmp_path / "results").exists()
