"""What a table was measured on."""

import os
import platform
from pathlib import Path

import torch


def machine() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = {line.partition(":")[2].strip() for line in lines if line.startswith("model name")}
    processor = ", ".join(sorted(names)) or platform.processor()
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU here"
    capability = torch.backends.cpu.get_cpu_capability()
    versions = f"Python {platform.python_version()}, torch {torch.__version__}"
    return f"{processor} ({capability}), {os.cpu_count()} cores; {gpu}; {platform.system()}; {versions}"
