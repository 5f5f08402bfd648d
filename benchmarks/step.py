"""One training step of the MNIST pair: ours, a plain one, the public ports' own, and the matrix products alone.

    python benchmarks/step.py [--threads 1 2] [--peer PATH ...]

Writes step.md beside itself. Every contender lives in a process of its own and they take turns, a few steps at a
time, so that whatever else the machine does hits all alike.
"""

import argparse
import contextlib
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise, product
from multiprocessing import get_context
from multiprocessing.connection import Connection
from operator import truediv
from pathlib import Path
from statistics import median
from types import MappingProxyType, SimpleNamespace
from typing import Any, NamedTuple

import torch
from machine import machine
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Adam
from torch.utils.data import DataLoader, TensorDataset

from plgan_tune.config.defaults import with_defaults
from plgan_tune.config.study import set_paths
from plgan_tune.config.trial import TrialSpec
from plgan_tune.data.dataset import Dataset
from plgan_tune.data.splits import Split
from plgan_tune.training.loop import epochs
from plgan_tune.training.state import new_state

BATCH = 100
IMAGES = 60_000
LABELLED = 100
CLASSES = 10
LATENT = 100
D_UNITS = (784, 1000, 500, 250, 250, 250, CLASSES)
G_UNITS = (LATENT, 500, 500, 784)

SPAWN = get_context("spawn")

Clock = Callable[[], float]
Measure = Callable[[int, Clock], float]
"""`measure(steps, clock)` trains that many steps and returns the clock's seconds a step."""


# What they train on.


class Pool(NamedTuple):
    """Images like MNIST's in number, shape and type; what they show does not matter to the time."""

    images: Tensor
    labels: Tensor

    @classmethod
    def synthetic(cls) -> "Pool":
        generator = torch.Generator().manual_seed(0)
        images = torch.randint(0, 256, (IMAGES, 1, 28, 28), dtype=torch.uint8, generator=generator)
        return cls(images, torch.arange(IMAGES) % CLASSES)


# Ours.


def ours(device: torch.device, keys: Mapping[str, Any] = MappingProxyType({})) -> Measure:
    """The engine's own epoch, draws and gathering included, with these keys; its clock stops before validation."""
    spec = {
        "method": "pl_gan",
        "data": {"source": "mnist", "labels": LABELLED, "validation": CLASSES},
        "model": {"kind": "mlp"},
        "training": {"epochs": 1_000_000, "batch_size": BATCH},
    }
    trial = TrialSpec.model_validate(with_defaults(set_paths(spec, keys)))
    pool = Pool.synthetic()
    rows = torch.randperm(IMAGES, generator=torch.Generator().manual_seed(1))

    def dataset(steps: int) -> Dataset:
        split = Split(torch.arange(LABELLED), rows[: steps * BATCH], rows[-CLASSES:], "")
        return Dataset(pool.images, pool.labels, tuple("0123456789"), split).to(device)

    state = new_state(trial, dataset(10), device)

    def measure(steps: int, clock: Clock) -> float:
        speed = next(epochs(state, dataset(steps), clock=clock)).images_per_second
        assert speed is not None
        return BATCH / speed

    return measure


# The same computation as the public ports write it.


class PlainWeightNorm(nn.Module):
    def __init__(self, inputs: int, units: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(units, inputs) * 0.1)
        self.bias = nn.Parameter(torch.zeros(units))
        self.scale = nn.Parameter(torch.ones(units, 1))

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight * (self.scale / torch.sqrt(torch.sum(self.weight**2, dim=1, keepdim=True)))
        return F.linear(x, weight, self.bias)


