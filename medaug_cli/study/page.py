"""The page of a study, and its rows for a spreadsheet."""

import csv
import io
from base64 import b64encode
from typing import Any

from medaug_cli.study.analysis import ArmResult, StudyReport

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")


def measures(report: StudyReport) -> list[str]:
    """Return the names of the numbers that every arm has."""
    return list(report.fractions[0].arms[0].mean)


def words(name: str) -> str:
    """Write a number's name for a reader: sensitivity_at_1_iou0.5 -> sensitivity at 1 FP, IoU 0.5."""
    first, _, iou = name.partition("_iou")
    rate = first.removeprefix("sensitivity_at_")
    said = f"sensitivity at {rate} FP{'' if rate == '1' else 's'}" if rate != first else first.replace("cpm", "CPM")
    return f"{said}, IoU {iou}" if iou else f"{said}, IoU 0.5"


def study_rows(report: StudyReport) -> str:
    """Return a CSV with a row for every share of patients, arm, seed and number."""
    target = io.StringIO()
    writer = csv.writer(target, lineterminator="\n")
    writer.writerow(["fraction", "patients", "arm", "seed", "number", "value"])
    for part in report.fractions:
        for arm in part.arms:
            for seed, values in arm.seeds.items():
                for name, value in values.items():
                    writer.writerow([f"{part.fraction:g}", part.patients, arm.arm, seed, name, f"{value:.6g}"])
    return target.getvalue()


def study_html(report: StudyReport) -> str:
    """Return the page with tables and pictures, in one file that loads nothing."""
    from jinja2 import Environment, PackageLoader

    environment = Environment(loader=PackageLoader("medaug_cli", "study"), autoescape=True, trim_blocks=True)
    names = measures(report)
    parts: list[dict[str, Any]] = [
        {"part": part, "tables": [_table(part.arms, name) for name in names]} for part in report.fractions
    ]
    return environment.get_template("study.html").render(
        report=report, parts=parts, picture=b64encode(study_svg(report).encode()).decode()
    )


def _table(arms: list[ArmResult], name: str) -> dict[str, Any]:
    rows = []
    for arm in arms:
        own = arm.against_real_only.get(name)
        rows.append({
            "arm": arm.arm, "mean": f"{arm.mean[name]:.3f}",
            "seeds": ", ".join(f"{values[name]:.3f}" for values in arm.seeds.values()),
            "difference": "" if own is None else own.words(),
            "p": "" if own is None else f"{own.p_holm:.3f}", "verdict": "" if own is None else own.verdict,
        })  # fmt: skip
    return {"title": words(name), "rows": rows}


def study_svg(report: StudyReport) -> str:
    """Draw every seed of every arm over the share of patients, sensitivity at 1 FP at each IoU, as SVG."""
    import matplotlib
    from matplotlib.figure import Figure

    names = [name for name in measures(report) if name.startswith("sensitivity_at_1_")] or measures(report)[:1]
    with matplotlib.rc_context({"svg.hashsalt": "medaug", "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=(1 + 4.5 * len(names), 4), layout="constrained")
        panels = figure.subplots(1, len(names), squeeze=False)[0]
        for panel, name in zip(panels, names, strict=True):
            _draw(panel, report, name)
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=4, frameon=False)
        target = io.BytesIO()
        figure.savefig(target, format="svg", metadata={"Date": None, "Creator": "medaug"})
    return target.getvalue().decode()


def _draw(panel: Any, report: StudyReport, name: str) -> None:
    count = len(report.fractions[0].arms)
    for i in range(count):
        colour = COLOURS[i % len(COLOURS)]
        for place, part in enumerate(report.fractions):
            arm = part.arms[i]
            centre = place + (i - (count - 1) / 2) * 0.8 / count
            seeds = [values[name] for values in arm.seeds.values()]
            panel.plot([centre] * len(seeds), seeds, "o", ms=4, color=colour, alpha=0.5)
            panel.plot([centre - 0.3 / count, centre + 0.3 / count], [arm.mean[name]] * 2, color=colour, lw=2)
        panel.plot([], [], color=colour, lw=2, label=report.fractions[0].arms[i].arm)
    panel.set_xticks(range(len(report.fractions)), [f"{p.patients} patients" for p in report.fractions])
    panel.set_title(words(name), fontsize=10)
    panel.set_ylabel("sensitivity")
    panel.grid(axis="y", color="0.9")
    panel.spines[["top", "right"]].set_visible(False)
