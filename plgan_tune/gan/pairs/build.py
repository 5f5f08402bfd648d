"""Choose a pair by its name and build it."""

import torch
from torch import Tensor

from plgan_tune.config.errors import RuleError
from plgan_tune.config.trial import ModelSpec
from plgan_tune.gan.layers import Whitening
from plgan_tune.gan.own import Own
from plgan_tune.gan.pairs.base import Discriminator, Generator, ImageShape, Pair
from plgan_tune.gan.pairs.conv import SMALLEST as SMALLEST_CONV
from plgan_tune.gan.pairs.conv import ConvDiscriminator, ConvGenerator
from plgan_tune.gan.pairs.dcgan import SMALLEST as SMALLEST_DCGAN
from plgan_tune.gan.pairs.dcgan import DcganDiscriminator, DcganGenerator
from plgan_tune.gan.pairs.mlp import MlpDiscriminator, MlpGenerator
from plgan_tune.gan.pairs.recurrent import SMALLEST as SMALLEST_RECURRENT
from plgan_tune.gan.pairs.recurrent import RecurrentDiscriminator, RecurrentGenerator, count_features

LARGEST_ZCA = 48
"""Height and width above which the covariance (6,912 squared for colour) costs more than it gains."""


def check_image(model: ModelSpec, image: ImageShape) -> None:
    """Check that the model can work on images of this shape.

    Raises:
        RuleError: if it cannot.
    """
    size = f"{image.size} x {image.size}"
    least = {"conv": SMALLEST_CONV, "dcgan": SMALLEST_DCGAN, "recurrent": SMALLEST_RECURRENT}.get(model.kind, 1)
    if image.size < least:
        rule = f"trial.model.kind: {model.kind} needs images of at least {least} x {least} (use mlp)"
        raise RuleError(rule, size)
    if model.kind == "recurrent":
        _check_feature_layer(model.feature_layer, count_features(model, image.size), size)
    if model.zca and image.size > LARGEST_ZCA:
        most = f"{LARGEST_ZCA} x {LARGEST_ZCA}"
        raise RuleError(
            f"trial.model.zca: needs images of at most {most} (set it to false, or trial.data.size smaller)", size
        )


def _check_feature_layer(value: int, layers: int, size: str) -> None:
    if not -layers <= value < layers:
        rule = f"trial.model.feature_layer: D has {layers} hidden activations of images of {size}, so it must be in "
        raise RuleError(f"{rule}[{-layers}, {layers - 1}]", str(value))


def build(
    model: ModelSpec,
    image: ImageShape,
    classes: int,
    generators: tuple[torch.Generator, torch.Generator],
    whitening: Whitening | None = None,
    *,
    reference_images: Tensor | None = None,
    reference_latent: Tensor | None = None,
    own: Own | None = None,
) -> Pair:
    """Build both networks with new weights, on the CPU in float32, not yet calibrated.

    Args:
        model: kind and settings of the pair.
        image: shape of the images.
        classes: number of classes, and of D's logits.
        generators: random generators for D's and for G's initial weights.
        whitening: D's first operation if `model.zca` is set.
        reference_images: D's `reference` if `model.minibatch_kernels` is not 0, as many as a batch has.
        reference_latent: G's `reference` if `model.generator_norm` is virtual. Both are buffers, so whoever loads saved
            weights gives any of the same shape.
        own: the user's own file, which builds the pair if `model.kind` is own.

    Raises:
        RuleError: if model and images do not fit (`check_image`), or the user's own file builds no pair.
    """
    check_image(model, image)
    for_d, for_g = generators
    D: Discriminator
    G: Generator
    match model.kind:
        case "mlp":
            D, G = MlpDiscriminator(model, image, classes, for_d), MlpGenerator(model, image, for_g)
        case "conv":
            D, G = ConvDiscriminator(model, image, classes, for_d), ConvGenerator(model, image, for_g)
        case "dcgan":
            D, G = DcganDiscriminator(model, image, classes, for_d), DcganGenerator(model, image, for_g)
        case "recurrent":
            D, G = RecurrentDiscriminator(model, image, classes, for_d), RecurrentGenerator(model, image, for_g)
        case "own":
            assert own is not None
            D, G = own.pair(model, image, classes, generators)
    if not model.train_hidden_gain:
        D.freeze_hidden_gains()
    if model.generator_weight_norm_init == "one":
        G.start_at_scale_one()
    D.whitening = whitening
    D.reference, G.reference = reference_images, reference_latent
    return Pair(D, G)
