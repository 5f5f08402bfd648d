"""What a space file or `--set` may get wrong: the message names file, line, key, rule and value."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from plgan_tune.config.errors import Problem, SpecError
from plgan_tune.config.load import load_study, load_trial, study_from_mapping

Write = Callable[[str], Path]

GOOD = """\
study: good
search: {trials: 4, first: [{loss.alpha: 0.5}]}
resources: {ranks: 1}
trial:
  method: pl_gan
  data: {source: digits, labels: 20, validation: 400}
  model: {kind: mlp}
  loss: {alpha: {uniform: [0.1, 1]}}
  optim: {}
  training: {epochs: 60}
"""


def _problems(path: Path, *overrides: str) -> tuple[Problem, ...]:
    with pytest.raises(SpecError) as caught:
        load_study(path, overrides)
    assert str(caught.value) == "\n".join(map(str, caught.value.problems))
    return caught.value.problems


def _only(path: Path, *overrides: str) -> Problem:
    problems = _problems(path, *overrides)
    assert len(problems) == 1, "\n".join(map(str, problems))
    return problems[0]


def test_the_good_file_is_good(write: Write) -> None:
    assert list(load_study(write(GOOD)).study.domains) == ["loss.alpha"]


@pytest.mark.parametrize(
    ("line", "key", "rule", "value"),
    [
        ("study: a/b", "study", "can name a folder", "'a/b'"),
        ("study: 3", "study", "must be text", "3"),
        ("study: ..", "study", "can name a folder", "'..'"),
        ("edition: 2000", "edition", "an edition that this plgan-tune knows", "2000"),
        ("edition: 0", "edition", "must be one of 1", "0"),
        ("edition: true", "edition", "must be one of 1", "true"),
        ("edition: [1]", "edition", "must be one of 1", "[1]"),
        ("serach: {}", "serach", "nearest: search", "'serach'"),
        ("search: 3", "search", "a mapping of trials", "3"),
        ("search: {trials: 0}", "search.trials", "a whole number >= 1", "0"),
        ("search: {trials: 4.0}", "search.trials", "a whole number >= 1", "4.0"),
        ("search: {trials: true}", "search.trials", "a whole number >= 1", "true"),
        ("search: {trails: 4}", "search.trails", "nearest: trials", "'trails'"),
        ("search: {trials: {int: [1, 5]}}", "search.trials", "no domain", "{int: [1, 5]}"),
        ("search: {hours: .inf}", "search.hours", "null or a finite number > 0", ".inf"),
        ("search: {hours: true}", "search.hours", "null or a finite number > 0", "true"),
        ("search: {concurrent: 0}", "search.concurrent", "auto or a whole number >= 1", "0"),
        ("search: {metric: loss}", "search.metric", "val_error", "'loss'"),
        ("search: {sampler: tpo}", "search.sampler.tpo", "nearest: tpe", "'tpo'"),
        (
            "search: {sampler: {tpe: {}, random: {}}}",
            "search.sampler",
            "exactly one of tpe, random, cmaes, gp",
            "tpe and random",
        ),
        ("search: {sampler: {}}", "search.sampler", "exactly one of tpe, random, cmaes, gp", "none"),
        ("search: {sampler: {tpe: 3}}", "search.sampler.tpe", "a mapping of startup_trials", "3"),
        (
            "search: {early_stopping: asha}",
            "search.early_stopping.asha.grace_period",
            "must be given",
            "nothing",
        ),
        (
            "search: {early_stopping: {asha: {grace_period: 5, reduction_factor: 1}}}",
            "search.early_stopping.asha.reduction_factor",
            "a whole number >= 2",
            "1",
        ),
        ("search: {first: 3}", "search.first", "a list of points", "3"),
        ("search: {first: [3]}", "search.first[0]", "a mapping", "3"),
        ("search: {first: [{}, {loss.alpha: 2}]}", "search.first[1].loss.alpha", "{uniform: [0.1, 1]}", "2"),
        ("search: {first: [{loss.alpha: x}]}", "search.first[0].loss.alpha", "must lie in", "'x'"),
        (
            "search: {first: [{loss.alpa: 0.5}]}",
            "search.first[0].loss.alpa",
            "nearest: loss.alpha",
            "'loss.alpa'",
        ),
        (
            "search: {first: [{optim.eps: 1}]}",
            "search.first[0].optim.eps",
            "searched: loss.alpha",
            "'optim.eps'",
        ),
        ("resources: {ranks: {choice: [1, 2]}}", "resources.ranks", "no domain", "{choice: [1, 2]}"),
        ("resources: {gpus_per_rank: -1}", "resources.gpus_per_rank", "auto or a finite number >= 0", "-1"),
        ("resources: {gpus_per_rank: 1.5}", "resources.gpus_per_rank", "a whole number of GPUs, or less than 1", "1.5"),
        ("resources: {accelerator: 'a b'}", "resources.accelerator", "letters, digits", "'a b'"),
        ("resources: {cpus_per_rank: 0}", "resources.cpus_per_rank", "a finite number > 0", "0"),
        ("  method: recip", "trial.method", "one of pl_gan, patent", "'recip'"),
        ("  method: {choice: [pl_gan, x]}", "trial.method", "one of pl_gan, patent", "'x'"),
        ("  seed: -1", "trial.seed", "a whole number >= 0", "-1"),
        ("  sead: 1", "trial.sead", "nearest: seed", "'sead'"),
        ("  loss.beta: 1", "trial.loss.beta", "must be", "'loss.beta'"),
        ("  data: 3", "trial.data", "a mapping of source", "3"),
        (
            "  data: {source: mnits, labels: 1, validation: 1}",
            "trial.data.source",
            "mnist, fashion_mnist",
            "'mnits'",
        ),
        (
            "  data: {source: digits, labels: 20, validation: 400, refit: true}",
            "trial.data.refit",
            "must be false in a search",
            "true",
        ),
        ("  data: {labels: 20, validation: 1}", "trial.data.source", "must be given", "nothing"),
        ("  data: {source: digits, validation: 1}", "trial.data.labels", "must be given", "nothing"),
        ("  data: {source: digits, labels: 1}", "trial.data.validation", "must be given", "nothing"),
        (
            "  data: {source: digits, labels: {choice: [10, 20]}, validation: 1}",
            "trial.data.labels",
            "incomparable",
            "{choice: [10, 20]}",
        ),
        ("  data: {source: svhn, labels: 1, validation: 1, size: 3}", "trial.data.size", ">= 4", "3"),
        ("  training: {epochs: {int: [1, 5]}}", "trial.training.epochs", "incomparable", "{int: [1, 5]}"),
        ("  training: {batch_size: 1}", "trial.training.batch_size", "a whole number >= 2", "1"),
        ("  training: {precision: [a]}", "trial.training.precision", "one of auto", "['a']"),
        ("  training: {generator_steps: 0}", "trial.training.generator_steps", "a whole number >= 1", "0"),
        ("  loss: {alpha: {uniform: [0.1, 1]}, self_scale: -1}", "trial.loss.self_scale", "a finite number >= 0", "-1"),
        (
            "  loss: {alpha: {uniform: [0.1, 1]}, self_threshold: 0}",
            "trial.loss.self_threshold",
            "a finite number > 0 and <= 1",
            "0",
        ),
        (
            "  loss: {alpha: {uniform: [0.1, 1]}, self_threshold: 1.1}",
            "trial.loss.self_threshold",
            "a finite number > 0 and <= 1",
            "1.1",
        ),
        (
            "  loss: {alpha: {uniform: [0.1, 1]}, self_images: labelled}",
            "trial.loss.self_images",
            "one of generated, unlabelled",
            "'labelled'",
        ),
        (
            "  loss: {alpha: {uniform: [0.1, 1]}, self_epoch: -1}",
            "trial.loss.self_epoch",
            "null or a whole number >= 0",
            "-1",
        ),
        ("  model: {kind: cnv}", "trial.model.kind", "one of mlp, conv", "'cnv'"),
        (
            "  model: {kind: conv, hidden: [10]}",
            "trial.model.hidden",
            "belongs to kind mlp",
            "[10] with kind conv",
        ),
        ("  model: {hidden: []}", "trial.model.hidden", "needs hidden", "[]"),
        ("  model: {hidden: [10, 0]}", "trial.model.hidden", "a list, each a whole number >= 1", "[10, 0]"),
        ("  model: {kind: conv, dropout: [0.1, 0.2]}", "trial.model.dropout", "a list of 3", "[0.1, 0.2]"),
        ("  model: {kind: conv, dropout: [0, 0, 1]}", "trial.model.dropout", "< 1", "[0, 0, 1]"),
        ("  model: {feature_layer: 5}", "trial.model.feature_layer", "must be in [-5, 4]", "5"),
        ("  model: {kind: dcgan, feature_layer: -5}", "trial.model.feature_layer", "must be in [-4, 3]", "-5"),
        ("  model: {kind: dcgan, hidden: [9]}", "trial.model.hidden", "belongs to kind mlp", "[9] with kind dcgan"),
        ("  model: {kind: dcgan, noise_input: 0.3}", "trial.model.noise_input", "belongs to kind mlp", "0.3"),
        ("  model: {kind: dcgan, noise_hidden: 0.5}", "trial.model.noise_hidden", "belongs to kind mlp", "0.5"),
        (
            "  model: {kind: dcgan, dropout: [0, 0, 0]}",
            "trial.model.dropout",
            "belongs to kind conv",
            "[0.0, 0.0, 0.0]",
        ),
        ("  model: {kind: dcgan, zca: true}", "trial.model.zca", "belongs to kind conv", "true"),
        (
            "  model: {discriminator_norm: batch}",
            "trial.model.discriminator_norm",
            "kind mlp always has weight norm",
            "'batch'",
        ),
        (
            "  model: {kind: conv, discriminator_norm: none}",
            "trial.model.discriminator_norm",
            "kind conv always has weight norm",
            "'none'",
        ),
        (
            "  model: {kind: dcgan, discriminator_norm: layer}",
            "trial.model.discriminator_norm",
            "one of batch, weight, none",
            "'layer'",
        ),
        *[
            (f"  model: {{kind: {kind}, {key}: {value}}}", f"trial.model.{key}", "belongs to kind recurrent", shown)
            for kind in ("mlp", "conv", "dcgan")
            for key, value, shown in [
                ("steps", "2", f"2 with kind {kind}"),
                ("canvas", "sum", f"'sum' with kind {kind}"),
                ("latent_each_step", "true", f"true with kind {kind}"),
                ("latent_layer", "true", f"true with kind {kind}"),
                ("head", "100", f"100 with kind {kind}"),
            ]
        ],
        ("  model: {kind: recurrent, steps: 0}", "trial.model.steps", "a whole number >= 1 and <= 1000", "0"),
        ("  model: {kind: recurrent, canvas: first}", "trial.model.canvas", "one of last, sum", "'first'"),
        ("  model: {kind: recurrent, head: 0}", "trial.model.head", "null or a whole number >= 1", "0"),
        ("  model: {kind: recurrent, zca: true}", "trial.model.zca", "belongs to kind conv", "true"),
        (
            "  model: {kind: recurrent, discriminator_norm: weight}",
            "trial.model.discriminator_norm",
            "kind recurrent has batch norm or none (batch, none)",
            "'weight'",
        ),
        (
            "  model: {kind: recurrent, generator_weight_norm: true}",
            "trial.model.generator_weight_norm",
            "the recurrent generator has no weight norm",
            "true",
        ),
        (
            "  model: {kind: conv, generator_weight_norm: false}",
            "trial.model.generator_weight_norm",
            "always has weight norm",
            "false",
        ),
        (
            "  optim: {lr_generator: {uniform: [1, 0]}}",
            "trial.optim.lr_generator",
            "`low <= high`",
            "(low=1, high=0)",
        ),
        ("  optim: {eps: {log_uniform: [0, 1]}}", "trial.optim.eps", "`low > 0`", "(low=0, high=1)"),
        ("  optim: {eps: {choice: []}}", "trial.optim.eps", "at least one option", "[]"),
        ("  optim: {eps: {normal: [0, 1]}}", "trial.optim.eps", "a domain is one of", "'normal'"),
        (
            "  optim: {eps: {choice: [1], int: [0, 1]}}",
            "trial.optim.eps",
            "exactly one name",
            "{choice: [1], int",
        ),
        (
            "  optim: {eps: {uniform: [0.5, 2]}}",
            "trial.optim.eps",
            "> 0 and <= 1",
            "2.0 in {uniform: [0.5, 2]}",
        ),
        ("  optim: {beta1: {uniform: [-1, 0.5]}}", "trial.optim.beta1", ">= 0 and < 1", "-1.0 in"),
        ("  optim: {beta1: .nan}", "trial.optim.beta1", "finite", ".nan"),
        (
            "  optim: {decay_epoch: {int: [1, 2.5]}}",
            "trial.optim.decay_epoch",
            "whole numbers",
            "(low=1, high=2.5)",
        ),
        ("  optim: {decay_epoch: 1e2}", "trial.optim.decay_epoch", "a whole number >= 1", "100.0"),
        ("  optim: {decay_epoch: {choice: [3, x]}}", "trial.optim.decay_epoch", "whole number", "'x' in"),
        ("  optim: {eps: !!float 1}", "trial.optim.eps", "no tag", "!!float"),
        ("  optim: {eps: 1e-4, eps: 1e-5}", "trial.optim.eps", "given once", "eps again"),
        ("  optim: {esp: 1e-4}", "trial.optim.esp", "nearest: eps", "'esp'"),
        ("  optim: {eps: 'x'}", "trial.optim.eps", "a finite number", "'x'"),
    ],
)
def test_one_wrong_line_names_file_line_key_rule_and_value(
    write: Write, line: str, key: str, rule: str, value: str
) -> None:
    name = line.partition(":")[0]
    lines = [old for old in GOOD.splitlines() if old.partition(":")[0] != name]
    place = lines.index("trial:") + 1 if line.startswith(" ") else 0
    lines.insert(place, line)
    path = write("\n".join(lines))
    problem = _only(path)
    assert (problem.where, problem.line, problem.key) == (str(path), place + 1, key)
    assert rule in problem.rule
    assert problem.value.startswith(value)
    assert str(problem) == f"{path}:{place + 1}: {key}: {problem.rule}, but got {problem.value}"


def test_a_real_range_is_refused_where_a_whole_number_stands(write: Write) -> None:
    problems = _problems(write(GOOD), "trial.loss.switch_epoch={uniform: [5, 20]}")
    assert [problem.value for problem in problems] == [
        "5.0 in {uniform: [5, 20]}",
        "20.0 in {uniform: [5, 20]}",
    ]
    assert {problem.rule for problem in problems} == {
        "for every value of the domain: must be a whole number >= 1 and <= 1000000000"
    }


@pytest.mark.parametrize(
    ("text", "rule", "value"),
    [
        ("", "a mapping of study, edition, search, resources, trial", "nothing"),
        ("# nothing\n", "a mapping of study, edition, search, resources, trial", "nothing"),
        ("- 1\n", "a mapping of study, edition, search, resources, trial", "[1]"),
        ("just text", "a mapping of study, edition, search, resources, trial", "'just text'"),
    ],
)
def test_a_file_that_holds_no_mapping(write: Write, text: str, rule: str, value: str) -> None:
    path = write(text)
    problem = _only(path)
    assert (problem.where, problem.key, problem.value) == (str(path), "", value)
    assert rule in problem.rule


def test_malformed_yaml_names_its_line(write: Write) -> None:
    path = write("study: a\nsearch: [1\ntrial: 3\n")
    problem = _only(path)
    assert (problem.where, problem.line, problem.value) == (str(path), 3, "'trial: 3'")
    assert "well-formed YAML 1.2" in problem.rule


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    missing = _only(tmp_path / "no.yaml")
    assert (missing.where, missing.value) == (str(tmp_path / "no.yaml"), "no such file")
    assert "can be read" in _only(tmp_path).rule
    (tmp_path / "latin.yaml").write_bytes(b"study: caf\xe9")
    assert "UTF-8" in _only(tmp_path / "latin.yaml").rule


def test_all_problems_come_at_once_in_the_files_order(write: Write) -> None:
    path = write(
        """\
