"""One trial's configuration: every decision of the method is a typed key here.

A profile only chooses defaults (`defaults.py`); nothing below or after this module asks for its name.
"""

from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from plgan_tune.config.errors import RuleError, show
from plgan_tune.config.urls import check_no_password

Count = Annotated[int, Field(ge=0, le=1_000_000_000)]
Positive = Annotated[int, Field(ge=1, le=1_000_000_000)]
"""Of what is only compared with: its end is as good as never."""
Size = Annotated[int, Field(ge=1, le=1_000_000)]
"""Of what is made or worked off one by one."""
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Rate = Annotated[float, Field(gt=0.0, le=1.0)]
BelowOne = Annotated[float, Field(ge=0.0, lt=1.0)]
Weight = Annotated[float, Field(ge=0.0)]

Profile = Literal["recipe", "patent"]
Kind = Literal["mlp", "conv"]
Source = Literal["digits", "mnist", "fashion_mnist", "cifar10", "svhn", "parquet", "folder"]
Ramp = Literal["clamp", "literal", "zero", "one"]
FeatureNorm = Literal["mean", "sum", "l1"]
Supervised = Literal["softmax", "one_vs_all"]
Precision = Literal["auto", "float32", "float64", "bf16"]
WeightNormInit = Literal["xavier", "data"]
GeneratorWeightNormInit = Literal["xavier", "data", "one"]
Spread = Annotated[float, Field(gt=0.0)] | Literal["xavier"]
"""How weights are drawn: from a normal distribution of this deviation, or from Glorot and Bengio's uniform one."""

CONV_FEATURES = 10
"""The conv discriminator's hidden activations: nine convolutions and the global pool."""


class Frozen(BaseModel):
    """Base of every specification: immutable, no unknown key, no silent conversion."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class DataSpec(Frozen):
    """Which images, and how they are divided. Part of a study's identity: never searched."""

    source: Source
    path: str | None = None
    """Root, folder or URL of the source; null is the source's own default."""
    size: Annotated[int, Field(ge=4, le=4096)] | None = None
    """Resize the shorter side to this and centre-crop; null takes them as they are, all square alike."""
    labels: Positive
    """Images that keep their label, class-balanced."""
    validation: Positive
    """Images of the training set held out to measure val_error, class-balanced."""
    limit: Positive | None = None
    """Use at most this many training images, class-balanced, and as many without a label; null is all."""
    labels_in_pool: bool = True
    """Whether the labelled images are also in the unlabelled pool (improved-gan: yes)."""
    split_seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    refit: bool = False
    """Whether the validation images are trained on too, with their labels; val_error then judges nothing."""

    @field_validator("path")
    @classmethod
    def _holds_no_password(cls, value: str | None) -> str | None:
        return value if value is None else check_no_password(value)


class ModelSpec(Frozen):
    """The pair of networks (patent tables 4 and 5)."""

    kind: Kind
    width: Annotated[float, Field(gt=0.0, le=16.0)]
    """Scales every hidden layer of D and G."""
    hidden: Annotated[tuple[Size, ...], Field(strict=False)] | None
    """Units of the MLP discriminator's hidden layers before `width`; null for conv."""
    activation: Literal["relu", "leaky_relu"]
    """Of D; leaky has slope 0.2."""
    noise_input: Weight
    """Standard deviation of Gaussian noise on D's input while training."""
    noise_hidden: Weight
    """Standard deviation of Gaussian noise on D's hidden activations while training; MLP only."""
    dropout: Annotated[tuple[BelowOne, BelowOne, BelowOne], Field(strict=False)] | None
    """Of the conv discriminator: on the input, after the first and the second block; null for the MLP."""
    latent: Literal["uniform", "normal"]
    latent_size: Size
    initial_spread: Spread
    """Of D's weights. Under weight norm only their direction matters to the output, but their size to Adam."""
    weight_norm_init: WeightNormInit
    """Where D's scale g starts: at the norm of the weights, or where pre-activations of data have deviation 1."""
    train_hidden_gain: bool
    """Whether weight norm's g of D's hidden layers is trained."""
    generator_initial_spread: Spread
    """Of G's weights."""
    generator_weight_norm: bool
    """Weight norm on G's output layer."""
    generator_weight_norm_init: GeneratorWeightNormInit
    """Where the scale g of that layer starts: as D's, by draws of z in place of data, or at 1."""
    zca: bool
    """A fixed ZCA whitening as D's first operation."""
    feature_layer: int
    """Which of D's hidden activations V_feature compares; -1 is the last, as in a list."""

    @field_validator("hidden", "dropout", "noise_input", "noise_hidden", "zca")
    @classmethod
    def _belongs_to_kind(cls, value: object, info: ValidationInfo) -> object:
        kind = info.data.get("kind")
        owner = "conv" if info.field_name in ("dropout", "zca") else "mlp"
        if kind is not None and kind != owner and value not in (None, 0):
            raise RuleError(f"{info.field_name} belongs to kind {owner}", f"{show(value)} with kind {kind}")
        if kind == owner and (value is None or value == ()):
            raise RuleError(f"kind {kind} needs {info.field_name}", show(value))
        return value

    @field_validator("generator_weight_norm")
    @classmethod
    def _always_in_conv(cls, value: bool, info: ValidationInfo) -> bool:
        if info.data.get("kind") == "conv" and not value:
            raise RuleError("the conv generator's output layer always has weight norm (patent table 5)", "false")
        return value

    @field_validator("feature_layer")
    @classmethod
    def _is_a_layer(cls, value: int, info: ValidationInfo) -> int:
        hidden = info.data.get("hidden")
        layers = CONV_FEATURES if info.data.get("kind") == "conv" else len(hidden or ())
        if layers and not -layers <= value < layers:
            rule = f"D has {layers} hidden activations, so feature_layer must be in [{-layers}, {layers - 1}]"
            raise RuleError(rule, show(value))
        return value


