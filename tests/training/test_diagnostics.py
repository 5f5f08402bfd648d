"""The probe at an epoch's end: its numbers against the formulas and planted networks, and that it only looks."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from plgan_tune.config.trial import TrialSpec
from plgan_tune.data.dataset import Dataset
from plgan_tune.gan.draws import Draws, Stream, seed_for
from plgan_tune.gan.passes import Pass
from plgan_tune.training import loop
from plgan_tune.training.diagnostics import PROBE, Diagnostics, diagnose
from plgan_tune.training.loop import epochs
from plgan_tune.training.state import TrainState

MakeTrial = Callable[..., TrialSpec]
MakeData = Callable[..., Dataset]
Begin = Callable[[TrialSpec, Dataset], TrainState]
TensorsOf = Callable[[TrainState], dict[str, Tensor]]

KINDS = pytest.mark.parametrize("kind", ["mlp", "conv"])


@pytest.fixture
def trained(make_trial: MakeTrial, make_data: MakeData, begin: Begin) -> Callable[..., tuple[TrainState, Dataset]]:
    """A state in float64 after an epoch, and its data."""

    def build(
        kind: str = "mlp", pool: int = PROBE + 30, labelled: int = 6, **sections: object
    ) -> tuple[TrainState, Dataset]:
        images = {"pool": pool, "labelled": labelled}
        data = make_data(size=16, channels=3, **images) if kind == "conv" else make_data(**images)
        state = begin(make_trial(kind, training={"precision": "float64"}, **sections), data)
        next(epochs(state, data))
        return state, data

    return build


Trained = Callable[..., tuple[TrainState, Dataset]]


def judged(state: TrainState, data: Dataset) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Logits and features of real and of generated images; drawn in turn: rows, their noise, z, the fakes' noise."""
    generator = torch.Generator().manual_seed(seed_for(state.trial.seed, state.epoch, Stream.DIAGNOSTICS))
    rows = data.split.pool[torch.randperm(len(data.split.pool), generator=generator)[:PROBE]]
    wide = data.images[rows].double()
    images = wide / 255 if state.trial.model.kind == "mlp" else wide / 127.5 - 1
    real = state.D.network(images, Pass(Draws(generator, len(rows), dtype=torch.float64)))
    z = torch.empty(PROBE, state.trial.model.latent_size, dtype=torch.float64).uniform_(generator=generator)
    fake = state.D.network(state.G.network(z), Pass(Draws(generator, PROBE, dtype=torch.float64)))
    return real.logits, real.features, fake.logits, fake.features


def probability_real(logits: Tensor) -> Tensor:
    Z = logits.exp().sum(dim=1)
    return Z / (Z + 1)


def norm(loss: Tensor, state: TrainState) -> float:
    gradients = torch.autograd.grad(loss, list(state.G.network.parameters()), retain_graph=True)
    return math.hypot(*(element for gradient in gradients for element in gradient.flatten().tolist()))


@KINDS
@pytest.mark.parametrize("feature_norm", ["mean", "sum"])
@pytest.mark.parametrize("w", [0.0, 0.4, 1.0])
def test_numbers_are_the_formulas_on_the_probe(trained: Trained, kind: str, feature_norm: str, w: float) -> None:
    """Gradients are those of the terms before alpha and beta, which are 0 here."""
    state, data = trained(kind, loss={"alpha": 0.0, "beta": 0.0, "feature_norm": feature_norm})
    found = diagnose(state, data, w)

    real_logits, real_features, fake_logits, fake_features = judged(state, data)
    D_real, D_fake = probability_real(real_logits), probability_real(fake_logits)
    squares = (real_features.detach().mean(dim=0) - fake_features.mean(dim=0)) ** 2
    V_feature = squares.mean() if feature_norm == "mean" else squares.sum()
    V_log = (w * (1 - D_fake).log() - (1 - w) * D_fake.log()).mean()
    counts = [fake_logits.argmax(dim=1).tolist().count(c) for c in range(3)]
    expected = Diagnostics(
        grad_norm_adversarial=norm(V_log, state),
        grad_norm_feature=norm(V_feature, state),
        accuracy_real=sum(p > 0.5 for p in D_real.tolist()) / PROBE,
        accuracy_generated=sum(p < 0.5 for p in D_fake.tolist()) / PROBE,
        real_max_logit_positive=sum(max(logits) > 0 for logits in real_logits.tolist()) / PROBE,
        entropy_generated=-sum(n / PROBE * math.log(n / PROBE) for n in counts if n),
    )
    assert known(found) == pytest.approx(known(expected), rel=1e-9)
    assert min(found[:2]) > 0


