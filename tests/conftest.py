"""Small stores and plugins that many tests share."""

import gc
from contextlib import contextmanager
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest
from chromium import BROWSER
from hypothesis import settings
from processor import Processor
from thoroughness import drawn

from medaug_cli import registry
from medaug_cli.boxes import write_boxes
from medaug_cli.lesion_filter.evidence import fit_regions
from medaug_cli.preprocess.results import training_boxes
from medaug_cli.store import Record, StoreInfo, StoreWriter, open_store

settings.register_profile("repeatable", derandomize=True, deadline=None, max_examples=drawn(100))
settings.load_profile("repeatable")
gc.set_threshold(50_000, 20, 20)  # else a seventh of the time of imports goes into looking for garbage

TINY = (
    EntryPoint("tiny", "tiny:TinyGenerator", "medaug.generators"),
    EntryPoint("tiny", "tiny:TinyDetector", "medaug.detectors"),
    EntryPoint("tiny", "tiny:TinyClassifier", "medaug.classifiers"),
    EntryPoint("tiny", "tiny:TinySegmenter", "medaug.segmenters"),
    EntryPoint("tiny", "tiny:TinyCounter", "medaug.counters"),
    EntryPoint("counting", "tiny:Counting", "medaug.tasks"),
)


def pytest_addoption(parser):
    parser.addoption("--seed-offset", type=int, default=0, help="add this to the seed of every test that learns")
    parser.addoption("--cpu", type=int, default=0, help="say which tests took most of the processor's time, so many")
    parser.addoption("--seeds", type=int, default=1, help="run the tests that learn alone, with so many seeds each")


def pytest_configure(config):
    """Measure the tests where that is asked for; workers of `-n` tell nothing."""
    if config.getoption("--cpu"):
        config.pluginmanager.register(Processor(config.getoption("--cpu")))


def pytest_collection_finish():
    """Keep what imports and the collection have made, for good, from the search for garbage."""
    gc.freeze()


def pytest_generate_tests(metafunc):
    """Give a test that learns its seeds as `training_seed`; its margins must hold for any."""
    if "training_seed" in metafunc.fixturenames:
        first, count = map(metafunc.config.getoption, ("--seed-offset", "--seeds"))
        metafunc.parametrize("training_seed", range(first, first + count), ids="seed {}".format)


def pytest_collection_modifyitems(config, items):
    """Leave the tests that learn where more than one seed is tried."""
    if config.getoption("--seeds") > 1:
        config.hook.pytest_deselected(items=[item for item in items if "training_seed" not in item.fixturenames])
        items[:] = [item for item in items if "training_seed" in item.fixturenames]


def install_tiny(patch):
    """Install the tiny plugins until a MonkeyPatch is undone."""
    found = registry.entry_points

    def entry_points(group):
        return [*found(group=group), *(entry for entry in TINY if entry.group == group)]

    patch.setattr(registry, "entry_points", entry_points)


@contextmanager
def tiny_installed():
    """Install the tiny plugins while the block runs, for a fixture that outlives a test."""
    with pytest.MonkeyPatch.context() as patch:
        install_tiny(patch)
        yield


@pytest.fixture
def tiny_plugins(monkeypatch):
    """Install the tiny plugins for a test, by its own `monkeypatch`: what it patches after is undone before."""
    install_tiny(monkeypatch)


@pytest.fixture
def undrawn(monkeypatch, request):
    """Leave out the drawings of pages, most of a small run's time, but for tests that are marked `drawn`."""
    if request.node.get_closest_marker("drawn"):
        return

    blank = "<svg xmlns='http://www.w3.org/2000/svg'/>"

    def savefig(figure, target, **options):
        image = blank.encode() if options["format"] == "svg" else b"\x89PNG\r\n\x1a\n"
        target.write(image) if hasattr(target, "write") else Path(target).write_bytes(image)

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", savefig)
    monkeypatch.setattr("medaug_cli.evaluation.folder.froc_svg", lambda metrics, curves: blank)
    monkeypatch.setattr("medaug_cli.study.page._drawings", lambda report: {"none": "data:image/svg+xml,"})


LEARNT = {}  # by store, share and seed: what the filter learns depends on nothing else


def learnt_once(store, real_share, seed):
    """Return what the filter learns from a store, learnt once where several tests filter by the same one."""
    key = store.hash, real_share, seed
    if key not in LEARNT:
        LEARNT[key] = fit_regions(store, real_share, seed)
    return LEARNT[key]


@pytest.fixture
def few_trees(monkeypatch):
    """Let the filter learn with a fifth of its trees, and once from a store."""
    monkeypatch.setattr("medaug_cli.lesion_filter.evidence.TREES", 60)
    monkeypatch.setattr("medaug_cli.lesion_filter.sifting.fit_regions", learnt_once)


def make_records(n=24, size=16, seed=0, labels=("lesion",), masks=False, channels=1):
    """Return records of dim noise with one bright box each, six patients over the three splits."""
    rng = np.random.default_rng(seed)
    splits = ("train", "train", "train", "train", "val", "test")
    for i in range(n):
        image = rng.integers(20, 60, (channels, size, size)).astype(np.uint8)
        x, y = rng.integers(1, size // 2, 2)
        w, h = rng.integers(3, size // 2 - 1, 2)
        image[:, y : y + h, x : x + w] += 120
        mask = np.zeros((size, size), np.uint8)
        mask[y : y + h, x : x + w] = 1
        boxes = np.array([[x, y, x + w, y + h]], np.float32)
        yield Record(
            f"i{i:03d}",
            image,
            boxes,
            [labels[i % len(labels)]],
            f"p{i % 6}",
            splits[i % 6],
            mask=mask if masks else None,
        )


MADE = {}  # by labels and options: the bytes of a store and of its boxes.json


def make_store(path, records=None, labels=("lesion",), **options):
    """Publish a store of `records` and a boxes.json of its training split beside it.

    A store of constructed records is written once; later it is copied.
    """
    beside = path.parent / "boxes.json"
    if records is not None:
        return written_store(path, records, labels)
    key = tuple(labels), *sorted(options.items())
    if key not in MADE:
        written_store(path, make_records(labels=labels, **options), labels)
        MADE[key] = path.read_bytes(), beside.read_bytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    for place, content in zip((path, beside), MADE[key], strict=True):
        place.unlink(missing_ok=True)  # whoever has it open keeps the old one
        place.write_bytes(content)
    return open_store(path)


def written_store(path, records, labels):
    info = StoreInfo(tool_version="0", command="test", settings={}, seed=0, label_names=list(labels))
    writer = StoreWriter(path, info, {"test": 1}, overwrite=True)
    for i, record in enumerate(records):
        writer.add(i, [record])
    store = writer.publish()
    write_boxes(path.parent / "boxes.json", training_boxes(store))
    return store


@pytest.fixture
def real(tmp_path):
    """Return the path of a small real store with its boxes.json beside it."""
    make_store(tmp_path / "real.h5")
    return tmp_path / "real.h5"


@pytest.fixture(scope="session")
def browser():
    """Start a browser once for all pages; skip where there is none."""
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield opened
        opened.close()
