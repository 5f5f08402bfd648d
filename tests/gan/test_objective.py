"""Every loss term against the formula as printed, in float64 NumPy; and far out, in 200 decimal digits."""

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal, localcontext
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray
from torch import Tensor

from plgan_tune.config.defaults import with_defaults
from plgan_tune.config.trial import FeatureNorm, TrialSpec
from plgan_tune.gan import games, objective
from plgan_tune.gan.games import Logistic
from plgan_tune.gan.objective import Labelled, Objective, weighted_sum

Array = NDArray[np.float64]


def batches(limit: float) -> st.SearchStrategy[tuple[Array, Array, NDArray[np.int64]]]:
    """Logits of real and of generated images, (B, N) each, and labels (B,)."""

    def of_shape(shape: tuple[int, ...]) -> st.SearchStrategy[tuple[Array, Array, NDArray[np.int64]]]:
        logits = arrays(np.float64, shape, elements=st.floats(-limit, limit))
        labels = arrays(np.int64, shape[:1], elements=st.integers(0, shape[1] - 1))
        return st.tuples(logits, logits, labels)

    return st.tuples(st.integers(1, 5), st.integers(2, 11)).flatmap(of_shape)


MODERATE = batches(5.0)


# The formulas as the patent prints them, its misprints mended: no stable form, nothing taken from the code.


def naive_D(logits: Array) -> Array:  # noqa: N802
    """Paragraph 0073: Z / (Z + 1), Z = sum exp l_n."""
    Z = np.exp(logits).sum(axis=1)
    return np.asarray(Z / (Z + 1))


def naive_softmax(logits: Array) -> Array:
    """Eq. 11."""
    return np.asarray(np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True))


def naive_softmax_loss(logits: Array, labels: NDArray[np.int64]) -> float:
    """Eq. 13."""
    return float(-np.mean(np.log(naive_softmax(logits)[np.arange(len(labels)), labels])))


def naive_one_vs_all_loss(logits: Array, labels: NDArray[np.int64]) -> float:
    """Claim 1: y log p + (1 - y) log(1 - p), summed over classes, averaged over the batch."""
    p, y = naive_softmax(logits), np.eye(logits.shape[1])[labels]
    return float(-np.mean(np.sum(y * np.log(p) + (1 - y) * np.log(1 - p), axis=1)))


def as_tensor(array: NDArray[Any]) -> Tensor:
    return torch.from_numpy(array)


