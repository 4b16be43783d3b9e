"""The arms of a study: what a network is trained on, and how."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations
from typing import Any, Literal

from medaug_cli import registry
from medaug_cli.errors import MedaugError, UsageError
from medaug_cli.runs.starting import opened_start

BASELINE, EARLY, PSEUDO = registry.ARMS
EARLY_SHARE = 0.5  # of the steps of every other arm
EACH_CLASS = "/each-class"
UNANNOTATED, ANNOTATED = "/unannotated", "/annotated"  # whether a generator sees images without annotation
Use = Literal["mixed", "only", "pretrain"]
Filter = Literal["", "lesion", "realism"]  # keep what shows its lesion, or the half that looks most real
FILTERS: dict[str | None, Filter] = {None: "", "+filter": "lesion", "+realism": "realism"}
FORM = re.compile(
    r"(?P<generator>[^@+/\[\]]+)(?P<settings>\[[^\[\]]*\])?(?P<each>/each-class)?(?P<rest>/unannotated|/annotated)?(?:@(?P<ratio>[0-9.]+))?(?P<filter>\+filter|\+realism)?"
    r"(?:\+(?P<use>only|pretrain))?"
)
HEAD = re.compile(r"[^~\[]*(?:\[[^\]]*\])?[^~]*")  # a value in brackets may hold ~, as a folder does


@dataclass(frozen=True)
class Arm:
    """One way to train a network; every arm takes the same real images and, but for early-stopped, the same steps."""

    name: str
    generator: str | None = None  # None: real images alone
    given: tuple[tuple[str, Any], ...] = field(default=())  # settings of the generator that are not the study's
    start: str | None = None  # the folder or installed weights that the generator begins with
    each_class: bool = False  # a generator for each class, in place of one for all
    unannotated: bool = False  # the generator also sees the other training patients' images, without annotation
    pseudo: bool = False  # real-only's sure answers on those images are annotations to train on again
    filtered: Filter = ""
    ratio: float | None = None  # synthetic images per real one, where it is not the study's
    use: Use = "mixed"  # with real images, alone, or alone in the first half of the steps and not at all in the second
    steps: float = 1.0  # share of the study's steps
    changed: tuple[tuple[str, Any], ...] = field(default=())  # settings of the network that are not the study's

    @property
    def source(self) -> str | None:
        """Return the generator, or the generators of each class, with their own settings, as the arm names them."""
        given = (*self.given, *([("start", self.start)] if self.start else []))
        own = f"[{','.join(f'{key}={value}' for key, value in given)}]" if given else ""
        return self.generator and self.generator + own + EACH_CLASS * self.each_class + UNANNOTATED * self.unannotated

    @property
    def folder(self) -> str:
        """Return its name as that of a folder."""
        return folder_name(self.name)

    @property
    def learnt(self) -> bool:
        """Tell whether its images come from a generator that learns, and not from a control."""
        return self.generator is not None and registry.generator_capabilities(self.generator).learns

    @property
    def rivals(self) -> bool:
        """Tell whether it may stand for generated images: they are learnt, and the network is as in the other arms."""
        return self.learnt and not self.changed

    @property
    def family(self) -> str:
        """Return what one arm is chosen from on validation: all arms of one generator that learns."""
        return str(self.generator) if self.rivals else self.name

    def generator_settings(self, asked: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """Return the settings of its generator: what is asked of that generator in the study, and what it changes."""
        return {**asked.get(str(self.generator), {}), **dict(self.given)}

    def built(self, asked: Mapping[str, Mapping[str, Any]]) -> Any:
        """Return its generator, unfitted, with the settings of the weights that it begins with where there are such."""
        settings = self.generator_settings(asked)
        if self.start is None:
            return registry.build("generator", str(self.generator), settings)
        return opened_start(self.start).built(self.generator, settings)[1]

    def facets(self, ratio: float, n: int | None = None) -> dict[str, Any]:
        """Return what makes it this arm and no other; `ratio` is the study's, as is the number of images where given.

        That number leaves a ratio nothing to say but in a mixture.
        """
        mixed = n is None or self.use == "mixed"
        return {
            "images": PSEUDO if self.pseudo else self.generator,
            "generator's settings": self.given,
            "weights to start from": self.start,
            "each class": self.each_class,
            "images without annotation": self.unannotated or self.pseudo,
            "ratio": (self.ratio or ratio) if self.generator and mixed else None,
            "filter": self.filtered or "none",
            "use": self.use,
            "steps": self.steps,
            "settings": self.changed,
        }


def folder_name(text: str) -> str:
    """Return the name of an arm or its generators as one step of a path."""
    return text.replace("/", ", ")


def split_arm(text: str) -> tuple[str, list[str]]:
    """Return what stands before the changes of an arm's network, and those: boxgan, [lr=0.01] of boxgan~lr=0.01."""
    found = HEAD.match(text)
    head = found[0] if found else text
    return head, text[len(head) :].split("~")[1:]


