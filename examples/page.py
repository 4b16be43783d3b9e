"""Gather the pictures and numbers of a finished demo folder on one self-contained page.

Usage: python examples/page.py demo
"""

import base64
import json
import sys
from pathlib import Path

import numpy as np
from jinja2 import Environment
from PIL import Image

from medaug_cli.figures.grid import draw_grid, save_grid
from medaug_cli.files import new_file, publish_text
from medaug_cli.store import Store, open_store

PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>medaug: the demo</title>
<style>
 body{font:16px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem;color:#1b1f24}
 img{max-width:100%;background:#222} figure{margin:1rem 0} figcaption{color:#57606a;font-size:.9rem}
 table{border-collapse:collapse;margin:1rem 0} .note{background:#fff8c5;padding:.6rem 1rem;border-radius:6px}
 td,th{padding:.25rem .7rem;border-bottom:1px solid #d0d7de;text-align:right}
 td:first-child,th:first-child{text-align:left} .two{display:grid;grid-template-columns:1fr 1fr;gap:1rem}
</style>
<h1>medaug: with and without synthetic images</h1>
<p>{{ counts }}</p>
<p class="note">Gliomas, meningiomas and pituitary tumours on 8-bit slices of 6 mm, a small generator and a small
detector trained for minutes on a CPU, one seed: this shows how the pieces work together and proves nothing about
the benefit. Images: Cheng 2017, doi 10.6084/m9.figshare.1512427, CC BY 4.0.</p>
<h2>Real and synthetic, boxes drawn</h2>
<div class="two">
<figure><img src="{{ real }}"><figcaption>Real training slices.</figcaption></figure>
<figure><img src="{{ synthetic }}"><figcaption>Synthetic slices, drawn at random by seed.</figcaption></figure></div>
<h2>Table 1</h2>
<table><tr><th>detector<th>mAP<th>IoU<th>sensitivity<th>FPs per slice<th>sensitivity at 1 FP
<th>95 % interval<th>CPM</tr>
{% for row in rows %}<tr><td>{{ row.detector }}<td>{{ row.mAP }}<td>{{ row.iou }}<td>{{ row.sensitivity }}
<td>{{ row.fps }}<td>{{ row.at_one }}<td>{{ row.interval }}<td>{{ row.cpm }}</tr>{% endfor %}</table>
<h2>FROC</h2><figure><img src="{{ froc }}" style="background:#fff"></figure>
<h2>t-SNE of real against synthetic</h2><figure><img src="{{ tsne }}" style="background:#fff"></figure>
<table><tr><th>against the real training images<th>1-NN<th>KID<th>precision<th>recall<th>density<th>coverage</tr>
{% for name, each in sets %}<tr><td>{{ name }}<td>{{ "%.2f" | format(each.one_nn_accuracy) }}
<td>{{ "%.3f" | format(each.kid) }}<td>{{ "%.2f" | format(each.precision) }}<td>{{ "%.2f" | format(each.recall) }}
<td>{{ "%.2f" | format(each.density) }}<td>{{ "%.2f" | format(each.coverage) }}</tr>{% endfor %}</table>
<p>1-NN: how often a nearest neighbour tells the two sets apart (0.5: not at all). The first row is the best to hope
for.</p>
<h2>What each detector found</h2>
{% for overlay in overlays %}<figure><img src="{{ overlay }}"></figure>{% endfor %}
<h2>How the generator learned</h2>
{% for name, picture in samples %}<figure><img src="{{ picture }}" style="max-width:33rem">
<figcaption>after {{ name }} images</figcaption></figure>{% endfor %}
<p>More: <a href="preprocess.html">what pre-processing did</a>, <a href="filter.html">the contact sheet</a>,
<a href="evaluation/evaluation.html">the evaluation</a>, <a href="study/study.html">the study</a>.</p></html>
"""
SHOWN = 25


def embedded(path: Path) -> str:
    """Return a picture as a data URL."""
    kind = "svg+xml" if path.suffix == ".svg" else "png"
    return f"data:image/{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"


def grid(store: Store, path: Path) -> str:
    """Draw images of the training split that are chosen by seed."""
    train = store.indices("train")
    chosen = sorted(np.random.default_rng(0).permutation(train)[:SHOWN])
    save_grid(path, [np.asarray(store.images[i]) for i in chosen], [store.boxes[i] for i in chosen])
    return embedded(path)


def table(metrics: dict) -> list[dict[str, str]]:
    """Return a row for each detector and IoU."""
    rows = []
    for row in metrics["rows"]:
        for iou, at in row["iou"].items():
            low, high = at["interval"].get("sensitivity_at_1", (float("nan"),) * 2)
            rows.append({
                "detector": row["detector"], "mAP": f"{row['mAP']:.2f}", "iou": iou,
                "sensitivity": f"{at['sensitivity']:.2f}", "fps": f"{at['fps_per_slice']:.2f}",
                "at_one": f"{at['at_fps']['1']:.2f}", "interval": f"{low:.2f} to {high:.2f}", "cpm": f"{at['cpm']:.2f}",
            })  # fmt: skip
    return rows


def compared(report: dict) -> list[tuple[str, dict]]:
    """Return the rows of the comparison with the real training images."""
    held_out = [("real, held out", report["reference"])] if report.get("reference") else []
    return [*held_out, *((each["name"], each) for each in report["sets"])]


def side_by_side(real: Store, synthetic: Store, path: Path) -> None:
    """Draw real training slices at the left and synthetic ones at the right, both chosen by seed."""
    sheets = []
    for store in (real, synthetic):
        chosen = sorted(np.random.default_rng(0).permutation(store.indices("train"))[:16])
        sheets.append(draw_grid([np.asarray(store.images[i]) for i in chosen], [store.boxes[i] for i in chosen]))
    whole = Image.new("RGB", (sheets[0].width + 12 + sheets[1].width, sheets[0].height), (255, 255, 255))
    whole.paste(sheets[0], (0, 0))
    whole.paste(sheets[1], (sheets[0].width + 12, 0))
    with new_file(path) as temporary:
        whole.save(temporary, format="PNG", optimize=True)


def main(folder: Path) -> None:
    """Write `index.html` into the demo's folder."""
    real, synthetic = open_store(folder / "real.h5"), open_store(folder / "kept.h5")
    metrics = json.loads((folder / "evaluation/metrics.json").read_text(encoding="utf-8"))
    samples = sorted((folder / "gan/samples").glob("*.png"))
    shown = [samples[0], samples[len(samples) // 2], samples[-1]] if len(samples) > 2 else samples
    drawn = len(open_store(folder / "synthetic.h5"))
    counts = (
        f"{len(real)} real slices of {len(set(real.patients))} patients ({len(real.indices('train'))} to train on), "
        f"{drawn} synthetic ones, of which {len(synthetic)} are kept; tested on {metrics['slices']} slices of "
        f"{metrics['patients']} patients that neither the generator nor the detectors have seen."
    )
    page = Environment(autoescape=True).from_string(PAGE).render(
        counts=counts,
        real=grid(real, folder / "real.png"), synthetic=grid(synthetic, folder / "synthetic.png"), rows=table(metrics),
        froc=embedded(folder / "evaluation/froc.svg"), tsne=embedded(folder / "tsne.png"),
        sets=compared(json.loads((folder / "tsne.json").read_text(encoding="utf-8"))),
        overlays=[embedded(path) for path in sorted((folder / "evaluation/overlays").glob("*.png"))[:8]],
        samples=[(f"{int(path.stem):,}", embedded(path)) for path in shown],
    )  # fmt: skip
    publish_text(folder / "index.html", page)
    side_by_side(real, synthetic, folder / "real-and-synthetic.png")
    print(f"{folder / 'index.html'}: all pictures on one page")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
