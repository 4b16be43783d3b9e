"""Whose each scan is: patients by name and by folder, never by the folders of classes, and what is said of it."""

import csv

import pytest
from support.dicoms import as_image, head, write_series
from support.tiny_scans import BOX, options, picture, rows

from medaug_cli.errors import BadInput, UsageError
from medaug_cli.preprocess.folder_names import sorts
from medaug_cli.preprocess.plan import plan_of
from medaug_cli.preprocess.pseudonyms import renamed_scans
from medaug_cli.scans.survey import find_scans

BOX_TEXT = ",".join(map(str, BOX))


def planned(folder, files, header="image,x_min,y_min,x_max,y_max", more=lambda name: "", **changes):
    """Return the plan for pictures, each with a row of the CSV, and what was said."""
    for name in files:
        picture(folder / "scans" / name, BOX)
    boxes = rows(folder, [f"{name},{BOX_TEXT}{more(name)}" for name in files], header)
    plan = plan_of(options(folder, boxes=boxes, **changes))
    return plan, " | ".join(plan.sentences)


LAYOUTS = {  # files -> patients, whether the split is by patient, a word that is said
    "yes and no": ([f"{c}/{i}{c}.png" for c in ("yes", "no") for i in range(6)], 12, False, "folders no and yes"),
    "classes of tumours": (
        [f"{c}/g{c[0]} ({i}).png" for c in ("glioma_tumor", "no_tumor", "pituitary") for i in range(4)], 12, False,
        "by kind",
    ),
    "benign, malignant, normal": (
        [f"{c}/{c} ({i}).png" for c in ("benign", "malignant", "normal") for i in range(4)], 12, False, "by kind",
    ),
    "official splits": ([f"{s}/{s}{i}.png" for s in ("train", "test") for i in range(5)], 10, False, "train"),
    "splits and classes": (
        [f"{s}/{c}/{s}{c}{i}.png" for s in ("Training", "Testing") for c in ("yes", "no") for i in range(3)], 12,
        False, "by kind",
    ),
    "one folder of images": ([f"images/pat{i:02d}.png" for i in range(12)], 12, False, "folder images"),
    "flat": ([f"a{i}.png" for i in range(5)], 5, False, "split by image"),
    "a folder a patient": ([f"p{i}/{i}-{k}.png" for i in range(10) for k in range(2)], 10, True, "one folder each"),
    "patients in one folder": ([f"images/p{i}/{i}-{k}.png" for i in range(10) for k in range(2)], 10, True, "folder"),
    "patients in classes": (
        [f"{c}/{c[0]}{i}/{c}{i}{k}.png" for c in ("benign", "malignant") for i in range(5) for k in range(2)], 10, True,
        "one folder each",
    ),
    "two folders that may be patients": (
        [f"{s}/{s}{i}.png" for s in ("siteA", "siteB") for i in range(6)], 2, True,
        "val stays empty: 2 patients, one folder each",
    ),
    "one folder that may be a patient": ([f"pat01/{i}.png" for i in range(6)], 1, True, "stay empty: 1 patient,"),
    "patients in years": (
        [f"{year}/P{i}/1.png" for year in (2021, 2022, 2023) for i in range(6)], 6, True,
        "the folders P0, P1, P2, P3 and 2 more are taken as patients, since several of 2021, 2022 and 2023 hold",
    ),
    "patients of sites": (
        [f"{site}/P{i}/1.png" for site in ("siteA", "siteB") for i in range(6)], 6, True, "are taken as patients",
    ),
    "visits of patients": (
        [f"P{i}/{visit}/1.png" for i in range(5) for visit in ("baseline", "month6", "month12")], 5, True,
        "5 patients, one folder each",
    ),
    "visits of two patients": (
        [f"P{i}/{visit}/1.png" for i in range(2) for visit in ("visit 1", "visit 2", "visit 3")], 2, True,
        "2 patients, one folder each",
    ),
    "years of patients": (
        [f"P{i}/{year}/1.png" for i in range(3) for year in (2019, 2020, 2021, 2022)], 3, True,
        "3 patients, one folder each",
    ),
    "series of patients": ([f"P{i}/{i}{k}a/1.png" for i in range(3) for k in range(4)], 3, True, "3 patients,"),
    "numbers": ([f"{i:03d}/{i}{k}.png" for i in range(10) for k in range(2)], 10, True, "10 patients, one folder each"),
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_folders_are_patients_only_where_they_may_be(tmp_path, layout):
    files, patients, by_patient, word = LAYOUTS[layout]
    plan, said = planned(tmp_path, files)
    assert len(set(plan.patients.values())) == patients
    assert plan.by_patient == by_patient
    assert word in said
    assert ("split by image" in said) == (not by_patient)
    if patients > 2:
        assert set(plan.splits.values()) == {"train", "val", "test"}


def test_a_folder_with_the_name_of_a_label_is_no_patient(tmp_path):
    files = [f"{kind}/{kind}{i}.png" for kind in ("astrocytoma", "ependymoma") for i in range(5)]
    plan, said = planned(
        tmp_path, files, "image,x_min,y_min,x_max,y_max,label", lambda name: f",{name.partition('/')[0].title()}"
    )
    assert len(set(plan.patients.values())) == 10
    assert "folders astrocytoma and ependymoma sort by kind" in said


@pytest.mark.parametrize("name", ["yes", "NoTumor", "Test Images", "images_001", "BENIGN", "imagesTr", "t1ce", "LGG"])
def test_words_for_kinds(name):
    assert sorts(name)


@pytest.mark.parametrize("name", ["p1", "sub-01", "Anna", "case_7", "001", "scan1", "TCGA-AB-1", "yes1", "image12"])
def test_names_that_may_be_a_patients(name):
    assert not sorts(name)


GROUPED = "image,x_min,y_min,x_max,y_max,{}"


@pytest.mark.parametrize("column", ["group", "Group", "subject no.", "participant", "my id", "ÄID"])
def test_any_column_can_name_patients(tmp_path, column):
    files = [f"{i}{k}.png" for i in range(8) for k in "ab"]
    plan, said = planned(tmp_path, files, GROUPED.format(column), lambda name: f",g{name[0]}", patient_column=column)
    assert {plan.patients[scan.id] for scan in plan.scans} == {f"g{i}" for i in range(8)}
    assert plan.by_patient
    assert "8 patients, by name" in said
    assert plan.info.settings["patient_column"] == column


@pytest.mark.parametrize("column", ["group", "case_id", "Participant", "PatientName", "study"])
def test_a_likely_column_is_pointed_out(tmp_path, column):
    files, said = [f"{i}{k}.png" for i in range(4) for k in "ab"], []
    planned(tmp_path, files, GROUPED.format(column), lambda name: f",g{name[0]}", said=said)
    assert any(f"--patient-column {column}" in sentence for sentence in said)


def test_a_column_that_repeats_nothing_or_stands_beside_a_patient_is_not_pointed_out(tmp_path):
    files, said = ["a.png", "b.png", "c.png"], []
    planned(tmp_path / "ids", files, GROUPED.format("id"), lambda name: f",{name}", said=said)
    planned(tmp_path / "both", files, GROUPED.format("patient,group"), lambda name: f",{name},g", said=said)
    assert not any("--patient-column" in sentence for sentence in said)


def test_wrong_patient_columns_are_refused(tmp_path):
    with pytest.raises(BadInput, match=r"boxes\.csv has no column 'groop'; it has image, x_min.*group"):
        planned(tmp_path, ["a.png"], GROUPED.format("group"), lambda name: ",1", patient_column="groop")
    (tmp_path / "yolo").mkdir()
    (tmp_path / "yolo/a.txt").write_text("0 .5 .5 .2 .2\n", encoding="utf-8")
    with pytest.raises(UsageError, match="--patient-column is for CSV files"):
        plan_of(options(tmp_path, boxes=tmp_path / "yolo", patient_column="group"))
    with pytest.raises(UsageError, match="that --boxes or --classes gives"):
        plan_of(options(tmp_path, masks=tmp_path / "yolo", patient_column="group"))


def test_names_that_differ_by_accident_are_one_patient(tmp_path):
    people = {"a.png": "P1", "b.png": "p1 ", "c.png": " P1", "d.png": "P2", "e.png": "é", "f.png": "e\u0301"}
    plan, said = planned(tmp_path, list(people), GROUPED.format("patient"), lambda name: f",{people[name]}")
    assert len(set(plan.patients.values())) == 3
    assert plan.patients["b"] == "P1"
    assert "P1 and p1 are treated as one patient" in said


def test_a_split_file_finds_patients_whatever_their_case(tmp_path):
    with (tmp_path / "split.csv").open("w", encoding="utf-8") as file:
        csv.writer(file).writerows([["patient", "split"], ["P1", "test"], ["p2", "train"]])
    people = {"a.png": "p1", "b.png": "P2"}
    plan, _ = planned(
        tmp_path, list(people), GROUPED.format("patient"), lambda name: f",{people[name]}",
        split=str(tmp_path / "split.csv"),
    )  # fmt: skip
    assert plan.splits == {"p1": "test", "P2": "train"}


def test_two_spellings_of_a_patient_in_one_image_are_one(tmp_path):
    """Of two boxes of an image, as a person typed them; another patient there is refused."""
    files = ["a.png", "b.png", "c.png"]

    def rows(name):
        return ",P1" if name != "a.png" else ",P1\na.png,20,20,30,30,p1 "

    plan, _ = planned(tmp_path, files, GROUPED.format("patient"), rows)
    assert set(plan.patients.values()) == {"P1"}
    with pytest.raises(BadInput, match=r"image a\.png has two patients, P1 and P2"):
        planned(tmp_path / "other", files, GROUPED.format("patient"), lambda name: rows(name).replace("p1 ", "P2"))


SPLIT_FILES = {
    "files": "image,split\na.png,test\nsub/b.png,train\n",
    "paths of another machine": "image,split\nD:\\set\\a.png,test\nD:\\set\\sub\\b.png,train\n",
    "ids": "image,split\na,test\nb,train\n",
    "semicolons": "image;split\na.png;test\nb.png;train\n",
    "a mark of the order of bytes": "\ufeffimage,split\na.png,test\nb.png,train\n",
    "lines of an old Mac": "image,split\ra.png,test\rb.png,train\r",
    "capitals": "Image,Split\na.png,Test\nb.png,Training\n",
    "a set": "Image;Set\na.png;TEST\nb.png;Train\n",
    "more than there is": "image,split\na.png,test\nb.png,train\nz.png,val\n",
    "patients": "patient,split\nP1,test\np2,train\n",
    "another word for patients": "subject_id,subset\nP1,test\np2,train\n",
    "both": "image,patient,split\nx,P1,test\ny,P2,train\n",
}


@pytest.mark.parametrize("case", SPLIT_FILES)
def test_a_split_file_is_read_as_people_have_it(tmp_path, case):
    (tmp_path / "split.csv").write_text(SPLIT_FILES[case], encoding="utf-8", newline="")
    people = {"a.png": "P1", "sub/b.png": "P2"}
    plan, _ = planned(
        tmp_path, list(people), GROUPED.format("patient"), lambda name: f",{people[name]}",
        split=str(tmp_path / "split.csv"),
    )  # fmt: skip
    assert plan.splits == {"P1": "test", "P2": "train"}


def test_a_split_file_may_name_patients_as_dicom_does(tmp_path):
    for i, name in enumerate(("anna", "berta")):
        write_series(tmp_path / f"scans/s{i}", as_image(head(seed=i)[0]), series=f"1.2.{i}", patient=name)
    (tmp_path / "split.csv").write_text("patient,split\nid ANNA,test\nID berta,train\n", encoding="utf-8")
    plan = plan_of(options(tmp_path, normals=True, split=str(tmp_path / "split.csv")))
    assert plan.splits == {"patient0001": "test", "patient0002": "train"}
    assert "anna" not in str(plan.info).lower()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("image,split\na.png,test\na,train\nb,train\n", "image a is in both the test and train splits"),
        ("image,split\na.png,test\n", "does not mention patient P2"),
        ("image,split\na.png,holdout\n", "line 2: the split 'holdout' is not one of train, val, test"),
        ("image,split\n,test\n", "line 2: the row names no image"),
        ("picture,split\na.png,test\n", "needs the columns patient .or image. and split; it has picture, split"),
        ("", "is empty; expected a header with the columns patient, split"),
    ],
)
def test_a_wrong_split_file_is_named(tmp_path, text, said):
    (tmp_path / "split.csv").write_text(text, encoding="utf-8")
    people = {"a.png": "P1", "b.png": "P2"}
    with pytest.raises(BadInput, match=rf"split\.csv.*{said}"):
        planned(
            tmp_path, list(people), GROUPED.format("patient"), lambda name: f",{people[name]}",
            split=str(tmp_path / "split.csv"),
        )  # fmt: skip