def known(found: Diagnostics) -> dict[str, float]:
    return {name: value for name, value in found._asdict().items() if value is not None}


@pytest.mark.parametrize("labels", [6, 0])
def test_a_critic_s_numbers(trained: Trained, labels: int) -> None:
    """Validation images come last of all draws; 12 of them are fewer than a probe."""
    loss = {"game": "wasserstein", "ramp": "zero", "supervised_scale": 0.0}
    state, data = trained(labelled=labels, loss=loss, data={"labels": labels})
    found = diagnose(state, data, 0.0)
    real_logits, _, fake_logits, _ = judged(state, data)
    real, fake = real_logits.logsumexp(dim=1), fake_logits.logsumexp(dim=1)
    middle = (real.mean().item() + fake.mean().item()) / 2
    assert found.grad_norm_adversarial == pytest.approx(norm(-fake.mean(), state), rel=1e-9)
    assert found.accuracy_real == sum(r > middle for r in real.tolist()) / PROBE
    assert found.accuracy_generated == sum(r < middle for r in fake.tolist()) / PROBE
    assert found.critic_gap == pytest.approx(real.mean().item() - fake.mean().item(), rel=1e-9)
    assert found.critic_gap_val is not None
    assert found.critic_gap_val != found.critic_gap
    assert (found.entropy_generated is None) is (found.real_max_logit_positive is None) is (labels == 0)


def test_a_critic_of_one_value_has_no_gap(trained: Trained) -> None:
    state, data = trained(loss={"game": "wasserstein", "ramp": "zero"})
    plant(state, [1.0, -5.0, -5.0])
    found = diagnose(state, data, 0.0)
    assert (found.critic_gap, found.critic_gap_val) == pytest.approx((0.0, 0.0), abs=1e-12)


def plant(state: TrainState, logits: list[float]) -> None:
    """D answers every image alike."""
    state.D.network.get_parameter("out.g").data.zero_()
    state.D.network.get_parameter("out.b").data = torch.tensor(logits, dtype=torch.float64)


@pytest.mark.parametrize(
    ("logits", "real", "generated", "positive"),
    [
        ([1.0, -5.0, -5.0], 1.0, 0.0, 1.0),
        ([-2.0, -5.0, -5.0], 0.0, 1.0, 0.0),
        ([-0.5, -0.5, -0.5], 1.0, 0.0, 0.0),  # Z = 3 / e^0.5 > 1, though no class alone beats the fake
    ],
)
def test_a_discriminator_of_one_mind(
    trained: Trained, logits: list[float], real: float, generated: float, positive: float
) -> None:
    state, data = trained()
    plant(state, logits)
    found = diagnose(state, data, 0.5)
    assert (found.accuracy_real, found.accuracy_generated) == (real, generated)
    assert found.real_max_logit_positive == positive


@pytest.mark.parametrize(("smoothing", "real"), [(0.0, 0.0), (0.1, 0.0), (0.2, 1.0)])
def test_an_image_is_taken_for_real_above_the_zero_of_the_game(trained: Trained, smoothing: float, real: float) -> None:
    """r = -0.25 lies below 0 and log(0.9 / 1.1) = -0.2007, and above log(0.8 / 1.2) = -0.4055."""
    state, data = trained(loss={"smoothing": smoothing})
    plant(state, [-0.25 - math.log(3)] * 3)
    found = diagnose(state, data, 0.5)
    assert (found.accuracy_real, found.accuracy_generated) == (real, 1.0 - real)


