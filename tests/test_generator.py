"""`load_generator` and `plgan-tune generate`: a trained generator in use."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from typer.testing import CliRunner

from plgan_tune.classifier import load_classifier
from plgan_tune.config.defaults import with_defaults
from plgan_tune.config.trial import TrialSpec
from plgan_tune.evaluation.generation import generated
from plgan_tune.generate import app
from plgan_tune.generator import ImageGenerator, export_onnx, load_generator
from plgan_tune.train import train
from plgan_tune.trained import read_checkpoint
from plgan_tune.training.checkpoint import CheckpointError
from plgan_tune.training.threads import torch_threads

KINDS: dict[str, dict[str, Any]] = {
    "recurrent": {"method": "gp_wirgan", "model": {"width": 0.05, "latent_size": 6}},
    "mlp": {"method": "wgan_gp", "model": {"kind": "mlp", "width": 0.05, "latent": "uniform"}},
    "virtual": {
        "method": "gran",
        "model": {"width": 0.05, "generator_norm": "virtual"},
        "training": {"batch_size": 64},
    },
}


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Sums depend on the number of threads, which another room's tests may have set."""
    with torch_threads(1):
        yield


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A training of each, of one epoch."""
    made = {}
    for name, given in KINDS.items():
        made[name] = tmp_path_factory.mktemp(name)
        data = {"source": "digits", "labels": 0, "validation": 50, "limit": 200}
        training = {"epochs": 1, "discriminator_steps": 1, **given.get("training", {})}
        trial = TrialSpec.model_validate(with_defaults({**given, "data": data, "training": training}))
        train(trial, made[name])
    return made


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_depends_on_its_seed_and_place_alone(folders: dict[str, Path], kind: str) -> None:
    generator = load_generator(folders[kind])
    images = generator.sample(130, seed=3)
    assert (images.dtype, images.shape) == (torch.uint8, (130, 1, 8, 8))
    assert torch.equal(generator.sample(7, seed=3), images[:7])
    assert not torch.equal(generator.sample(7, seed=4), images[:7])
    assert not torch.equal(images[0], images[1])


def test_raw_images_are_those_that_an_evaluation_measures(folders: dict[str, Path]) -> None:
    """With the trial's seed, 0."""
    folder = folders["recurrent"]
    theirs = generated(read_checkpoint(folder), torch.device("cpu"), 200)
    assert torch.equal(load_generator(folder, "raw").sample(200), theirs)
    assert not torch.equal(load_generator(folder).sample(200), theirs)


@pytest.mark.parametrize(("kind", "steps"), [("recurrent", 3), ("mlp", 1), ("virtual", 3)])
def test_the_last_step_is_the_image(folders: dict[str, Path], kind: str, steps: int) -> None:
    generator = load_generator(folders[kind])
    drawn = generator.steps(5, seed=1)
    assert drawn.shape == (5, steps, 1, 8, 8)
    assert torch.equal(drawn[:, -1], generator.sample(5, seed=1))


@pytest.mark.parametrize("kind", KINDS)
def test_a_way_leads_from_one_z_to_the_other(folders: dict[str, Path], kind: str) -> None:
    """Its ends are the images of `sample` where an image does not depend on its batch; else close to them."""
    generator = load_generator(folders[kind])
    ways = generator.between(2, 9, seed=5)
    assert ways.shape == (2, 9, 1, 8, 8)
    ends = generator.sample(4, seed=5).view(2, 2, 1, 8, 8)
    apart = (ways[:, [0, -1]].int() - ends.int()).abs().float()
    assert apart.max() == 0 if kind == "virtual" else apart.mean() < 10
    steps = (ways[:, 1:].int() - ways[:, :-1].int()).abs().float().mean()
    across = (ends[:, 0].int() - ends[:, 1].int()).abs().float().mean()
    assert steps < across


def test_a_normal_way_keeps_the_length_of_z(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    passed = []

    def forward(self: ImageGenerator, latent: Tensor) -> Tensor:
        passed.append(latent.norm(dim=1))
        return latent[:, :1, None, None]

    monkeypatch.setattr(ImageGenerator, "forward", forward)
    load_generator(folders["virtual"]).between(1, 11)
    way = passed[0][:11]
    assert way.min() > 0.97 * min(way[0], way[-1])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda generator: generator.sample(0), "n must be at least 1, but got 0"),
        (lambda generator: generator.between(1, 1), r"length must be in \[2, 100\], but got 1"),
    ],
)
def test_what_cannot_be_drawn_is_refused(folders: dict[str, Path], call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(load_generator(folders["mlp"]))


def test_a_training_without_labels_leaves_no_classifier(folders: dict[str, Path]) -> None:
    with pytest.raises(CheckpointError, match=r"it has no classes, for trial\.data\.labels was 0"):
        load_classifier(folders["mlp"])


def test_a_checkpoint_of_before_has_raw_weights_only(earlier: Path) -> None:
    file = next(earlier.rglob("*.pt"))
    with pytest.raises(CheckpointError, match="kept no average of G's weights: ask for the raw ones"):
        load_generator(file)
    assert load_generator(file, "raw").sample(3).shape[0] == 3


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_it_is_exported(folders: dict[str, Path], kind: str, tmp_path: Path) -> None:
    """The same images but for rounding, from more z than the example of the export has."""
    ort = pytest.importorskip("onnxruntime")
    generator = load_generator(folders[kind])
    export_onnx(generator, tmp_path / "generator.onnx")
    latent = generator._batches(100, 2)[0]
    session = ort.InferenceSession(tmp_path / "generator.onnx")
    (images,) = session.run(["images"], {"latent": latent.numpy()})
    theirs = generator(latent).numpy()
    assert images.dtype == np.uint8
    assert np.abs(images.astype(int) - theirs).max() <= 1


@pytest.mark.parametrize(
    ("words", "size"),
    [
        (["--n", "12"], (4, 3)),
        (["--n", "5", "--show", "steps"], (3, 5)),
        (["--n", "2", "--show", "between", "--weights", "raw", "--seed", "8"], (10, 2)),
    ],
)
def test_the_command_writes_one_picture(
    folders: dict[str, Path], tmp_path: Path, words: list[str], size: tuple[int, int]
) -> None:
    """Images of 8 pixels, four times as large, with a line between them and around all."""
    out = tmp_path / "picture.png"
    done = CliRunner().invoke(app, [str(folders["recurrent"]), "--out", str(out), *words])
    assert done.exit_code == 0, done.output
    assert f"{size[0] * size[1] if '--show' in words else 12} images of the" in done.output
    columns, rows = size
    with Image.open(out) as picture:
        assert picture.size == (4 * (9 * columns + 1), 4 * (9 * rows + 1))
    again = tmp_path / "again.png"
    CliRunner().invoke(app, [str(folders["recurrent"]), "--out", str(again), *words])
    assert again.read_bytes() == out.read_bytes()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere", "--out", "x.png"], "nowhere"),
        (["HERE", "--out", "x.jpg"], "--out must be a file that ends in .png, but got x.jpg"),
        (["HERE", "--out", "no/such/x.png"], "No such file or directory"),
        (["HERE", "--show", "faces"], "faces"),
        (["HERE", "--n", "0"], "greater than or equal to 1"),
    ],
)
def test_the_command_refuses_in_one_message(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, [str(folders["mlp"]) if word == "HERE" else word for word in words])
    assert done.exit_code == 2
    assert message in done.output
    assert "Traceback" not in done.output
    assert list(tmp_path.iterdir()) == []
