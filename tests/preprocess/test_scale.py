"""Many scans: parts that join to what one run makes, workers that come and go, names that tell nobody who it is."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from dicoms import as_image, head, write_series
from typer.testing import CliRunner

from medaug_cli.cli import app
from medaug_cli.errors import BadInput, MedaugError, UsageError
from medaug_cli.preprocess.joining import join_parts
from medaug_cli.preprocess.pool import chosen_workers, in_order
from medaug_cli.preprocess.results import read_report
from medaug_cli.store import open_store

COUNT = 9


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    """Return a folder of small volumes with their masks, a folder a patient; the last has no mask."""
    folder = tmp_path_factory.mktemp("scans")
    for k in range(COUNT):
        values, lesion = head(4, 32, seed=k)
        (folder / f"p{k}").mkdir()
        sitk.WriteImage(as_image(values), str(folder / f"p{k}/scan.nii.gz"))
        if k < COUNT - 1:
            sitk.WriteImage(as_image(lesion), str(folder / f"p{k}/mask.nii.gz"))
    return folder


def run(scans, out, *more):
    arguments = ["preprocess", scans, "--masks", scans, "--out", out, "--size", "32", "--strip", "none", *more]
    done = CliRunner().invoke(app, [*map(str, arguments)])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return open_store(Path(out))


@pytest.fixture(scope="module")
def whole(scans, tmp_path_factory):
    return run(scans, tmp_path_factory.mktemp("whole") / "real.h5")


def report_of(store):
    return json.loads(store.path.with_name("preprocess.json").read_text(encoding="utf-8"))


def test_parts_join_to_what_one_run_makes(scans, whole, tmp_path):
    parts = [tmp_path / f"{k}/real.h5" for k in range(3)]
    for k, out in enumerate(parts):
        part = run(scans, out, "--num-parts", 3, "--part-id", k)
        assert 0 < len(part) < len(whole)
    done = CliRunner().invoke(
        app, ["store", "join", *map(str, reversed(parts)), "--out", str(tmp_path / "real.h5"), "--json"]
    )
    assert json.loads(done.stdout) == {"store": str(tmp_path / "real.h5"), "images": len(whole), "hash": whole.hash}
    joined = open_store(tmp_path / "real.h5")
    assert joined.path.read_bytes() == whole.path.read_bytes()
    for name in ("boxes.json", "preprocess.json"):
        ours, theirs = (json.loads(s.path.with_name(name).read_text(encoding="utf-8")) for s in (joined, whole))
        for each in (ours, theirs):
            each.pop("histograms", None)
            for slice_ in each.get("slices", ()):
                slice_.pop("picture", None)
        assert ours == theirs
    assert "</html>" in joined.path.with_name("preprocess.html").read_text(encoding="utf-8")


def test_parts_that_do_not_make_a_whole_are_refused(scans, tmp_path):
    parts = [tmp_path / f"{k}/real.h5" for k in range(3)]
    for k, out in enumerate(parts):
        run(scans, out, "--num-parts", 3, "--part-id", k)
    with pytest.raises(UsageError, match="part 1 of 3 is missing"):
        join_parts([parts[0], parts[2]], tmp_path / "real.h5")
    with pytest.raises(UsageError, match="one appears twice"):
        join_parts([*parts, parts[1]], tmp_path / "real.h5")
    with pytest.raises(UsageError, match="beside a part"):
        join_parts(parts, parts[0].with_name("all.h5"))
    run(scans, parts[1], "--num-parts", 3, "--part-id", 1, "--fit", "stretch", "--overwrite")
    with pytest.raises(UsageError, match="different settings"):
        join_parts(parts, tmp_path / "real.h5")
    assert not (tmp_path / "real.h5").exists()
    with pytest.raises(UsageError, match="0 to 2"):
        run(scans, tmp_path / "x/real.h5", "--num-parts", 3, "--part-id", 3)
    with pytest.raises(UsageError, match="only 8 annotated scans"):
        run(scans, tmp_path / "x/real.h5", "--num-parts", 30)


def test_stores_of_two_sites_join_and_a_patient_in_two_splits_is_refused(scans, tmp_path):
    for site, split in (("a", "1,0,0"), ("b", "0.5,0,0.5")):
        shutil.copytree(scans, tmp_path / site / "scans")
        for k in range(COUNT):
            (tmp_path / site / f"scans/p{k}").rename(tmp_path / site / f"scans/{site}{k}")
        for image in (tmp_path / site / "scans").rglob("scan.nii.gz"):
            image.rename(image.with_name(f"{image.parent.name}.nii.gz"))
        for mask in (tmp_path / site / "scans").rglob("mask.nii.gz"):
            mask.rename(mask.with_name(f"{mask.parent.name}_mask.nii.gz"))
        denoise = "none" if site == "a" else "median"
        run(tmp_path / site / "scans", tmp_path / site / "real.h5", "--split", split, "--denoise", denoise)
    both = join_parts([tmp_path / "a/real.h5", tmp_path / "b/real.h5"], tmp_path / "real.h5")
    assert both.info.command == "store join"
    said = report_of(both)["settings"]
    for settings in (both.info.settings, said):
        assert (settings["size"], settings["differing"]) == (32, ["denoising", "split"])
        assert "denoising" not in settings
    sentence = "Joined of parts that were pre-processed with different settings: denoising, split."
    assert sentence in read_report(both.path, both).sentences()
    assert len(both) == sum(len(open_store(tmp_path / site / "real.h5")) for site in "ab")
    with pytest.raises(BadInput, match=r"^image \S+ is in both \S+a/real\.h5 and \S+a/real\.h5; give each store once"):
        join_parts([tmp_path / "a/real.h5", tmp_path / "a/real.h5"], tmp_path / "twice/real.h5")


def test_workers_make_the_same_store(scans, whole, tmp_path):
    assert run(scans, tmp_path / "real.h5", "--workers", 2).path.read_bytes() == whole.path.read_bytes()


def test_a_damaged_scan_does_not_stop_the_rest(scans, whole, tmp_path):
    shutil.copytree(scans, tmp_path / "scans")
    path = tmp_path / "scans/p3/scan.nii.gz"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(BadInput, match=r"p3/scan\.nii\.gz"):
        run(tmp_path / "scans", tmp_path / "out/real.h5")
    store = run(tmp_path / "scans", tmp_path / "out/real.h5", "--keep-going", "--resume")
    assert set(whole.patients) - set(store.patients) == {"p3"}
    (row,) = [row for row in report_of(store)["slices"] if row["state"] == "skipped"]
    assert row["file"] == "p3/scan.nii.gz"
    assert "truncated" in row["reason"]
    assert str(tmp_path) not in store.path.with_name("preprocess.json").read_text(encoding="utf-8")


def _die(job):
    if job == 3:
        os._exit(9)
    return job


def _slow(job):
    time.sleep(0.05)
    return job, os.getpid()


def test_results_come_in_order_and_no_more_jobs_are_taken_than_are_in_flight():
    taken = []

    def jobs():
        for job in range(40):
            taken.append(job)
            yield job

    for count, (job, _) in enumerate(in_order(_slow, jobs(), 2), start=1):
        assert job == count - 1
        assert len(taken) <= count + 4


def test_a_worker_that_ends_without_a_word_is_said():
    with pytest.raises(MedaugError, match="fewer --workers"):
        list(in_order(_die, range(6), 2))


ENDLESS = """
import os, time
from medaug_cli.preprocess.results import read_report
from medaug_cli.preprocess.pool import in_order

