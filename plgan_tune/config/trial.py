"""One trial's configuration: every decision of the method is a typed key.

A method only chooses defaults (`methods.py`); no other code depends on its name.
"""

from collections.abc import Callable
from typing import Annotated, Any, Final, Literal, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from plgan_tune.config.errors import RuleError, show
from plgan_tune.config.urls import check_no_password

Count = Annotated[int, Field(ge=0, le=1_000_000_000)]
Positive = Annotated[int, Field(ge=1, le=1_000_000_000)]
"""For numbers that are only compared with; the upper bound amounts to never."""
Size = Annotated[int, Field(ge=1, le=1_000_000)]
"""For numbers of things that are created or processed one by one."""
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Rate = Annotated[float, Field(gt=0.0, le=1.0)]
BelowOne = Annotated[float, Field(ge=0.0, lt=1.0)]
Weight = Annotated[float, Field(ge=0.0)]

Method = Literal[
    "pl_gan",
    "patent",
    "regular_gan",
    "feature_wise_gan",
    "saturating_gan",
    "sgan",
    "dcgan_ssl",
    "self_training",
    "supervised",
    "gran",
    "wgan",
    "wirgan",
    "wgan_gp",
    "gp_wirgan",
]
Kind = Literal["mlp", "conv", "dcgan", "recurrent"]
OwnKind = Literal["own"]
"""A pair of networks that the user's own file builds (`OwnSpec`)."""
Source = Literal["digits", "mnist", "fashion_mnist", "cifar10", "svhn", "parquet", "folder"]
Background = Literal["white", "black"]
Channels = Literal["auto", 1, 3]
Fit = Literal["crop", "pad", "stretch"]
OnBroken = Literal["refuse", "skip"]
Duplicates = Literal["note", "drop"]
Game = Literal["logistic", "wasserstein"]
OptimiserKind = Literal["adam", "rmsprop"]
Ramp = Literal["clamp", "literal", "zero", "one"]
FeatureNorm = Literal["mean", "sum", "l1"]
Supervised = Literal["softmax", "one_vs_all", "joint"]
SelfImages = Literal["generated", "unlabelled"]
Precision = Literal["auto", "float32", "float64", "bf16"]
WeightNormInit = Literal["xavier", "data"]
FakeLogit = Literal["fixed", "learned"]
DiscriminatorNorm = Literal["batch", "weight", "none"]
GeneratorNorm = Literal["batch", "virtual", "none"]
Canvas = Literal["last", "sum"]
GeneratorWeightNormInit = Literal["xavier", "data", "one"]
Spread = Annotated[float, Field(gt=0.0)] | Literal["xavier", "he"]
"""How weights are drawn: from a normal distribution with this deviation, Glorot and Bengio's uniform one, or one of
twice its variance, for ReLU (He et al. 2015)."""

CONV_FEATURES = 10
"""The conv discriminator's hidden activations: nine convolutions and the global pool."""

DCGAN_FEATURES = 4
"""The dcgan discriminator's hidden activations: those of its convolutions."""


class Frozen(BaseModel):
    """Base of every specification: immutable, no unknown key, no silent conversion."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class DataSpec(Frozen):
    """The images and how they are split. Never searched, because it identifies a study."""

    source: Source
    path: str | None = None
    """Root, folder or URL of the source; null is the source's own default."""
    size: Annotated[int, Field(ge=4, le=4096)] | None = None
    """Resize the shorter side to this and centre-crop; null keeps images as they are, all square and of one size."""
    labels: Count
    """Images that keep their label, class-balanced; 0 is training without any."""
    validation: Positive
    """Images of the training set held out to measure by, class-balanced if their classes are known."""
    limit: Positive | None = None
    """Use at most this many training images, class-balanced, and as many without a label; null is all."""
    labels_in_pool: bool = True
    """Whether the labelled images are also in the unlabelled pool (improved-gan: yes)."""
    split_seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    refit: bool = False
    """Whether to train on the validation images too, with their labels; val_error is then meaningless."""
    fit: Fit = "crop"
    """How an image that is not square becomes one of `size`: cropped, padded with `background`, or stretched."""
    background: Background = "white"
    """The colour behind what is transparent, and beside what is padded."""
    channels: Channels = "auto"
    """1 for grey, 3 for colour; auto is what the first image has."""
    on_broken: OnBroken = "refuse"
    """What to do if images cannot be decoded: refuse all, or skip these."""
    duplicates: Duplicates = "note"
    """What to do with images that are the same once decoded: say it, or keep one of each."""

    def logits(self, classes: int) -> int:
        """Return how many logits D has for images of so many classes: one if no image has a label."""
        return classes if self.labels else 1

    @field_validator("fit")
    @classmethod
    def _needs_a_size(cls, value: Fit, info: ValidationInfo) -> Fit:
        if value != "crop" and info.data.get("size", 0) is None:
            raise RuleError("fit needs data.size: with size null, images are kept as they are", show(value))
        return value

    @field_validator("path")
    @classmethod
    def _holds_no_password(cls, value: str | None) -> str | None:
        return value if value is None else check_no_password(value)


