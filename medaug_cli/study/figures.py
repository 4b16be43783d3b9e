"""The drawings of a study, as SVG."""

from collections.abc import Callable
from typing import Any

from medaug_cli.figures.drawing import as_svg, drawing, legend
from medaug_cli.study.analysis import ArmResult, FractionResult, StudyReport
from medaug_cli.study.arms import BASELINE, FORM
from medaug_cli.tasks.task import measure_of, task_named

COLOURS = ("#000000", "#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
Draw = Callable[[Any, int], None]


def words(report: StudyReport, name: str) -> str:
    """Write a number's name for a reader: sensitivity_at_1_iou0.5 -> sensitivity at 1 FP, IoU 0.5."""
    return measure_of(task_named(report.task).measures, name).words


def seeds_svg(report: StudyReport, name: str) -> str:
    """Draw every seed and the mean of every arm, a panel for each share of the patients."""

    def draw(panel: Any, place: int) -> None:
        part = report.fractions[place]
        for row, arm in enumerate(part.arms):
            seeds = [values[name] for values in arm.seeds.values()]
            colour = _colour(arm)
            panel.plot(seeds, [row] * len(seeds), "o", ms=4, color=colour, alpha=0.5)
            panel.plot([arm.mean[name]] * 2, [row - 0.32, row + 0.32], color=colour, lw=2)
        panel.axvline(part.arms[0].mean[name], color="0.6", lw=0.8, ls=":")
        _rows(panel, part, place, words(report, name))

    return _figure(report, draw, len(report.fractions))


def differences_svg(report: StudyReport, name: str) -> str:
    """Draw the difference of every arm to real-only with its interval, a panel for each share of the patients."""

    def draw(panel: Any, place: int) -> None:
        part = report.fractions[place]
        for row, arm in enumerate(part.arms):
            own = arm.against_real_only.get(name)
            if own is None:
                continue
            sure = own.verdict != "inconclusive"
            panel.plot(own.interval, [row, row], color=_colour(arm), lw=2 if sure else 1)
            panel.plot([own.difference], [row], "o", color=_colour(arm), mfc=None if sure else "white")
        panel.axvline(0, color="0.4", lw=0.8)
        _rows(panel, part, place, f"difference to {BASELINE}: {words(report, name)}")

    return _figure(report, draw, len(report.fractions))


def froc_svg(report: StudyReport, iou: str, most: int = 3) -> str:
    """Draw sensitivity against false positives with 95 % bands: real-only, and the arms that were best."""

    def draw(panel: Any, place: int) -> None:
        part = report.fractions[place]
        named = []
        for i, arm in enumerate(_shown(report, part, f"sensitivity_at_1_iou{iou}", most)):
            points = arm.froc.get(iou, [])
            rates, colour = [point.fps_per_slice for point in points], COLOURS[i % len(COLOURS)]
            [line] = panel.plot(rates, [point.sensitivity for point in points], "o-", ms=3, color=colour)
            named.append((arm.arm, line))
            if all(point.interval for point in points):
                low, high = zip(*(point.interval or (0, 0) for point in points), strict=True)
                panel.fill_between(rates, low, high, color=colour, alpha=0.12, lw=0)
        panel.set_xscale("log", base=2)
        panel.set_xticks([0.5, 1, 2, 4, 8], ["½", "1", "2", "4", "8"])
        panel.set_xlabel("false positives per slice")
        panel.set_ylabel(f"sensitivity, IoU ≥ {iou}")
        panel.set_ylim(0, 1)
        panel.set_title(part.trained("training patient"), fontsize=10)
        legend(panel, named, frameon=False, fontsize=8)
        _tidy(panel, "both")

    return _figure(report, draw, len(report.fractions), height=4.2)


def learning_svg(report: StudyReport, most: int = 5) -> str | None:
    """Draw the score on validation of arms while they are trained; None where networks log none."""
    if not any(len(arm.learning) > 1 for part in report.fractions for arm in part.arms):
        return None
    first = task_named(report.task).headline

    def draw(panel: Any, place: int) -> None:
        part = report.fractions[place]
        named = []
        for i, arm in enumerate(_shown(report, part, first, most)):
            steps, colour = [point.steps for point in arm.learning], COLOURS[i % len(COLOURS)]
            [line] = panel.plot(steps, [point.score for point in arm.learning], "o-", ms=3, color=colour)
            low, high = ([getattr(point, side) for point in arm.learning] for side in ("low", "high"))
            panel.fill_between(steps, low, high, color=colour, alpha=0.1, lw=0)
            named.append((arm.arm, line))
        panel.set_xlabel("steps")
        panel.set_ylabel("score on validation")
        panel.set_title(part.trained("training patient"), fontsize=10)
        legend(panel, named, frameon=False, fontsize=8)
        _tidy(panel, "both")

    return _figure(report, draw, len(report.fractions), height=3.6)


def gain_svg(report: StudyReport, name: str, most: int = 6) -> str | None:
    """Draw the gain over real-only against the training patients, and against the ratio; None where neither varies."""
    lines = _ratio_lines(report, name)
    panels: list[Draw] = []
    if len(report.fractions) > 1:
        panels.append(lambda panel, _: _over_patients(panel, report, name, most))
    if lines:
        panels.append(lambda panel, _: _over_ratio(panel, lines))
    return _figure(report, lambda panel, i: panels[i](panel, i), len(panels), height=3.6) if panels else None


def _over_patients(panel: Any, report: StudyReport, name: str, most: int) -> None:
    named = []
    for i, arm in enumerate(_shown(report, report.fractions[0], name, most)[1:], 1):
        same = [(p.patients, each) for p in report.fractions for each in p.arms if each.arm == arm.arm]
        known = [(patients, own) for patients, each in same if (own := each.against_real_only.get(name))]
        centre = [own.difference for _, own in known]
        reach = [
            [own.difference - own.interval[0] for _, own in known],
            [own.interval[1] - own.difference for _, own in known],
        ]
        at = [patients * 1.02 ** (i - most / 2) for patients, _ in known]
        drawn = panel.errorbar(at, centre, reach, fmt="o-", ms=4, lw=1, capsize=2, color=COLOURS[i % len(COLOURS)])
        named.append((arm.arm, drawn))
    panel.set_xlabel("training patients")
    panel.set_ylabel(f"gain over {BASELINE}")
    legend(panel, named, frameon=False, fontsize=8)
    _zero(panel)


def _ratio_lines(report: StudyReport, name: str) -> dict[str, list[tuple[float, float]]]:
    """Return, for each generator with arms of several ratios, (ratio, gain) at each; plain mixtures alone."""
    ratio = float(report.settings["ratio"])
    lines: dict[str, list[tuple[float, float]]] = {}
    for part in report.fractions:
        for arm in part.arms:
            found, own = FORM.fullmatch(arm.arm), arm.against_real_only.get(name)
            if found and own and not found["filter"] and not found["use"]:
                own_name = "".join(found[group] or "" for group in ("generator", "settings", "each", "rest"))
                key = f"{own_name}, {part.trained('patient')}"
                lines.setdefault(key, []).append((float(found["ratio"] or ratio), own.difference))
    return {key: sorted(points) for key, points in lines.items() if len(points) > 1}


def _over_ratio(panel: Any, lines: dict[str, list[tuple[float, float]]]) -> None:
    named = []
    for i, (key, points) in enumerate(lines.items(), 1):
        [line] = panel.plot(*zip(*points, strict=True), "o-", ms=4, color=COLOURS[i % len(COLOURS)])
        named.append((key, line))
    panel.set_xlabel("synthetic images per real one")
    panel.set_ylabel(f"gain over {BASELINE}")
    legend(panel, named, frameon=False, fontsize=8)
    _zero(panel)


def _shown(report: StudyReport, part: FractionResult, name: str, most: int) -> list[ArmResult]:
    """Return real-only, the generated arm of the claim, the best control, and then the others, best first."""
    claimed = part.claim.arm if part.claim else None
    sign = -1 if measure_of(task_named(report.task).measures, name).larger_is_better else 1
    rest = sorted(part.arms[1:], key=lambda arm: (arm.arm != claimed, sign * arm.mean[name]))
    generated, controls = [a for a in rest if a.learnt and a.chosen], [a for a in rest if not a.learnt]
    return [part.arms[0], *generated[:1], *controls[:1], *generated[1:], *controls[1:]][:most]


def _colour(arm: ArmResult) -> str:
    return COLOURS[0] if arm.arm == BASELINE else COLOURS[1] if arm.learnt else COLOURS[2]


def _rows(panel: Any, part: FractionResult, place: int, title: str) -> None:
    panel.set_yticks(range(len(part.arms)), [arm.arm for arm in part.arms] if place == 0 else [""] * len(part.arms))
    panel.set_ylim(len(part.arms) - 0.5, -0.5)
    panel.set_title(part.trained("training patient"), fontsize=10)
    panel.set_xlabel(title)
    panel.locator_params(axis="x", nbins=6)
    _tidy(panel, "x")


def _zero(panel: Any) -> None:
    panel.axhline(0, color="0.4", lw=0.8)
    _tidy(panel, "y")


def _tidy(panel: Any, axis: str) -> None:
    panel.grid(axis=axis, color="0.9")
    panel.set_axisbelow(True)
    panel.spines[["top", "right"]].set_visible(False)


def _figure(report: StudyReport, draw: Draw, panels: int, height: float | None = None) -> str:
    from matplotlib.figure import Figure

    arms, names = report.fractions[0].arms, 1.6
    if height is None:  # arms are rows, named on the left: about 0.08 inches a letter
        height, names = 1.0 + 0.3 * len(arms), max(1.6, 0.4 + 0.08 * max(len(arm.arm) for arm in arms))
    with drawing():
        figure = Figure(figsize=(names + 4.2 * panels, height), layout="constrained")
        for i, panel in enumerate(figure.subplots(1, panels, squeeze=False)[0]):
            draw(panel, i)
        return as_svg(figure)
