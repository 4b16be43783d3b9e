"""Plugins that raise, exit, print or are malformed are named with the reason, and nothing else breaks."""

import json
import os
import re
import signal
import subprocess
import sys
from itertools import count
from pathlib import Path

import pytest
from distributions import write_distribution

from medaug_cli import registry
from medaug_cli.cli import main
from medaug_cli.scans.reading import readers, suffixes
from medaug_cli.store import open_store

NUMBER = count()
KINDS = {"G": "medaug.generators", "D": "medaug.detectors", "R": "medaug.readers", "S": "medaug.strippers"}


@pytest.fixture
def medaug(monkeypatch, capsys, tmp_path):
    """Return a function that runs the command line in this process: its exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["medaug", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return stop.value.code or 0, said.out, said.err

    yield run
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture
def brought(monkeypatch, tmp_path):
    """Return a function that installs a distribution `faulty` with one plugin, `odd`, for this test."""

    def bring(code, value="{module}:G", kind="G"):
        name = f"faulty-{next(NUMBER)}"
        module = name.replace("-", "_")
        place = write_distribution(tmp_path / "installed", name, code, {}, KINDS[kind])
        entries = place / f"{module}-2.0.dist-info" / "entry_points.txt"
        entries.write_text(f"[{KINDS[kind]}]\nodd = {value.format(module=module)}\n", encoding="utf-8")
        monkeypatch.syspath_prepend(str(place))
        return name

    return bring


TINY = """from dataclasses import dataclass
from medaug_cli.plugin import GeneratorCapabilities, NetworkCapabilities
from tiny import TinyGenerator