study: a/b
serach: {}
search: {trials: 0, first: [{loss.gamma: 1}, {optim.eps: 2}]}
trial:
  data: {source: mnits, labels: 20}
  model: {kind: mlp, kind: conv}
  loss: {alpha: {uniform: [1, 0]}, beta: &b 3, ramp: *b}
  optim: {eps: {uniform: [0.5, 1]}}
  training: {epochs: {int: [1, 2]}, precision: !x auto}
"""
    )
    problems = _problems(path, "trial.optim.beta1=-1", "nothing")
    assert [(problem.line, problem.key) for problem in problems] == [
        (1, "study"),
        (2, "serach"),
        (3, "search.trials"),
        (3, "search.first[0].loss.gamma"),
        (3, "search.first[1].optim.eps"),
        (5, "trial.data.source"),
        (5, "trial.data.validation"),
        (6, "trial.model.kind"),
        (7, "trial.loss.alpha"),
        (7, "trial.loss.ramp"),
        (9, "trial.training.epochs"),
        (9, "trial.training.precision"),
        (None, "trial.optim.beta1"),
        (None, "nothing"),
    ]
    assert [problem.where for problem in problems[-2:]] == ["--set", "--set"]


def test_two_keys_that_bound_each_other_are_tried_together(write: Write) -> None:
    model = "trial.model={hidden: {choice: [[9, 9, 9], [9]]}, feature_layer: {choice: [0, 2]}}"
    problem = _only(write(GOOD), model)
    assert problem.key == "trial.model.feature_layer"
    assert "must be in [-1, 0]" in problem.rule


def test_ends_of_keys_that_bound_each_other_are_tried_together(write: Write) -> None:
    """With the first value of the other domain, each value of either is allowed."""
    problem = _only(write(GOOD), "trial.optim={beta2: {choice: [0.9, 0.0]}, eps_root: {choice: [0.0, 1.0e-8]}}")
    assert problem.key == "trial.optim.eps_root"
    assert "eps_root must be 0 if beta2 is 0" in str(problem)


def test_a_searched_kind_is_judged_in_each_of_its_options(write: Write) -> None:
    problem = _only(write(GOOD), "trial.model={kind: {choice: [mlp, conv]}, hidden: [10]}")
    assert (problem.key, problem.value) == ("trial.model.hidden", "[10] with kind conv")


def test_a_searched_kind_decides_no_epochs(write: Write) -> None:
    problem = _only(write(GOOD), "trial.model={kind: {choice: [mlp, conv]}}", "trial.training={}")
    assert problem.key == "trial.training.epochs"
    assert "model.kind is searched" in problem.rule


@pytest.mark.parametrize(
    ("override", "key", "rule", "value"),
    [
        ("nothing", "nothing", "must be KEY=VALUE", "'nothing'"),
        ("=3", "", "dotted path", "'=3'"),
        ("trial..seed=3", "trial..seed", "dotted path", "'trial..seed=3'"),
        ("trial.loss.alhpa=3", "trial.loss.alhpa", "nearest: trial.loss.alpha", "'trial.loss.alhpa=3'"),
        ("loss.alpha=3", "loss.alpha", "nearest: trial.loss.alpha", "'loss.alpha=3'"),
        (
            "trial.loss.alpha.uniform=[0, 1]",
            "trial.loss.alpha.uniform",
            "set as a whole",
            "'trial.loss.alpha.uniform",
        ),
        ("trial.loss.alpha=[0", "trial.loss.alpha", "well-formed", "'[0'"),
        ("trial.loss.alpha=!x 3", "trial.loss.alpha", "no tag", "!x"),
        ("trial.loss.alpha=-1", "trial.loss.alpha", "a finite number >= 0", "-1"),
        ("trial.loss={a: 1, a: 2}", "trial.loss.a", "given once", "a again"),
        ("trial.loss={alpa: 1}", "trial.loss.alpa", "nearest: alpha", "'alpa'"),
        ("trial.loss.alpha={int: [1, 0]}", "trial.loss.alpha", "`low <= high`", "(low=1, high=0)"),
        ("trial.data.labels={int: [1, 2]}", "trial.data.labels", "incomparable", "{int: [1, 2]}"),
    ],
)
def test_a_wrong_override_is_a_problem_of_set(write: Write, override: str, key: str, rule: str, value: str) -> None:
    first = "search.first=[]"
    problem = _only(write(GOOD), first, override)
    assert (problem.where, problem.line, problem.key) == ("--set", None, key)
    assert rule in problem.rule
    assert problem.value.startswith(value)


def test_an_override_below_a_value_of_the_file(write: Write) -> None:
    path = write(GOOD.replace("trials: 4", "sampler: random"))
    problem = _only(path, "search.sampler.tpe.startup_trials=3")
    assert (problem.where, problem.value) == ("--set", "'random'")


def test_a_first_point_outside_a_domain_that_set_has_narrowed(write: Write) -> None:
    path = write(GOOD)
    problem = _only(path, "trial.loss.alpha={uniform: [0.6, 1]}")
    assert (problem.where, problem.line, problem.key) == (str(path), 2, "search.first[0].loss.alpha")


def test_a_trial_refuses_a_domain_and_says_how_to_fix_it(write: Write) -> None:
    path = write(GOOD)
    with pytest.raises(SpecError) as caught:
        load_trial(path)
    (problem,) = caught.value.problems
    assert (problem.line, problem.key, problem.value) == (8, "trial.loss.alpha", "{uniform: [0.1, 1]}")
    assert "--set trial.loss.alpha=VALUE" in problem.rule


@pytest.mark.parametrize(
    ("text", "key"),
    [("trial: {data: {labels: 1, validation: 1}}", "trial.data.source"), ("[]", ""), ("trail: {}", "trail")],
)
def test_a_trial_refuses_what_a_study_does(write: Write, text: str, key: str) -> None:
    with pytest.raises(SpecError) as caught:
        load_trial(write(text))
    assert key in [problem.key for problem in caught.value.problems]


def test_a_mapping_is_judged_like_a_file() -> None:
    data = {"source": "digits", "labels": -1, "validation": 1}
    mapping: dict[Any, Any] = {"study": "s", 3: 4, "trial": {"data": data}}
    with pytest.raises(SpecError) as caught:
        study_from_mapping(mapping)
    assert [(problem.where, problem.key) for problem in caught.value.problems] == [
        ("mapping", "3"),
        ("mapping", "trial.data.labels"),
    ]


@pytest.mark.parametrize(
    ("override", "key", "rule", "value"),
    [
        (
            "trial.data.labels=0",
            "trial.data.labels",
            "must be at least 1, or loss.supervised_scale 0: without a label there is no class to learn",
            "0 with supervised_scale 1.0",
        ),
        (
            "trial.data.labels=0 | trial.loss={supervised_scale: 0.0, self_scale: 0.5}",
            "trial.data.labels",
            "or loss.self_scale 0",
            "0 with self_scale 0.5",
        ),
        (
            "trial.data.labels=0 | trial.model.fake_logit=learned | trial.loss.supervised_scale=0.0",
            "trial.data.labels",
            "or model.fake_logit fixed",
            "0 with fake_logit 'learned'",
        ),
        (
            "trial.loss.gradient_penalty=10.0 | trial.model.minibatch_kernels=100",
            "trial.model.minibatch_kernels",
            "the penalty is of one image's gradient, and these make D see a batch",
            "100 with gradient_penalty 10.0",
        ),
        (
            "trial.loss.gradient_penalty={choice: [0.0, 10.0]} | trial.model.minibatch_kernels={choice: [0, 100]}",
            "trial.model.minibatch_kernels",
            "for every value of the domain: must be 0, or loss.gradient_penalty",
            "100 with gradient_penalty 10.0 in {choice: [0, 100]}",
        ),
        (
            "trial.loss.gradient_penalty={uniform: [0, 10]} | trial.optim.clip={choice: [null, 0.01]}",
            "trial.optim.clip",
            "must be null, or loss.gradient_penalty 0: both bound D's slope",
            "0.01 with gradient_penalty 10.0",
        ),
        (
            "trial.data.labels=0 | trial.loss.supervised_scale=0.0",
            "search.metric",
            "must be one of val_distance, val_coverage, val_score, val_transport where trial.data.labels is 0",
            "'val_error'",
        ),
        (
            "trial.data.labels=0 | trial.loss.supervised_scale=0.0 | search.metric=[val_distance, val_balanced_error]",
            "search.metric",
            "must be one of val_distance, val_coverage, val_score, val_transport where trial.data.labels is 0",
            "'val_balanced_error'",
        ),
        ("trial.loss.gradient_penalty=-1", "trial.loss.gradient_penalty", "a finite number >= 0", "-1"),
        ("trial.optim.clip=0", "trial.optim.clip", "null or a finite number > 0", "0"),
        ("trial.loss.game=hinge", "trial.loss.game", "one of logistic, wasserstein", "'hinge'"),
        ("trial.optim.kind=sgd", "trial.optim.kind", "one of adam, rmsprop", "'sgd'"),
        (
            "trial.loss.game=wasserstein",
            "trial.loss.ramp",
            "ramp belongs to the logistic game, and must be zero in another",
            "'clamp' with game wasserstein",
        ),
        (
            "trial.loss={game: {choice: [logistic, wasserstein]}, ramp: zero, smoothing: {uniform: [0, 0.2]}}",
            "trial.loss.smoothing",
            "smoothing belongs to the logistic game, and must be 0 in another",
            "0.2 with game wasserstein",
        ),
        (
            "trial.optim={kind: {choice: [adam, rmsprop]}, beta1: {choice: [0, 0.5]}}",
            "trial.optim.beta1",
            "beta1 belongs to adam, and must be 0",
            "0.5 with kind rmsprop",
        ),
    ],
)
def test_keys_that_exclude_each_other_are_found_before_a_search(
    write: Write, override: str, key: str, rule: str, value: str
) -> None:
    """At every corner of the space, once: not at the seventh trial."""
    problem = _only(write(GOOD), *override.split(" | "))
    assert problem.key == key
    assert rule in problem.rule
    assert value in problem.value


def test_critics_may_be_searched_beside_what_excludes_them_not(write: Write) -> None:
    overrides = [
        "trial.data.labels=0",
        "search.metric=val_transport",
        "trial.loss={game: {choice: [logistic, wasserstein]}, ramp: zero, supervised_scale: 0.0}",
        "trial.loss.gradient_penalty={choice: [0.0, 10.0]}",
        "trial.optim={kind: {choice: [adam, rmsprop]}, beta1: 0.0}",
        "search.first=[]",
    ]
    assert "loss.game" in load_study(write(GOOD), overrides).study.domains
