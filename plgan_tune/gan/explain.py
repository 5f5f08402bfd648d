"""What a configuration trains, in words: the formula sheet of `objective.py` with a trial's numbers filled in.

A term of weight 0 is left out, as it moves no weight. r(x) is the realness of an image, logsumexp of its logits.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from plgan_tune.config.trial import FeatureNorm, LossSpec, ModelSpec, OptimiserKind, OptimSpec, Supervised, TrialSpec
from plgan_tune.gan.own import PREFIX, TERMS_D, TERMS_G, Own
from plgan_tune.gan.schedules import learning_rate_factor, ramp


class Line(NamedTuple):
    """A quantity, or a key, and what there is to say about it."""

    name: str
    text: str


class Explanation(NamedTuple):
    """What a trial minimises.

    Attributes:
        discriminator: L_D, its terms, what else D's output reads, and how D moves.
        generator: L_G, its terms, how G draws if it is recurrent, how it normalises if not by the batch, and how it
            moves.
        idle: keys whose value moves no weight of either network here, each with the reason.
    """

    discriminator: tuple[Line, ...]
    generator: tuple[Line, ...]
    idle: tuple[Line, ...]


C_SUP: Final[Mapping[Supervised, str]] = {
    "softmax": "-E log p(y | x_l), over the N classes",
    "one_vs_all": "-E sum_n [y_n log p_n + (1 - y_n) log(1 - p_n)] of x_l",
    "joint": '-E log p(y | x_l), over the N classes and "generated"',
}

OPTIMISERS: Final[Mapping[OptimiserKind, str]] = {"adam": "Adam", "rmsprop": "RMSprop"}

V_FEATURE: Final[Mapping[FeatureNorm, str]] = {
    "mean": "mean_j d_j^2",
    "sum": "sum_j d_j^2",
    "l1": "mean_j |d_j|",
}


def explain(trial: TrialSpec, own: Own | None = None) -> Explanation:
    """Return what this trial minimises, term by term (docs/method.md), and its keys without effect.

    Args:
        trial: the configuration.
        own: the file that `trial.own` names, run with the trial's values.
    """
    of_d, of_g = (() if own is None else tuple(_own(own, function)) for function in (TERMS_D, TERMS_G))
    idle = [line for line in _idle(trial) if own is None or line.name not in _KNOWN_TO_OWN]
    return Explanation((*_discriminator(trial, of_d), *of_d), (*_generator(trial, of_g), *of_g), tuple(idle))


_KNOWN_TO_OWN: Final = frozenset(
    {
        *("loss.ramp", "loss.switch_epoch", "model.feature_layer"),
        *("optim.lr_generator", "training.generator_steps"),
    }
)
"""Keys that own terms may depend on, whatever the method leaves out."""


def _own(own: Own, function: str) -> Iterator[Line]:
    """Say where each of the file's terms comes from, and with which values."""
    values = ", ".join(f"{key} {_given(value)}" for key, value in own.keys)
    for name in own.names[function]:
        yield Line(PREFIX + name, f"E of {name} in {function} of trial.own.file{values and f', with {values}'}")


def _given(value: object) -> str:
    """Return a value of a key as a space file has it, a float with six significant digits."""
    return f"{value:g}" if isinstance(value, float) else str(value).lower() if isinstance(value, bool) else str(value)