def parse_arm(
    text: str,
    network: str,
    kind: str = "detector",
    settings: Mapping[str, Any] | None = None,
    generators: Mapping[str, Mapping[str, Any]] | None = None,
    rest: bool = False,
) -> Arm:
    """Turn "mosaic", "boxgan@2+filter+pretrain" or "boxgan[form=mask]/each-class~augment=real" into an arm.

    `settings` are those of the study's network, `generators` those of each of its generators. With `rest` a generator
    that learns from images without annotation sees those of the other training patients, and its arm is named so.
    Raises UsageError for text of another form, MissingPlugin for a generator that is not installed.
    """
    variants = registry.network_capabilities(kind, network).variants
    head, changes = split_arm(text)
    if head in variants and head not in (BASELINE, EARLY):
        head, changes = BASELINE, [head, *changes]
    else:
        text = f"{head or BASELINE}{''.join(f'~{change}' for change in changes)}"
    changed = _changed(text, changes, network, kind, settings or {})
    if head in ("", BASELINE):
        return Arm(text, changed=changed)
    if head == EARLY:
        return Arm(text, steps=EARLY_SHARE, changed=changed)
    if head == PSEUDO:
        _check_rest(text, rest)
        return Arm(text, pseudo=True, changed=changed)
    found = FORM.fullmatch(head)
    if found is None or (found["ratio"] and not _positive(found["ratio"])):
        named = ", ".join((BASELINE, EARLY, PSEUDO, *variants))
        raise UsageError(
            f"--arm {text}: expected {named} or a generator, with [KEY=VALUE], /each-class, @RATIO, +filter or "
            "+realism, +only or +pretrain behind its name in this order, and then ~KEY=VALUE"
        )
    registry.find("generator", found["generator"])
    if found["each"] and not registry.generator_capabilities(found["generator"]).learns:
        raise UsageError(
            f"--arm {text}: {found['generator']} is not trained and already draws each class from its real images, so "
            f"one for each class would draw the same"
        )
    brackets = _in_brackets(text, found["generator"], found["settings"])
    start = brackets.pop("start", None)
    if start is not None:
        start = os.path.expanduser(start)  # within quotes no shell does
    if start is not None and found["each"]:
        raise UsageError(f"--arm {text}: a generator for each class cannot start from weights; leave start out")
    unannotated = _sees_rest(text, found, rest)
    text = _with_rest(head, found, unannotated) + text[len(head) :]
    use: Use = "only" if found["use"] == "only" else "pretrain" if found["use"] else "mixed"
    return Arm(
        text,
        found["generator"],
        given=_given(
            text, found["generator"], brackets, (generators or {}).get(found["generator"], {}), start is not None
        ),
        start=start,
        each_class=bool(found["each"]),
        unannotated=unannotated,
        filtered=FILTERS[found["filter"]],
        ratio=float(found["ratio"]) if found["ratio"] else None,
        use=use,
        changed=changed,
    )


def _check_rest(text: str, rest: bool) -> None:
    if not rest:
        raise UsageError(f"--arm {text}: it takes images without annotation; give --unannotated rest with it")


def _sees_rest(text: str, found: re.Match[str], rest: bool) -> bool:
    """Tell whether an arm's generator sees images without annotation: where it can, or as its name says."""
    able = registry.generator_capabilities(found["generator"]).unannotated and not found["each"]
    if found["rest"] == UNANNOTATED:
        _check_rest(text, rest)
        if not able:
            why = "a generator for each class is" if found["each"] else f"{found['generator']} is"
            raise UsageError(f"--arm {text}: {why} fitted on annotated images only")
    return bool(rest and able and found["rest"] != ANNOTATED)


def _with_rest(head: str, found: re.Match[str], unannotated: bool) -> str:
    """Return the name of an arm that says whether its generator sees images without annotation."""
    at = found.end("each") if found["each"] else found.end("settings") if found["settings"] else found.end("generator")
    return head[:at] + UNANNOTATED * unannotated + head[at + len(found["rest"] or "") :]


def _changed(
    text: str, changes: Sequence[str], network: str, kind: str, settings: Mapping[str, Any]
) -> tuple[tuple[str, Any], ...]:
    """Return the settings that an arm's network has and the study's has not, as the plugin understands them."""
    if not changes:
        return ()
    variants = registry.network_capabilities(kind, network).variants
    asked: dict[str, Any] = {}
    for change in changes:
        key, equals, value = change.partition("=")
        if not equals and key not in variants:
            has = f"; it has {', '.join(variants)}" if variants else ""
            raise UsageError(f"--arm {text}: {network} has no variant {key!r}{has}; a setting is changed by ~KEY=VALUE")
        asked |= {key: value} if equals else variants[key]
    return _differing(text, kind, network, settings=settings, asked=asked)


