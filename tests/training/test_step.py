"""A step against METHOD.md's formulas written out: naive losses, a pass of D for each kind of image, Adam by hand."""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import functional_call

from plgan_tune.config.trial import TrialSpec
from plgan_tune.data.dataset import Dataset
from plgan_tune.gan.draws import Draws, Stream, seed_for
from plgan_tune.gan.pairs.base import draw_latent
from plgan_tune.gan.passes import Pass
from plgan_tune.training.ranks import Ranks
from plgan_tune.training.state import TrainState
from plgan_tune.training.step import LabelledImages, StepContext, discriminator_step, generator_step

MakeTrial = Callable[..., TrialSpec]
MakeData = Callable[..., Dataset]
Begin = Callable[[TrialSpec, Dataset], TrainState]
TensorsOf = Callable[[TrainState], dict[str, Tensor]]

ROUNDS = 3
OF_G = ("G", "adam G", "average G")
"""How names of what the steps of G change begin."""


class PlainAdam:
    """Kingma and Ba 2015, algorithm 1."""

    def __init__(self, weights: Mapping[str, Tensor], rate: float, trial: TrialSpec) -> None:
        self.weights, self.rate, self.optim = weights, rate, trial.optim
        self.first = {name: torch.zeros_like(weight) for name, weight in weights.items()}
        self.second = {name: torch.zeros_like(weight) for name, weight in weights.items()}
        self.time = 0

    def descend(self, loss: Tensor) -> None:
        gradients = torch.autograd.grad(loss, list(self.weights.values()))
        beta1, beta2 = self.optim.beta1, self.optim.beta2
        self.time += 1
        for (name, weight), gradient in zip(self.weights.items(), gradients, strict=True):
            self.first[name] = beta1 * self.first[name] + (1 - beta1) * gradient
            self.second[name] = beta2 * self.second[name] + (1 - beta2) * gradient**2
            mean = self.first[name] / (1 - beta1**self.time)
            deviation = (self.second[name] / (1 - beta2**self.time)) ** 0.5
            weight.data -= self.rate * mean / (deviation + self.optim.eps)


class PlainRmsprop(PlainAdam):
    """Tieleman and Hinton 2012, as torch divides: by the root, then eps beside it."""

    def descend(self, loss: Tensor) -> None:
        gradients = torch.autograd.grad(loss, list(self.weights.values()))
        for (name, weight), gradient in zip(self.weights.items(), gradients, strict=True):
            self.second[name] = self.optim.beta2 * self.second[name] + (1 - self.optim.beta2) * gradient**2
            weight.data -= self.rate * gradient / (self.second[name] ** 0.5 + self.optim.eps)