@given(MODERATE)
def test_log_real_and_its_complement(batch: tuple[Array, Array, NDArray[np.int64]]) -> None:
    logits, _, _ = batch
    D = naive_D(logits)
    np.testing.assert_allclose(games.log_real(as_tensor(logits)), np.log(D), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(games.log_fake(as_tensor(logits)), np.log(1 - D), rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(games.log_real(as_tensor(logits)).exp(), D, rtol=1e-10)


@given(MODERATE)
def test_supervised_losses(batch: tuple[Array, Array, NDArray[np.int64]]) -> None:
    logits, _, labels = batch
    softmax = objective.supervised_softmax(as_tensor(logits), as_tensor(labels))
    one_vs_all = objective.supervised_one_vs_all(as_tensor(logits), as_tensor(labels))
    assert softmax.shape == one_vs_all.shape == (len(labels),)
    assert softmax.mean().item() == pytest.approx(naive_softmax_loss(logits, labels), rel=1e-10, abs=1e-12)
    assert one_vs_all.mean().item() == pytest.approx(naive_one_vs_all_loss(logits, labels), rel=1e-9, abs=1e-11)


@given(MODERATE)
def test_logits_less_the_fake_one_are_a_softmax_over_one_class_more(
    batch: tuple[Array, Array, NDArray[np.int64]],
) -> None:
    """Salimans et al. 2016, section 5: D(x) = 1 - p(N + 1 | x), and C_sup over the N classes or, jointly, over all."""
    logits, others, labels = batch
    p = naive_softmax(np.concatenate([logits, others[:, :1]], axis=1))
    p_label, p_fake = p[np.arange(len(labels)), labels], p[:, -1]
    less = as_tensor(logits - others[:, :1])
    np.testing.assert_allclose(games.log_real(less), np.log(p[:, :-1].sum(axis=1)), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(games.log_fake(less), np.log(p_fake), rtol=1e-9, atol=1e-9)
    softmax = objective.supervised_softmax(less, as_tensor(labels))
    np.testing.assert_allclose(softmax, -np.log(p_label / p[:, :-1].sum(axis=1)), rtol=1e-9, atol=1e-9)
    joint = objective.supervised_joint(less, as_tensor(labels))
    np.testing.assert_allclose(joint, -np.log(p_label), rtol=1e-9, atol=1e-9)


@given(MODERATE)
def test_what_d_wants_of_real_and_of_generated_images(batch: tuple[Array, Array, NDArray[np.int64]]) -> None:
    real, fake, _ = batch
    game = Logistic(w=0.3)
    on_real, on_fake = game.on_real(as_tensor(real)), game.on_fake(as_tensor(fake))
    assert on_real.shape == on_fake.shape == (len(real),)
    np.testing.assert_allclose(on_real, -np.log(naive_D(real)), rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(on_fake, -np.log(1 - naive_D(fake)), rtol=1e-10, atol=1e-10)


@given(MODERATE, st.floats(0, 0.5))
def test_smoothing_takes_a_share_of_real_images_for_generated_ones(
    batch: tuple[Array, Array, NDArray[np.int64]], q: float
) -> None:
    """Salimans et al. 2016, section 3.4: D's target for real images is 1 - q; that for generated ones stays 0."""
    real, fake, _ = batch
    D, game = naive_D(real), Logistic(w=0.3, smoothing=q)
    expected = -(1 - q) * np.log(D) - q * np.log(1 - D)
    np.testing.assert_allclose(game.on_real(as_tensor(real)), expected, rtol=1e-10, atol=1e-10)
    assert torch.equal(game.on_fake(as_tensor(fake)), Logistic(0.3).on_fake(as_tensor(fake)))
    assert torch.equal(game.for_generator(as_tensor(fake)), Logistic(0.3).for_generator(as_tensor(fake)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_smoothing_of_0_has_the_bits_of_none(dtype: torch.dtype) -> None:
    logits = 30 * torch.randn(50, 7, dtype=dtype, generator=torch.Generator().manual_seed(0))
    off, zero, r = Logistic(0.3), Logistic(0.3, smoothing=0.0), logits.logsumexp(dim=1)
    assert torch.equal(off.on_real(logits), zero.on_real(logits))
    assert np.array_equal(gradient_of(off.on_real, logits), gradient_of(zero.on_real, logits))
    assert off.threshold(r, r) == zero.threshold(r, r) == 0.0


@pytest.mark.parametrize("q", [0.1, 0.3, 0.5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_gradient_of_smoothing_is_d_less_its_target(dtype: torch.dtype, q: float) -> None:
    """In r, the one logit; also far out, where D or 1 - D is 0."""
    r = torch.tensor([[-100.0], [-3.0], [0.0], [2.0], [100.0]], dtype=dtype)
    gradient = gradient_of(Logistic(0.3, smoothing=q).on_real, r)
    np.testing.assert_allclose(gradient, naive_D(r.double().numpy())[:, None] - (1 - q), atol=1e-6)
    assert torch.isfinite(Logistic(0.3, smoothing=q).on_real(r)).all()


@pytest.mark.parametrize(("q", "p"), [(0.1, 0.3), (0.1, 0.5), (0.25, 0.8), (0.0, 0.5)])
def test_the_best_d_is_scaled_by_smoothing(q: float, p: float) -> None:
    """D* = (1 - q) p / (p + p_g) where a share p of the images is real, on a grid; at p = 1/2, r* is the zero."""
    r = torch.linspace(-6, 6, 120_001, dtype=torch.float64).unsqueeze(1)
    game = Logistic(w=0.3, smoothing=q)
    best = r[(p * game.on_real(r) + (1 - p) * game.on_fake(r)).argmin()].item()
    assert 1 / (1 + np.exp(-best)) == pytest.approx((1 - q) * p, abs=1e-4)
    if p == 0.5:
        assert game.threshold(r, r) == pytest.approx(best, abs=1e-4)


@given(MODERATE, st.floats(0, 1))
def test_adversarial_loss(batch: tuple[Array, Array, NDArray[np.int64]], w: float) -> None:
    _, fake, _ = batch
    D = naive_D(fake)
    expected = w * np.mean(np.log(1 - D)) + (1 - w) * np.mean(-np.log(D))
    assert Logistic(w).for_generator(as_tensor(fake)).mean().item() == pytest.approx(expected, rel=1e-9, abs=1e-10)


@given(MODERATE, st.floats(0.01, 1))
def test_self_training_is_cross_entropy_with_the_classes_that_the_teacher_is_sure_of(
    batch: tuple[Array, Array, NDArray[np.int64]], tau: float
) -> None:
    student, teacher, _ = batch
    p, taught = naive_softmax(student), naive_softmax(teacher)
    assume(np.abs(taught.max(axis=1) - tau).min() > 1e-9)
    assume(len(teacher[0]) == 1 or np.diff(np.sort(teacher, axis=1)[:, -2:]).min() > 1e-9)
    sure = [-np.log(p[n, row.argmax()]) if row.max() >= tau else 0.0 for n, row in enumerate(taught)]
    found = objective.self_training(as_tensor(student), as_tensor(teacher), tau)
    np.testing.assert_allclose(found, sure, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@given(MODERATE)
def test_a_student_that_is_its_own_teacher_learns_what_it_says_already(
    dtype: torch.dtype, batch: tuple[Array, Array, NDArray[np.int64]]
) -> None:
    """The gradient of C_self is p - onehot(argmax p) of each image, and 0 if the image is not sure enough."""
    logits = as_tensor(batch[0]).to(dtype)
    p = logits.softmax(dim=1)
    onehot = np.eye(p.shape[1])[p.argmax(dim=1).numpy()]
    found = gradient_of(lambda student: objective.self_training(student, logits, 0.0), logits)
    np.testing.assert_allclose(found, p.numpy() - onehot, atol=1e-6 if dtype == torch.float32 else 1e-13)
    assert not gradient_of(lambda student: objective.self_training(student, logits, 1.001), logits).any()


def objective_of(**loss: Any) -> Objective:
    data = {"source": "digits", "labels": 20, "validation": 100}
    spec = TrialSpec.model_validate(with_defaults({"data": data, "loss": loss})).loss
    return Objective(
        spec,
        Logistic(0.3),
        supervised_scale=1.0,
        unsupervised_scale=1.0,
        alpha=1.0,
        beta=1.0,
        batch=8,
        all_sum=lambda part: part,
        ranks=2,
    )


@pytest.mark.parametrize("images", ["generated", "unlabelled"])
def test_self_training_moves_the_logits_of_its_own_images_alone(images: str) -> None:
    """These 4 of 8 images are a rank's. Labels are those of the labelled images, and no other."""
    rng = torch.Generator().manual_seed(0)
    *parts, teacher = torch.randn(4, 4, 5, dtype=torch.float64, generator=rng)
    off = objective_of(self_scale=0.0)
    on = replace(off, spec=objective_of(self_scale=1.0, self_images=images).spec, self_scale=0.7, self_threshold=0.0)

    def gradients(objective: Objective, teacher: Tensor | None) -> list[Tensor]:
        labelled, unlabelled, fakes = leaves = [part.clone().requires_grad_() for part in parts]
        loss = weighted_sum(objective.discriminator(Labelled(labelled, torch.arange(4)), unlabelled, fakes, teacher))
        return list(torch.autograd.grad(loss, leaves))

    moved = [with_it - without for with_it, without in zip(gradients(on, teacher), gradients(off, None), strict=True)]
    student = parts[2] if images == "generated" else parts[1]
    expected = 0.7 * (student.softmax(dim=1) - torch.eye(5, dtype=torch.float64)[teacher.argmax(dim=1)]) / 8
    zero = torch.zeros_like(expected)
    torch.testing.assert_close(moved, [zero, *([zero, expected] if images == "generated" else [expected, zero])])
    not_begun = replace(on, self_scale=0.0)
    assert all(map(torch.equal, gradients(not_begun, teacher), gradients(off, None)))


def test_adversarial_loss_of_the_baselines() -> None:
    """w = 0 is the regular GAN (eq. 4), w = 1 the saturating one (eq. 3)."""
    fake = torch.tensor([[0.3, -1.2, 2.0], [-4.0, 0.0, 1.0]], dtype=torch.float64)
    D = naive_D(fake.numpy())
    np.testing.assert_allclose(Logistic(0.0).for_generator(fake), -np.log(D), rtol=1e-12)
    np.testing.assert_allclose(Logistic(1.0).for_generator(fake), np.log(1 - D), rtol=1e-12)


@given(
    array_shapes(min_dims=2, max_dims=2, max_side=6).flatmap(
        lambda shape: st.tuples(*[arrays(np.float64, shape, elements=st.floats(-50, 50))] * 2)
    )
)
def test_feature_loss(features: tuple[Array, Array]) -> None:
    """Eq. 10: the squared 2-norm of E f(x) - E f(G(z)); `mean` divides by the features, `l1` takes |.|."""
    real, fake = features
    difference = real.mean(axis=0) - fake.mean(axis=0)
    expected: dict[FeatureNorm, float] = {
        "sum": float(np.linalg.norm(difference) ** 2),
        "mean": float(np.linalg.norm(difference) ** 2) / len(difference),
        "l1": float(np.mean(np.abs(difference))),
    }
    for norm, value in expected.items():
        got = objective.feature_distance(as_tensor(real).mean(dim=0), as_tensor(fake).mean(dim=0), norm)
        assert got.shape == ()
        assert got.item() == pytest.approx(value, rel=1e-10, abs=1e-12)


def test_values_that_one_can_work_out_by_hand() -> None:
    """Ten equal logits of 0: Z = 10, D = 10/11, p = 1/10."""
    logits, labels = torch.zeros(4, 10, dtype=torch.float64), torch.arange(4)
    np.testing.assert_allclose(games.log_real(logits), np.log(10 / 11), rtol=1e-14)
    np.testing.assert_allclose(games.log_fake(logits), -np.log(11), rtol=1e-14)
    np.testing.assert_allclose(objective.supervised_softmax(logits, labels), np.log(10), rtol=1e-14)
    expected = np.log(10) + 9 * np.log(10 / 9)
    np.testing.assert_allclose(objective.supervised_one_vs_all(logits, labels), expected, rtol=1e-14)


# Far out: logits of up to +-100, where naive float64 gives log 0 and even x87's 64 bits of mantissa do.

Terms = tuple[float, float, float, float]


def in_decimals(logits: list[float], label: int) -> Terms:
    """log D, log(1 - D), C_sup by softmax and one against all, by the naive formulas in 200 digits."""
    with localcontext() as context:
        context.prec = 200
        exps = [Decimal(logit).exp() for logit in logits]
        Z = sum(exps, Decimal(0))
        D = Z / (Z + 1)
        p = [value / Z for value in exps]
        one_vs_all = -sum((q if n == label else 1 - q).ln() for n, q in enumerate(p))
        return float(D.ln()), float((1 - D).ln()), float(-p[label].ln()), float(one_vs_all)


def as_built(logits: list[float], label: int, dtype: torch.dtype) -> Terms:
    row, labels = torch.tensor([logits], dtype=dtype), torch.tensor([label])
    return (
        games.log_real(row).item(),
        games.log_fake(row).item(),
        objective.supervised_softmax(row, labels).item(),
        objective.supervised_one_vs_all(row, labels).item(),
    )


ROUNDING = {torch.float32: (1e-6, 2e-4), torch.float64: (1e-13, 1e-12)}
"""Relative and absolute: the absolute one is a rounding of 100 for each of the classes that are summed."""


@pytest.mark.parametrize("dtype", ROUNDING)
@given(data=st.data())
def test_stable_forms_are_right_far_out(dtype: torch.dtype, data: st.DataObject) -> None:
    extreme = st.sampled_from([-100.0, 100.0, 0.0]) | st.floats(-100, 100, width=32)
    logits = data.draw(st.lists(extreme, min_size=2, max_size=11))
    label = data.draw(st.integers(0, len(logits) - 1))
    relative, absolute = ROUNDING[dtype]
    np.testing.assert_allclose(as_built(logits, label, dtype), in_decimals(logits, label), rtol=relative, atol=absolute)


@pytest.mark.parametrize("dtype", ROUNDING)
def test_limits_at_logits_of_100(dtype: torch.dtype) -> None:
    """The four corners, from the limits of the formulas rather than from any arithmetic."""
    relative, absolute = ROUNDING[dtype]
    n = 10
    sure = [100.0] + [-100.0] * (n - 1)
    corners = {
        "sure and right": (as_built(sure, 0, dtype), (0, -100, 0, 0)),
        "sure and wrong": (as_built(sure, 1, dtype), (0, -100, 200, 400 - np.log(n - 1))),
        "all of them": (
            as_built([100.0] * n, 0, dtype),
            (0, -100 - np.log(n), np.log(n), 9 * np.log(n / 9) + np.log(n)),
        ),
        "none of them": (
            as_built([-100.0] * n, 0, dtype),
            (-100 + np.log(n), 0, np.log(n), 9 * np.log(n / 9) + np.log(n)),
        ),
    }
    for name, (got, expected) in corners.items():
        np.testing.assert_allclose(got, expected, rtol=relative, atol=absolute, err_msg=name)


@pytest.mark.parametrize("dtype", ROUNDING)
@pytest.mark.parametrize("limit", [100.0, 1.0])
def test_gradients_stay_finite_and_right_far_out(dtype: torch.dtype, limit: float) -> None:
    """d log D / dl = (1 - D) p, d log(1 - D) / dl = -D p, d C_sup / dl = p - y; p and D in float64 NumPy."""
    logits = torch.tensor([[limit, -limit, 0.0], [-limit] * 3, [limit] * 3, [-limit, -limit, limit]], dtype=dtype)
    labels = torch.tensor([1, 0, 2, 2])
    values = logits.to(torch.float64).numpy()
    p, D = naive_softmax(values), naive_D(values)[:, None]
    expected = {
        games.log_real: (1 - D) * p,
        games.log_fake: -D * p,
        lambda rows: objective.supervised_softmax(rows, labels): p - np.eye(3)[labels],
    }
    tolerance = 1e-5 if dtype == torch.float32 else 1e-12
    for term, gradient in expected.items():
        np.testing.assert_allclose(gradient_of(term, logits), gradient, atol=tolerance)
    assert np.isfinite(gradient_of(lambda rows: objective.supervised_one_vs_all(rows, labels), logits)).all()


def gradient_of(term: Callable[[Tensor], Tensor], logits: Tensor) -> NDArray[Any]:
    leaf = logits.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(term(leaf).sum(), leaf)
    return np.asarray(gradient.numpy())


def test_gradients_agree_with_finite_differences() -> None:
    generator = torch.Generator().manual_seed(0)
    real, fake = (torch.randn(4, 5, dtype=torch.float64, generator=generator, requires_grad=True) for _ in range(2))
    labels = torch.tensor([0, 4, 2, 2])
    assert torch.autograd.gradcheck(lambda r, f: Logistic(0.3).on_real(r) + Logistic(0.3).on_fake(f), (real, fake))
    assert torch.autograd.gradcheck(lambda f: Logistic(0.3).for_generator(f), (fake,))
    assert torch.autograd.gradcheck(lambda r: objective.supervised_softmax(r, labels), (real,))
    assert torch.autograd.gradcheck(lambda r: objective.supervised_one_vs_all(r, labels), (real,))
    assert torch.autograd.gradcheck(lambda r: objective.supervised_joint(r, labels), (real,))
    norms: tuple[FeatureNorm, ...] = ("mean", "sum", "l1")
    for norm in norms:
        assert torch.autograd.gradcheck(
            lambda r, f, norm=norm: objective.feature_distance(r.mean(dim=0), f.mean(dim=0), norm), (real, fake)
        )