def _discriminator(trial: TrialSpec, own: Sequence[Line]) -> Iterator[Line]:
    loss, optim = trial.loss, trial.optim
    scale = loss.unsupervised_scale
    game = "E rho(r(x_u)) + E phi(r(G(z)))"
    weighted = game if scale == 1 else f"{scale:g} [{game}]" if scale else ""
    decay = f"{loss.weight_decay / 2:g} |W|^2" if loss.weight_decay else ""
    supervised = f"{_times(loss.supervised_scale)}C_sup" if loss.supervised_scale else ""
    taught = f"{_times(loss.self_scale)}C_self" if self_trains(trial) else ""
    penalty = f"{_times(loss.gradient_penalty)}C_gp" if loss.gradient_penalty else ""
    terms = [supervised, weighted, taught, penalty, *(line.name for line in own)]
    yield Line("L_D", _sum(terms, [decay, _history(loss, "D")]))
    if supervised:
        yield Line("C_sup", C_SUP[loss.supervised])
    if scale:
        yield from _game_of_discriminator(loss)
    if penalty:
        yield Line("C_gp", "E (|dr/dx| - 1)^2 at x = u x_u + (1 - u) G(z), u uniform in [0, 1]")
    if scale or loss.alpha or penalty:
        yield Line("r(x)", _realness(trial))
    yield from _minibatch(trial.model)
    if taught:
        yield from _self_training(loss)
    if decay:
        yield Line("W", "weights of D, without biases and gains")
    if loss.history:
        yield Line("m_D", "mean of the past th_D, D's trained weights")
    if optim.clip is not None:
        yield Line("th_D", f"clipped to [-{optim.clip:g}, {optim.clip:g}] after each step")
    yield _rate(optim.lr_discriminator, optim, trial.training.epochs)
    k, g = trial.training.discriminator_steps, trial.training.generator_steps
    yield Line("steps", f"{k} of D for each of G" if g == 1 else f"{k} of D for each {g} of G")


def _generator(trial: TrialSpec, own: Sequence[Line]) -> Iterator[Line]:
    loss, optim = trial.loss, trial.optim
    if not trains_generator(loss) and not own:
        yield Line("L_G", "0: G is not trained, for alpha and beta are 0")
        return
    V_log = f"{_times(loss.alpha)}E gamma(r(G(z)))" if loss.alpha else ""
    V_feature = f"{_times(loss.beta)}V_feature" if loss.beta else ""
    yield Line("L_G", _sum([V_log, V_feature, *(line.name for line in own)], [_history(loss, "G")]))
    if loss.alpha:
        yield from _game_of_generator(loss, trial.training.epochs)
    if loss.beta:
        yield Line("V_feature", f"{V_FEATURE[loss.feature_norm]}, d = E f(x_u) - E f(G(z))")
        yield Line("f(x)", f"hidden activation {trial.model.feature_layer} of D")
    if loss.history:
        yield Line("m_G", "mean of the past th_G, G's weights")
    yield from _steps(trial.model)
    yield from _norm(trial)
    yield _rate(optim.lr_generator, optim, trial.training.epochs)


def _self_training(loss: LossSpec) -> Iterator[Line]:
    x = "G(z)" if loss.self_images == "generated" else "x_u"
    yield Line("C_self", f"-E [max p' >= {loss.self_threshold:g}] log p(argmax p' | {x}), from e {loss.self_start} on")
    yield Line("p'", f"p(y | {x}) of the average of D, without noise")


def _steps(model: ModelSpec) -> Iterator[Line]:
    """Say how a recurrent G draws an image."""
    if model.kind != "recurrent":
        return
    T = model.steps
    z = "z_t" if model.latent_each_step and T > 1 else "z"
    if T == 1:
        yield Line("G(z)", "tanh f(z), in one step")
    elif model.canvas == "last":
        yield Line("G(z)", f"C_{T}, the last of C_t = tanh f({z}, h_t) in {T} steps")
        yield Line("h_t", "g(C_(t-1)), h_1 = 0")
    else:
        yield Line("G(z)", f"tanh(C_1 + ... + C_{T}), C_t = f({z}, h_t) in {T} steps")
        yield Line("h_t", "g(C_(t-1)), h_1 = 0")
    if model.latent_layer:
        yield Line(z, "passes a dense layer, its norm and tanh first")