class Reference:
    """Trains copies of a state's weights; how a pass goes is left to the family."""

    def __init__(self, state: TrainState) -> None:
        self.trial = trial = state.trial
        self.D, self.G = deepcopy(state.D.network), deepcopy(state.G.network)
        self.d, self.g = dict(self.D.named_parameters()), dict(self.G.named_parameters())
        self.past: dict[str, list[Tensor]] = {"d": [], "g": []}
        self.average = {name: weight.detach().clone() for name, weight in self.d.items()}
        trained = {name: w for name, w in self.d.items() if trial.model.train_hidden_gain or not hidden_gain(name)}
        optimiser = PlainRmsprop if trial.optim.kind == "rmsprop" else PlainAdam
        self.for_d = optimiser(trained, trial.optim.lr_discriminator, trial)
        self.for_g = optimiser(self.g, trial.optim.lr_generator, trial)
        self.step = 0
        self.sure: list[float] = []

    def draws(self, stream: Stream, part: int = 0, parts: int = 1) -> Draws:
        """This step's random numbers of the `part`-th of `parts` batches, for all of which they are drawn at once."""
        batch = self.trial.training.batch_size
        generator = torch.Generator().manual_seed(seed_for(self.trial.seed, self.step, stream))
        return Draws(generator, parts * batch, torch.arange(batch) + part * batch, torch.float64)

    def generate(self, stream: Stream) -> Tensor:
        raise NotImplementedError

    def judge(self, images: Tensor, stream: Stream, part: int, parts: int) -> tuple[Tensor, Tensor]:
        """Logits and features of the batch that is number `part` of `parts`."""
        raise NotImplementedError

    def teach(self, images: Tensor) -> Tensor:
        """The logits of the averaged weights, without noise."""
        raise NotImplementedError

    def update_d(self, labelled: Tensor, labels: Tensor, unlabelled: Tensor) -> list[float]:
        fakes = self.generate(Stream.LATENT_D).detach()
        if self.trial.data.labels == 0:
            return self.update_unlabelled_d(unlabelled, fakes)
        parts = [
            self.judge(images, Stream.NOISE_D, part, 3)[0] for part, images in enumerate((labelled, unlabelled, fakes))
        ]
        p = parts[0].exp() / parts[0].exp().sum(dim=1, keepdim=True)
        p_joint = parts[0].exp() / (1 + parts[0].exp().sum(dim=1, keepdim=True))
        y = torch.eye(p.shape[1], dtype=p.dtype)[labels]
        if self.trial.loss.supervised == "softmax":
            C_sup = -(y * p.log()).sum(dim=1).mean()
        elif self.trial.loss.supervised == "joint":
            C_sup = -(y * p_joint.log()).sum(dim=1).mean()
        else:
            C_sup = -(y * p.log() + (1 - y) * (1 - p).log()).sum(dim=1).mean()
        C_unsup = self.game_of_d(parts[1], parts[2])
        weights = sum((weight**2).sum() for weight in self.d.values() if weight.ndim > 1)
        loss = self.trial.loss
        others = self.history("d") + loss.weight_decay / 2 * weights
        measured = [C_sup.item(), C_unsup.item()]
        if loss.self_scale:
            C_self = self.self_training(
                *((fakes, parts[2]) if loss.self_images == "generated" else (unlabelled, parts[1]))
            )
            others = others + loss.self_scale * C_self
            measured.append(C_self.item())
        if loss.gradient_penalty:
            C_gp = self.penalty(unlabelled, fakes)
            others = others + loss.gradient_penalty * C_gp
            measured.append(C_gp.item())
        self.descend_d(loss.supervised_scale * C_sup + C_unsup + others)
        return measured

    def update_unlabelled_d(self, unlabelled: Tensor, fakes: Tensor) -> list[float]:
        real, fake = (self.judge(images, Stream.NOISE_D, part, 2)[0] for part, images in enumerate((unlabelled, fakes)))
        terms = [self.game_of_d(real, fake)]
        if weight := self.trial.loss.gradient_penalty:
            terms.append(self.penalty(unlabelled, fakes))
        self.descend_d(terms[0] + sum(weight * term for term in terms[1:]))
        return [term.item() for term in terms]

    def game_of_d(self, real: Tensor, fake: Tensor) -> Tensor:
        scale = self.trial.loss.unsupervised_scale
        if self.trial.loss.game == "wasserstein":
            return scale * (-real.exp().sum(dim=1).log().mean() + fake.exp().sum(dim=1).log().mean())
        D_real, D_fake = probability_real(real), probability_real(fake)
        q = self.trial.loss.smoothing
        on_real = (1 - q) * D_real.log() + q * (1 - D_real).log()
        return -scale * (on_real.mean() + (1 - D_fake).log().mean())

    def penalty(self, unlabelled: Tensor, fakes: Tensor) -> Tensor:
        u = self.draws(Stream.INTERPOLATE).uniform(())
        between = torch.stack(
            [a * x + (1 - a) * y for a, x, y in zip(u, unlabelled, fakes.view_as(unlabelled), strict=True)]
        )
        r = self.judge(between.requires_grad_(), Stream.NOISE_PENALTY, 0, 1)[0].exp().sum(dim=1).log()
        slopes = torch.autograd.grad(r.sum(), between, create_graph=True)[0]
        return torch.stack([((slope**2).sum() ** 0.5 - 1) ** 2 for slope in slopes]).mean()

    def descend_d(self, loss: Tensor) -> None:
        """Update D, clip its weights, and move their average."""
        self.for_d.descend(loss)
        if (c := self.trial.optim.clip) is not None:
            for weight in self.for_d.weights.values():
                weight.data = weight.data.clamp(-c, c)
        self.step += 1
        decay = min(self.trial.optim.average_decay, self.step / (self.step + 10))
        for name, weight in self.d.items():
            self.average[name] = decay * self.average[name] + (1 - decay) * weight.detach()

    def self_training(self, images: Tensor, logits: Tensor) -> Tensor:
        """Cross entropy with the teacher's classes, over all images, those of which it is not sure at 0."""
        terms, taught = [], self.teach(images)
        for row, said in zip(taught.exp() / taught.exp().sum(dim=1, keepdim=True), logits, strict=True):
            if row.max() >= self.trial.loss.self_threshold:
                terms.append(-(said[int(row.argmax())].exp() / said.exp().sum()).log())
        self.sure.append(len(terms) / len(images))
        return torch.stack([*terms, logits.new_zeros(())]).sum() / len(images)

    def history(self, player: str) -> Tensor:
        """h |th - mean of the past th|^2 over the trained weights, which belong to the past from then on."""
        weights = (self.for_d if player == "d" else self.for_g).weights
        now = torch.cat([weight.flatten() for weight in weights.values()])
        past = self.past[player]
        distance = now - torch.stack(past).mean(dim=0) if past else now - now.detach()
        past.append(now.detach().clone())
        return self.trial.loss.history * (distance**2).sum()

    def update_g(self, unlabelled: Tensor, w: float) -> list[float]:
        loss = self.trial.loss
        logits, on_fakes = self.judge(self.generate(Stream.LATENT_G), Stream.NOISE_FAKE, 0, 1)
        on_real = self.judge(unlabelled, Stream.NOISE_REAL, 0, 1)[1]
        D_fake = probability_real(logits)
        V_log = (w * (1 - D_fake).log() - (1 - w) * D_fake.log()).mean()
        if loss.game == "wasserstein":
            V_log = -logits.exp().sum(dim=1).log().mean()
        difference = on_real.mean(dim=0) - on_fakes.mean(dim=0)
        V_feature = {
            "mean": (difference**2).mean(),
            "sum": (difference**2).sum(),
            "l1": difference.abs().mean(),
        }[loss.feature_norm]
        self.for_g.descend(loss.alpha * V_log + loss.beta * V_feature + self.history("g"))
        return [V_log.item(), V_feature.item()]


