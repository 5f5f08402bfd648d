"""Scores of generated images, on known cases."""

from pathlib import Path

import pytest
import torch

from plgan_tune.evaluation import generation
from plgan_tune.evaluation.generation import Fidelity, check_weights
from plgan_tune.study.errors import StudyError
from plgan_tune.training.measures import classifier_score


def test_weights_without_the_package_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generation, "find_spec", lambda name: None)
    with pytest.raises(StudyError, match=r"needs the package torch-fidelity: pip install 'plgan-tune\[fidelity\]'"):
        check_weights(tmp_path)


@pytest.fixture
def with_fidelity() -> None:
    pytest.importorskip("torch_fidelity", reason="needs torch-fidelity, an extra")


@pytest.mark.usefixtures("with_fidelity")
def test_weights_that_are_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="there is no file"):
        check_weights(tmp_path / "weights.pth")
    (tmp_path / "text.pth").write_text("not weights")
    with pytest.raises(StudyError, match=r"must be a file of weights, but .*text\.pth is not"):
        check_weights(tmp_path / "text.pth")
    torch.save({"other": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(StudyError, match="must hold torch-fidelity's Inception network"):
        check_weights(tmp_path / "other.pth")


@pytest.mark.slow
@pytest.mark.usefixtures("with_fidelity")
@pytest.mark.filterwarnings("ignore")  # torch-fidelity's own
def test_fidelity_runs_on_weights_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights drawn at random, since the real ones must be downloaded: what the formulas demand holds of any."""
    from torch_fidelity import feature_extractor_inceptionv3 as inception  # noqa: PLC0415

    with torch.random.fork_rng(), monkeypatch.context() as patched:
        patched.setattr(inception, "load_state_dict_from_url", lambda *_, **__: {})
        patched.setattr(inception.FeatureExtractorInceptionV3, "load_state_dict", lambda *_: None)
        torch.manual_seed(0)
        drawn = inception.FeatureExtractorInceptionV3("inception", ["logits_unbiased"]).eval()
        for weight in (parameter for parameter in drawn.parameters() if parameter.ndim > 1):
            torch.nn.init.kaiming_normal_(weight)  # torch's own draw lets every image fade to one class's 1/1008
        drawn.fc.weight.data *= 10
    torch.save(drawn.state_dict(), tmp_path / "weights.pth")
    check_weights(tmp_path / "weights.pth")

    dark_to_bright = torch.arange(0, 240, 12, dtype=torch.uint8)[:, None, None, None].expand(-1, 1, 8, 8)
    monkeypatch.setattr(generation, "SPLITS", 1)  # torch-fidelity shuffles what it splits
    fidelity = Fidelity(tmp_path / "weights.pth", dark_to_bright)
    score, _, distance = fidelity.measure(dark_to_bright)
    with torch.no_grad():
        (logits,) = drawn(dark_to_bright.expand(-1, 3, -1, -1))
    assert score == pytest.approx(classifier_score(logits.softmax(dim=1)), rel=1e-3)
    assert score > 1.1  # else the classes say nothing of the images
    far = fidelity.measure(dark_to_bright // 2).fid
    assert abs(distance) < 1e-3 * far