def test_a_scan_that_must_not_be_named_takes_no_others_name(tmp_path):
    for name in ("anna", "scan0001", "scan0002"):
        write_series(tmp_path / "scans" / name, as_image(head()[0]), series=f"1.2.{name}", patient="Anna")
    renamed = [scan.id for scan in renamed_scans(find_scans(tmp_path / "scans"), None)]
    assert renamed == ["scan0001-private", "scan0001", "scan0002"]


def test_scans_of_no_named_patient_are_counted(tmp_path):
    people = {"a.png": "p1", "b.png": "p2", "c.png": ""}
    plan, said = planned(tmp_path, list(people), GROUPED.format("patient"), lambda name: f",{people[name]}")
    assert not plan.by_patient
    assert "split by image, for 1 of 3 scans" in said


def test_scans_without_annotation_are_the_patients_of_their_folder(tmp_path):
    for name in ("f1/a.png", "f1/b.png", "f2/c.png", "f2/d.png"):
        picture(tmp_path / "scans" / name, BOX)
    boxes = rows(tmp_path, [f"f1/a.png,{BOX_TEXT},anna", f"f2/c.png,{BOX_TEXT},berta"], GROUPED.format("patient"))
    plan = plan_of(options(tmp_path, boxes=boxes, normals=True))
    assert {scan.relative: plan.patients[scan.id] for scan in plan.scans} == {
        "f1/a.png": "anna", "f1/b.png": "anna", "f2/c.png": "berta", "f2/d.png": "berta",
    }  # fmt: skip


