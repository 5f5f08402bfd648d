"""`python -m plgan_tune.generate`: shows what a trained generator draws, as one picture."""

import math
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import typer
from torch import Tensor

from plgan_tune.config.errors import RuleError
from plgan_tune.console.exit import Command, refuse, refuse_password, refusing
from plgan_tune.console.format import say, terminal
from plgan_tune.generator import ImageGenerator, load_generator
from plgan_tune.store.location import StoreError
from plgan_tune.training.checkpoint import CheckpointError
from plgan_tune.training.samples import encode_png, tiled

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

SEEN_WELL: Final = 32
"""Height of an image in pixels below which its pixels are enlarged."""

WAY: Final = 10
"""Images of a way between two."""


class Show(StrEnum):
    """What the picture shows."""

    SAMPLES = "samples"
    STEPS = "steps"
    BETWEEN = "between"


class AskedWeights(StrEnum):
    """Whose images: those of the averaged weights, or of the last step's."""

    AVERAGED = "averaged"
    RAW = "raw"


@app.command(cls=Command)
def main(
    checkpoint: Annotated[
        str, typer.Argument(metavar="CHECKPOINT", help="A checkpoint, or the folder of a trial, training or study.")
    ],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The PNG file to write.")] = Path("generated.png"),
    n: Annotated[
        int, typer.Option("--n", min=1, max=10_000, metavar="N", help="Images; rows, if a row shows steps or a way.")
    ] = 64,
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, metavar="SEED", help="Decides z.")] = 0,
    show: Annotated[
        Show,
        typer.Option(
            metavar="WHAT", help="samples; steps, in which each is drawn; or between: ways from one to another."
        ),
    ] = Show.SAMPLES,
    weights: Annotated[AskedWeights, typer.Option(metavar="WHICH", help="averaged or raw.")] = AskedWeights.AVERAGED,
    own: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The file of your own that builds the networks, if one does.")
    ] = None,
) -> None:
    """Draw images with a trained generator, and write them as one picture.

    A study's folder stands for its best trial.
    """
    with refusing(StoreError, CheckpointError, RuleError, OSError):
        refuse_password("CHECKPOINT", checkpoint)
        if out.suffix.lower() != ".png":
            refuse(f"--out must be a file that ends in .png, but got {out}")
        generator = load_generator(checkpoint, weights.value, own)
        images, columns = _drawn(generator, show, n, seed)
        out.write_bytes(encode_png(_enlarged(tiled(images, columns), generator.image.size)))
    say(terminal(), f"{out}: {len(images):,} images of the {weights} weights, seed {seed}")


def _drawn(generator: ImageGenerator, show: Show, n: int, seed: int) -> tuple[Tensor, int]:
    """Return images row by row, (rows * columns, channels, size, size) uint8, and the number of columns."""
    match show:
        case Show.SAMPLES:
            return generator.sample(n, seed), math.ceil(math.sqrt(n))
        case Show.STEPS:
            drawn = generator.steps(n, seed)
        case Show.BETWEEN:
            drawn = generator.between(n, WAY, seed)
    return drawn.flatten(0, 1), drawn.shape[1]


def _enlarged(picture: Tensor, size: int) -> Tensor:
    """Return the picture with each pixel as a square of pixels, if its images are too small to be seen well."""
    factor = max(1, SEEN_WELL // size)
    return picture.repeat_interleave(factor, dim=1).repeat_interleave(factor, dim=2)


if __name__ == "__main__":
    app()