class LossSpec(Frozen):
    """The piecewise loss (patent eq. 10 to 15)."""

    alpha: Weight
    beta: Weight
    switch_epoch: Positive
    """T: w reaches 1 in epoch T, counted from 0."""
    ramp: Ramp
    feature_norm: FeatureNorm
    supervised: Supervised
    unsupervised_scale: Weight


class OptimSpec(Frozen):
    """Adam, its decay, and the average of the weights that val_error tests."""

    lr_discriminator: Rate
    lr_generator: Rate
    decay_epoch: Positive
    """Learning rates fall linearly from this epoch on and are at `min_factor` by twice this epoch."""
    min_factor: Fraction
    beta1: BelowOne
    beta2: BelowOne
    eps: Annotated[float, Field(gt=0.0, le=1.0)]
    """Added to the root of Adam's mean square."""
    eps_root: Fraction = 0.0
    """Added to the mean square within the root (improved-gan: 1e-8)."""
    average_decay: BelowOne
    """Upper bound of the moving average's decay min(average_decay, n / (n + 10)) at update n."""

    @field_validator("eps_root")
    @classmethod
    def _needs_a_mean(cls, value: float, info: ValidationInfo) -> float:
        if value and info.data.get("beta2") == 0:
            raise RuleError("eps_root must be 0 where beta2 is 0: Adam then has no mean square", show(value))
        return value


class TrainingSpec(Frozen):
    epochs: Size
    batch_size: Annotated[int, Field(ge=2, le=1_000_000)]
    """Of each of the labelled, unlabelled and generated parts of a discriminator step; over all ranks."""
    discriminator_steps: Size
    """k: discriminator updates per generator update."""
    precision: Precision
    checkpoint_every: Positive | None = None
    """Epochs between checkpoints; null is about every two minutes of training."""


class TrialSpec(Frozen):
    """One configuration, every default filled in."""

    profile: Profile
    seed: Annotated[int, Field(ge=0, lt=2**63)]
    data: DataSpec
    model: ModelSpec
    loss: LossSpec
    optim: OptimSpec
    training: TrainingSpec


SECTIONS: Final[dict[str, type[Frozen]]] = {
    name: field.annotation
    for name, field in TrialSpec.model_fields.items()
    if isinstance(field.annotation, type) and issubclass(field.annotation, Frozen)
}
"""The sections of a trial, in their order."""

LEAVES: Final = tuple(
    path
    for name in TrialSpec.model_fields
    for path in ([f"{name}.{leaf}" for leaf in SECTIONS[name].model_fields] if name in SECTIONS else [name])
)
"""Every key of a trial by its dotted path, in the method's order."""


def trial_as_mapping(trial: TrialSpec) -> dict[str, Any]:
    """The trial as a file for `train --config` says it, every key given."""
    return {"trial": trial.model_dump(mode="json")}


def configuration_as_mapping(study: str, trial: TrialSpec, threads: int) -> dict[str, Any]:
    """A configuration of a study as `train` repeats it, with the CPU threads that have trained it."""
    return {"study": study, "resources": {"cpus_per_rank": threads}, **trial_as_mapping(trial)}