class MlpReference(Reference):
    """Patent table 4 from matrix products, roots and exponentials."""

    def generate(self, stream: Stream) -> Tensor:
        model = self.trial.model
        x = self.draws(stream).uniform((model.latent_size,))
        z = self.G.reference
        for layer in range(2):
            weight, shift = self.g[f"dense.{layer}.weight"], self.g[f"norm.{layer}.shift"]
            x = x @ weight.T
            if z is not None:
                z = z @ weight.T
                x = torch.stack([self.batch_norm(torch.cat([z, row.unsqueeze(0)]))[-1] for row in x])
                z = (1 + (self.batch_norm(z) + shift).exp()).log()
            elif model.generator_norm == "batch":
                x = self.batch_norm(x)
            x = (1 + (x + shift).exp()).log()
        if model.generator_weight_norm:
            x = self.weight_norm(x, self.g, "out")
        else:
            x = x @ self.g["out.weight"].T + self.g["out.bias"]
        return 1 / (1 + (-x).exp())

    def judge(self, images: Tensor, stream: Stream, part: int, parts: int) -> tuple[Tensor, Tensor]:
        model, draws = self.trial.model, self.draws(stream, part, parts)
        units = [len(self.d[f"hidden.{n}.b"]) for n in range(len(model.hidden or ()))]
        return self.answer(images, self.d, draws.normals([images[0].numel(), *units]))

    def teach(self, images: Tensor) -> Tensor:
        return self.answer(images, self.average, [torch.zeros((), dtype=images.dtype)] * 9)[0]

    def answer(self, images: Tensor, weights: Mapping[str, Tensor], noises: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        model, noise = self.trial.model, iter(noises)
        x = features = images.flatten(1) + model.noise_input * next(noise)
        slope = 0.2 if model.activation == "leaky_relu" else 0.0
        for layer in range(len(model.hidden or ())):
            x = self.weight_norm(x, weights, f"hidden.{layer}")
            features = torch.where(x > 0, x, slope * x)
            x = features + model.noise_hidden * next(noise)
        if model.minibatch_kernels:
            x = torch.cat([x, self.closeness(x)], dim=1)
        outputs = self.weight_norm(x, weights, "out")
        return outputs[:, :3] - outputs[:, 3:] if model.fake_logit == "learned" else outputs, features

    @staticmethod
    def batch_norm(x: Tensor) -> Tensor:
        spread = ((x - x.mean(dim=0)) ** 2).mean(dim=0)
        return (x - x.mean(dim=0)) / (spread + 1e-6) ** 0.5

    def closeness(self, x: Tensor) -> Tensor:
        """Salimans et al. 2016, section 3.2, of one batch."""
        theta, s, bias = (self.d[f"minibatch.{name}"] for name in ("theta", "s", "bias"))
        M = x @ (theta * (s.exp() / (theta**2).sum(dim=1) ** 0.5).unsqueeze(1)).T
        M = M.view(len(x), self.trial.model.minibatch_kernels, self.trial.model.minibatch_size)
        distance = (M.unsqueeze(1) - M.unsqueeze(0)).abs().sum(dim=3)
        others = 1 - torch.eye(len(x), dtype=x.dtype)
        return ((-distance).exp() * others.unsqueeze(2)).sum(dim=1) + bias

    @staticmethod
    def weight_norm(x: Tensor, weights: Mapping[str, Tensor], layer: str) -> Tensor:
        v, g, b = (weights[f"{layer}.{name}"] for name in "vgb")
        return x @ (v * (g / (v**2).sum(dim=1) ** 0.5).unsqueeze(1)).T + b


class ConvReference(Reference):
    """The networks themselves, whose layers have tests of their own, but D in three passes."""

    def generate(self, stream: Stream) -> Tensor:
        images: Tensor = self.G(draw_latent(self.draws(stream), self.trial.model))
        return images

    def judge(self, images: Tensor, stream: Stream, part: int, parts: int) -> tuple[Tensor, Tensor]:
        judged = self.D(images, Pass(self.draws(stream, part, parts)))
        return judged.logits, judged.features

    def teach(self, images: Tensor) -> Tensor:
        logits: Tensor = functional_call(self.D, self.average, (images,)).logits
        return logits


def probability_real(logits: Tensor) -> Tensor:
    Z = logits.exp().sum(dim=1)
    return Z / (Z + 1)


def hidden_gain(name: str) -> bool:
    return name.startswith("hidden.") and name.endswith(".g")


def batches(state: TrainState, data: Dataset, count: int) -> list[tuple[Tensor, Tensor]]:
    """Images in the pair's range, and their labels, from rows in order."""
    batch = state.trial.training.batch_size
    rows = (torch.arange(count * batch) % len(data.images)).view(count, batch)
    wide = data.images.to(state.precision.dtype)
    images = wide / 255 if state.trial.model.kind == "mlp" else wide / 127.5 - 1
    return [(images[part], data.labels[part]) for part in rows]


def context_of(state: TrainState, w: float) -> StepContext:
    state.before_epoch(w, state.trial.optim.lr_discriminator, state.trial.optim.lr_generator)
    return StepContext.of(state, Ranks())


def agree(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> None:
    distances = {name: (ours[name] - theirs[name]).abs().max().item() for name in ours.keys() | theirs.keys()}
    assert {name: distance for name, distance in distances.items() if not distance < 1e-12} == {}


CRITIC = {"game": "wasserstein", "ramp": "zero"}
NO_CLASS = {"supervised_scale": 0.0}
CLIPPED = {"clip": 0.3, "kind": "rmsprop", "beta1": 0.0, "beta2": 0.99}
SELF_TRAINING = {"self_scale": 0.7, "self_threshold": 0.5, "self_epoch": 0}
CASES: list[tuple[str, str, dict[str, dict[str, Any]], float]] = [
    ("mlp", "pl_gan", {}, 0.0),
    ("mlp", "pl_gan", {"loss": {"feature_norm": "l1", "alpha": 0.7, "beta": 0.2}}, 0.3),
    ("mlp", "pl_gan", {"loss": {"alpha": 0.0, "beta": 1.0}}, 1.0),
    ("mlp", "pl_gan", {"loss": {"smoothing": 0.1}}, 0.3),
    ("mlp", "pl_gan", {"model": {"fake_logit": "learned"}, "loss": {"supervised": "joint"}}, 0.3),
    ("mlp", "pl_gan", {"loss": {"history": 0.3, "weight_decay": 0.2}}, 0.3),
    ("mlp", "pl_gan", {"loss": {"supervised_scale": 10.0}}, 0.3),
    ("mlp", "patent", {"loss": {"weight_decay": 0.1}}, 0.3),
    ("mlp", "pl_gan", {"model": {"minibatch_kernels": 4, "minibatch_size": 3}, "loss": {"weight_decay": 0.2}}, 0.3),
    ("mlp", "patent", {"model": {"minibatch_kernels": 4, "fake_logit": "learned"}}, 0.3),
    ("mlp", "pl_gan", {"model": {"generator_norm": "virtual"}}, 0.3),
    ("mlp", "patent", {"model": {"generator_norm": "none"}}, 0.3),
    ("mlp", "patent", {}, 0.3),
    ("mlp", "patent", {"loss": {"feature_norm": "sum", "supervised": "one_vs_all"}}, 1.0),
    ("conv", "pl_gan", {}, 0.3),
    ("conv", "pl_gan", {"loss": {"history": 0.3}}, 0.3),
    ("mlp", "pl_gan", {"loss": SELF_TRAINING | {"self_images": "generated"}}, 0.3),
    ("mlp", "patent", {"loss": SELF_TRAINING | {"self_images": "unlabelled", "self_threshold": 0.35}}, 0.3),
    ("conv", "pl_gan", {"loss": SELF_TRAINING | {"self_images": "unlabelled", "self_threshold": 0.35}}, 0.3),
    ("conv", "pl_gan", {"model": {"fake_logit": "learned"}}, 0.3),
    ("conv", "pl_gan", {"model": {"minibatch_kernels": 4, "generator_norm": "virtual"}}, 0.3),
    ("conv", "patent", {"model": {"zca": False}}, 1.0),  # of few images it is all noise, rounding 300-fold
    ("dcgan", "pl_gan", {}, 0.3),
    ("dcgan", "pl_gan", {"model": {"discriminator_norm": "weight"}, "loss": {"weight_decay": 0.1}}, 0.3),
    ("dcgan", "dcgan_ssl", {"model": {"fake_logit": "learned"}, "optim": {"eps": 1e-4}}, 0.0),
    ("mlp", "pl_gan", {"loss": CRITIC | {"gradient_penalty": 10.0}}, 0.0),
    (
        "mlp",
        "patent",
        # The last bias has gradient 0 but for rounding, which a small eps would enlarge.
        {"loss": CRITIC | NO_CLASS | {"gradient_penalty": 10.0}, "data": {"labels": 0}, "optim": {"eps": 1e-4}},
        0.0,
    ),
    ("mlp", "patent", {"loss": CRITIC | NO_CLASS, "data": {"labels": 0}, "optim": CLIPPED}, 0.0),
    ("mlp", "pl_gan", {"loss": NO_CLASS | {"gradient_penalty": 0.3, "smoothing": 0.1}, "data": {"labels": 0}}, 0.3),
    ("conv", "pl_gan", {"loss": CRITIC | NO_CLASS | {"gradient_penalty": 10.0}, "data": {"labels": 0}}, 0.0),
    ("dcgan", "pl_gan", {"loss": CRITIC, "optim": CLIPPED}, 0.0),
    (
        "dcgan",
        "pl_gan",
        {"model": {"discriminator_norm": "none"}, "loss": CRITIC | {"gradient_penalty": 10.0}},
        0.0,
    ),
    ("recurrent", "pl_gan", {}, 0.3),
    ("recurrent", "pl_gan", {"model": {"latent_each_step": False, "canvas": "sum", "head": 50}}, 0.3),
]


@pytest.mark.parametrize("k", [1, 2])
@pytest.mark.parametrize(("kind", "method", "sections", "w"), CASES)
def test_steps_are_the_formulas(
    make_trial: MakeTrial,
    make_data: MakeData,
    begin: Begin,
    kind: str,
    method: str,
    sections: dict[str, dict[str, Any]],
    w: float,
    k: int,
) -> None:
    trial = make_trial(kind, method, training={"precision": "float64"}, seed=3, **sections)
    data = make_data() if kind == "mlp" else make_data(size=20 if kind == "dcgan" else 16, channels=3)
    state = begin(trial, data)
    reference = (MlpReference if kind == "mlp" else ConvReference)(state)
    context = context_of(state, w)
    waiting = iter(batches(state, data, ROUNDS * (2 * k + 1)))
    for _ in range(ROUNDS):
        for _ in range(k):
            (labelled, labels), (unlabelled, _) = next(waiting), next(waiting)
            state.before_d()
            known = LabelledImages(labelled, labels) if trial.data.labels else None
            terms = discriminator_step(context, known, unlabelled)
            assert terms.tolist() == pytest.approx(reference.update_d(labelled, labels, unlabelled), abs=1e-12)
        unlabelled, _ = next(waiting)
        state.before_g()
        terms = generator_step(context, unlabelled)
        assert terms.tolist() == pytest.approx(reference.update_g(unlabelled, w), abs=1e-12)
    agree(dict(state.D.network.named_parameters()), reference.d)
    agree(dict(state.G.network.named_parameters()), reference.g)
    agree(dict(state.averaged.named_parameters()), reference.average)
    assert state.step == ROUNDS * k
    if trial.loss.self_scale:
        assert 0 < sum(reference.sure) / len(reference.sure) < 1


def test_the_average_stops_at_its_bound(make_trial: MakeTrial, make_data: MakeData, begin: Begin) -> None:
    state = begin(make_trial(optim={"average_decay": 0.2}), make_data())
    before = state.averaged.get_parameter("out.b").clone()
    state.step = 1000
    state.D.network.get_parameter("out.b").data += 1.0
    state.before_d()
    state.update_average()
    torch.testing.assert_close(state.averaged.get_parameter("out.b"), before + 0.8)


@pytest.mark.parametrize("history", [0.0, 0.1])
@pytest.mark.parametrize(("kind", "method"), [("mlp", "pl_gan"), ("mlp", "patent"), ("conv", "pl_gan")])
def test_a_step_changes_its_own_network_alone(
    make_trial: MakeTrial,
    make_data: MakeData,
    begin: Begin,
    tensors_of: TensorsOf,
    kind: str,
    method: str,
    history: float,
) -> None:
    data = make_data(size=16, channels=3) if kind == "conv" else make_data()
    state = begin(make_trial(kind, method, loss={"history": history}), data)
    context, (first, second, third) = context_of(state, 0.5), batches(state, data, 3)
    gradients = [weight.requires_grad for weight in state.D.network.parameters()]
    for _ in range(2):  # in the first round, the mean of the past stays what it is
        start = tensors_of(state)
        state.before_d()
        discriminator_step(context, LabelledImages(first[0], first[1]), second[0])
        after_d = tensors_of(state)
        state.before_g()
        generator_step(context, third[0])
        after_g = tensors_of(state)

    gains = {f"{net}.{name}" for net in ("D", "average") for name in state.D.network.state_dict() if hidden_gain(name)}
    frozen = set() if state.trial.model.train_hidden_gain else gains
    assert changed(start, after_d) == {name for name in after_d if not name.startswith(OF_G)} - frozen
    assert changed(after_d, after_g) == {name for name in after_g if name.startswith(OF_G)}
    assert gradients == [weight.requires_grad for weight in state.D.network.parameters()]


def changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    """Names whose tensors are new or other; a counter or a bias may not stay by luck, for all are compared."""
    return {name for name in after if name not in before or not torch.equal(before[name], after[name])}


def test_a_bound_holds_after_every_step_of_d_and_is_not_g_s(
    make_trial: MakeTrial, make_data: MakeData, begin: Begin
) -> None:
    """All that D trains, gains and biases too; those that are not trained, and G's weights, stay outside it."""
    state = begin(make_trial(loss=CRITIC, optim=CLIPPED | {"clip": 0.01, "lr_generator": 0.1}), make_data())
    context, waiting = context_of(state, 0.0), iter(batches(state, make_data(), 6))
    for _ in range(2):
        (labelled, labels), (unlabelled, _), (others, _) = next(waiting), next(waiting), next(waiting)
        state.before_d()
        discriminator_step(context, LabelledImages(labelled, labels), unlabelled)
        assert max(weight.abs().max().item() for weight in state.D.trained) <= 0.01 * (1 + 1e-6)
        bounded = [weight.clone() for weight in state.D.trained]
        state.before_g()
        generator_step(context, others)
        assert all(map(torch.equal, state.D.trained, bounded))
    assert max(weight.abs().max().item() for weight in state.G.trained) > 0.1
    assert state.D.network.get_parameter("hidden.0.g").abs().max().item() > 0.01


def test_a_critic_s_updates_do_not_depend_on_where_its_zero_lies(
    make_trial: MakeTrial, make_data: MakeData, begin: Begin, tensors_of: TensorsOf
) -> None:
    """A constant that is added to r changes no weight but the one that it is, and that one is never moved."""
    data = make_data(labelled=0)
    loss = CRITIC | {"supervised_scale": 0.0, "gradient_penalty": 10.0}
    trial, ended = make_trial("mlp", "patent", loss=loss, data={"labels": 0}), []
    for constant in (0.0, 64.0):
        state = begin(trial, data)
        for network in (state.D.network, state.averaged):
            network.get_parameter("out.b").data += constant
        context, waiting = context_of(state, 0.0), iter(batches(state, data, 6))
        for _ in range(3):
            state.before_d()
            discriminator_step(context, None, next(waiting)[0])
            state.before_g()
            generator_step(context, next(waiting)[0])
        assert state.D.network.get_parameter("out.b").item() == constant
        ended.append(tensors_of(state))
    one, other = ended
    assert {name for name in one if not torch.equal(one[name], other[name])} == {"D.out.b", "average.out.b"}