def _norm(trial: TrialSpec) -> Iterator[Line]:
    match trial.model.generator_norm:
        case "virtual":
            n = trial.training.batch_size
            yield Line("norm", f"virtual: of G(z), moments over {n} fixed z and the image itself")
        case "none":
            yield Line("norm", "none: hidden layers of G have a bias alone")


def _game_of_discriminator(loss: LossSpec) -> Iterator[Line]:
    if loss.game == "wasserstein":
        yield Line("rho(r)", "-r")
        yield Line("phi(r)", "r")
    else:
        yield Line("rho(r)", _rho(loss.smoothing))
        yield Line("phi(r)", "softplus(r), which is -log(1 - D)")


def _game_of_generator(loss: LossSpec, epochs: int) -> Iterator[Line]:
    if loss.game == "wasserstein":
        yield Line("gamma(r)", "-r")
        return
    match loss.ramp:
        case "zero":
            yield Line("gamma(r)", "softplus(-r), which is -log D")
        case "one":
            yield Line("gamma(r)", "-softplus(r), which is log(1 - D)")
        case "clamp" | "literal":
            yield Line("gamma(r)", "-w softplus(r) + (1 - w) softplus(-r)")
            t = f"e / {loss.switch_epoch}"
            yield Line("w", f"exp(-10 (1 - {f'min({t}, 1)' if loss.ramp == 'clamp' else t})^2), e counts from 0")
            yield Line("", _ramp_in_numbers(loss, epochs))


