"""What docs/security.md says of the code, held against the code."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from plgan_tune.search import app

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted((ROOT / "plgan_tune").rglob("*.py"))
PASSWORD = "hunter2"


def nodes() -> Iterator[tuple[Path, ast.AST]]:
    assert FILES
    for file in FILES:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            yield file, node


def calls(name: str) -> list[tuple[Path, ast.Call]]:
    """Calls of `name`, dotted or plain."""
    return [(file, node) for file, node in nodes() if isinstance(node, ast.Call) and ast.unparse(node.func) == name]


def test_checkpoints_load_weights_only() -> None:
    loads = calls("torch.load")
    assert loads
    for file, call in loads:
        given = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        assert given.get("weights_only") == "True", file


def test_nothing_unpickles_and_no_other_text_becomes_code() -> None:
    imported = {
        alias.name if isinstance(node, ast.Import) else str(node.module)
        for _, node in nodes()
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    assert imported.isdisjoint({"pickle", "cloudpickle", "ray.cloudpickle", "marshal", "shelve", "dill", "yaml"})
    for name in (
        "tune.Tuner.restore",
        "Tuner.restore",
        "eval",
        "__import__",
        "import_module",
        "importlib.import_module",
        "pandas.read_pickle",
    ):
        assert calls(name) == []


def test_a_user_s_own_file_is_the_only_text_that_is_run() -> None:
    assert [str(file.relative_to(ROOT)) for file, _ in calls("exec")] == ["plgan_tune/gan/own_file.py"]


def test_yaml_is_read_by_the_safe_loader_alone() -> None:
    loaders = calls("YAML")
    assert loaders
    for file, call in loaders:
        assert {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}["typ"] == "'safe'", file


SPACE = "study: s\ntrial: {data: {source: parquet, path: here, labels: 20, validation: 20}}\n"


@pytest.mark.parametrize(
    "options",
    [
        ["--set", f"trial.data.path=s3://me:{PASSWORD}@bucket/images"],
        ["--set", f"search.warm_start=[https://me:{PASSWORD}@host/study]"],
        ["--results", f"ftp://me:{PASSWORD}@host/results"],
        ["--set", f"trial.data.path=https://{PASSWORD}@host/images"],
    ],
    ids=["data", "warm start", "results", "a token alone"],
)
def test_a_password_in_a_url_is_refused_and_not_repeated(options: list[str], tmp_path: Path) -> None:
    (tmp_path / "space.yaml").write_text(SPACE)
    result = CliRunner().invoke(app, ["--space", str(tmp_path / "space.yaml"), "--dry-run", *options])
    assert result.exit_code == 2, result.output
    told = " ".join(result.output.split())
    assert "must hold no password" in told
    assert "://***@" in told
    assert PASSWORD not in told
