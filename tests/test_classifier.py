"""`load_classifier`: a checkpoint in use."""

import hashlib
import io
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image, ImageOps
from torch import Tensor

from plgan_tune.classifier import Classifier, export_onnx, load_classifier
from plgan_tune.config.defaults import with_defaults
from plgan_tune.config.trial import TrialSpec
from plgan_tune.data.dataset import Dataset, load_dataset
from plgan_tune.data.errors import DataError
from plgan_tune.data.splits import Split
from plgan_tune.records import EpochMetrics
from plgan_tune.store.location import StoreError
from plgan_tune.train import train
from plgan_tune.trained import read_checkpoint
from plgan_tune.training.checkpoint import CheckpointError, encode_checkpoint, restore_state
from plgan_tune.training.state import TrainState, new_state


def trial_of(**given: object) -> TrialSpec:
    data = {"source": "digits", "labels": 20, "validation": 100}
    return TrialSpec.model_validate(with_defaults({"data": data, **given}))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, EpochMetrics]:
    """A folder of `train` and its last row."""
    folder = tmp_path_factory.mktemp("trained")
    return folder, train(trial_of(model={"width": 0.1}, training={"epochs": 2}), folder)[-1]


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_dataset(trial_of().data)


@pytest.fixture
def classifier(trained: tuple[Path, EpochMetrics]) -> Classifier:
    return load_classifier(trained[0])


def test_its_error_is_the_one_that_training_reported(trained: tuple[Path, EpochMetrics], digits: Dataset) -> None:
    folder, row = trained
    held_out = digits.split.validation
    images, labels = digits.images[held_out], digits.labels[held_out]
    assert load_classifier(folder).error(images, labels) == row.val_error
    assert load_classifier(folder / "checkpoint.pt", "raw").error(images, labels) == row.val_error_raw


def test_it_says_what_it_takes_and_knows(classifier: Classifier) -> None:
    assert classifier.classes == tuple("0123456789")
    assert classifier.image == (1, 8)
    assert not any(parameter.requires_grad for parameter in classifier.parameters())


def test_probabilities_are_the_softmax_of_its_logits(classifier: Classifier, digits: Dataset) -> None:
    images = digits.images[:50]
    found = classifier.probabilities(images)
    torch.testing.assert_close(found.sum(dim=1), torch.ones(50))
    assert torch.equal(found, classifier(images).softmax(dim=1))


