"""Tables of what is published of generators that draw in steps, with the evaluation's own numbers beside it."""

from collections.abc import Iterator, Mapping
from math import isnan
from typing import Any

import pandas as pd
from rich.table import Table

from plgan_tune.analysis.published_generators import GeneratorSetting, published_generators
from plgan_tune.evaluation.battle import Battle
from plgan_tune.evaluation.configurations import RECURRENT
from plgan_tune.evaluation.plan import Evaluation

NONE = "-"
ALSO_CALLED = {"wgan": "wirgan", "wgan_gp": "gp_wirgan"}
"""Methods that are another one's T = 1."""


def published_tables(
    evaluation: Evaluation, frame: pd.DataFrame, battles: Mapping[tuple[str, str], Battle]
) -> Iterator[tuple[str, Table]]:
    """Yield the published tables that are of the evaluation's data set, with their titles.

    Args:
        evaluation: what was evaluated.
        frame: its rows.
        battles: of each pair of configurations.
    """
    if (setting := _setting(evaluation)) is None:
        return
    ours = {_published_name(evaluation, name): name for name in frame.configuration.unique()}
    where = f"published: {setting.data}, Feng et al. 2020"
    yield f"{where}, tables 3 to 7", _battles(setting, ours, battles)
    if setting.errors:
        yield f"{where}, table 8, errors of a classifier, %", _errors(setting)
    yield f"{where}, tables 9 and 10", _generators(setting, ours, frame)


def warnings(evaluation: Evaluation) -> Iterator[str]:
    """Yield what speaks against the numbers of those tables."""
    if (setting := _setting(evaluation)) is not None:
        yield from setting.warnings


def _setting(evaluation: Evaluation) -> GeneratorSetting | None:
    data = evaluation.trial.data
    return published_generators(data.source, data.path) if evaluation.generators else None


def _published_name(evaluation: Evaluation, name: str) -> str | None:
    """Return what a configuration is called among the published ones: `wgan` is `wirgan-t1`. None for a trial's."""
    (trial,) = (one.trial for one in evaluation.configurations if one.name == name)
    if name.partition("-")[0] != trial.method or trial.model.kind != RECURRENT:
        return None
    return f"{ALSO_CALLED.get(trial.method, trial.method)}-t{trial.model.steps}"


def _battles(
    setting: GeneratorSetting, ours: Mapping[str | None, str], battles: Mapping[tuple[str, str], Battle]
) -> Table:
    table = _table("table", "first : second", "r_test", "r_sample", "our r_test", "our r_sample")
    for row in setting.battles:
        battle = _battle(battles, ours.get(row.first), ours.get(row.second))
        own = (NONE, NONE) if battle is None else (f"{battle.r_test:.3g}", f"{battle.r_sample:.3g}")
        pair = f"{row.first} : {row.second}"
        table.add_row(str(row.table), pair, f"{row.r_test:.2f}", f"{row.r_sample:.4g}", *own)
    return table


def _battle(battles: Mapping[tuple[str, str], Battle], one: str | None, other: str | None) -> Battle | None:
    """Return the battle of two configurations in this order, whichever it was fought in."""
    if one is None or other is None:
        return None
    turned = battles.get((other, one))
    return battles.get((one, other)) if turned is None else turned.turned()


def _errors(setting: GeneratorSetting) -> Table:
    table = _table("method", "error")
    for method, error in setting.errors.items():
        table.add_row(method, f"{100 * error:.2f}")
    return table


def _generators(setting: GeneratorSetting, ours: Mapping[str | None, Any], frame: pd.DataFrame) -> Table:
    """Return scores and times, beside ours: the Inception score if it is measured, else the classifier score."""
    kind = "classifier" if frame["inception_score"].isna().all() else "Inception"
    table = _table("generator", "Inception score", "s an iteration", f"our {kind} score", "our s a step")
    columns = [f"{kind.lower()}_score", "seconds_per_step"]
    means = frame[columns].astype(float).groupby(frame.configuration).mean()
    for row in setting.generators:
        printed = NONE if row.score is None else f"{row.score:g} +- {row.deviation:g}"
        name = ours.get(row.name)
        own = [NONE, NONE] if name is None else [_number(value) for value in means.loc[name]]
        table.add_row(row.name, printed, f"{row.seconds:.4f}", *own)
    return table


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in columns:
        table.add_column(column, justify="right" if column not in ("first : second", "method", "generator") else "left")
    return table


def _number(value: float) -> str:
    return NONE if isnan(value) else f"{value:.3g}"
