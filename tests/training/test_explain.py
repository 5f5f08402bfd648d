"""`explain` against a real step: it names the terms that move a network, with their numbers, and no other."""

import re
from collections.abc import Callable
from typing import Any, get_args

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from torch import Tensor
from torch.nn import functional as F
from typer.testing import CliRunner

from plgan_tune.config.defaults import with_defaults
from plgan_tune.config.methods import METHODS
from plgan_tune.config.study import flatten, set_paths
from plgan_tune.config.trial import FeatureNorm, Kind, Method, Ramp, SelfImages, Supervised, TrialSpec
from plgan_tune.data.dataset import Dataset, load_dataset
from plgan_tune.gan.explain import Line, explain
from plgan_tune.gan.games import Logistic, Wasserstein
from plgan_tune.gan.objective import Labelled, Objective, weighted_sum
from plgan_tune.gan.pairs.base import DiscriminatorOutput
from plgan_tune.gan.schedules import ramp, self_training_scale
from plgan_tune.train import app
from plgan_tune.training.loop import epochs
from plgan_tune.training.pulls import History, WeightDecay
from plgan_tune.training.state import TrainState, new_state
from tests.factories import OWN_TERMS, load, own_section

Begin = Callable[[TrialSpec, Dataset], TrainState]

DIGITS = {"source": "digits", "labels": 20, "validation": 100, "limit": 300}
WEIGHTS = st.sampled_from([0.0, 0.3, 1.0, 2.5])
LOSSES = st.fixed_dictionaries(
    {},
    optional={
        "alpha": WEIGHTS,
        "beta": WEIGHTS,
        "unsupervised_scale": WEIGHTS,
        "supervised_scale": WEIGHTS,
        "history": WEIGHTS,
        "weight_decay": WEIGHTS,
        "smoothing": st.sampled_from([0.0, 0.1, 0.25]),
        "ramp": st.sampled_from(get_args(Ramp)),
        "feature_norm": st.sampled_from(get_args(FeatureNorm)),
        "supervised": st.sampled_from(get_args(Supervised)),
        "self_scale": WEIGHTS,
        "self_threshold": st.sampled_from([0.2, 0.95]),
        "self_images": st.sampled_from(get_args(SelfImages)),
        "self_epoch": st.sampled_from([None, 0, 299, 600]),
        "gradient_penalty": WEIGHTS,
    },
)
NO_LABELS: dict[str, Any] = {"supervised_scale": 0.0, "self_scale": 0.0}
CRITIC = {"game": "wasserstein", "ramp": "zero", "smoothing": 0.0}
PULL = re.compile(r"\s\+ [^+|]*\|[^|]*\|\^2")
"""History or weight decay, which a step adds beside its losses."""


def some_trial(method: Method, kind: str, loss: dict[str, Any], labels: int, game: dict[str, Any]) -> TrialSpec:
    """A trial of these values, but those that exclude each other."""
    model: dict[str, Any] = {"kind": kind}
    if not labels:
        loss, model["fake_logit"] = loss | NO_LABELS, "fixed"
    optim: dict[str, Any] = {}
    if loss.get("gradient_penalty"):
        model["discriminator_norm"], optim["clip"] = "none" if kind == "recurrent" else "weight", None
    if METHODS[method].root in ("wgan", "wirgan", "wgan_gp", "gp_wirgan"):
        game = CRITIC
    return trial_of(method=method, data=DIGITS | {"labels": labels}, loss=loss | game, model=model, optim=optim)


TRIALS = st.builds(
    some_trial,
    st.sampled_from(get_args(Method)),
    st.sampled_from(get_args(Kind)),
    LOSSES,
    st.sampled_from([20, 0]),
    st.sampled_from([{}, CRITIC]),
)


def trial_of(**given: Any) -> TrialSpec:
    return TrialSpec.model_validate(with_defaults({"data": DIGITS, **given}))


def said(lines: tuple[Line, ...]) -> dict[str, str]:
    return {line.name: line.text for line in lines}