def test_entropy_is_zero_where_all_is_one_class_and_highest_where_classes_are_even(trained: Trained) -> None:
    state, data = trained()
    assert 0.0 < (diagnose(state, data, 0.5).entropy_generated or 0.0) <= math.log(3)
    plant(state, [0.0, 1.0, 0.0])
    assert diagnose(state, data, 0.5).entropy_generated == 0.0


def test_a_gradient_that_does_not_reach_the_generator_is_zero(trained: Trained) -> None:
    state, data = trained()
    plant(state, [0.0, 1.0, 0.0])
    found = diagnose(state, data, 0.5)
    assert found.grad_norm_adversarial == 0.0
    assert found.grad_norm_feature > 0.0


@KINDS
def test_it_only_looks(trained: Trained, tensors_of: TensorsOf, kind: str) -> None:
    state, data = trained(kind)
    before = tensors_of(state)
    nets = (state.D.network, state.G.network, state.averaged)
    gradients = [
        (w.requires_grad, None if w.grad is None else w.grad.clone()) for net in nets for w in net.parameters()
    ]
    diagnose(state, data, 0.5)
    after = tensors_of(state)
    assert all(torch.equal(before[name], after[name]) for name in before | after)
    now = [(w.requires_grad, w.grad) for net in nets for w in net.parameters()]
    for (trains, gradient), (trains_now, gradient_now) in zip(gradients, now, strict=True):
        assert trains is trains_now
        assert (gradient is None) == (gradient_now is None)
        assert gradient is None or gradient_now is None or torch.equal(gradient, gradient_now)


@KINDS
def test_a_trial_is_the_same_without_it(
    make_trial: MakeTrial,
    make_data: MakeData,
    begin: Begin,
    tensors_of: TensorsOf,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
) -> None:
    data = make_data(size=16, channels=3) if kind == "conv" else make_data()
    trial = make_trial(kind, training={"epochs": 3})
    looked_at = begin(trial, data)
    list(epochs(looked_at, data))
    nothing = Diagnostics(*[0.0] * len(Diagnostics._fields))
    monkeypatch.setattr(loop, "diagnose", lambda *given: nothing)
    left_alone = begin(trial, data)
    list(epochs(left_alone, data))
    there, here = tensors_of(looked_at), tensors_of(left_alone)
    assert all(torch.equal(there[name], here[name]) for name in there | here)


def test_the_probe_is_the_epochs_own(trained: Trained) -> None:
    state, data = trained()
    first = diagnose(state, data, 0.5)
    assert diagnose(state, data, 0.5) == first
    state.epoch += 1
    assert diagnose(state, data, 0.5) != first


@pytest.mark.parametrize("pool", [1, 7])
def test_a_pool_smaller_than_the_probe_is_taken_whole(trained: Trained, pool: int) -> None:
    state, data = trained(pool=pool)
    found = diagnose(state, data, 0.5)
    assert (found.accuracy_real * pool).is_integer()
    assert (found.accuracy_generated * PROBE).is_integer()


@KINDS
def test_rows_carry_what_was_found(make_trial: MakeTrial, make_data: MakeData, begin: Begin, kind: str) -> None:
    """Looked at after the epoch's last step, in that epoch's stream and with its ramp."""
    data = make_data(size=16, channels=3) if kind == "conv" else make_data()
    state = begin(make_trial(kind, training={"epochs": 1}), data)
    (row,) = epochs(state, data)
    state.epoch = 0
    assert row.ramp is not None
    found = diagnose(state, data, row.ramp)
    assert {name: getattr(row, name) for name in found._fields} == found._asdict()
