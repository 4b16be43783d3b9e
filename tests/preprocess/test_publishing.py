"""A store, boxes.json, report and page are published together: a death at any moment leaves the old ones or the new."""

import json
import shutil

import pytest
from support.forking import changes_of, dying, medaug
from support.tiny_scans import BOX, made, picture, rows

from medaug_cli.boxes import read_boxes
from medaug_cli.errors import BadInput
from medaug_cli.files import read_json
from medaug_cli.preprocess.report import PreprocessReport
from medaug_cli.preprocess.results import read_report
from medaug_cli.store import open_store

NAMES = ("real.h5", "boxes.json", "preprocess.json", "preprocess.html")
PLAIN = ["--strip", "none", "--denoise", "none", "--workers", "1", "--boxes", "boxes.csv"]
OLD = ["preprocess", "scans", *PLAIN, "--out", "out/real.h5", "--size", "16"]
NEW = ["preprocess", "scans", *PLAIN, "--out", "out/real.h5", "--size", "32", "--overwrite"]
KILLED = -9
DENSE = 18  # changes from the end that are all tried: the publication, and what is tidied up after it


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder with three scans and their boxes."""
    folder = tmp_path_factory.mktemp("project")
    for name in "abc":
        picture(folder / f"scans/{name}.png", BOX)
    boxes = rows(folder, [f"{name}.png,8,6,18,16" for name in "abc"])
    made(folder, boxes=boxes)  # once here, so that the forks find everything imported
    lay(folder, {})
    return folder


@pytest.fixture(scope="module")
def results(folder):
    """Return what stands there after each command."""
    found = []
    for arguments in (OLD, NEW):
        assert medaug(arguments, folder) == 0, (folder / "said.txt").read_text(encoding="utf-8")
        found.append(standing(folder))
    return found


def standing(folder):
    return {name: (folder / "out" / name).read_bytes() for name in NAMES if (folder / "out" / name).exists()}


def lay(folder, files):
    """Put files where a command had left them, and nothing else."""
    shutil.rmtree(folder / "out", ignore_errors=True)
    (folder / "out").mkdir()
    for name, content in files.items():
        (folder / "out" / name).write_bytes(content)


def check_whole(folder):
    """Fail unless what stands there can be read, and belongs together where it says to what it belongs."""
    store = open_store(folder / "out/real.h5")  # as every command does; it ends a publication that was cut off
    store.verify()
    assert read_boxes(folder / "out/boxes.json").store == store.hash
    assert read_json(folder / "out/preprocess.json", PreprocessReport).store == store.hash
    assert store.hash in (folder / "out/preprocess.html").read_text(encoding="utf-8")


def litter(folder):
    return [path.name for path in (folder / "out").iterdir() if path.name not in NAMES]


def test_a_death_while_replacing_leaves_the_old_or_the_new(folder, results):
    old, new = results
    lay(folder, old)
    moments = changes_of(NEW, folder)
    assert standing(folder) == new
    assert moments > 20
    seen = []
    for moment in [*range(0, moments - DENSE, 9), *range(moments - DENSE, moments)]:
        lay(folder, old)
        assert medaug(NEW, folder, prepare=dying(moment)) == KILLED
        assert set(standing(folder)) == set(NAMES), "no file is away for a moment"
        check_whole(folder)
        seen.append(standing(folder))
        assert seen[-1] in (old, new)
        if moment % 7 == 0:
            assert medaug(NEW, folder) == 0, (folder / "said.txt").read_text(encoding="utf-8")
            assert standing(folder) == new
            assert not litter(folder)
    assert seen[0] == old
    assert seen[-1] == new
    assert seen == sorted(seen, key=lambda files: files == new), "once new it stays so"


def test_a_death_in_a_first_run_leaves_nothing_or_all_and_is_made_good(folder, results):
    old, _ = results
    lay(folder, {})
    for moment in range(0, changes_of(OLD, folder), 9):
        lay(folder, {})
        assert medaug(OLD, folder, prepare=dying(moment)) == KILLED
        if (folder / "out/real.h5").exists():
            check_whole(folder)
            assert standing(folder) == old
        assert medaug([*OLD, "--resume"], folder) == 0, (folder / "said.txt").read_text(encoding="utf-8")
        assert standing(folder) == old
        assert not litter(folder)


def test_what_belongs_to_another_store_is_refused(folder, results):
    old, new = results
    lay(folder, {**new, "preprocess.json": old["preprocess.json"]})
    with pytest.raises(BadInput, match=r"preprocess\.json belongs to another store than .*real\.h5"):
        read_report(folder / "out/real.h5", open_store(folder / "out/real.h5"))
    assert medaug([*NEW[:-1], "--resume"], folder) == 3
    assert medaug(NEW, folder) == 0
    assert standing(folder) == new


def test_pages_that_were_removed_are_made_again(folder, results):
    _, new = results
    lay(folder, {name: new[name] for name in ("real.h5", "preprocess.json")})
    assert medaug([*NEW[:-1], "--resume"], folder) == 0
    assert standing(folder) == new


def test_reports_of_before_are_still_read(folder, results):
    _, new = results
    lay(folder, new)
    report = json.loads(new["preprocess.json"])
    report.pop("store")
    for each in report["slices"]:
        for name in ("annotated", "repaired", "notes"):
            each.pop(name, None)
    (folder / "out/preprocess.json").write_text(json.dumps(report), encoding="utf-8")
    assert medaug([*NEW[:-1], "--resume"], folder) == 0