class PlainDiscriminator(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        *hidden, self.out = [PlainWeightNorm(inputs, units) for inputs, units in pairwise(D_UNITS)]
        self.hidden = nn.ModuleList(hidden)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = features = x + torch.randn_like(x) * 0.3
        for layer in self.hidden:
            features = F.relu(layer(x))
            x = features + torch.randn_like(features) * 0.5
        return self.out(x), features


def plain_generator() -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, units in pairwise(G_UNITS[:-1]):
        layers += [nn.Linear(inputs, units, bias=False), nn.BatchNorm1d(units), nn.Softplus()]
    return nn.Sequential(*layers, PlainWeightNorm(*G_UNITS[-2:]), nn.Sigmoid())


def plain(device: torch.device) -> Measure:
    """Three passes of D, its parameters and the real features in G's graph, unfused Adam, a DataLoader."""
    D, G = PlainDiscriminator().to(device), plain_generator().to(device)
    adam_d, adam_g = (
        Adam(net.parameters(), lr=0.003, betas=(0.5, 0.999), eps=1e-4, foreach=False, fused=False) for net in (D, G)
    )
    pool = Pool.synthetic()
    images = pool.images.flatten(1).float() / 255
    unlabelled = TensorDataset(images, pool.labels)
    labelled = TensorDataset(
        *(t[:LABELLED].repeat(IMAGES // LABELLED, *[1] * (t.ndim - 1)) for t in unlabelled.tensors)
    )
    labelled_batches, for_d, for_g = (_forever(data) for data in (labelled, unlabelled, unlabelled))
    w = 0.5

    def step() -> list[float]:
        (x, y), (x_unlabelled, _) = next(labelled_batches), next(for_d)
        x, y, x_unlabelled = x.to(device), y.to(device), x_unlabelled.to(device)
        fake = G(torch.rand(BATCH, LATENT, device=device))
        on_labelled, on_unlabelled, on_fake = D(x)[0], D(x_unlabelled)[0], D(fake.detach())[0]
        lse_unlabelled, lse_fake = torch.logsumexp(on_unlabelled, 1), torch.logsumexp(on_fake, 1)
        supervised = F.cross_entropy(on_labelled, y)
        unsupervised = 0.5 * (F.softplus(lse_unlabelled) - lse_unlabelled + F.softplus(lse_fake)).mean()
        adam_d.zero_grad()
        (supervised + unsupervised).backward()  # type: ignore[no-untyped-call]
        adam_d.step()

        x_unlabelled = next(for_g)[0].to(device)
        logits, features = D(G(torch.rand(BATCH, LATENT, device=device)))
        _, real_features = D(x_unlabelled)
        lse = torch.logsumexp(logits, 1)
        adversarial = (-w * F.softplus(lse) + (1 - w) * (F.softplus(lse) - lse)).mean()
        feature = ((real_features.mean(0) - features.mean(0)) ** 2).mean()
        adam_g.zero_grad()
        (0.5 * adversarial + 0.5 * feature).backward()
        adam_g.step()
        return [supervised.item(), unsupervised.item(), adversarial.item(), feature.item()]

    return repeated(step, device)


def _forever(data: TensorDataset) -> Iterator[list[Tensor]]:
    """Loaded in this process: loader processes would be threads that the others do not have."""
    loader = DataLoader(data, batch_size=BATCH, shuffle=True, drop_last=True)
    while True:
        yield from loader


# The matrix products alone.


class Products:
    """The products of one pass over layers of `units`; what is in the matrices does not matter to the time."""

    def __init__(self, units: Sequence[int], batch: int, device: torch.device) -> None:
        def new(*shape: int) -> Tensor:
            return torch.randn(shape, device=device)

        self._v, self._dv = ([new(outputs, inputs) for inputs, outputs in pairwise(units)] for _ in range(2))
        self._x, self._dx = ([new(batch, inputs) for inputs in units[:-1]] for _ in range(2))
        self._y, self._dy = ([new(batch, outputs) for outputs in units[1:]] for _ in range(2))

    def forward(self) -> None:
        for x, v, y in zip(self._x, self._v, self._y, strict=True):
            torch.mm(x, v.T, out=y)

    def backward_weights(self) -> None:
        for dy, x, dv in zip(self._dy, self._x, self._dv, strict=True):
            torch.mm(dy.T, x, out=dv)

    def backward_inputs(self, *, first: bool) -> None:
        for dy, v, dx in list(zip(self._dy, self._v, self._dx, strict=True))[0 if first else 1 :]:
            torch.mm(dy, v, out=dx)


def matrix_products(device: torch.device) -> Measure:
    """Those that our step cannot do without, in memory that is there already."""
    generate, generate_again = (Products(G_UNITS, BATCH, device) for _ in range(2))
    learn = Products(D_UNITS, 3 * BATCH, device)
    look = Products(D_UNITS[:-1], BATCH, device)
    judge = Products(D_UNITS, BATCH, device)

    def step() -> None:
        generate.forward()
        learn.forward()
        learn.backward_inputs(first=False)
        learn.backward_weights()
        look.forward()
        generate_again.forward()
        judge.forward()
        judge.backward_inputs(first=True)
        generate_again.backward_inputs(first=False)
        generate_again.backward_weights()

    return repeated(step, device)


# Unedited checkouts of public ports.


def peer(path: Path, device: torch.device) -> Measure:
    """The training step of a checkout at `path`, imported as it is.

    Raises:
        Exception: whatever keeps it from being imported or run under this torch.
    """
    sys.path.insert(0, str(path))
    if (path / "ImprovedGAN.py").exists():
        return improved_gan_pytorch(device)
    if (path / "mnist_trainer.py").exists():
        return ssl_bad_gan(device)
    raise FileNotFoundError("neither ImprovedGAN.py nor mnist_trainer.py is there")


def improved_gan_pytorch(device: torch.device) -> Measure:
    """Sleepychord/ImprovedGAN-pytorch: trainD and trainG on batches that are cut from memory at no cost."""
    from ImprovedGAN import Discriminator, Generator, ImprovedGAN  # type: ignore[import-not-found]  # noqa: PLC0415

    cuda = device.type == "cuda"
    args = SimpleNamespace(savedir="models", logdir="log", cuda=cuda, lr=0.003, momentum=0.5, unlabel_weight=1)
    gan = ImprovedGAN(Generator(LATENT), Discriminator(), None, None, None, args)
    gan.D.train()
    gan.G.train()
    images, labels = Pool.synthetic()
    batches = torch.split((images[:10_000].float() / 255).to(device), BATCH)
    y = labels[:BATCH].to(device)
    at = 0

    def step() -> None:
        nonlocal at
        at = (at + 2) % len(batches)
        gan.trainD(batches[0], y, batches[at])
        gan.trainG(batches[at + 1])

    return repeated(step, device)


def ssl_bad_gan(device: torch.device) -> Measure:
    """zcwang0702/ssl_bad_gan: Trainer._train with its own in-memory loader."""
    if device.type == "cpu":  # it knows GPUs only
        torch.Tensor.cuda = lambda self, *_, **__: self  # type: ignore[method-assign]
        nn.Module.cuda = lambda self, *_, **__: self  # type: ignore[method-assign]
    import config  # type: ignore[import-not-found]  # noqa: PLC0415
    import data  # type: ignore[import-not-found]  # noqa: PLC0415
    import mnist_trainer  # type: ignore[import-not-found]  # noqa: PLC0415

    images, labels = Pool.synthetic()
    raw = TensorDataset(images[:10_000].float() / 255, labels[:10_000])

    def loaders(settings: Any) -> tuple[Any, ...]:
        labelled, *unlabelled = (data.DataLoader(settings, raw, range(n), BATCH) for n in (LABELLED, *[len(raw)] * 2))
        return labelled, *unlabelled, None, None

    data.get_mnist_loaders = loaders
    trainer = mnist_trainer.Trainer(config.mnist_config(), argparse.Namespace(suffix="benchmark"))
    trainer.param_init()
    return repeated(trainer._train, device)


# Taking the time.


def repeated(step: Callable[[], object], device: torch.device) -> Measure:
    def measure(steps: int, clock: Clock) -> float:
        began = clock()
        for _ in range(steps):
            step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        return (clock() - began) / steps

    return measure


@dataclass(frozen=True)
class Contender:
    name: str
    path: Path | None = None

    def prepare(self, device: torch.device) -> Measure:
        if self.path is not None:
            return peer(self.path, device)
        return {OURS: ours, PLAIN: plain, PRODUCTS: matrix_products}[self.name](device)


OURS, PLAIN, PRODUCTS = "ours", "plain step", "matrix products alone"


class Times(NamedTuple):
    """Seconds a step, one a round; CPU time only of one thread, since waiting threads spin."""

    wall: list[float]
    cpu: list[float]


def serve(pipe: Connection, contender: Contender, device: torch.device, threads: int) -> None:
    """A contender's process: prepares, then measures whatever it is asked for."""
    torch.set_num_threads(threads)
    with (
        tempfile.TemporaryDirectory() as folder,  # peers write logs and models where they stand
        contextlib.chdir(folder),
        Path(os.devnull).open("w") as nowhere,
        contextlib.redirect_stdout(nowhere),
    ):
        try:
            measure = contender.prepare(device)
            measure(3, time.perf_counter)
        except Exception as error:  # a peer may break in any way; that is its result
            pipe.send(f"{type(error).__name__}: {error}".partition("\n")[0])
            return
        pipe.send(None)
        while (order := pipe.recv()) is not None:
            steps, clock = order
            pipe.send(measure(steps, clock))


def race(
    contenders: Sequence[Contender], device: torch.device, threads: int, rounds: int, steps: int
) -> dict[str, Times | str]:
    """Each contender's times, or why it has none."""
    os.environ["OMP_NUM_THREADS"] = str(threads)
    pipes: dict[str, Any] = {}
    result: dict[str, Times | str] = {}
    for contender in contenders:
        pipe, theirs = SPAWN.Pipe()
        SPAWN.Process(target=serve, args=(theirs, contender, device, threads), daemon=True).start()
        failure = pipe.recv()
        if failure is None:
            pipes[contender.name] = pipe
        result[contender.name] = failure or Times([], [])
    clocks = [time.perf_counter, time.process_time] if device.type == "cpu" and threads == 1 else [time.perf_counter]
    for _, clock, (name, pipe) in product(range(rounds), clocks, pipes.items()):
        times = result[name]
        assert isinstance(times, Times)
        pipe.send((steps, clock))
        (times.wall if clock is time.perf_counter else times.cpu).append(pipe.recv())
    for pipe in pipes.values():
        pipe.send(None)
    return result


# Telling.


class Bar(NamedTuple):
    """`slower` takes at least `least` times as long as `faster`, or at most `most` times."""

    slower: str
    faster: str
    least: float | None = None
    most: float | None = None


def bars(contenders: Sequence[Contender], device: torch.device) -> list[Bar]:
    if device.type == "cuda":
        return [Bar(PLAIN, OURS, least=5)]
    others = [contender.name for contender in contenders if contender.name not in (OURS, PRODUCTS)]
    return [*(Bar(name, OURS, least=1.5) for name in others), Bar(OURS, PRODUCTS, most=1.5)]


def table(results: dict[str, Times | str]) -> Iterator[str]:
    yield "| | ms a step | of CPU time | fastest to slowest round |"
    yield "| --- | --- | --- | --- |"
    for name, times in results.items():
        if isinstance(times, str):
            yield f"| {name} | not measured: {times} | | |"
        else:
            cpu = f"{1000 * median(times.cpu):.1f}" if times.cpu else ""
            spread = f"{1000 * min(times.wall):.1f} to {1000 * max(times.wall):.1f}"
            yield f"| {name} | {1000 * median(times.wall):.1f} | {cpu} | {spread} |"


def verdict(bar: Bar, results: dict[str, Times | str]) -> str:
    """Medians over rounds of the ratio within a round, so that a load that changes slowly cancels."""
    slower, faster = results[bar.slower], results[bar.faster]
    asked = f"at least {bar.least} x" if bar.least else f"at most {bar.most} x"
    claim = f"- {bar.slower} against {bar.faster}, {asked}:"
    if isinstance(slower, str) or isinstance(faster, str):
        return f"{claim} not measured"
    wall = median(map(truediv, slower.wall, faster.wall))
    cpu = f" ({median(map(truediv, slower.cpu, faster.cpu)):.2f} x in CPU time)" if slower.cpu else ""
    met = (bar.least or 0) <= wall <= (bar.most or math.inf)
    return f"{claim} {wall:.2f} x{cpu}, {'met' if met else 'missed'}"


def peer_at(path: Path) -> Contender:
    """Named by its folder and, where that is a checkout, its commit."""
    told = subprocess.run(["git", "-C", path, "log", "-1", "--format=%h"], capture_output=True, text=True, check=False)
    return Contender(f"{path.name} {told.stdout.strip()}".strip(), path.resolve())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--peer", type=Path, nargs="+", default=[], metavar="PATH", help="unedited checkouts")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=20, help="in a round")
    parser.add_argument("--note", default="", help="a sentence for the end of the table")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".md"))
    args = parser.parse_args()
    contenders = [*map(Contender, (OURS, PLAIN, PRODUCTS)), *map(peer_at, args.peer)]
    began, load = datetime.now(UTC), os.getloadavg()[0]
    lines = ["# A step of the MNIST pair: one D and one G update, batch 100, full width", ""]
    settings = [("cpu", threads) for threads in args.threads]
    settings += [("cuda", 1)] if torch.cuda.is_available() else []
    for kind, threads in settings:
        device = torch.device(kind)
        results = race(contenders, device, threads, args.rounds, args.steps)
        heading = "GPU" if kind == "cuda" else f"CPU, {threads} thread{'s' * (threads > 1)}"
        checked = [verdict(bar, results) for bar in bars(contenders, device)]
        lines += [f"## {heading}", "", *table(results), "", *checked, ""]
    if len(settings) == len(args.threads):
        lines += ["## GPU", "", "No GPU here: not measured.", ""]
    if not args.peer:
        lines += ["No --peer was given: the public ports were not measured.", ""]
    measured = f"medians of {args.rounds} rounds of {args.steps} steps, {began:%Y-%m-%d %H:%M} UTC"
    lines += [f"Measured: {measured}, load average {load:.1f} at the start. {machine()}.", ""]
    lines += [args.note, ""] if args.note else []
    text = "\n".join(lines).rstrip() + "\n"
    print(text)
    args.out.write_text(text)


if __name__ == "__main__":
    main()