class ModelSpec(Frozen):
    """The pair of networks (patent tables 4 and 5, a DCGAN's, and a recurrent one)."""

    kind: Kind | OwnKind
    width: Annotated[float, Field(gt=0.0, le=16.0)]
    """Scales every hidden layer of D and G."""
    hidden: Annotated[tuple[Size, ...], Field(strict=False)] | None
    """Units of the MLP discriminator's hidden layers before `width`; null for the others."""
    activation: Literal["relu", "leaky_relu"]
    """Activation of D; leaky has slope 0.2."""
    noise_input: Weight
    """Standard deviation of Gaussian noise on D's input while training."""
    noise_hidden: Weight
    """Standard deviation of Gaussian noise on D's hidden activations while training; MLP only."""
    dropout: Annotated[tuple[BelowOne, BelowOne, BelowOne], Field(strict=False)] | None
    """Dropout of the conv discriminator: on the input, after the first and the second block; null for the others."""
    latent: Literal["uniform", "normal"]
    latent_size: Size
    initial_spread: Spread
    """Spread of D's weights. With weight norm their size does not change the output, but Adam's steps."""
    weight_norm_init: WeightNormInit
    """Initial scale g of D: the norm of the weights, or where pre-activations of data have deviation 1."""
    train_hidden_gain: bool
    """Whether weight norm's g of D's hidden layers is trained."""
    generator_initial_spread: Spread
    """Spread of G's weights."""
    generator_weight_norm: bool
    """Weight norm on G's output layer."""
    generator_weight_norm_init: GeneratorWeightNormInit
    """Initial scale g of that layer: as D's, with draws of z in place of data, or 1."""
    zca: bool
    """A fixed ZCA whitening as D's first operation."""
    feature_layer: int
    """The hidden activations of D that V_feature compares, by index; -1 is the last."""
    fake_logit: FakeLogit = "fixed"
    """The logit of "generated": 0, or one more output of D."""
    discriminator_norm: DiscriminatorNorm = "weight"
    """What D's layers are normalised by: dcgan has any, recurrent batch or none, the others always weight norm."""
    minibatch_kernels: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    """B of minibatch discrimination: measures of how close an image lies to its batch, which D's output reads too."""
    minibatch_size: Size = 5
    """C: numbers of an image that each of them compares."""
    generator_norm: GeneratorNorm = "batch"
    """Normalisation in G's hidden layers: by the batch, by the image and a fixed reference batch, or none."""
    steps: Annotated[int, Field(ge=1, le=1000)] = 1
    """T: steps in which the recurrent G draws an image, with the same weights."""
    canvas: Canvas = "last"
    """The recurrent G's image: what its last step draws, or the sum of what all draw."""
    latent_each_step: bool = False
    """Whether each step of the recurrent G has a z of its own, or all have the same."""
    latent_layer: bool = False
    """Whether z first passes a dense layer, its normalisation and a tanh; recurrent only."""
    head: Size | None = None
    """Units, before `width`, of a dense layer with tanh below the recurrent D's output; null is none."""

    @field_validator("minibatch_kernels", "generator_norm")
    @classmethod
    def _not_in_own(cls, value: object, info: ValidationInfo) -> object:
        if info.data.get("kind") == "own" and value not in (0, "batch"):
            raise RuleError(f"{info.field_name} is for the pairs of the package alone", f"{show(value)} with kind own")
        return value

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

    @field_validator("steps", "canvas", "latent_each_step", "latent_layer", "head")
    @classmethod
    def _belongs_to_recurrent(cls, value: object, info: ValidationInfo) -> object:
        kind, name = info.data.get("kind"), str(info.field_name)
        if kind not in (None, "recurrent") and value != cls.model_fields[name].default:
            raise RuleError(f"{name} belongs to kind recurrent", f"{show(value)} with kind {kind}")
        return value

    @field_validator("generator_weight_norm")
    @classmethod
    def _fixed_by_some_kinds(cls, value: bool, info: ValidationInfo) -> bool:
        if info.data.get("kind") == "recurrent" and value:
            raise RuleError("the recurrent generator has no weight norm", "true")
        if info.data.get("kind") == "conv" and not value:
            raise RuleError("the conv generator's output layer always has weight norm (patent table 5)", "false")
        return value

    @field_validator("discriminator_norm")
    @classmethod
    def _is_one_of_the_kind_s(cls, value: DiscriminatorNorm, info: ValidationInfo) -> DiscriminatorNorm:
        kind = info.data.get("kind")
        if kind in ("mlp", "conv") and value != "weight":
            raise RuleError(f"the discriminator of kind {kind} always has weight norm (weight)", show(value))
        if kind == "recurrent" and value == "weight":
            raise RuleError("the discriminator of kind recurrent has batch norm or none (batch, none)", show(value))
        if kind == "own" and value != "weight":
            raise RuleError("discriminator_norm belongs to kinds dcgan and recurrent", f"{show(value)} with kind own")
        return value

    @field_validator("feature_layer")
    @classmethod
    def _is_a_layer(cls, value: int, info: ValidationInfo) -> int:
        of_kind = {"conv": CONV_FEATURES, "dcgan": DCGAN_FEATURES}
        layers = of_kind.get(info.data.get("kind", ""), len(info.data.get("hidden") or ()))
        if layers and not -layers <= value < layers:
            rule = f"D has {layers} hidden activations, so feature_layer must be in [{-layers}, {layers - 1}]"
            raise RuleError(rule, show(value))
        return value