def value(formula: str, **names: Any) -> Tensor:
    """A printed formula as a number: `0.5 x` and `2 [x + y]` are products."""
    python = re.sub(r"((?<![\w.])(?:\d[\d.e-]*|w)|\)) (?=[\[a-zA-Z])", r"\1 * ", formula.partition(", which")[0])
    python = python.translate(str.maketrans("[]", "()"))
    return torch.as_tensor(eval(python, {"__builtins__": {}}, {"softplus": F.softplus, **names}))


@given(TRIALS)
def test_the_printed_losses_are_those_of_a_step(trial: TrialSpec) -> None:
    """With C_sup and V_feature as the objective has them: their words are no formula to compute."""
    rng = torch.Generator().manual_seed(0)
    labelled, unlabelled, fakes, teacher = torch.randn(4, 4, 10, dtype=torch.float64, generator=rng)
    real, fake = torch.randn(2, 4, 6, dtype=torch.float64, generator=rng)
    penalty = torch.randn(4, dtype=torch.float64, generator=rng)
    loss = trial.loss
    w = ramp(trial.loss.switch_epoch // 2, loss.switch_epoch, loss.ramp)
    objective = Objective(
        loss,
        Wasserstein() if loss.game == "wasserstein" else Logistic(w, loss.smoothing or None),
        supervised_scale=loss.supervised_scale,
        unsupervised_scale=loss.unsupervised_scale,
        alpha=loss.alpha,
        beta=loss.beta,
        batch=4,
        all_sum=lambda part: part,
        ranks=1,
        self_scale=self_training_scale(trial.training.epochs - 1, loss),
        self_threshold=loss.self_threshold,
        gradient_penalty=loss.gradient_penalty,
    )
    of_d = objective.discriminator(
        Labelled(labelled, torch.arange(4)) if trial.data.labels else None,
        unlabelled,
        fakes,
        teacher if loss.self_scale else None,
        penalty.square() if loss.gradient_penalty else None,
    )
    of_g = objective.generator(real, DiscriminatorOutput(fakes, fake))
    found = explain(trial)
    D, G = said(found.discriminator), said(found.generator)

    def mean(name: str, lines: dict[str, str], logits: Tensor) -> Tensor:
        return value(lines[name], r=logits.logsumexp(dim=1), w=w).mean() if name in lines else torch.tensor(torch.nan)

    filled = PULL.sub("", D["L_D"]).replace("E rho(r(x_u))", "rho").replace("E phi(r(G(z)))", "phi")
    named = {"C_sup": "supervised", "C_self": "self_training", "C_gp": "penalty"}
    terms = {"rho": mean("rho(r)", D, unlabelled), "phi": mean("phi(r)", D, fakes)}
    terms |= {symbol: of_d[name].value for symbol, name in named.items() if name in of_d}
    # A term that is named but does not play is nan.
    torch.testing.assert_close(value(filled, **terms).double(), weighted_sum(of_d))

    filled = PULL.sub("", G["L_G"]).partition(":")[0].replace("E gamma(r(G(z)))", "gamma")
    terms = {"gamma": mean("gamma(r)", G, fakes), "V_feature": of_g["feature"].value}
    torch.testing.assert_close(value(filled, **terms).double(), weighted_sum(of_g))


@pytest.mark.parametrize("loss", [{}, {"alpha": 0.0, "beta": 0.0}])
def test_own_terms_stand_in_the_losses_that_they_are_added_to(
    loss: dict[str, float], make_data: Callable[..., Dataset], begin: Begin
) -> None:
    """As the rows of a step have them: in their order, each by its name."""
    own = {**own_section(OWN_TERMS), "entropy": 0.0431171005868549}
    trial = trial_of(own=own, loss=loss, model={"width": 0.02}, training={"epochs": 1})
    state, found = begin(trial, make_data()), explain(trial, load(trial))
    D, G = said(found.discriminator), said(found.generator)
    of_d, of_g = ([name for name in names if name.startswith("own_")] for names in state.term_names())
    assert D["L_D"] == "C_sup + 0.5 [E rho(r(x_u)) + E phi(r(G(z)))] + " + " + ".join(of_d)
    assert G["L_G"] == " + ".join(["0.5 E gamma(r(G(z))) + 0.5 V_feature"] * (not loss) + of_g)
    assert D["own_entropy"] == (
        "E of entropy in discriminator_terms of trial.own.file, with entropy 0.0431171, noise 0.2, match true"
    )
    play = {"loss.switch_epoch", "optim.lr_generator", "training.generator_steps", "model.feature_layer"}
    assert not play & {line.name for line in found.idle}


def test_rho_phi_and_gamma_are_named_where_they_play() -> None:
    found = explain(trial_of(method="supervised"))
    assert said(found.discriminator)["L_D"] == "C_sup"
    assert not {"rho(r)", "phi(r)"} & said(found.discriminator).keys()
    assert [line.name for line in found.generator] == ["L_G"]
    found = explain(trial_of(loss={"smoothing": 0.1}))
    assert said(found.discriminator)["L_D"] == "C_sup + 0.5 [E rho(r(x_u)) + E phi(r(G(z)))]"
    assert said(found.discriminator)["rho(r)"] == "0.9 softplus(-r) + 0.1 softplus(r)"
    assert said(found.generator)["L_G"] == "0.5 E gamma(r(G(z))) + 0.5 V_feature"


def test_what_else_d_s_output_reads_is_named_where_it_reads_it() -> None:
    assert not {"D's output", "o_k", "x_j"} & said(explain(trial_of()).discriminator).keys()
    found = said(explain(trial_of(model={"minibatch_kernels": 20, "minibatch_size": 3})).discriminator)
    assert found["D's output"] == "reads the last hidden activation of x_i, and o_1 ... o_20"
    assert found["o_k"] == "sum_j exp(-|M_k(x_i) - M_k(x_j)|_1) + bias_k, M_k linear, of size 3"


@pytest.mark.parametrize(
    ("norm", "words"),
    [
        ("batch", None),
        ("virtual", "virtual: of G(z), moments over 40 fixed z and the image itself"),
        ("none", "none: hidden layers of G have a bias alone"),
    ],
)
def test_another_norm_of_g_is_named(norm: str, words: str | None) -> None:
    trial = trial_of(model={"generator_norm": norm}, training={"batch_size": 40})
    assert said(explain(trial).generator).get("norm") == words


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ({"steps": 1}, {"G(z)": "tanh f(z), in one step"}),
        ({}, {"G(z)": "C_3, the last of C_t = tanh f(z_t, h_t) in 3 steps", "h_t": "g(C_(t-1)), h_1 = 0"}),
        (
            {"steps": 5, "canvas": "sum", "latent_each_step": False, "latent_layer": True},
            {
                "G(z)": "tanh(C_1 + ... + C_5), C_t = f(z, h_t) in 5 steps",
                "h_t": "g(C_(t-1)), h_1 = 0",
                "z": "passes a dense layer, its norm and tanh first",
            },
        ),
    ],
)
def test_the_steps_of_a_recurrent_g_are_named(model: dict[str, Any], words: dict[str, str]) -> None:
    found = said(explain(trial_of(model={"kind": "recurrent", **model})).generator)
    assert {name: found.get(name) for name in ("G(z)", "h_t", "z", "z_t") if name in found} == words


