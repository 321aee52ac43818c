"""What a shifted user of CIFAR-10 gains by `edgewright personalize`, and what the public loses.

`python -m benchmarks.personal [--seeds 3] [--method lora]`: for each shift (rotated by 30°, dark with noise, channels
reversed, warm) 200 pictures of `val5k` are the user's, its others are replayed, and `test5k` is evaluated shifted and
as it is: 5,000 pictures each. The base is the teacher of the shared data.
"""

import argparse
import csv
import io
import json
import subprocess
import sys
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory
from zipfile import ZipFile

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tests.paths import ROOT

DATA = ROOT.parent / "shared" / "data"
TASK = ROOT / "docs" / "examples" / "cifar10_teacher.toml"
OWN = 200
Pixels = NDArray[np.uint8]
Pictures = list[tuple[Pixels, str]]


def read(name: str) -> Pictures:
    with ZipFile(DATA / "cifar10" / f"{name}.zip") as file:
        rows = list(csv.DictReader(io.TextIOWrapper(file.open("labels.csv"))))
        return [(np.asarray(Image.open(file.open(row["file"])).convert("RGB")), row["label"]) for row in rows]


def write(path: Path, pictures: Pictures) -> Path:
    lines = ["file,label"]
    with ZipFile(path, "w") as file:
        for number, (pixels, label) in enumerate(pictures):
            content = io.BytesIO()
            Image.fromarray(np.ascontiguousarray(pixels)).save(content, "PNG")
            file.writestr(f"{number:05d}.png", content.getvalue())
            lines.append(f"{number:05d}.png,{label}")
        file.writestr("labels.csv", "\n".join(lines) + "\n")
    return path


def shift(pixels: Pixels, kind: str, random: np.random.Generator) -> Pixels:
    if kind == "rotated":
        wide = np.pad(pixels, ((16, 16), (16, 16), (0, 0)), mode="reflect")
        turned = Image.fromarray(wide).rotate(30, Image.Resampling.BILINEAR)
        return np.asarray(turned.crop((16, 16, 48, 48)))
    if kind == "reversed":
        return pixels[:, :, ::-1]
    changed = (
        pixels * 0.45 + random.normal(0, 12, pixels.shape) if kind == "dark" else pixels * np.array([1.3, 0.9, 0.55])
    )
    return np.clip(changed, 0, 255).astype(np.uint8)


def measure(folder: Path, method: str, seed: int) -> dict[str, float]:
    model = DATA / "models" / "cifar10_teacher.py"
    command = [
        sys.executable, "-m", "edgewright", "personalize", f"{model}:build", "--weights", str(model.with_suffix(".pt")),
        "--task", str(TASK), "--data", str(folder / "user.zip"), "--val", str(folder / "val.zip"),
        "--public", str(DATA / "cifar10" / "test5k.zip"), "--replay", str(folder / "replay.zip"),
        "--method", method, "--seed", str(seed), "--train-threads", "1", "-o", str(folder / "out"), "--json",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # exit 3 if it is not kept
    report = json.loads(done.stdout)
    return {
        "global": 100 * report["before"]["user"],
        "gain": 100 * (report["after"]["user"] - report["before"]["user"]),
        "public": 100 * (report["after"]["public"] - report["before"]["public"]),
        "bytes": report["adapter"]["bytes"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--method", default="lora")
    parser.add_argument("--shifts", default="rotated,dark,reversed,warm")
    given = parser.parse_args()
    own, test = read("val5k"), read("test5k")
    for kind in given.shifts.split(","):
        rows = []
        for seed in range(given.seeds):
            random = np.random.default_rng([3, seed])
            order = random.permutation(len(own))
            with TemporaryDirectory() as name:
                folder = Path(name)
                write(folder / "user.zip", [(shift(own[i][0], kind, random), own[i][1]) for i in order[:OWN]])
                write(folder / "replay.zip", [own[i] for i in order[OWN:]])
                write(folder / "val.zip", [(shift(pixels, kind, random), label) for pixels, label in test])
                rows.append(measure(folder, given.method, seed))
        print(json.dumps({"shift": kind, **{key: round(mean(row[key] for row in rows), 2) for key in rows[0]},
                          "gains": [round(row["gain"], 2) for row in rows],
                          "publics": [round(row["public"], 2) for row in rows]}), flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