class LossSpec(Frozen):
    """The game, and the terms beside it (patent eq. 10 to 15)."""

    game: Game = "logistic"
    """What D and G minimise about real and generated."""
    alpha: Weight
    beta: Weight
    switch_epoch: Positive
    """T: w reaches 1 in epoch T, counted from 0."""
    ramp: Ramp
    feature_norm: FeatureNorm
    supervised: Supervised
    unsupervised_scale: Weight
    smoothing: Annotated[float, Field(ge=0.0, le=0.5)] = 0.0
    """D's target for unlabelled real images is 1 less this; generated images keep the target 0."""
    history: Weight = 0.0
    """h of h |th - m|^2 in both losses, where m is the mean of the past weights th."""
    weight_decay: Weight = 0.0
    """wd of wd / 2 |W|^2 in D's loss, over its weights without biases and gains."""
    supervised_scale: Weight = 1.0
    """The weight of C_sup in D's loss."""
    self_scale: Weight = 0.0
    """Weight of C_self, self-training, in D's loss."""
    self_threshold: Rate = 0.95
    """The least probability of a class from which the averaged D's answer is a target of C_self."""
    self_images: SelfImages = "generated"
    """The images that C_self is about."""
    self_epoch: Count | None = None
    """C_self plays from this epoch on, counted from 0; null is switch_epoch."""
    gradient_penalty: Weight = 0.0
    """lambda of the penalty of D's slope between real and generated images."""

    @field_validator("ramp", "smoothing")
    @classmethod
    def _of_the_logistic_game(cls, value: object, info: ValidationInfo) -> object:
        if info.data.get("game") == "wasserstein" and value not in ("zero", 0):
            off = "zero" if info.field_name == "ramp" else "0"
            rule = f"{info.field_name} belongs to the logistic game, and must be {off} in another"
            raise RuleError(rule, f"{show(value)} with game wasserstein")
        return value

    @property
    def self_start(self) -> int:
        """The epoch from which C_self plays, counted from 0."""
        return self.switch_epoch if self.self_epoch is None else self.self_epoch


class OptimSpec(Frozen):
    """The optimiser, its learning rate decay, and the averaged weights that val_error measures."""

    kind: OptimiserKind = "adam"
    """Of both networks."""
    lr_discriminator: Rate
    lr_generator: Rate
    decay_epoch: Positive
    """Learning rates fall linearly from this epoch on, and reach `min_factor` at twice this epoch."""
    min_factor: Fraction
    beta1: BelowOne
    beta2: BelowOne
    eps: Annotated[float, Field(gt=0.0, le=1.0)]
    """Added to the square root of the mean square."""
    eps_root: Fraction = 0.0
    """Added to the mean square inside the square root (improved-gan: 1e-8)."""
    average_decay: BelowOne
    """Upper bound of the moving average's decay min(average_decay, n / (n + 10)) at update n."""
    clip: Annotated[float, Field(gt=0.0)] | None = None
    """c: after each of its steps, D's trained weights are clipped to [-c, c]; null is not at all."""

    @field_validator("eps_root")
    @classmethod
    def _needs_a_mean(cls, value: float, info: ValidationInfo) -> float:
        if value and info.data.get("beta2") == 0:
            raise RuleError("eps_root must be 0 if beta2 is 0: Adam then has no mean square", show(value))
        return value

    @field_validator("beta1", "eps_root")
    @classmethod
    def _is_of_adam(cls, value: float, info: ValidationInfo) -> float:
        if value and info.data.get("kind") == "rmsprop":
            raise RuleError(f"{info.field_name} belongs to adam, and must be 0", f"{show(value)} with kind rmsprop")
        return value