def _ramp_in_numbers(loss: LossSpec, epochs: int) -> str:
    """Return w in the first epoch, half way to the switch, at the switch and in the last epoch, where they are."""
    places = sorted({0, loss.switch_epoch // 2, loss.switch_epoch, epochs - 1})
    return ", ".join(f"e {e}: {ramp(e, loss.switch_epoch, loss.ramp):.2g}" for e in places if e < epochs)


def _minibatch(model: ModelSpec) -> Iterator[Line]:
    if model.minibatch_kernels:
        last, size = model.minibatch_kernels, model.minibatch_size
        measures = f"o_1 ... o_{last}" if last > 1 else "o_1"
        yield Line("D's output", f"reads the last hidden activation of x_i, and {measures}")
        yield Line("o_k", f"sum_j exp(-|M_k(x_i) - M_k(x_j)|_1) + bias_k, M_k linear, of size {size}")
        yield Line("x_j", "the others of its batch: labelled, unlabelled or generated")


def _rho(smoothing: float) -> str:
    if not smoothing:
        return "softplus(-r), which is -log D"
    return f"{1 - smoothing:g} softplus(-r) + {smoothing:g} softplus(r)"


def _realness(trial: TrialSpec) -> str:
    logits = f"logsumexp of the N logits{_less_fake(trial)}" if trial.data.labels else "the logit of x"
    return logits if trial.loss.game == "wasserstein" else f"{logits}; D = sigmoid(r)"


def _less_fake(trial: TrialSpec) -> str:
    return ' less that of "generated"' if trial.model.fake_logit == "learned" else ""


def _sum(terms: Iterable[str], pulls: Iterable[str]) -> str:
    """Join those that are there; the pulls, which act on the weights themselves, stand on a line of their own."""
    losses, others = (" + ".join(filter(None, parts)) for parts in (terms, pulls))
    return f"{losses or 0}\n+ {others}" if others else losses or "0"


def _history(loss: LossSpec, player: str) -> str:
    return f"{_times(loss.history)}|th_{player} - m_{player}|^2" if loss.history else ""


def _rate(rate: float, optim: OptimSpec, epochs: int) -> Line:
    last = rate * learning_rate_factor(epochs - 1, optim.decay_epoch, optim.min_factor)
    name = OPTIMISERS[optim.kind]
    if not decays(optim, epochs):
        return Line(name, f"rate {rate:g} in all {epochs} epochs")
    return Line(name, f"rate {rate:g}, falling from e {optim.decay_epoch} on, to {last:.2g} at e {epochs - 1}")


def _times(weight: float) -> str:
    return "" if weight == 1 else f"{weight:g} "


def trains_generator(loss: LossSpec) -> bool:
    """Return whether a term of G's loss has a weight."""
    return loss.alpha > 0 or loss.beta > 0


def self_trains(trial: TrialSpec) -> bool:
    """Return whether C_self plays in any epoch."""
    return trial.loss.self_scale > 0 and trial.loss.self_start < trial.training.epochs


def decays(optim: OptimSpec, epochs: int) -> bool:
    """Return whether the learning rates fall within this many epochs."""
    return learning_rate_factor(epochs - 1, optim.decay_epoch, optim.min_factor) < 1


def _idle(trial: TrialSpec) -> Iterator[Line]:
    """Yield the keys of which another value, all others as they are, gives the same networks."""
    loss, optim, epochs = trial.loss, trial.optim, trial.training.epochs
    if not loss.alpha:
        yield Line("loss.ramp", "alpha is 0: V_log is measured only")
    if not (loss.self_scale and loss.self_epoch is None):
        yield from _idle_switch(loss, epochs)
    if not loss.beta:
        yield Line("loss.feature_norm", "beta is 0: V_feature is measured only")
        yield Line("model.feature_layer", "beta is 0: V_feature is measured only")
    if not trial.data.labels:
        yield Line("loss.supervised", "labels is 0: there is no C_sup")
        yield Line("data.labels_in_pool", "labels is 0: no image has a label")
    elif not loss.supervised_scale:
        yield Line("loss.supervised", "supervised_scale is 0: C_sup is measured only")
    if not loss.unsupervised_scale:
        yield Line("loss.smoothing", "unsupervised_scale is 0: D plays no game")
    if not trains_generator(loss):
        yield Line("optim.lr_generator", "alpha and beta are 0: G is not trained")
        yield Line("training.generator_steps", "alpha and beta are 0: G is not trained")
    yield from _idle_self_training(trial)
    yield from _idle_in_model(trial.model)
    if optim.min_factor == 1:
        yield Line("optim.decay_epoch", "min_factor is 1: rates do not fall")
    elif not decays(optim, epochs):
        yield Line("optim.min_factor", f"rates do not fall within {epochs} epochs")


def _idle_in_model(model: ModelSpec) -> Iterator[Line]:
    if model.discriminator_norm != "weight":
        yield Line("model.weight_norm_init", f"discriminator_norm is {model.discriminator_norm}")
        yield Line("model.train_hidden_gain", f"discriminator_norm is {model.discriminator_norm}")
    if not model.generator_weight_norm:
        yield Line("model.generator_weight_norm_init", "generator_weight_norm is false")
    if model.kind == "recurrent" and model.steps == 1:
        yield Line("model.canvas", "steps is 1: the first drawing is the last and the sum")
        yield Line("model.latent_each_step", "steps is 1: there is one z")
    if not model.minibatch_kernels:
        yield Line("model.minibatch_size", "minibatch_kernels is 0: D compares no images")


def _idle_self_training(trial: TrialSpec) -> Iterator[Line]:
    loss = trial.loss
    if not loss.self_scale:
        for key in ("self_threshold", "self_images", "self_epoch"):
            yield Line(f"loss.{key}", "self_scale is 0")
    elif not self_trains(trial):
        for key in ("self_scale", "self_threshold", "self_images"):
            yield Line(f"loss.{key}", f"self-training would begin at e {loss.self_start}")


def _idle_switch(loss: LossSpec, epochs: int) -> Iterator[Line]:
    if not loss.alpha:
        yield Line("loss.switch_epoch", "alpha is 0: V_log is measured only")
    elif loss.ramp in ("zero", "one"):
        yield Line("loss.switch_epoch", f"ramp is {loss.ramp}: w is constant")
    elif epochs == 1:
        yield Line("loss.switch_epoch", "one epoch: w begins at exp(-10)")
