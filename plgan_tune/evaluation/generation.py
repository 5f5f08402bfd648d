"""Images of a trained generator, and with Inception weights their Inception score and FID."""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset

from plgan_tune.gan.draws import Stream
from plgan_tune.gan.own import Own
from plgan_tune.study.errors import StudyError
from plgan_tune.trained import Weights, build_pair
from plgan_tune.training.checkpoint import Checkpoint
from plgan_tune.training.generate import BATCH, uint8_batch

IMAGES: Final = 10_000
"""Images generated per trial. The scores depend on their number, so it is constant."""

SPLITS: Final = 10
"""Parts of the images over which the Inception score is averaged (Salimans et al. 2016)."""


def generated(
    checkpoint: Checkpoint,
    device: torch.device,
    images: int = IMAGES,
    own: Own | None = None,
    weights: Weights = "raw",
) -> Tensor:
    """Return images of a checkpoint's generator, (images, channels, size, size) uint8 on the CPU; always the same.

    Args:
        checkpoint: the generator's weights and its trial.
        device: where the generator runs; z is drawn on the CPU.
        images: number of images, a multiple of `BATCH`.
        own: the user's own file that builds the networks; None if they are of the package.
        weights: which of the generator's weights.
    """
    generator = build_pair(checkpoint, own).generator.to(device)
    # Checkpoints of earlier versions have no average of the generator.
    content = checkpoint.content
    averaged = content.get("averaged_generator", content["generator"])
    generator.load_state_dict(averaged if weights == "averaged" else content["generator"])
    batches = range(images // BATCH)
    return torch.cat([uint8_batch(generator, checkpoint.trial, Stream.SAMPLES, batch).cpu() for batch in batches])


class Scores(NamedTuple):
    """Inception score, mean and deviation over 10 parts, and FID."""

    inception: float
    deviation: float
    fid: float


@dataclass(frozen=True, slots=True)
class Fidelity:
    """Inception score and FID by torch-fidelity.

    Attributes:
        weights: file of the Inception network's weights, in torch-fidelity's format.
        real: the images that FID compares with, (n, channels, size, size) uint8.
    """

    weights: Path
    real: Tensor

    def measure(self, images: Tensor) -> Scores:
        """Measure uint8 images (n, channels, size, size)."""
        from torch_fidelity import calculate_metrics  # noqa: PLC0415 - an extra, checked by `check_weights`

        found = calculate_metrics(
            input1=_Colour(images),
            input2=_Colour(self.real),
            cuda=torch.cuda.is_available(),
            isc=True,
            isc_splits=SPLITS,
            fid=True,
            feature_extractor_weights_path=str(self.weights),
            verbose=False,
            save_cpu_ram=True,
        )
        names = ("inception_score_mean", "inception_score_std", "frechet_inception_distance")
        return Scores(*(float(found[name]) for name in names))


class _Colour(Dataset[Tensor]):
    """Images with three channels, as torch-fidelity needs them."""

    def __init__(self, images: Tensor) -> None:
        self._images = images

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, place: int) -> Tensor:
        return self._images[place].expand(3, -1, -1)


def check_weights(file: Path) -> None:
    """Check, before anything is trained, that Inception score and FID can be measured. Nothing is downloaded.

    Raises:
        StudyError: if the package or the file is missing, or the file holds no weights.
    """
    if find_spec("torch_fidelity") is None:
        raise StudyError("--inception-weights needs the package torch-fidelity: pip install 'plgan-tune[fidelity]'")
    if not file.is_file():
        raise StudyError(f"--inception-weights must be a file of Inception weights, but there is no file {file}")
    try:
        # torch-fidelity itself would run the code in a pickle.
        held = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # zipfile, pickle and torch each have their own
        raise StudyError(f"--inception-weights must be a file of weights, but {file} is not: {error}") from error
    if not isinstance(held, dict) or "fc.weight" not in held:
        raise StudyError(f"--inception-weights must hold torch-fidelity's Inception network, but {file} does not")