def test_scans_without_annotation_are_the_patients_of_their_case(tmp_path):
    for name in ("a_t1.png", "a_t2.png", "b_t1.png", "b_t2.png"):
        picture(tmp_path / "scans" / name, BOX)
    boxes = rows(tmp_path, [f"a_t1.png,{BOX_TEXT},anna", f"b_t2.png,{BOX_TEXT},berta"], GROUPED.format("patient"))
    plan = plan_of(options(tmp_path, boxes=boxes, normals=True, modality="all"))
    assert {scan.relative: plan.patients[scan.id] for scan in plan.scans} == {
        "a_t1.png": "anna", "a_t2.png": "anna", "b_t1.png": "berta", "b_t2.png": "berta",
    }  # fmt: skip


def test_splits_that_are_not_asked_for_may_be_empty(tmp_path):
    _, said = planned(tmp_path, ["p1/a.png", "p1/b.png"], split="1,0,0")
    assert "empty" not in said


CASES = {  # files -> patients, the words that say how they are told apart
    "modalities": ([f"c{i}_{m}.png" for i in range(6) for m in ("t1", "t2")], 6, "split by image"),
    "modalities in a folder of images": (
        [f"images/c{i}_{m}.png" for i in range(6) for m in ("t1", "flair")],
        6,
        "image",
    ),
    "channels": ([f"imagesTr/c{i}_000{m}.png" for i in range(6) for m in range(3)], 6, "split by image"),
    "one modality alone": ([f"c{i}_t1.png" for i in range(6)], 6, "one file each"),
    "one name in two folders": ([f"{s}/1_{m}.png" for s in ("train", "test") for m in ("t1", "t2")], 2, "by image"),
    "folders of modalities": ([f"{m}/c{i}.png" for i in range(6) for m in ("T1", "T2", "flair")], 6, "by image"),
    "folders and names": ([f"{m}/c{i}_{m}.png" for i in range(6) for m in ("t1", "t2")], 6, "by image"),
    "folders of planes in those of splits": (
        [f"{s}/{m}/{i}.png" for s in ("train", "test") for m in ("axial", "coronal") for i in range(3)],
        6,
        "by image",
    ),
    "folders of kinds": ([f"{c}/{i}.png" for c in ("yes", "no") for i in range(4)], 8, "by image"),
    "folders of parts": ([f"{c}/{i}.png" for c in ("brain", "lung") for i in range(4)], 8, "by image"),
    "visits of subjects": ([f"sub-{i:02d}_ses-{k}_T1w.png" for i in range(6) for k in (1, 2)], 6, "one case each"),
    "slices of subjects": ([f"sub-P{i}_slice-{k}.png" for i in range(6) for k in range(3)], 6, "one case each"),
    "subjects in two folders": ([f"{s}/sub-{i}_{s}.png" for s in ("train", "test") for i in range(5)], 5, "case each"),
    "one scan of each subject": ([f"sub-{i}_T1w.png" for i in range(6)], 6, "one file each"),
    "what only begins so": ([f"subject-{i}_{k}.png" for i in range(3) for k in range(2)], 6, "one file each"),
    "dates behind a dash": ([f"p-{i}_2020.png" for i in range(6)], 6, "one file each"),
    "a folder each all the same": (
        [f"p{i}/c{i}_{m}.png" for i in range(6) for m in ("t1", "t2")],
        6,
        "one folder each",
    ),
}


@pytest.mark.parametrize("layout", CASES)
def test_scans_of_one_case_are_never_in_two_splits(tmp_path, layout):
    files, patients, word = CASES[layout]
    plan, said = planned(tmp_path, files, modality="all")
    assert len(set(plan.patients.values())) == patients
    assert word in said
    assert plan.by_patient == ("split by image" not in said)