def _given(
    text: str, generator: str, asked: Mapping[str, str], settings: Mapping[str, Any], started: bool
) -> tuple[tuple[str, Any], ...]:
    """Return the settings of an arm's generator that are not the study's, as the plugin understands them.

    One that begins with weights has theirs, so that all that is asked for is said.
    """
    if not started:
        return _differing(text, "generator", generator, settings=settings, asked=asked) if asked else ()
    try:
        values = asdict(registry.build("generator", generator, asked))
    except MedaugError as error:
        raise UsageError(f"--arm {text}: {error}") from error
    return tuple((key, values[key]) for key in asked)


def _in_brackets(text: str, generator: str, bracket: str | None) -> dict[str, str]:
    """Return what stands in an arm's brackets."""
    asked: dict[str, str] = {}
    parts = [] if bracket is None else re.split(r",(?=\s*\w+\s*=)", bracket[1:-1])  # a value may hold commas
    for part in parts:
        key, equals, value = part.partition("=")
        if not equals or not key.strip():
            raise UsageError(f"--arm {text}: expected settings of {generator} in brackets, as in [KEY=VALUE,KEY=VALUE]")
        asked[key.strip()] = value.strip()
    return asked


def _differing(
    text: str, kind: str, name: str, *, settings: Mapping[str, Any], asked: Mapping[str, Any]
) -> tuple[tuple[str, Any], ...]:
    """Return what is asked of a plugin and is not so already by the study's settings."""
    try:
        before = asdict(registry.build(kind, name, settings))
        after = asdict(registry.build(kind, name, {**settings, **asked}))
    except MedaugError as error:
        raise UsageError(f"--arm {text}: {error}") from error
    return tuple((key, value) for key, value in after.items() if value != before[key])


def _positive(text: str) -> bool:
    try:
        return float(text) > 0
    except ValueError:
        return False


def parse_arms(
    texts: Sequence[str],
    network: str,
    kind: str = "detector",
    settings: Mapping[str, Any] | None = None,
    generators: Mapping[str, Mapping[str, Any]] | None = None,
    rest: bool = False,
) -> list[Arm]:
    """Return the arms, the baseline first.

    Raises UsageError where one is named twice, two are trained alike, or nothing is compared.
    """
    if len(texts) != len(set(texts)):
        raise UsageError(f"--arm: {next(t for t in texts if texts.count(t) > 1)} is named twice")
    named = dict.fromkeys([BASELINE, *texts])
    arms = [parse_arm(text, network, kind, settings=settings, generators=generators, rest=rest) for text in named]
    if rest and not any(arm.unannotated or arm.pseudo for arm in arms):
        raise UsageError("--unannotated rest: no arm takes images without annotation; add boxgan or pseudo-label")
    if len(arms) < 2:
        raise UsageError("a study compares at least one arm with real-only, as in --arm copy-paste")
    return arms


def refuse_twins(arms: Sequence[Arm], ratio: float, n: int | None = None) -> None:
    """Raise UsageError where two arms are trained alike: their difference would be chance, or nothing."""
    seen: dict[str, Arm] = {}
    for arm in arms:
        twin = seen.setdefault(repr(arm.facets(ratio, n)), arm)
        if twin is not arm:
            raise UsageError(f"--arm {arm.name}: it would be trained exactly as {twin.name} is; leave one of them out")


def one_thing_apart(arms: Sequence[Arm], ratio: float) -> list[tuple[Arm, Arm, str]]:
    """Return pairs of arms that differ in one thing, with its name: the arm with more of it, mostly the later, first.

    real-only is compared with every arm anyhow, and generated arms with every control; generators with each other by
    their best arms.
    """
    found = []
    for first, second in combinations([arm for arm in arms if arm.name != BASELINE], 2):
        if first.generator is not None and second.generator is None:
            first, second = second, first
        one, other = first.facets(ratio), second.facets(ratio)
        apart = [name for name in one if one[name] != other[name]]
        if first.generator is None and second.generator is not None:
            own = ("use", "steps", "settings", "images without annotation")  # the others are those of the generator
            apart = ["images", *(name for name in apart if name in own)]
        elif first.generator != second.generator:
            continue
        if apart == ["images without annotation"] and first.unannotated:
            first, second = second, first
        if len(apart) == 1 and (first.learnt or not second.rivals):
            found.append((second, first, _words(apart[0], one, other)))
    return found


def _words(facet: str, one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    if facet == "images":
        return "synthetic images"
    if facet == "each class":
        return "a generator for each class"
    if facet == "images without annotation":
        return facet
    if facet not in ("settings", "generator's settings"):
        return f"{facet} {_plain(other[facet])} against {_plain(one[facet])}"
    keys = dict.fromkeys(key for key, _ in (*one[facet], *other[facet]))
    return ", ".join(key for key in keys if dict(one[facet]).get(key, ...) != dict(other[facet]).get(key, ...))


def _plain(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