@pytest.mark.parametrize("history", [0.0, 0.1])
@pytest.mark.parametrize("weight_decay", [0.0, 0.2])
def test_the_pulls_that_are_named_are_those_of_the_players(
    history: float, weight_decay: float, make_data: Callable[..., Dataset], begin: Begin
) -> None:
    loss = {"history": history, "weight_decay": weight_decay}
    trial = trial_of(loss=loss, model={"width": 0.02})
    state, found = begin(trial, make_data()), explain(trial)
    D, G = said(found.discriminator)["L_D"], said(found.generator)["L_G"]
    assert ("0.1 |th_D - m_D|^2" in D) is any(isinstance(pull, History) for pull in state.D.pulls)
    assert ("0.1 |th_G - m_G|^2" in G) is any(isinstance(pull, History) for pull in state.G.pulls)
    assert ("0.1 |W|^2" in D) is any(isinstance(pull, WeightDecay) for pull in state.D.pulls)


OTHERS: dict[str, Any] = {
    "loss.ramp": "one",
    "loss.switch_epoch": 7,
    "loss.feature_norm": "sum",
    "model.feature_layer": 0,
    "loss.smoothing": 0.3,
    "loss.supervised": "one_vs_all",
    "optim.lr_generator": 0.01,
    "model.generator_weight_norm_init": "one",
    "model.minibatch_size": 3,
    "optim.decay_epoch": 1,
    "optim.min_factor": 0.5,
    "loss.self_scale": 0.9,
    "loss.self_threshold": 0.1,
    "loss.self_images": "unlabelled",
    "loss.self_epoch": 0,
    "training.generator_steps": 2,
}
"""Another value of every key that can be idle."""