def png(folder: Path, name: str, image: Tensor, size: int = 8) -> Path:
    """A file of that many pixels a side, each of the image's enlarged."""
    pixels = np.kron(image[0].numpy(), np.ones((size // 8, size // 8), np.uint8))
    Image.fromarray(pixels).save(folder / name)
    return folder / name


def test_files_are_classified_as_the_images_in_them(classifier: Classifier, digits: Dataset, tmp_path: Path) -> None:
    files = [png(tmp_path, f"{row}.png", digits.images[row]) for row in range(5)]
    assert torch.equal(classifier.predict(files), classifier.probabilities(digits.images[:5]))
    assert classifier.predict([]).shape == (0, 10)


def test_one_path_is_a_file(classifier: Classifier, digits: Dataset, tmp_path: Path) -> None:
    file = png(tmp_path, "one.png", digits.images[0])
    assert torch.equal(classifier.predict(file), classifier.predict([file]))
    assert torch.equal(classifier.predict(str(file)), classifier.predict([file]))


@pytest.mark.parametrize(
    ("images", "got"),
    [
        (torch.zeros(2, 1, 16, 16, dtype=torch.uint8), "uint8 of shape (2, 1, 16, 16)"),
        (torch.zeros(2, 1, 8, 8), "float32 of shape (2, 1, 8, 8)"),
        (torch.zeros(1, 8, 8, dtype=torch.uint8), "uint8 of shape (1, 8, 8)"),
    ],
)
def test_tensors_of_another_size_or_of_floats_are_refused(classifier: Classifier, images: Tensor, got: str) -> None:
    rule = "images must be a tensor of uint8, 0 to 255, and of shape (n, 1, 8, 8), but got " + got
    labels = torch.zeros(len(images), dtype=torch.long)
    for use in (classifier, classifier.probabilities, lambda images: classifier.error(images, labels)):
        with pytest.raises(ValueError, match=re.escape(rule)):
            use(images)


EARLIER = Path(__file__).parent / "fixtures" / "earlier"


def test_a_study_s_folder_is_its_best_trial_s_classifier(digits: Dataset) -> None:
    best = load_classifier(EARLIER / "checkpoints" / "t0000")  # as its best.yaml says
    found = load_classifier(EARLIER)
    assert torch.equal(found.probabilities(digits.images[:9]), best.probabilities(digits.images[:9]))


def test_a_study_without_a_completed_trial_has_no_classifier(tmp_path: Path) -> None:
    study = Path(shutil.copytree(EARLIER, tmp_path / "study"))
    for file in (study / "trials").iterdir():
        file.unlink()
    with pytest.raises(StoreError, match="must have a completed trial"):
        load_classifier(study)


def test_a_folder_without_a_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=rf"no checkpoint in {tmp_path}/x; it must be the folder of a study"):
        load_classifier(tmp_path / "x")


def test_files_of_another_size_and_mode_are_made_to_fit(
    classifier: Classifier, digits: Dataset, tmp_path: Path
) -> None:
    large = png(tmp_path, "large.png", digits.images[0], size=64)
    Image.open(large).convert("RGB").save(tmp_path / "colour.png")
    found = classifier.predict([large, tmp_path / "colour.png"])
    assert found.shape == (2, 10)
    torch.testing.assert_close(found[0], found[1])


def test_a_photograph_on_its_side_and_a_transparent_drawing_are_predicted_as_a_person_sees_them(
    classifier: Classifier, digits: Dataset, tmp_path: Path
) -> None:
    digit = Image.fromarray(digits.images[0, 0].numpy())
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 8
    digit.transpose(Image.Transpose.ROTATE_270).save(tmp_path / "side.png", exif=exif)
    drawn = Image.merge("LA", [Image.new("L", digit.size, 0), ImageOps.invert(digit)])
    drawn.save(tmp_path / "drawn.png")
    found = classifier.predict([tmp_path / "side.png", tmp_path / "drawn.png"])
    torch.testing.assert_close(found, classifier.probabilities(digits.images[[0, 0]]), rtol=0, atol=0)


def test_files_are_brought_to_size_as_the_checkpoint_s_trial_says(digits: Dataset, tmp_path: Path) -> None:
    given = {"source": "digits", "labels": 20, "validation": 100, "size": 8, "fit": "pad", "background": "black"}
    state = new_state(trial_of(data=given, model={"width": 0.05}), digits, torch.device("cpu"))
    (tmp_path / "checkpoint.pt").write_bytes(encode_checkpoint(state, []))
    wide = np.full((4, 8), 200, np.uint8)
    Image.fromarray(wide).save(tmp_path / "wide.png")
    found = load_classifier(tmp_path)
    padded = torch.from_numpy(np.pad(wide, ((2, 2), (0, 0))))[None, None]
    assert torch.equal(found.predict(tmp_path / "wide.png"), found.probabilities(padded))


def test_a_file_that_is_no_image_is_named(classifier: Classifier, tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("not an image")
    with pytest.raises(DataError, match=r"text\.png: the image cannot be decoded"):
        classifier.predict([tmp_path / "text.png"])


def test_the_readme_s_example_names_each_image_s_class(
    digits: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    readme = (Path(__file__).resolve().parents[1] / "README.md").read_text(encoding="utf-8")
    (example,) = [code for code in re.findall(r"```python\n(.*?)```", readme, re.DOTALL) if "load_classifier" in code]
    shutil.copytree(EARLIER, tmp_path / "results" / "first")
    (tmp_path / "my_images").mkdir()
    for row in range(3):
        png(tmp_path / "my_images", f"{row}.png", digits.images[row])
    monkeypatch.chdir(tmp_path)
    exec(compile(example, "README.md", "exec"), {})
    classes = (
        load_classifier(EARLIER).predict([tmp_path / "my_images" / f"{row}.png" for row in range(3)]).argmax(dim=1)
    )
    said = [line.split()[:2] for line in capsys.readouterr().out.splitlines()]
    assert said == [[f"{row}.png", str(int(known))] for row, known in enumerate(classes)]


@pytest.fixture(scope="module")
def whitened() -> TrainState:
    """A convolutional pair on colour images, which D whitens."""
    generator = torch.Generator().manual_seed(3)
    images = torch.randint(0, 256, (60, 3, 16, 16), generator=generator).to(torch.uint8)
    rows = torch.arange(60)
    data = Dataset(images, rows % 3, ("ash", "beech", "elm"), Split(rows[:6], rows[:48], rows[48:], "hash"))
    trial = trial_of(model={"kind": "conv", "width": 0.05, "zca": True}, training={"batch_size": 10})
    return new_state(trial, data, torch.device("cpu"))


def test_scaling_and_whitening_are_inside(whitened: TrainState, tmp_path: Path) -> None:
    (tmp_path / "checkpoint.pt").write_bytes(encode_checkpoint(whitened, []))
    found = load_classifier(tmp_path)
    images = torch.randint(0, 256, (7, 3, 16, 16), generator=torch.Generator().manual_seed(1)).to(torch.uint8)
    wanted = whitened.averaged(images / 127.5 - 1).logits
    assert torch.equal(found(images), wanted)
    assert (found.classes, found.image) == (("ash", "beech", "elm"), (3, 16))
    assert isinstance(found.discriminator.whitening, torch.nn.Module)


def test_a_learned_fake_logit_is_no_class(digits: Dataset, tmp_path: Path) -> None:
    state = new_state(trial_of(model={"width": 0.05, "fake_logit": "learned"}), digits, torch.device("cpu"))
    state.averaged.get_parameter("out.b").data[-1] = 1000.0  # D takes every image for generated
    (tmp_path / "checkpoint.pt").write_bytes(encode_checkpoint(state, []))
    found = load_classifier(tmp_path)
    images = digits.images[:20]
    assert found.probabilities(images).shape == (20, 10)
    assert torch.equal(found(images), state.averaged(images / 255.0).logits)


@pytest.fixture(scope="module", params=[{"kind": "mlp"}, {"kind": "conv"}], ids=lambda model: model["kind"])
def compared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, EpochMetrics]:
    """A trained pair with minibatch discrimination, and its row; conv needs images of 16 x 16 pixels."""
    folder = tmp_path_factory.mktemp("compared")
    model = {"width": 0.04, "minibatch_kernels": 5, **request.param}
    data = {"source": "digits", "labels": 20, "validation": 100, "size": 16, "limit": 300}
    return folder, train(trial_of(model=model, data=data, training={"epochs": 1}), folder)[-1]


def test_with_minibatch_discrimination_it_is_the_averaged_d_of_training(compared: tuple[Path, EpochMetrics]) -> None:
    """And classifies an image alone as it does among others."""
    folder, row = compared
    found, checkpoint = load_classifier(folder), read_checkpoint(folder)
    held = load_dataset(checkpoint.trial.data)
    rows = held.split.validation
    assert found.error(held.images[rows], held.labels[rows]) == row.val_error
    state = restore_state(checkpoint, checkpoint.trial, held, torch.device("cpu"))
    images = held.images[rows[:20]]
    pixels = found.discriminator.traits.pixels.from_uint8(images, torch.float32)
    assert torch.equal(found(images), state.averaged(pixels).logits)
    torch.testing.assert_close(torch.cat([found(image.unsqueeze(0)) for image in images]), found(images))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the exporter's own
def test_onnx_compares_with_the_same_reference(compared: tuple[Path, EpochMetrics], tmp_path: Path) -> None:
    pytest.importorskip("onnxscript", reason="needs torch's ONNX exporter: onnx and onnxscript")
    runtime = pytest.importorskip("onnxruntime", reason="needs onnxruntime to read what was written")
    classifier = load_classifier(compared[0])
    images = load_dataset(read_checkpoint(compared[0]).trial.data).images
    export_onnx(classifier, tmp_path / "classifier.onnx")
    session = runtime.InferenceSession(tmp_path / "classifier.onnx")
    for count in (1, 5, 32):
        (logits,) = session.run(["logits"], {"images": images[:count].numpy()})
        np.testing.assert_allclose(logits, classifier(images[:count]).numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("model", "data"), [({"width": 0.1}, {}), ({"kind": "conv", "width": 0.04}, {"size": 16, "limit": 300})]
)
def test_an_sgan_is_a_classifier_of_the_classes(
    model: dict[str, object], data: dict[str, object], tmp_path: Path
) -> None:
    """conv needs images of 16 x 16 pixels."""
    digits = {"source": "digits", "labels": 20, "validation": 100}
    trial = trial_of(method="sgan", model=model, data={**digits, **data}, training={"epochs": 1})
    (row,) = train(trial, tmp_path)
    found, held = load_classifier(tmp_path), load_dataset(trial.data)
    rows = held.split.validation
    assert found.classes == held.classes
    assert found.error(held.images[rows], held.labels[rows]) == row.val_error


RECURRENT = {"kind": "recurrent", "head": 100, "minibatch_kernels": 3, "generator_norm": "virtual"}


@pytest.fixture(scope="module", params=["dcgan", "recurrent"])
def normed(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, EpochMetrics, Dataset]:
    """A folder of `train`, whose D has batch norm, its last row and its images: digits, for a DCGAN at 20 x 20."""
    folder = tmp_path_factory.mktemp("normed")
    digits = {"source": "digits", "labels": 20, "validation": 100, "limit": 300}
    if request.param == "dcgan":
        trial = trial_of(method="dcgan_ssl", model={"width": 0.1}, data=digits | {"size": 20}, training={"epochs": 2})
    else:
        trial = trial_of(model={"width": 0.1, **RECURRENT}, data=digits, training={"epochs": 2})
    return folder, train(trial, folder)[-1], load_dataset(trial.data)


def test_a_classifier_with_batch_norm_judges_each_image_alone(normed: tuple[Path, EpochMetrics, Dataset]) -> None:
    folder, row, held = normed
    rows = held.split.validation
    images, labels = held.images[rows], held.labels[rows]
    found = load_classifier(folder)
    assert found.error(images, labels) == row.val_error
    assert load_classifier(folder, "raw").error(images, labels) == row.val_error_raw
    alone = torch.cat([found(images[row : row + 1]) for row in range(20)])
    torch.testing.assert_close(found(images)[:20], alone)
    exact = found.double()
    alone = torch.cat([exact(images[row : row + 1]) for row in range(20)])
    torch.testing.assert_close(exact(images)[:20], alone, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("images", "labels"), [(0, 0), (2, 3)])
def test_an_error_needs_a_label_an_image(classifier: Classifier, images: int, labels: int) -> None:
    shown = torch.zeros(images, 1, 8, 8, dtype=torch.uint8)
    with pytest.raises(ValueError, match=f"got {images} images and {labels} labels"):
        classifier.error(shown, torch.zeros(labels, dtype=torch.int64))


def test_a_checkpoint_that_names_no_classes_is_refused(whitened: TrainState, tmp_path: Path) -> None:
    """As they were written before."""
    content = torch.load(io.BytesIO(encode_checkpoint(whitened, [])[:-32]), weights_only=True)
    buffer = io.BytesIO()
    torch.save({key: value for key, value in content.items() if key != "classes"}, buffer)
    (tmp_path / "old.pt").write_bytes(buffer.getvalue() + hashlib.sha256(buffer.getvalue()).digest())
    with pytest.raises(CheckpointError, match=r"old\.pt does not say which classes it knows"):
        load_classifier(tmp_path / "old.pt")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the exporter's own
def test_onnx_gives_the_same_logits_for_any_number_of_images(
    classifier: Classifier, digits: Dataset, tmp_path: Path
) -> None:
    pytest.importorskip("onnxscript", reason="needs torch's ONNX exporter: onnx and onnxscript")
    runtime = pytest.importorskip("onnxruntime", reason="needs onnxruntime to read what was written")
    export_onnx(classifier, tmp_path / "classifier.onnx")
    session = runtime.InferenceSession(tmp_path / "classifier.onnx")
    for count in (1, 5, 32):
        images = digits.images[:count]
        (logits,) = session.run(["logits"], {"images": images.numpy()})
        np.testing.assert_allclose(logits, classifier(images).numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_onnx_has_the_statistics_of_batch_norm_in_it(
    normed: tuple[Path, EpochMetrics, Dataset], tmp_path: Path
) -> None:
    pytest.importorskip("onnxscript", reason="needs torch's ONNX exporter: onnx and onnxscript")
    runtime = pytest.importorskip("onnxruntime", reason="needs onnxruntime to read what was written")
    classifier, images = load_classifier(normed[0]), normed[2].images[:32]
    export_onnx(classifier, tmp_path / "classifier.onnx")
    session = runtime.InferenceSession(tmp_path / "classifier.onnx")
    for count in (1, 5, 32):
        (logits,) = session.run(["logits"], {"images": images[:count].numpy()})
        np.testing.assert_allclose(logits, classifier(images)[:count].numpy(), rtol=1e-4, atol=1e-5)


def test_onnx_without_its_packages_says_what_to_install(
    classifier: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("plgan_tune.trained.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"needs onnx and onnxscript: pip install 'plgan-tune\[onnx\]'"):
        export_onnx(classifier, tmp_path / "classifier.onnx")