def slow(job):
    time.sleep(0.05)
    return os.getpid()

if __name__ == "__main__":
    for pid in in_order(slow, range(10**6), 2):
        print(pid, flush=True)
"""


def test_workers_end_with_the_process_that_began_them(tmp_path):
    script = tmp_path / "endless.py"
    script.write_text(ENDLESS, encoding="utf-8")
    process = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True, encoding="utf-8")
    workers = {int(process.stdout.readline()) for _ in range(6)}
    process.kill()
    process.wait()
    process.stdout.close()
    for _ in range(200):
        if not any(Path(f"/proc/{pid}").exists() for pid in workers):
            break
        time.sleep(0.1)
    assert not any(Path(f"/proc/{pid}").exists() for pid in workers)


def test_few_scans_need_no_workers():
    assert chosen_workers(0, 3) == 1
    assert chosen_workers(4, 2) == 2
    assert chosen_workers(0, 10_000) >= 1


def identified(folder, names=("Mustermann^Erika", "Doe^John", "Roe^Jane")):
    """Write DICOM series in folders that are named after the patients, and masks of the same names."""
    for k, patient in enumerate(names):
        values, lesion = head(seed=k)
        own = patient.replace("^", "_").upper()
        write_series(folder / "scans" / own, as_image(values), series=f"1.{k}", patient=patient)
        (folder / "masks").mkdir(exist_ok=True)
        sitk.WriteImage(as_image(lesion), str(folder / f"masks/{own}.nii.gz"))
    return folder


def outputs(folder):
    return b"".join(path.read_bytes().lower() for path in folder.rglob("*") if path.is_file())


def told(folder, out, *more):
    arguments = ["preprocess", folder / "scans", "--masks", folder / "masks", "--out", out, "--size", "32", "--strip",
                 "none", "--split", "0.4,0.3,0.3", *more]  # fmt: skip
    done = CliRunner().invoke(app, [*map(str, arguments)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return open_store(Path(out))


def test_folders_named_after_patients_are_numbered_in_every_output(tmp_path):
    identified(tmp_path)
    store = told(tmp_path, tmp_path / "out/real.h5")
    assert {name[:8] for name in store.ids} == {"scan0001", "scan0002", "scan0003"}
    written = outputs(tmp_path / "out")
    for name in (b"mustermann", b"erika", b"doe_", b"roe_"):
        assert name not in written


def test_pseudonyms_are_the_same_for_the_same_key_and_patient_and_no_others(tmp_path):
    identified(tmp_path)
    for name, key in (("one", "a" * 32), ("two", "b" * 32)):
        (tmp_path / name).write_text(key + "\n", encoding="utf-8")
    first = told(tmp_path, tmp_path / "first/real.h5", "--pseudonymise", tmp_path / "one")
    other = told(tmp_path, tmp_path / "other/real.h5", "--pseudonymise", tmp_path / "two")
    assert not set(first.patients) & set(other.patients)
    assert not set(first.ids) & set(other.ids)
    shutil.rmtree(tmp_path / "scans/DOE_JOHN")
    (tmp_path / "masks/DOE_JOHN.nii.gz").unlink()
    again = told(tmp_path, tmp_path / "again/real.h5", "--pseudonymise", tmp_path / "one")
    assert set(again.patients) < set(first.patients)
    assert len(set(first.patients)) == 3
    written = outputs(tmp_path / "first") + outputs(tmp_path / "again")
    for name in (b"mustermann", b"erika", b"doe_john", b"a" * 32, b"patient0001"):
        assert name not in written
    (tmp_path / "short").write_text("secret", encoding="utf-8")
    with pytest.raises(BadInput, match="16 or more"):
        told(tmp_path, tmp_path / "x/real.h5", "--pseudonymise", tmp_path / "short")


def test_the_report_counts_and_draws(scans, whole):
    report = report_of(whole)
    kept = [row for row in report["slices"] if row["state"] == "kept"]
    assert sum(row["boxes"] for row in kept) == sum(map(len, whole.boxes)) > 0
    sizes = np.concatenate([row["box_sizes"] for row in kept if row["box_sizes"]])
    truth = np.concatenate([box[:, 2:] - box[:, :2] for box in whole.boxes])
    np.testing.assert_allclose(np.sort(sizes, 0), np.sort(truth, 0), atol=0.06)
    after = report["histograms"]["after"]
    assert 0 < sum(after["counts"]) <= whole.images.size
    assert [row["file"] for row in report["slices"] if row["state"] == "no annotation"] == ["p8/scan.nii.gz"]
    page = whole.path.with_name("preprocess.html").read_text(encoding="utf-8")
    assert page.count("<figure") >= 2 + 8
    assert "no annotation" in page
