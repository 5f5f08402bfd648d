"""Find hyperparameters of semi-supervised GANs.

```python
from plgan_tune import InProcess, load_classifier, load_study, load_trial, run_study, train_trial

study = load_study("search_spaces/digits.yaml", ["search.trials=2"]).study
result = run_study(study, backend=InProcess(), name="second")
rows = train_trial(load_trial("results/second/best.yaml"), out="trained/second")
classifier = load_classifier("trained/second")
```

Importing the package is fast: each name is loaded with its module at its first use, so only the names that need PyTorch
or Ray import them. The function that trains is `plgan_tune.train.train`. The package exports it as
`train_trial`, because the name `plgan_tune.train` belongs to the module of that command: Python sets it on the package
whenever the module is imported, so `from plgan_tune import train` would give the module or the function, depending on
what was imported before.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from plgan_tune.backends.in_process import InProcess
    from plgan_tune.backends.ray.backend import RayBackend
    from plgan_tune.classifier import load_classifier
    from plgan_tune.config.load import load_study, load_trial
    from plgan_tune.generator import load_generator
    from plgan_tune.train import train as train_trial
    from plgan_tune.tuning.driver import run_study
else:  # a type checker that saw __getattr__ would accept any name

    def __getattr__(name: str) -> Any:
        match name:
            case "InProcess":
                from plgan_tune.backends.in_process import InProcess as found  # noqa: N813
            case "RayBackend":
                from plgan_tune.backends.ray.backend import RayBackend as found  # noqa: N813
            case "load_classifier":
                from plgan_tune.classifier import load_classifier as found
            case "load_generator":
                from plgan_tune.generator import load_generator as found
            case "load_study":
                from plgan_tune.config.load import load_study as found
            case "load_trial":
                from plgan_tune.config.load import load_trial as found
            case "run_study":
                from plgan_tune.tuning.driver import run_study as found
            case "train_trial":
                from plgan_tune.train import train as found
            case _:
                raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return found


__all__ = [
    "InProcess",
    "RayBackend",
    "load_classifier",
    "load_generator",
    "load_study",
    "load_trial",
    "run_study",
    "train_trial",
]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