@dataclass
class G(TinyGenerator):
"""
LISTED = [
    ("", "medaug-bad:Bad", "G", "'medaug-bad:Bad'; expected module:Class"),
    ("", "", "G", "expected module:Class"),
    ("", "{module}", "G", "not a dataclass with capabilities"),
    ("", "{module}:G", "G", "has no attribute 'G'"),
    ("", "no_such_module_at_all:G", "G", "no_such_module_at_all"),
    ("import sys\nsys.exit('needs a licence file')", "{module}:G", "G", "SystemExit: needs a licence file"),
    ("raise ValueError('two\\nlines')", "{module}:G", "G", "ValueError: two lines"),
    ("raise RuntimeError", "{module}:G", "D", "RuntimeError"),
    ("def f(:", "{module}:G", "G", "SyntaxError"),
    ("import a_library_that_nobody_has", "{module}:G", "S", "a_library_that_nobody_has"),
    ("print('hello')\nclass G: pass", "{module}:G", "G", "not a dataclass with capabilities"),
    ("G = 3", "{module}:G", "R", "not a dataclass with capabilities"),
    (TINY + "    capabilities = 'all'", "{module}:G", "G", "capabilities of the type str"),
    (TINY + "    capabilities = NetworkCapabilities()", "{module}:G", "G", "of the type NetworkCapabilities"),
    (TINY + "    sample = None", "{module}:G", "G", "has no method sample"),
    (TINY + "    capabilities = GeneratorCapabilities(condition='box')", "{module}:G", "G", "condition 'box'; the"),
    (TINY + "    capabilities = GeneratorCapabilities(dims=2)", "{module}:G", "G", "capabilities.dims 2; expected"),
    (TINY + "    capabilities = None\n    read = None", "{module}:G", "R", "has no method read"),
    (TINY + "    capabilities = None\n    def read(self): ...", "{module}:G", "R", "capabilities of the type NoneType"),
    (TINY + "    def read(self): ...", "{module}:G", "R", "has no tuple of suffixes"),
    (TINY + "    pass", "{module}:G", "D", "has no method predict"),
    (TINY + "    api_version = 99", "{module}:G", "G", "made for plugin API 99"),
]  # fmt: skip


@pytest.mark.parametrize(("code", "value", "kind", "reason"), LISTED)
def test_what_does_not_load_is_listed_with_the_reason(medaug, brought, code, value, kind, reason):
    name = brought(code, value, kind)
    status, out, _ = medaug("plugins", "--load", "--json")
    rows = {(row["kind"], row["name"]): row for row in json.loads(out)["plugins"]}
    assert status == 0
    (row,) = [row for row in rows.values() if row["distribution"] == name]
    assert row["state"] == "does not load"
    assert reason in row["reason"]
    assert rows["generator", "cpggan"]["state"] == "ok"
    status, out, _ = medaug("plugins", "--json")
    assert status == 0
    assert {"odd", "cpggan"} <= {row["name"] for row in json.loads(out)["plugins"]}


@pytest.mark.parametrize("content", [b"[medaug.generators]\nno equals sign\n", b"\xff\xfe[medaug", b"odd = a:B\n"])
def test_a_list_of_entry_points_that_cannot_be_read_hides_no_other(medaug, brought, tmp_path, content):
    name = brought("")
    (entries,) = (tmp_path / "installed").glob("*/entry_points.txt")
    entries.write_bytes(content)
    status, out, _ = medaug("plugins", "--json")
    rows = {row["distribution"]: row for row in json.loads(out)["plugins"]}
    assert status == 0
    assert "medaug" in rows
    assert name not in rows or "entry_points.txt cannot be read" in rows[name]["reason"]
    assert "cpggan" in registry.names("generator")


RUNNING = [
    ("    def fit(self, data, run):\n        raise ValueError('no licence')", "ValueError: no licence"),
    ("    def fit(self, data, run):\n        raise SystemExit(0)", "it asked to exit: 0"),
    ("    def fit(self, data, run):\n        import sys; sys.exit('bye')", "it asked to exit: bye"),
    ("    def fit(self, data, run):\n        raise KeyError", "KeyError"),
    ("    def fit(self, data, run):\n        assert False", "AssertionError"),
    ("    def __post_init__(self):\n        raise OSError('no such device')", "no such device"),
    ("    def state_dict(self):\n        return 1 / 0", "ZeroDivisionError: division by zero"),
    ("    def fit(self, data, run):\n        raise RecursionError", "RecursionError"),
    ("    def fit(self, data, run):\n        raise NotImplementedError('only 3D\\nand more')", "only 3D"),
    ("    size: 'Nowhere' = 3", "type cannot be told"),
    ("    def fit(self, data, run):\n        import a_library_that_nobody_has", "a_library_that_nobody_has"),
    ("    def fit(self, data, run):\n        raise MemoryError", "out of memory"),
]  # fmt: skip


@pytest.mark.parametrize(("code", "reason"), RUNNING)
def test_what_fails_in_a_run_is_named_with_the_reason(medaug, brought, real, code, reason):
    name = brought(TINY + code)
    status, out, err = medaug("train-gan", real, "--generator", "odd", "--kimg", "0.01", "--device", "cpu", "--json")
    assert status in (1, 4)
    assert out == ""
    lines = err.strip().splitlines()
    said = lines[-2:] if "the full report is in" in lines[-1] else lines[-1:]
    assert reason in said[0]
    assert all(line.startswith("medaug: ") for line in said)
    if reason != "out of memory":
        assert "generator 'odd'" in said[0]
    if len(said) == 2:
        assert name in said[0] or reason == "out of memory"
        report = re.search(r"is in (\S+)$", said[1])[1]
        with open(report, encoding="utf-8") as file:
            assert "Traceback" in file.read()
        assert os.stat(report).st_mode & 0o077 == 0
        os.unlink(report)
    assert not os.path.exists("gan")


LOUD = """
    def fit(self, data, run):
        import sys
        print("fitting")
        sys.stdout.write("more\\n")
        super().fit(data, run)

    def sample(self, conditions, seeds):
        print("drawing")
        yield from super().sample(conditions, seeds)
