"""Reader studies for tests: stores of real and synthetic images, and readers of known skill."""

import json
from dataclasses import replace

import numpy as np
from conftest import make_records

from medaug_cli.store import GeneratorOrigin, StoreInfo, StoreWriter
from medaug_cli.turing.documents import Key, seal_of

CLASSES = ["glioma", "meningioma"]


def stores(folder, n=60, size=24, classes=True, boxed=(1, 1), source="real"):
    """Write real.h5, of which two thirds are test images, and synthetic.h5, whose images are smoother; return both.

    `boxed` are the shares of real and synthetic images that keep their box; real ones of another `source` are all of
    the training split.
    """
    names = CLASSES if classes else []
    info = StoreInfo(
        tool_version="0", command="test", settings={}, seed=0, label_names=["lesion"], class_names=names,
        generators=[GeneratorOrigin(name="g", version="1", hash="h", training_store="t", training_patients=[])],
    )  # fmt: skip
    paths = []
    for kind in ("real", "synthetic"):
        path = folder / f"{kind}.h5"
        writer = StoreWriter(path, info, {})
        for i, record in enumerate(make_records(n, size, seed=len(paths))):
            own = {"patient": f"p{i // 3}", "split": "train" if i % 9 < 3 or source != "real" else "test"}
            own["source"] = source
            if (i // 2 * 7) % 10 >= 10 * boxed[len(paths)]:
                own |= {"boxes": record.boxes[:0], "labels": []}
            if kind == "synthetic":
                smooth = np.clip(record.image.astype(float) * 0.97 + 1, 0, 255).astype(np.uint8)
                details = {"evidence": [float(i % 7)]}
                own |= {"patient": "synthetic-g", "split": "train", "source": "g", "image": smooth, "details": details}
            writer.add(i, [replace(record, image_class=names[i % 2] if classes else None, **own)])
        writer.publish()
        paths.append(path)
    return paths


def answers(key: Key, name: str, d_prime: float = 1.0, seed: int = 0, criterion: float = 0.0) -> dict:
    """Return what the page of a reader would export whose evidence for synthetic images is normal, d' apart."""
    rng = np.random.default_rng(seed)
    rows = []
    reader = next(one for one in key.readers if one.name == name)
    asked = [(trial, token) for token, trial in reader.trials.items() if not trial.practice]
    for trial, token in sorted(asked, key=lambda one: (one[0].repeat, sorted(one[0].images))):  # the order is chance
        kinds = [key.images[image].kind for image in trial.images]
        felt = [rng.normal() + d_prime / 2 * (1 if kind == "synthetic" else -1) for kind in kinds]
        if key.pairs:
            says = "left" if felt[0] > felt[1] else "right"
            sure = abs(felt[0] - felt[1])
        else:
            says = "synthetic" if felt[0] > criterion else "real"
            sure = abs(felt[0] - criterion)
        rows.append(
            {
                "trial": token,
                "says": says,
                "confidence": int(min(5, 1 + 2 * sure)),
                "image_class": key.images[trial.images[0]].image_class if key.asks_class else None,
                "lesion": "yes" if key.asks_lesion else None,
                "seconds": round(float(rng.uniform(2, 9)), 1),
            }
        )
    head = {"version": 1, "study": key.study, "seal": seal_of(key), "reader": name, "finished": True}
    return {**head, "saved": "2026-01-01T00:00:00Z", "answers": rows}


def write_answers(folder, key: Key, skills: dict[str, float], seed: int = 0):
    """Write the answers of readers of these skills; return the files."""
    paths = []
    for number, (name, skill) in enumerate(skills.items()):
        path = folder / f"answers-{name}.json"
        path.write_text(json.dumps(answers(key, name, skill, seed + number)), encoding="utf-8")
        paths.append(path)
    return paths