class TrainingSpec(Frozen):
    """Epochs, batches, precision and checkpoints."""

    epochs: Size
    batch_size: Annotated[int, Field(ge=2, le=1_000_000)]
    """Size of each of the labelled, unlabelled and generated parts of a discriminator step, over all ranks."""
    discriminator_steps: Size
    """k: discriminator updates of a round."""
    generator_steps: Size = 1
    """g: generator updates of a round, which follow those of the discriminator."""
    precision: Precision
    checkpoint_every: Positive | None = None
    """Epochs between checkpoints; null is about every two minutes of training."""


class OwnSpec(Frozen):
    """A user's own file of terms or networks, and values for the keys that it defines, which it alone knows."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, bool | int | float | str]

    file: str | None = None
    """Path of the file, relative to the space file; null is none."""
    sha256: str | None = None
    """Hash of its content. A search and a training fill it in."""

    @property
    def values(self) -> dict[str, bool | int | float | str]:
        """The given values of the keys that the file defines."""
        return dict(self.__pydantic_extra__)


class TrialSpec(Frozen):
    """One configuration, with every default filled in."""

    method: Method
    seed: Annotated[int, Field(ge=0, lt=2**63)]
    data: DataSpec
    model: ModelSpec
    loss: LossSpec
    optim: OptimSpec
    training: TrainingSpec
    own: OwnSpec = OwnSpec()

    @model_validator(mode="after")
    def _keeps_the_rules(self) -> Self:
        for rule in PAIR_RULES:
            if rule.breaks(self):
                values = [show(_value(self, key)) for key in (rule.key, rule.other)]
                raise RuleError(rule.text, f"{values[0]} with {rule.other.partition('.')[2]} {values[1]}", rule.key)
        return self


class PairRule(NamedTuple):
    """A rule on two keys of different sections.

    Attributes:
        key: the one that a message names as broken.
        other: the other one.
        text: what must hold, and why.
        breaks: whether a trial breaks it.
    """

    key: str
    other: str
    text: str
    breaks: Callable[[TrialSpec], bool]


PAIR_RULES: Final = (
    PairRule(
        "model.minibatch_kernels",
        "loss.gradient_penalty",
        "must be 0, or loss.gradient_penalty: the penalty is of one image's gradient, and these make D see a batch",
        lambda trial: trial.loss.gradient_penalty > 0 and trial.model.minibatch_kernels > 0,
    ),
    PairRule(
        "model.discriminator_norm",
        "loss.gradient_penalty",
        "must be weight or none, or loss.gradient_penalty 0: the penalty is of one image's gradient, and a batch norm "
        "makes D see a batch",
        lambda trial: trial.loss.gradient_penalty > 0 and trial.model.discriminator_norm == "batch",
    ),
    PairRule(
        "optim.clip",
        "loss.gradient_penalty",
        "must be null, or loss.gradient_penalty 0: both bound D's slope",
        lambda trial: trial.loss.gradient_penalty > 0 and trial.optim.clip is not None,
    ),
    PairRule(
        "data.labels",
        "loss.supervised_scale",
        "must be at least 1, or loss.supervised_scale 0: without a label there is no class to learn",
        lambda trial: trial.data.labels == 0 and trial.loss.supervised_scale > 0,
    ),
    PairRule(
        "data.labels",
        "loss.self_scale",
        "must be at least 1, or loss.self_scale 0: without a label there is no class to learn",
        lambda trial: trial.data.labels == 0 and trial.loss.self_scale > 0,
    ),
    PairRule(
        "data.labels",
        "model.fake_logit",
        'must be at least 1, or model.fake_logit fixed: without classes, the logit of "generated" is no further one',
        lambda trial: trial.data.labels == 0 and trial.model.fake_logit == "learned",
    ),
)
"""Rules that no section can check alone."""


def _value(trial: TrialSpec, key: str) -> object:
    section, _, leaf = key.partition(".")
    return getattr(getattr(trial, section), leaf)


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


BOUND_IN_PAIRS: Final = frozenset(
    {
        frozenset({"optim.beta2", "optim.eps_root"}),
        *(frozenset({"loss.game", key}) for key in ("loss.ramp", "loss.smoothing")),
        *(frozenset({"optim.kind", key}) for key in ("optim.beta1", "optim.eps_root")),
        *(frozenset({rule.key, rule.other}) for rule in PAIR_RULES),
    }
)
"""Pairs of keys outside `model` of which one's value bounds the other's. Within `model` any two may."""


def trial_as_mapping(trial: TrialSpec) -> dict[str, Any]:
    """Return the trial as a file for `train --config`, with every key."""
    return {"trial": trial.model_dump(mode="json")}


def configuration_as_mapping(study: str, trial: TrialSpec, threads: int) -> dict[str, Any]:
    """Return a configuration of a study as a file for `train --config`, with the CPU threads that trained it."""
    return {"study": study, "resources": {"cpus_per_rank": threads}, **trial_as_mapping(trial)}
