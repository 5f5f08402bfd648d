"""Use a trained generator: load a checkpoint as a module that makes uint8 images."""

from pathlib import Path

import torch
from torch import Tensor, nn

from plgan_tune.config.trial import ModelSpec
from plgan_tune.gan.draws import Stream
from plgan_tune.gan.own import Own
from plgan_tune.gan.pairs.base import Generator, ImageShape, latent_shape
from plgan_tune.trained import Weights, build_pair, image_of, read_trained, write_onnx
from plgan_tune.training.checkpoint import Checkpoint, CheckpointError
from plgan_tune.training.generate import BATCH, as_uint8, latent_of


class ImageGenerator(nn.Module):
    """A trained generator of uint8 images.

    Batch norm takes its statistics from the images of one pass. `sample`, `steps` and `between` therefore always pass
    100, as training's evaluations do, and return those that are asked for: an image depends on `seed` and its place
    alone, not on how many are asked for.

    Args:
        generator: The network, with its weights loaded.
        image: Channels and size of its images.
        model: The networks' settings.

    Attributes:
        image: Channels and size of its images.
        model: The networks' settings; `steps` is the number of steps in which it draws.
    """

    def __init__(self, generator: Generator, image: ImageShape, model: ModelSpec) -> None:
        super().__init__()
        self.generator = generator
        self.image = image
        self.model = model

    def forward(self, latent: Tensor) -> Tensor:
        """Return the images of these z, as one pass.

        Args:
            latent: Of the type of the weights and of shape (n, latent_size), or (n, steps, latent_size) if each step
                has a z of its own.

        Returns:
            uint8, of shape (n, channels, size, size).
        """
        return as_uint8(self.generator, self.generator(latent))

    @torch.no_grad()
    def sample(self, n: int, seed: int = 0) -> Tensor:
        """Return n images.

        Args:
            n: How many, at least 1.
            seed: Decides z. The first images of a larger n are those of a smaller one.

        Returns:
            uint8, of shape (n, channels, size, size), on the CPU.

        Raises:
            ValueError: If n is below 1.
        """
        return torch.cat([self(latent).cpu() for latent in self._batches(n, seed)])[:n]

    @torch.no_grad()
    def steps(self, n: int, seed: int = 0) -> Tensor:
        """Return the images of `sample` as they are after each step in which they are drawn.

        Returns:
            uint8, of shape (n, steps, channels, size, size), on the CPU. Generators of most kinds have one step.

        Raises:
            ValueError: If n is below 1.
        """
        G = self.generator
        drawn = [as_uint8(G, G.canvases(latent)).cpu() for latent in self._batches(n, seed)]
        return torch.cat(drawn)[:n]

    @torch.no_grad()
    def between(self, n: int, length: int, seed: int = 0) -> Tensor:
        """Return n ways from the z of one image to that of another.

        A way is straight if z is uniform. If it is normal, the way keeps to the length that z has: half-way on a
        straight one lie z that are shorter than any of training.

        Args:
            n: How many ways, at least 1.
            length: Images on each, the two ends included: 2 to 100.
            seed: The ends are the images 2 k and 2 k + 1 of `sample` with this seed.

        Returns:
            uint8, of shape (n, length, channels, size, size), on the CPU.

        Raises:
            ValueError: If n or `length` is out of its range.
        """
        if not 2 <= length <= BATCH:
            raise ValueError(f"length must be in [2, {BATCH}], but got {length}")
        ends = torch.cat(list(self._batches(2 * n, seed)))
        others = ends[: BATCH - length]
        ways = []
        for start, end in ends[: 2 * n].unflatten(0, (n, 2)):  # type: ignore[no-untyped-call]
            latent = torch.cat([_way(start, end, length, normal=self.model.latent == "normal"), others])
            ways.append(self(latent)[:length].cpu())
        return torch.stack(ways)

    def _batches(self, n: int, seed: int) -> list[Tensor]:
        """Return enough z for n images in whole batches, drawn on the CPU."""
        if n < 1:
            raise ValueError(f"n must be at least 1, but got {n}")
        batches = range(-(-n // BATCH))
        return [latent_of(self.generator, self.model, seed, Stream.SAMPLES, batch) for batch in batches]


def _way(start: Tensor, end: Tensor, length: int, *, normal: bool) -> Tensor:
    """Return z from one to the other, (length, *latent_shape)."""
    shares = torch.linspace(0, 1, length, dtype=start.dtype, device=start.device).view(-1, *[1] * start.ndim)
    if not normal:
        return torch.lerp(start, end, shares)
    # An arc of a great circle, as if both had one length, which normal z of many numbers nearly have.
    cosine = torch.nn.functional.cosine_similarity(start.flatten(), end.flatten(), dim=0).clamp(-0.999, 0.999)
    angle = torch.arccos(cosine)
    return (torch.sin((1 - shares) * angle) * start + torch.sin(shares * angle) * end) / torch.sin(angle)


def load_generator(path: str | Path, weights: Weights = "averaged", own: str | Path | None = None) -> ImageGenerator:
    """Load the generator of a checkpoint that `train`, `search` or `evaluate` wrote. It is on the CPU.

    ```python
    from plgan_tune import load_generator

    images = load_generator("results/digits_gan").sample(64, seed=1)
    ```

    Args:
        path: A checkpoint; the folder of a trial or of `train`, whose newest checkpoint is loaded; or a study's
            folder, whose best trial is loaded. A local path or a URL.
        weights: `averaged` are the weights that val_distance measures; `raw` are those of the last step.
        own: The file that builds the networks, if `trial.model.kind` is own: it must hold what the trial was trained
            with. Code that lies beside a checkpoint is never run.

    Returns:
        The generator, in float32 or, if it was trained so, in float64.

    Raises:
        StoreError: If it cannot be read, there is none, or no trial of the study has completed.
        CheckpointError: If it is damaged, or from a version that kept no average of the generator's weights and
            `weights` is `averaged`, or if its networks are a user's own and `own` is not given.
        RuleError: If `own` cannot be read or run, or holds something else.
    """
    return generator_of(*read_trained(path, own), weights)


def generator_of(checkpoint: Checkpoint, own: Own | None = None, weights: Weights = "averaged") -> ImageGenerator:
    """Return the generator of a checkpoint that has been read, with the user's own file that builds its networks.

    Raises:
        CheckpointError: If it holds no averaged weights, and they are asked for.
    """
    held = "averaged_generator" if weights == "averaged" else "generator"
    if held not in checkpoint.content:
        raise CheckpointError("it is of a version that kept no average of G's weights: ask for the raw ones")
    generator = build_pair(checkpoint, own).generator
    generator.load_state_dict(checkpoint.content[held])
    return ImageGenerator(generator, image_of(checkpoint), checkpoint.trial.model).requires_grad_(False).eval()


def export_onnx(generator: ImageGenerator, file: str | Path) -> None:
    """Write a generator as an ONNX file, for programs without PyTorch.

    The input is `latent`, of shape (n, latent_size), or (n, steps, latent_size) if each step has a z of its own. The
    output is `images`, uint8 of shape (n, channels, size, size). With batch norm, n is best the 100 that its images
    were measured with.

    Args:
        generator: The generator.
        file: The path of the file to write.

    Raises:
        ImportError: If the packages of PyTorch's exporter are missing (`pip install 'plgan-tune[onnx]'`).
    """
    dtype = next(generator.parameters()).dtype
    example = torch.linspace(-1, 1, 2 * _numbers(generator.model), dtype=dtype).view(2, *latent_shape(generator.model))
    write_onnx(generator, example, file, "latent", "images")


def _numbers(model: ModelSpec) -> int:
    return torch.Size(latent_shape(model)).numel()
