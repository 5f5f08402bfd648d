"""How long images take from files to a split, by their number: each step must take time in proportion to it.

    python benchmarks/images.py [--images 10000 100000]

Images are 32x32 photographs, made by blurring noise: as PNG in Parquet files of 50,000 rows, and as JPEG in folders of
ten classes. Each step is a process of its own, which shares no memory with the others; files come from the page cache.
Prints a table and writes it to images.md beside itself.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from machine import machine
from PIL import Image

CLASSES: Final = 10
SHARD: Final = 50_000
STEPS: Final = {
    "look": "check_data(spec)",
    "survey": "survey(spec)",
    "decode": "load_dataset(spec)",
    "from the cache": "load_dataset(spec)",
    "split": "draw_split(labels, spec, 10)",
    "copies": "groups_of(hashes)",
}
"""What is timed: the dry run's look, its list of files, decoding into the cache, reading it, the split, copies."""

CODE: Final = """
import json, os, sys, time
from pathlib import Path
import numpy as np
import torch
from plgan_tune.config.trial import DataSpec
from plgan_tune.data.cache import _load
from plgan_tune.data.check import check_data
from plgan_tune.data.dataset import load_dataset
from plgan_tune.data.duplicates import groups_of
from plgan_tune.data.splits import draw_split
from plgan_tune.data.survey import survey

source, path, step = sys.argv[1:]
spec = DataSpec(source=source, path=path, labels=1000, validation=1000)
if step in ("split", "copies"):
    held = _load(next(entry for entry in Path(os.environ["PLGAN_TUNE_CACHE"]).iterdir() if entry.is_dir()))
    labels, hashes = torch.from_numpy(held.labels), held.hashes
began = time.perf_counter()
exec({"steps"}[step])
seconds = time.perf_counter() - began
(peak,) = (line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps([seconds, int(peak) / 1024]))
""".replace('{"steps"}', repr(STEPS))


def photographs(n: int) -> Iterator[Image.Image]:
    """Yield n images of 32x32 pixels that compress as photographs do, no two the same."""
    draw = np.random.default_rng(0)
    for _ in range(n):
        coarse = Image.fromarray(draw.integers(0, 256, (6, 6, 3), dtype=np.uint8))
        fine = draw.integers(-8, 9, (32, 32, 3))
        smooth = np.asarray(coarse.resize((32, 32), Image.Resampling.BICUBIC)).astype(np.int64)
        yield Image.fromarray(np.clip(smooth + fine, 0, 255).astype(np.uint8))


def encoded(image: Image.Image, kind: str) -> bytes:
    """Return an image as a file of this kind."""
    out = BytesIO()
    image.save(out, kind)
    return out.getvalue()


def write(folder: Path, source: str, n: int) -> None:
    """Write n images in the layout of the source, and ten to test."""
    if source == "parquet":
        for half, size in (("train", n), ("test", CLASSES)):
            images = photographs(size)
            for start in range(0, size, SHARD):
                rows = range(start, min(start + SHARD, size))
                files = pa.array([encoded(image, "PNG") for _, image in zip(rows, images, strict=False)], pa.binary())
                labels = pa.array([row % CLASSES for row in rows])
                pq.write_table(pa.table({"image": files, "label": labels}), folder / f"{half}-{start:07}.parquet")
        return
    for half, size in (("train", n), ("test", CLASSES)):
        for row, image in enumerate(photographs(size)):
            place = folder / half / str(row % CLASSES)
            place.mkdir(parents=True, exist_ok=True)
            (place / f"{row:07}.jpg").write_bytes(encoded(image, "JPEG"))


def timed(folder: Path, source: str, step: str, cache: Path) -> tuple[float, float]:
    """Return the seconds and the peak memory in MB of a step in a new process."""
    command = [sys.executable, "-c", CODE, source, str(folder), step]
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, env={**os.environ, "PLGAN_TUNE_CACHE": str(cache)}
    )
    seconds, memory = json.loads(done.stdout.splitlines()[-1])
    return seconds, memory


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--sources", nargs="+", default=["parquet", "folder"])
    asked = parser.parse_args()
    lines = [
        "# From files to a split",
        "",
        f"{machine()}.",
        "Seconds, and in brackets the peak memory of the process in MB. Images of 32x32 in colour: PNG in Parquet, and",
        "JPEG in folders. `python benchmarks/images.py` makes this page.",
        "",
        f"| source | images | {' | '.join(STEPS)} |",
        f"| --- | ---: |{' ---: |' * len(STEPS)}",
    ]
    for source in asked.sources:
        for n in asked.images:
            with tempfile.TemporaryDirectory() as place:
                folder, cache = Path(place) / "set", Path(place) / "cache"
                folder.mkdir()
                write(folder, source, n)
                cells = [timed(folder, source, step, cache) for step in STEPS]
            texts = [f"{seconds:.2f} ({memory:,.0f})" for seconds, memory in cells]
            lines.append(f"| {source} | {n:,} | {' | '.join(texts)} |")
            print(lines[-1], flush=True)
    (Path(__file__).with_suffix(".md")).write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
