"""From images to a classifier: scikit-learn's handwritten digits, of which the search sees 100 with their label.

    python examples/digits_classifier.py

writes images to trained/digits_classifier as users have them, searches the four trials of digits.yaml, which lies
beside this file, and classifies test images with the best one. It takes about half a minute on two cores. Started
again, it finds the search complete. digits_classifier.ipynb does the same step by step.
"""

from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from plgan_tune import InProcess, load_classifier, load_study, run_study

SPACE = Path(__file__).with_name("digits.yaml")
LABELLED, TEST = 600, 360
"""Images whose label is known, and test images; the rest has no label."""


def main() -> None:
    folder = Path("trained/digits_classifier")
    images = write_images(folder / "images")

    study = load_study(SPACE, [f"trial.data.path={images}"]).study
    result = run_study(study, backend=InProcess(), results=folder / "studies", name="digits", resume=True)
    best = result.state.best()
    if best is None:
        raise SystemExit("no trial has completed")
    print(f"best trial: {best.trial_id} with a validation error of {best.value_last:.1%}")

    classifier = load_classifier(folder / "studies" / "digits" / "checkpoints" / best.trial_id)
    files = sorted((images / "test").glob("*/*.png"))
    chances = classifier.predict(files)
    named = [classifier.classes[place] for place in chances.argmax(dim=1)]
    for file, name, chance in list(zip(files, named, chances.amax(dim=1), strict=True))[:: len(files) // 10]:
        print(f"{file.relative_to(images)}: {name} ({chance:.0%})")
    wrong = sum(file.parent.name != name for file, name in zip(files, named, strict=True))
    print(f"test error: {wrong / len(files):.1%} of {len(files)} images")


def write_images(folder: Path) -> Path:
    """Writes train/CLASS/*.png, unlabelled/*.png and test/CLASS/*.png, the layout of `data.source: folder`."""
    digits = load_digits()
    shuffled = np.random.default_rng(0).permutation(len(digits.target))
    for place, row in enumerate(shuffled):
        label = str(digits.target[row])
        if place < LABELLED:
            file = folder / "train" / label / f"{row:04d}.png"
        elif place < len(shuffled) - TEST:
            file = folder / "unlabelled" / f"{row:04d}.png"
        else:
            file = folder / "test" / label / f"{row:04d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        if not file.exists():
            Image.fromarray((digits.images[row] * 255 / 16).astype(np.uint8)).save(file)
    return folder


if __name__ == "__main__":
    main()