"""


def test_what_a_plugin_prints_does_not_reach_stdout(medaug, brought, real):
    brought("print('hello')\n" + TINY + LOUD)
    status, out, err = medaug("train-gan", real, "--generator", "odd", "--kimg", "0.01", "--device", "cpu", "--json")
    assert (status, json.loads(out)) == (0, {"generator": "gan"})
    assert "fitting" in err
    status, out, err = medaug("synthesize", "--n", "4", "--device", "cpu", "--json")
    assert status == 0
    assert json.loads(out)["images"] == 4
    assert "drawing" in err


def test_what_a_program_of_a_plugin_prints_does_not_reach_stdout(tmp_path):
    place = write_distribution(tmp_path, "loud", "import os\nos.system('echo hello')\n", {"loud": "Loud"})
    done = subprocess.run(
        [sys.executable, "-c", "from medaug_cli.cli import main; main()", "plugins", "show", "loud", "--json"],
        env={**os.environ, "PYTHONPATH": str(place)}, capture_output=True, text=True, encoding="utf-8",
    )  # fmt: skip
    assert done.returncode == 4
    assert done.stdout == ""
    assert "hello" in done.stderr
    assert "has no attribute 'Loud'" in done.stderr


DRAWN = """        import numpy as np
        from medaug_cli.plugin import Drawn
        for image in super().sample(conditions, seeds):
            yield Drawn(image, np.array([{box}]), np.zeros(1, int){more})"""
WRONG = [
    ("        yield from (image[:, :4] for image in super().sample(conditions, seeds))", "contract: sample yields"),
    ("        yield from (image * float('nan') for image in super().sample(conditions, seeds))", "not finite numbers"),
    ("        yield from (255 * image for image in super().sample(conditions, seeds))", "expected 0 to 1"),
    ("        yield from ((255 * i).astype('uint8') for i in super().sample(conditions, seeds))", "expected float32"),
    ("        raise ValueError('no luck')\n        yield", "ValueError: no luck"),
    ("        yield from list(super().sample(conditions, seeds))[:-1]", "odd drew 3 images for 4"),
    ("        yield from [*super().sample(conditions, seeds)] * 2", "odd drew more than"),
    ("        yield from ['picture'] * 4", "sample yields str; expected numpy arrays"),
    ("        return None\n        yield", "odd drew 0 images for 4"),
    ("        return 3", "odd drew no images, but a int"),
    (DRAWN.format(box="[9, 2, 3, 8]", more=""), "the generator 'odd' breaks its contract: Drawn names a box that is"),
    (DRAWN.format(box="[3, 2, 3, 8]", more=""), "Drawn names a box that is empty"),
    (DRAWN.format(box="[16, 2, 16.0005, 8]", more=""), "Drawn names a box that is empty"),
    (DRAWN.format(box="[3, 2, 17, 8]", more=""), "Drawn names a box beyond the image"),
    (DRAWN.format(box="[3, 2, 9, 8]", more=" * 1.0"), "Drawn names labels as float64; expected integers"),
    (DRAWN.format(box="['a', 2, 9, 8]", more=""), "Drawn names boxes as <U"),
]  # fmt: skip


SAMPLE = """    def sample(self, conditions, seeds):
        import sys
        return (super().sample if "train-gan" in sys.argv else self.wrong)(conditions, seeds)

    def wrong(self, conditions, seeds):
"""


@pytest.mark.parametrize(("code", "reason"), WRONG)
def test_what_draws_wrongly_is_named(medaug, brought, real, code, reason):
    brought(TINY + SAMPLE + code)
    assert medaug("train-gan", real, "--generator", "odd", "--kimg", "0.01", "--device", "cpu")[0] == 0
    status, out, err = medaug("synthesize", "--n", "4", "--device", "cpu", "--json")
    assert status != 0
    assert out == ""
    assert reason in " ".join(err.split())
    assert not os.path.exists("synthetic.h5")
    assert not os.path.exists("synthetic.h5.parts")


def test_a_box_that_rounding_takes_over_the_border_is_kept(medaug, brought, real):
    brought(TINY + SAMPLE + DRAWN.format(box="[-0.0005, 2, 9, 16.0005]", more=""))
    assert medaug("train-gan", real, "--generator", "odd", "--kimg", "0.01", "--device", "cpu")[0] == 0
    assert medaug("synthesize", "--n", "4", "--device", "cpu")[0] == 0
    assert open_store(Path("synthetic.h5")).boxes[3].tolist() == [[0, 2, 9, 16]]


def test_nothing_is_left_where_images_cannot_be_written(medaug, brought, real, monkeypatch):
    brought(TINY + "    pass")
    assert medaug("train-gan", real, "--generator", "odd", "--kimg", "0.01", "--device", "cpu")[0] == 0

    def full(*given):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("medaug_cli.store.writing._write", full)
    status, _, err = medaug("synthesize", "--n", "4", "--device", "cpu")
    assert status != 0
    assert "No space left" in err
    assert not os.path.exists("synthetic.h5.parts")


DETECTS = """from dataclasses import dataclass
import numpy as np
from tiny import TinyDetector

