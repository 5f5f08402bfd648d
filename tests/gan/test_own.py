"""What a user's own file may do: each rule that it breaks is one message with the file, the place and the value."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch

from plgan_tune.config.errors import RuleError
from plgan_tune.config.own import sha256_of
from plgan_tune.config.trial import DataSpec, OwnSpec
from plgan_tune.gan.own_contract import Shapes
from plgan_tune.gan.own_file import load_own
from plgan_tune.gan.pairs.base import ImageShape
from plgan_tune.own import check
from tests.factories import OWN_PAIR, OWN_TERMS

UNLABELLED = DataSpec(source="digits", labels=0, validation=10)

USED = "import random\nimport numpy as np\nimport torch\nfrom plgan_tune.own import Keys\n"
OF_D = "def discriminator_terms(unlabelled, view):\n    x = unlabelled.logits\n    return "
OF_G = "def generator_terms(generated):\n    return "
BROKEN = {
    "syntax": ("def f(:\n", ":5: must be Python that can be run, invalid syntax, but got 'def f(:'"),
    "at import": ("1 / 0\n", ":5: must run without an error, but got ZeroDivisionError: division by zero"),
    "no text": ("\0", "mine.py: must be Python that can be run, source code string cannot contain null bytes, but got"),
    "an end": (
        "import sys\nsys.exit('no arguments')\n",
        ":6: must run without an error, but got SystemExit: no arguments",
    ),
    "no function": (
        "def terms(): ...\n",
        " must define discriminator_terms or generator_terms or build_pair, but got terms",
    ),
    "no name": ("discriminator_terms = 3\n", ": discriminator_terms must be a function, but got '3'"),
    "argument": (
        "def discriminator_terms(unlabeled): ...\n",
        ": discriminator_terms: each argument must be one of keys, labelled, labels, unlabelled, generated, "
        "view, but got unlabeled",
    ),
    "argument of D": (
        "def generator_terms(labels): ...\n",
        ": generator_terms: each argument must be one of keys, unlabelled, generated, view, but got labels",
    ),
    "Own": (
        "class Own: ...\n" + OF_D + "{}",
        ": Own must be a class of plgan_tune.own.Keys, but got \"<class 'plgan_tune_own_",
    ),
    "no dict": (
        OF_D + "x.sum(1)",
        ": discriminator_terms: must return a dict of a term's name to its tensor, but got Tensor",
    ),
    "term's name": (
        OF_D + "{'My term': x.sum(1)}",
        ": discriminator_terms: a term's name must have small letters, digits and '_' only, the first a letter, "
        "but got 'My term'",
    ),
    "no tensor": (OF_D + "{'a': 1.0}", ": discriminator_terms: a must be a tensor of real numbers, but got float"),
    "whole numbers": (
        OF_D + "{'a': x.argmax(1)}",
        ": discriminator_terms: a must be a tensor of real numbers, but got torch.int64",
    ),
    "a mean": (
        OF_G + "{'a': generated.logits.mean()}",
        ": generator_terms: a must have a value of each image, shape (b,), here (7,), but got shape ()",
    ),
    "too many": (
        OF_D + "{'a': x}",
        ": discriminator_terms: a must have a value of each image, shape (b,), here (7,), but got shape (7, 10)",
    ),
    "names twice": (
        OF_D + "{'a': x.sum(1)}\n" + OF_G + "{'a': generated.logits.sum(1)}",
        ": generator_terms: its terms must have other names than those of discriminator_terms, but got a",
    ),
    "torch's random numbers": (
        OF_D + "{'a': x.sum(1) * torch.rand(len(x))}",
        ": discriminator_terms: must draw from no global random numbers, which no seed of the trial decides: "
        "view.draws has some, but got draws from those of torch",
    ),
    "random and numpy": (
        OF_G + "{'a': generated.logits.sum(1) * random.random() * np.random.rand()}",
        "has some, but got draws from those of random and numpy",
    ),
    "a seed": (
        "torch.manual_seed(0)\n" + OF_D + "{'a': x.sum(1)}",
        " must leave the global random numbers alone as it is loaded, but got a draw from, or a seed of, those of "
        "torch",
    ),
    "a state read": (
        OF_D + "{'a': x.sum(1) * float(torch.get_rng_state()[0])}",
        ": discriminator_terms: a must be the same for the same images and draws, but got two values",
    ),
    "nan": (
        OF_D + "{'a': (x.sum(1) - 1e9).sqrt()}",
        ": discriminator_terms: a must be finite at the first step, but got nan for 7 of 7 images",
    ),
    "gradient": (
        OF_D + "{'a': (0 * x.sum(1)).sqrt()}",
        ": discriminator_terms: the gradient in D's first layer must be finite at the first step, but got nan or inf",
    ),
    "one rank's mean": (
        OF_D + "{'a': (x - x.mean(0)).square().sum(1)}",
        ": discriminator_terms: the values of a must be the same on one rank and on two, which have the rows of a "
        "batch between them (view.mean takes a mean over all ranks), but got a difference of ",
    ),
    "one rank's gradient": (
        OF_D + "{'a': x.sum(1) - x.sum(1).detach() + 0 * x.sum(1) + _of_rows(x)}\n"
        "def _of_rows(x):\n    y = x.sum(1)\n    return (y - y.detach()) * len(x)",
        ": discriminator_terms: the gradient in D's first layer must be the same on one rank and on two",
    ),
    "one rank alone": (
        OF_D + "{'a': x.sum(1) + (view.mean(x).sum() if len(x) != 3 else 0)}",
        ": discriminator_terms: each rank must call view.mean as often as the others, but got another number",
    ),
    "within": (
        OF_D + "{'a': unlabelled.labels}",
        ":7: must run without an error, but got AttributeError: 'Seen' object has no attribute 'labels'",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_rule_is_one_message(name: str, tmp_path: Path) -> None:
    text, message = BROKEN[name]
    file = tmp_path / "mine.py"
    file.write_text(USED + text)
    with pytest.raises(RuleError) as refused:
        check(file)
    assert str(refused.value).startswith(f"{file}")
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"entropi": 0.1}, "trial.own.entropi: must be a known key (nearest: entropy) ({file}), but got 'entropi'"),
        ({"entropy": -1.0}, "trial.own.entropy: must be a finite number >= 0 ({file}), but got -1.0"),
        ({"entropy": "much"}, "trial.own.entropy: must be a finite number >= 0 ({file}), but got 'much'"),
        ({"match": 1}, "trial.own.match: must be true or false ({file}), but got 1"),
    ],
)
def test_a_key_is_what_the_file_says(keys: dict[str, float | str], message: str) -> None:
    with pytest.raises(RuleError) as refused:
        check(OWN_TERMS, keys)
    assert str(refused.value) == message.format(file=OWN_TERMS)


def test_a_file_without_keys_has_none(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(OF_D + "{'a': x.sum(1)}")
    assert check(file)["discriminator_terms"] == ("a",)
    with pytest.raises(RuleError, match=r"mine\.py must define a class Own\(Keys\) for trial\.own, but got scale"):
        check(file, {"scale": 1.0})


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(RuleError, match=r"must be a file that can be read, but got .*none\.py: No such file"):
        check(tmp_path / "none.py")


def test_a_whole_file_passes_and_leaves_the_global_random_numbers_as_they_were() -> None:
    before = torch.get_rng_state(), random.getstate(), repr(np.random.get_state())  # noqa: NPY002
    assert check(OWN_TERMS, {"entropy": 0.3}) == {
        "discriminator_terms": ("entropy", "consistency", "mixed", "spread"),
        "generator_terms": ("doubt", "apart"),
    }
    after = torch.get_rng_state(), random.getstate(), repr(np.random.get_state())  # noqa: NPY002
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]


OF_PAIR = OWN_PAIR.read_text()
BROKEN_PAIRS = {
    "no pair": ("    return Pair(", "    return (3, ", ": must return a Pair of a Discriminator and a Generator"),
    "one network": ("    return Pair(", "    return max(0, ", "must run without an error, but got TypeError"),
    "global weights": (
        "linear(model.latent_size, units * self.start**2, spread, rng)",
        "nn.Linear(model.latent_size, units * self.start**2)",
        ": must draw from no global random numbers: rng_d, rng_g and the draws of a pass",
    ),
    "global noise": (
        "seen.draws.normal(x.shape[1:])",
        "torch.randn_like(x)",
        ": must draw from no global random numbers",
    ),
    "a batch in evaluation": (
        "if seen.draws is not None:\n            x = x + 0.1 * seen.draws.normal(x.shape[1:])",
        "x = x + 0.1 * x * len(x)",
        ": evaluation of an image alone and in a batch must be the same",
    ),
    "a batch's mean": (
        "features = self._activate(x)",
        "x = x - x.mean(0)\n        features = self._activate(x)",
        ": evaluation of an image alone and in a batch must be the same, but got a difference of",
    ),
    "one rank's mean": ("self.norm(x, seen)", "x - x.mean(0)", ": the gradient of"),
    "images' shape": (
        "[:, :, :size, :size]",
        "[:, :, :size, 1:size]",
        ": the generator's images must have shape (7, 3, 8, 8) for 7 images, but got (7, 3, 8, 7)",
    ),
    "pixels": ("torch.tanh(", "3 * torch.tanh(", ": generated pixels must lie in [-1, 1], the range of `traits`"),
    "logits": (
        "self._end(model, units, classes, rng)",
        "self._end(model, units, classes + 2, rng)",
        ": the logits must have shape (7, 3) for 7 images, but got (7, 5)",
    ),
    "features": (
        "Hidden(features, features)\n",
        "Hidden(features, x)\n",
        ": the features must have shape (7, 2) for 7 images, but got (7, 2, 2, 2)",
    ),
    "an idle weight": (
        "self.norm = BatchNorm",
        "self.idle = BatchNorm(3)\n        self.norm = BatchNorm",
        ": every trained weight must have a gradient, but got none for idle.shift of ResidualGenerator",
    ),
    "beside the state": (
        "self.first = Conv",
        "self.scale = 1 + 0.1 * torch.rand(1, generator=rng).item()\n        self.first = Conv",
        "BESIDE",
    ),
    "traits": (
        "class ResidualGenerator(Generator):\n    traits = TRAITS",
        "class ResidualGenerator(Generator):",
        ": ResidualGenerator must have `traits`, a Traits, but got none",
    ),
}


@pytest.mark.parametrize("name", BROKEN_PAIRS)
def test_a_pair_that_breaks_a_rule_is_one_message(name: str, tmp_path: Path) -> None:
    old, new, message = BROKEN_PAIRS[name]
    assert OF_PAIR.count(old) == 1
    text = OF_PAIR.replace(old, new)
    if message == "BESIDE":
        text = text.replace("apply(self.first, images, 1.0)", "self.scale * apply(self.first, images, 1.0)")
        message = ": D, and one that has loaded its state_dict, must be the same, but got a difference of"
    file = tmp_path / "mine.py"
    file.write_text(text)
    with pytest.raises(RuleError) as refused:
        check(file, model={"width": 0.05}, size=8, classes=3)
    assert str(refused.value).startswith(f"{file}")
    assert message in str(refused.value)


def test_a_whole_pair_passes() -> None:
    for model in ({}, {"fake_logit": "learned"}):
        assert check(OWN_PAIR, {"blocks": 1}, model={"width": 0.05, **model}, channels=1, size=9) == {
            "discriminator_terms": ("entropy",),
            "generator_terms": (),
        }


def test_a_file_is_tried_on_images_of_the_shape_that_it_is_for(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "def discriminator_terms(unlabelled):\n    red, green, blue = unlabelled.images.unbind(1)\n"
        "    return {'a': (red - blue).mean((1, 2)) * unlabelled.logits[:, 3]}"
    )
    assert check(file, channels=3, size=5, classes=4)["discriminator_terms"] == ("a",)
    with pytest.raises(RuleError, match="ValueError: not enough values to unpack"):
        check(file, channels=1)
    with pytest.raises(RuleError, match="IndexError: index 3 is out of bounds"):
        check(file, classes=3)


def test_another_content_is_not_run(tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    content = f"open({str(ran)!r}, 'w')\n".encode()
    expected = sha256_of(b"what was reviewed")
    with pytest.raises(RuleError) as refused:
        load_own(content, OwnSpec(file="mine.py", sha256=expected), "mine.py", Shapes(ImageShape(1, 4), 3))
    assert not ran.exists()
    assert str(refused.value) == (
        f"mine.py must hold what the trial's own.sha256 names, {expected}, but got {sha256_of(content)}"
    )


def test_a_file_that_takes_labels_is_refused_where_no_image_has_one() -> None:
    shapes = Shapes.of(ImageShape(1, 4), 10, UNLABELLED)
    assert shapes.classes == 1
    content = OWN_TERMS.read_bytes()
    with pytest.raises(RuleError) as refused:
        load_own(content, OwnSpec(file="mine.py"), "mine.py", shapes)
    assert str(refused.value) == (
        "mine.py: discriminator_terms: must take no labelled images, for trial.data.labels is 0, "
        "but got labelled, labels"
    )
    unlabelled = b"def discriminator_terms(unlabelled):\n    return {'a': unlabelled.logits[:, 0]}"
    assert load_own(unlabelled, OwnSpec(file="mine.py"), "mine.py", shapes).names["discriminator_terms"] == ("a",)