OFF = {"self_threshold", "self_images", "self_epoch"}
IDLE = [
    (
        {"method": "supervised"},
        {"ramp", "switch_epoch", "feature_norm", "feature_layer", "smoothing", "lr_generator", "generator_steps"} | OFF,
    ),
    ({"method": "sgan"}, {"switch_epoch", "feature_norm", "feature_layer"} | OFF),
    ({"method": "feature_wise_gan"}, {"ramp", "switch_epoch"} | OFF),
    ({"method": "patent", "loss": {"history": 0.1}}, {"generator_weight_norm_init", "switch_epoch"} | OFF),
    ({"optim": {"min_factor": 1.0}}, {"decay_epoch", "switch_epoch"} | OFF),
    ({"method": "self_training"}, {"self_scale", "self_threshold", "self_images"}),
    ({"method": "self_training", "loss": {"self_epoch": 0}}, {"switch_epoch"}),
    ({"model": {"minibatch_kernels": 4}}, {"switch_epoch"} | OFF),
    ({"loss": {"supervised_scale": 0.0}}, {"supervised", "switch_epoch"} | OFF),
]


@pytest.mark.parametrize(("given", "idle"), IDLE)
def test_another_value_of_an_idle_key_gives_the_same_networks_bit_for_bit(
    given: dict[str, Any], idle: set[str], tensors_of: Callable[[TrainState], dict[str, Tensor]]
) -> None:
    model = {"width": 0.05, "hidden": [500, 250], **given.get("model", {})}
    trial = trial_of(**given | {"model": model}, training={"epochs": 1, "batch_size": 20})
    keys = {line.name for line in explain(trial).idle}
    assert ("model.minibatch_size" in keys) is (trial.model.minibatch_kernels == 0)
    assert {key.rpartition(".")[2] for key in keys} - {"min_factor", "minibatch_size"} == idle
    data = load_dataset(trial.data)

    def trained(trial: TrialSpec) -> tuple[dict[str, Tensor], float | None]:
        state = new_state(trial, data, torch.device("cpu"))
        (row,) = epochs(state, data)
        networks = {name: held for name, held in tensors_of(state).items() if name.startswith(("D.", "G.", "average."))}
        return networks, row.val_error

    tensors, error = trained(trial)
    for key in keys:
        assert flatten(trial.model_dump())[key] != OTHERS[key]
        other = TrialSpec.model_validate(set_paths(trial.model_dump(mode="json"), {key: OTHERS[key]}))
        found, its_error = trained(other)
        assert its_error == error, key
        assert all(torch.equal(found[name], tensor) for name, tensor in tensors.items()), key


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=20)
@given(TRIALS)
def test_it_fits_80_columns_and_trains_nothing(tmp_path_factory: pytest.TempPathFactory, trial: TrialSpec) -> None:
    folder = tmp_path_factory.mktemp("explained")
    (folder / "trial.yaml").write_text(f"trial: {trial.model_dump_json()}")
    words = ["--config", str(folder / "trial.yaml"), "--out", str(folder / "out"), "--explain"]
    result = CliRunner().invoke(app, words, env={"COLUMNS": "80"})
    assert result.exit_code == 0, result.output
    assert all(cell_len(line) <= 80 for line in result.output.splitlines())
    assert "D minimises" in result.output
    assert all(line.name in result.output for line in explain(trial).idle)
    assert not (folder / "out").exists()