@dataclass
class D(TinyDetector):
    def predict(self, images):
        for boxes, scores, labels in super().predict(images):
            m = len(scores)
            yield """
MISJUDGED = [
    ("boxes, scores, labels - 10**7", "a label that is not in 0 to"),
    ("boxes, scores, labels + 10**7", "a label that is not in 0 to"),
    ("boxes, scores, labels - 1", "a label that is not in 0 to"),
    ("boxes, scores, labels + 0.5", "labels as float64; expected integers"),
    ("boxes, scores * 40, labels", "scores outside 0 to 1"),
    ("boxes, scores * np.nan, labels", "not finite"),
    ("boxes[:, :3], scores, labels", ", 4), also for 0"),
    ("boxes[:, [2, 1, 0, 3]], scores, labels", "high corner lies below its low corner"),
    ("boxes, scores", "(boxes, scores, labels)"),
    ("boxes, scores, labels\n            yield boxes, scores, labels", "more than"),
    ("boxes, scores, labels\n            break", "yields 1 results for"),
]


@pytest.mark.parametrize(("answer", "reason"), MISJUDGED)
def test_a_detector_that_answers_wrongly_is_named_while_it_trains(medaug, brought, real, answer, reason):
    """Unchecked, a label of ten million killed the process, and a missing answer shifted all that follow."""
    brought(DETECTS + answer, "{module}:D", kind="D")
    status, _, err = medaug("train-detector", real, "--detector", "odd", "--steps", "4", "--device", "cpu")
    assert status == 1
    said = " ".join(err.split())
    assert "the detector 'odd' breaks its contract: predict" in said
    assert reason in said
    assert not os.path.exists("detector")


@pytest.mark.parametrize(("state", "what"), [
    ("{'total': total, 'done': done}", "state['total'] given to run.checkpoint is a ndarray"),
    ("{'seen': [{1, 2}]}", "state['seen'][0] given to run.checkpoint is a set"),
])  # fmt: skip
def test_a_checkpoint_that_could_not_be_read_back_is_not_written(medaug, brought, real, state, what):
    brought(TINY + f"    def _state(self, total, done):\n        return {state}\n")
    often = ("--checkpoint-seconds", "0.0001")
    status, _, err = medaug("train-gan", real, "--generator", "odd", "--kimg", "0.01", "--device", "cpu", *often)
    assert status == 1
    assert what in " ".join(err.split())


KNOWS = [("'boxes'", "returns 'boxes'"), ("{'masks'}", "returns {'masks'}")]


@pytest.mark.parametrize(("known", "reason"), KNOWS)
def test_what_a_generator_knows_is_one_of_four_things(medaug, brought, real, known, reason):
    brought(TINY + f"    def knows(self, spec):\n        return {known}\n")
    status, _, err = medaug("train-gan", real, "--generator", "odd", "--kimg", "0.01", "--device", "cpu")
    assert status == 1
    assert f"G.knows {reason}; expected a set of boxes, labels, mask, class" in " ".join(err.split())


@pytest.mark.parametrize("code", ["    def fit(self, data):\n        pass\n", "    def fit(self):\n        pass\n"])
def test_a_method_that_takes_other_arguments_is_named(medaug, brought, real, code):
    name = brought(TINY + code)
    status, _, err = medaug("train-gan", real, "--generator", "odd", "--kimg", "0.01", "--device", "cpu")
    assert status == 1
    assert f"the generator 'odd' of {name} failed (TypeError: G.fit() takes" in " ".join(err.split())


def test_a_setting_may_be_none_though_its_numbers_have_a_minimum(medaug, brought, real):
    code = TINY.replace("NetworkCapabilities\n", "NetworkCapabilities, setting\n", 1)
    brought(code + "    most: int | None = setting(None, minimum=1, help='images')\n")
    train = ("train-gan", real, "--generator", "odd", "--kimg", "0.01", "--device", "cpu")
    assert medaug(*train, "--set", "most=none")[0] == 0
    assert medaug("synthesize", "--n", "2", "--device", "cpu")[0] == 0
    status, _, err = medaug(*train, "--set", "most=0", "--overwrite")
    assert status == 2
    assert "expects a value >= 1" in err


READS = """from dataclasses import dataclass
import numpy as np
from medaug_cli.plugin import Capabilities, StoredImage

@dataclass
class R:
    capabilities = Capabilities(dims=(2,), channels=(1,))
    suffixes = ('.odd',)
    def read(self, files):
"""
UNREADABLE = [
    ("        return np.zeros((1, 20, 20), np.float32)", "read returns ndarray; expected a StoredImage"),
    ("        return StoredImage(np.zeros((20, 20, 3), np.float32))", "expected channels first"),
    ("        return StoredImage(np.zeros((20, 20), np.float32))", "expected float32 (c, *s)"),
]


@pytest.mark.parametrize(("code", "reason"), UNREADABLE)
def test_a_reader_that_gives_no_image_is_named(medaug, brought, tmp_path, code, reason):
    brought(READS + code, "{module}:R", kind="R")
    readers.cache_clear()
    suffixes.cache_clear()
    (tmp_path / "scans").mkdir()
    (tmp_path / "scans/a.odd").write_bytes(b"odd")
    status, _, err = medaug("preprocess", "scans", "--unannotated", "--strip", "none", "--size", "16")
    readers.cache_clear()
    suffixes.cache_clear()
    assert status != 0
    assert reason in " ".join(err.split())
