"""Classes of whole images: by folders in any order, by a CSV of any dialect, beside boxes, masks and normals."""

import json
import shutil
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from support.tiny_scans import BOX, SIDE, grey_volume, made, mask, options, picture, reported, rows, summed, volume
from typer.testing import CliRunner

from medaug_cli.cli import app
from medaug_cli.errors import BadInput, UsageError
from medaug_cli.preprocess.pipeline import preprocess
from medaug_cli.preprocess.plan import plan_of
from medaug_cli.store import open_store
from medaug_cli.store.joining import join_stores
from medaug_cli.store_summary import sentences, summary
from medaug_cli.study.subsets import subset
from medaug_cli.tasks.detection import Detection

KINDS = ("benign", "malignant")
PLAIN_OPTIONS = ["--strip", "none", "--denoise", "none", "--size", "32", "--workers", "1"]


def draw(folder, files):
    """Draw pictures that all differ."""
    for number, name in enumerate(files):
        x, y = number % (SIDE - 4), number // (SIDE - 4)
        picture(folder / "scans" / name, (x, y, x + 3, y + 3))
    return files


def classes_csv(folder, text):
    (folder / "labels.csv").write_text(text, encoding="utf-8")
    return str(folder / "labels.csv")


def told(plan):
    """Return the class of each scan by its path."""
    return {scan.relative: plan.class_of(scan) for scan in plan.scans}


LAYOUTS = {  # files of one class and of another -> patients
    "a folder a class": ("benign/b{i}.png", "malignant/m{i}.png", 12),
    "names of no known kind": ("astro/{i}.png", "epend/{i}.png", 12),
    "numbers": ("0/{i}.png", "1/{i}.png", 12),
    "stages outside": ("Training/yes/a{i}.png", "Testing/no/b{i}.png", 12),
    "a wrapper outside": ("data_v2/no_tumor/a{i}.png", "data_v2/glioma_tumor/b{i}.png", 6 * 2),
    "files inside": ("benign/images/a{i}.png", "malignant/images/b{i}.png", 12),
    "patients inside": ("benign/p{i}/a.png", "malignant/q{i}/a.png", 12),
    "patients outside": ("p{i}/benign/a.png", "q{i}/malignant/a.png", 12),
    "patients with both, outside": ("p{i}/benign/a.png", "p{i}/malignant/a.png", 6),
    "patients inside, of no known kind": ("A/p{i}/a.png", "B/q{i}/a.png", 12),
    "patients outside, numbers": ("{i}00/0/a.png", "{i}00/1/a.png", 6),
    "a known beside an unknown kind": ("benign/p{i}/a.png", "phyllodes/q{i}/a.png", 12),
    "parts of the body": ("brain/a{i}.png", "hand/b{i}.png", 12),
    "a part of the body outside": ("brain/astro/a{i}.png", "brain/epend/b{i}.png", 12),
    "series inside patients": ("benign/p{i}/s1/a.png", "malignant/q{i}/s1/a.png", 12),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_folder_that_is_the_class_is_found_and_is_no_patient(tmp_path, layout):
    first, second, patients = LAYOUTS[layout]
    one, two = ([form.format(i=i) for i in range(6)] for form in (first, second))
    draw(tmp_path, one + two)
    plan = plan_of(options(tmp_path, classes="folders"))
    differ = [{*first.split("/")} - {*second.split("/")}, {*second.split("/")} - {*first.split("/")}]
    names = [{told(plan)[name] for name in some} for some in (one, two)]
    assert all(len(own) == 1 and own <= parts for own, parts in zip(names, differ, strict=True))
    assert plan.info.class_names == sorted(names[0] | names[1])
    assert sum(sentence.startswith("classes: 6 ") for sentence in plan.sentences) == 1
    if layout != "a wrapper outside":  # a folder that may be a patient's, as ever
        assert len(set(plan.patients.values())) == patients


AMBIGUOUS = {  # files -> words
    "as many names outside as inside": (["a/c/1.png", "b/d/1.png"], "lies in the folders a and c"),
    "two words for kinds": (["mass/benign/1.png", "normal/2.png"], "lies in the folders mass and benign"),
    "of two depths": (["a/1.png", "b/p/2.png"], "lies in the folders b and p"),
    "no folder": (["1.png", "2.png"], "has no folder for each class"),
    "folders of files": (["train/1.png", "test/2.png"], "has no folder for each class"),
    "one known kind": (["benign/1.png", "benign/2.png"], "only one folder, benign, holds scans"),
    "one of no known kind": (["astro/1.png", "astro/2.png"], "only one folder, astro, holds scans"),
    "one, with patients": (["glioma/p1/1.png", "glioma/p2/2.png"], "only one folder, glioma, holds scans"),
    "one scan beside": (["a/1.png", "b/2.png", "3.png"], "1 of 3 scans lies in no folder of a class: 3.png"),
    "scans beside": (["a/1.png", "b/2.png", "3.png", "images/4.png"], "2 of 4 scans lie in no folder of a class"),
    "a blank name": ([" /1.png", "b/2.png"], "holds a folder with a blank name"),
}


@pytest.mark.parametrize("case", AMBIGUOUS)
def test_what_folders_do_not_tell_is_refused(tmp_path, case):
    files, words = AMBIGUOUS[case]
    draw(tmp_path, files)
    with pytest.raises(BadInput, match=words):
        plan_of(options(tmp_path, classes="folders"))


def test_an_empty_folder_does_not_count(tmp_path):
    draw(tmp_path, ["benign/1.png", "benign/2.png"])
    (tmp_path / "scans/malignant").mkdir()
    with pytest.raises(BadInput, match="only one folder, benign, holds scans"):
        plan_of(options(tmp_path, classes="folders"))


def test_folders_end_in_the_store_its_report_and_its_summary(tmp_path, monkeypatch):
    draw(tmp_path, [f"{kind}/{kind} ({i}).png" for kind in (*KINDS, "normal") for i in range(6)])
    monkeypatch.chdir(tmp_path)
    command = ["preprocess", "scans", "--classes", "folders", "--out", "out/real.h5", *PLAIN_OPTIONS]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[1].endswith("; classes: 6 benign, 6 malignant, 6 normal")
    assert "18 of 18 scans have a class, 18 patients" in done.stderr
    again = json.loads(CliRunner().invoke(app, [*command, "--resume", "--json"]).stdout)
    assert again["classes"] == {"benign": 6, "malignant": 6, "normal": 6}
    store = open_store(tmp_path / "out/real.h5")
    assert store.class_names == ["benign", "malignant", "normal"]
    assert all(
        store.class_names[number] in own["file"] for number, own in zip(store.classes, store.details, strict=True)
    )
    assert not store.annotated.any()  # nobody said where lesions are
    for number in range(3):  # every class is shared out
        assert Counter(store.splits[store.classes == number].tolist()) == {"train": 4, "val": 1, "test": 1}
    assert {each["image_class"] for each in reported(store)["slices"]} == set(store.class_names)
    assert "<td>malignant</td>" in (tmp_path / "out/preprocess.html").read_text(encoding="utf-8")
    assert "classes: 6 benign, 6 malignant, 6 normal" in sentences(summary(store))
    dry = CliRunner().invoke(app, [*command, "--dry-run"])
    assert "classes: 6 benign, 6 malignant, 6 normal" in dry.stderr


def test_folders_of_classes_are_pointed_out(tmp_path):
    draw(tmp_path, [f"{kind}/{i}.png" for kind in KINDS for i in range(3)])
    plan = plan_of(options(tmp_path, unannotated=True))
    assert any("--classes folders keeps them" in sentence for sentence in plan.sentences)
    assert plan.info.class_names == []
    plan = plan_of(options(tmp_path, classes="folders"))
    assert not any("--classes folders" in sentence for sentence in plan.sentences)


DIALECTS = {  # text of the CSV of a.png, b.png and c.png
    "plain": "image,class\na.png,x\nb.png,y\nc.png,x\n",
    "label": "filename,label\na,x\nb,y\nc,x\n",
    "semicolons": "image;class\na.png;x\nb.png;y\nc.png;x\n",
    "a mark of byte order": "\ufeffimage,class\na.png,x\nb.png,y\nc.png,x\n",
    "blanks": " Image Name , Class Name \n a.png , x \n b.png , y \n c.png , x \n",
    "tabs and blank rows": "image\tdiagnosis\na.png\tx\n\nb.png\ty\nc.png\tx\n",
    "excel's hint": "sep=;\nimage;class\na.png;x\nb.png;y\nc.png;x\n",
    "twice the same": "image,class\na.png,x\na.png,x\nb.png,y\nc.png,x\n",
    "whatever the case": "IMAGE,CLASS\nA.PNG,x\nb.png,y\nc.png,X\n",
    "columns that say more": "idx,image,dx,age\n1,a.png,x,3\n2,b.png,y,4\n3,c.png,x,5\n",
    "the image's before the box's": "image,label,class\na.png,cyst,x\nb.png,cyst,y\nc.png,mass,x\n",
}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_csv_of_any_dialect_is_read(tmp_path, dialect):
    draw(tmp_path, ["a.png", "b.png", "c.png"])
    plan = plan_of(options(tmp_path, classes=classes_csv(tmp_path, DIALECTS[dialect])))
    assert told(plan) == {"a.png": "x", "b.png": "y", "c.png": "x"}
    assert plan.info.class_names == ["x", "y"]
    assert plan.info.settings["classes"].endswith("labels.csv")
    assert "labels.csv" in plan.info.inputs


BAD = {  # text of the CSV of a.png and b.png -> words
    "two classes": ("image,class\na.png,x\na.png,y\nb.png,y\n", "line 3: image a.png has two classes, x and y"),
    "with and without a suffix": ("image,class\na.png,x\na,y\nb.png,y\n", "mentions a twice, under two names"),
    "in two cases": ("image,class\na.png,x\nA.png,y\nb.png,y\n", "mentions a twice, under two names"),
    "an unknown image": ("image,class\na.png,x\nb.png,y\nz.png,x\n", "mentions image 'z.png', which is not among"),
    "an empty class": ("image,class\na.png,x\nb.png,\n", "line 3: image b.png has an empty class"),
    "no number": ("image,class\na.png,x\nb.png,NaN\n", "line 3: image b.png has an empty class"),
    "a blank class": ("image,class\na.png,x\nb.png,  \n", "line 3: image b.png has an empty class"),
    "an image without a row": ("image,class\na.png,x\n", "1 of 2 scans has no class in .*labels.csv: b.png"),
    "no column for classes": ("image,age\na.png,3\n", "lacks the column class; it has image, age"),
    "no column for images": ("number,class\n1,x\n", "lacks the column image; it has number, class"),
    "no row": ("image,class\n", "names no image"),
    "nothing": ("", "is empty; expected a header with the columns image, class"),
    "a row too long": ("image,class\na.png,x,y\n", "line 2: 3 cells where the header has 2"),
    "no image in a row": ("image,class\n,x\n", "line 2: the row names no image"),
    "two patients": ("image,class,patient\na.png,x,p\na.png,x,q\n", "image a.png has two patients, p and q"),
    "a split of another name": ("image,class,split\na.png,x,train\nb.png,y,dev\n", "has the split 'dev'"),
    "a patient in two splits": (
        "image,class,patient,split\na.png,x,p,train\nb.png,y,p,test\n", "patient p is in both the train and test splits"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_a_csv_that_is_wrong_is_refused_in_a_sentence(tmp_path, case):
    text, words = BAD[case]
    draw(tmp_path, ["a.png", "b.png"])
    with pytest.raises(BadInput, match=words):
        plan_of(options(tmp_path, classes=classes_csv(tmp_path, text)))


def test_patients_and_splits_of_the_csv_are_heeded(tmp_path):
    draw(tmp_path, [f"{i}.png" for i in range(6)])
    lines = [f"{i}.png,{'xy'[i % 2]},g{i // 2},{('Training', 'val', 'test')[i // 2]}" for i in range(6)]
    path = classes_csv(tmp_path, "\n".join(["image,class,group,split", *lines]))
    plan = plan_of(options(tmp_path, classes=path, patient_column="group"))
    assert plan.splits == {"g0": "train", "g1": "val", "g2": "test"}
    assert plan.by_patient
    with pytest.raises(UsageError, match="--patient-column"):
        plan_of(options(tmp_path, classes="folders", patient_column="group"))


def test_a_class_may_be_called_none_and_a_number_is_no_patients_folder(tmp_path):
    draw(tmp_path, ["1/a.png", "2/b.png", "3/c.png"])
    plan = plan_of(options(tmp_path, classes=classes_csv(tmp_path, "image,class\na.png,none\nb.png,1\nc.png,3\n")))
    assert plan.info.class_names == ["1", "3", "none"]
    assert sorted(plan.patients.values()) == ["1", "2", "3"]


def test_scans_without_a_class_come_in_where_that_is_said(tmp_path):
    draw(tmp_path, ["a.png", "b.png", "c.png"])
    path = classes_csv(tmp_path, "image,class\na.png,x\nb.png,y\n")
    store = made(tmp_path, classes=path, unannotated=True)
    assert store.classes.tolist() == [0, 1, -1]
    assert store.splits[2] == "train"
    assert summed(store).classes == {"x": 1, "y": 1, "no class": 1}
    assert "classes: 1 x, 1 y, 1 without a class" in sentences(summary(store))


def test_boxes_and_classes_are_both_kept(tmp_path):
    for name, own in {"a": [BOX], "b": [BOX, (20, 20, 30, 30)], "c": [], "d": []}.items():
        picture(tmp_path / f"scans/{name}.png", *own)
    box = ",".join(map(str, BOX))
    boxes = rows(tmp_path, [f"a.png,{box},cyst", f"b.png,{box},mass", "b.png,20,20,30,30,cyst", "c.png,,,,"],
                 "image,x_min,y_min,x_max,y_max,label")  # fmt: skip
    path = classes_csv(tmp_path, "image,class\na.png,benign\nb.png,malignant\nc.png,normal\nd.png,normal\n")
    store = made(tmp_path, boxes=boxes, classes=path, split="1,0,0")
    assert [store.class_names[number] for number in store.classes] == ["benign", "malignant", "normal", "normal"]
    assert [len(own) for own in store.boxes] == [1, 2, 0, 0]
    assert store.spec.label_names == ("cyst", "mass")
    assert store.annotated.tolist() == [True, True, True, False]
    store = made(tmp_path, boxes=boxes, classes=path, split="1,0,0", normals=True, overwrite=True)
    assert store.annotated.all()
    assert summed(store).normals == 2


def test_masks_and_folders_are_both_kept(tmp_path):
    for kind in KINDS:
        for i in range(3):
            picture(tmp_path / f"scans/{kind}/{kind}{i}.png", BOX)
            mask(tmp_path / f"masks/{kind}{i}.png", BOX)
    picture(tmp_path / "scans/normal/n.png")
    store = made(tmp_path, masks=tmp_path / "masks", classes="folders", split="1,0,0")
    assert store.classes.tolist() == [0, 0, 0, 1, 1, 1, 2]
    assert store.annotated.tolist() == [True] * 6 + [False]
    assert [int(own.any()) for own in store.masks] == [1] * 6 + [0]


def test_the_boxes_csv_may_name_the_classes_itself(tmp_path):
    draw(tmp_path, ["a.png", "b.png"])
    lines = ["a.png,1,1,9,9,cyst,x", "b.png,1,1,9,9,mass,y"]
    header = "image,x_min,y_min,x_max,y_max,label,{}"
    plan = plan_of(options(tmp_path, boxes=rows(tmp_path, lines, header.format("image_class"))))
    assert told(plan) == {"a.png": "x", "b.png": "y"}
    boxes = rows(tmp_path, lines, header.format("class"))
    plan = plan_of(options(tmp_path, boxes=boxes, classes=str(boxes)))
    assert told(plan) == {"a.png": "x", "b.png": "y"}
    assert plan.info.label_names == ["cyst", "mass"]
    boxes = rows(tmp_path, [lines[0], "b.png,1,1,9,9,mass,"], header.format("image_class"))
    plan = plan_of(options(tmp_path, boxes=boxes))
    assert told(plan) == {"a.png": "x", "b.png": None}
    assert "classes: 1 x; 1 without a class" in plan.sentences
    boxes = rows(tmp_path, lines, header.format("image_class"))
    with pytest.raises(BadInput, match="scan a has the class y, but its boxes say x"):
        plan_of(options(tmp_path, boxes=boxes, classes=classes_csv(tmp_path, "image,class\na.png,y\nb.png,y\n")))


def test_splits_of_the_boxes_leave_scans_of_classes_to_be_shared_out(tmp_path):
    draw(tmp_path, [f"benign/b{i}.png" for i in range(4)] + [f"normal/n{i}.png" for i in range(20)])
    boxes = rows(tmp_path, [f"b{i}.png,1,1,9,9,{('train', 'val', 'test', 'train')[i]}" for i in range(4)],
                 "image,x_min,y_min,x_max,y_max,split")  # fmt: skip
    plan = plan_of(options(tmp_path, boxes=boxes, classes="folders", normals=True))
    assert [plan.splits[f"b{i}"] for i in range(4)] == ["train", "val", "test", "train"]
    assert Counter(plan.splits[f"n{i}"] for i in range(20)) == {"train": 14, "val": 2, "test": 4}


def test_slices_have_the_class_of_their_volume(tmp_path):
    volume(tmp_path / "scans/glioma/a.nii.gz", grey_volume())
    volume(tmp_path / "scans/normal/b.nii.gz", grey_volume(5))
    store = made(tmp_path, classes="folders", split="1,0,0")
    assert store.classes.tolist() == [0] * 6 + [1] * 5
    assert summed(store).classes == {"glioma": 6, "normal": 5}


def test_one_image_in_two_folders_is_refused_and_the_same_pixels_are_said(tmp_path):
    draw(tmp_path, ["benign/1.png", "benign/2.png", "malignant/3.png"])
    shutil.copy(tmp_path / "scans/benign/1.png", tmp_path / "scans/malignant/4.png")
    plan = plan_of(options(tmp_path, classes="folders"))
    assert "the same image lies in two classes: benign/1.png and malignant/4.png" in plan.sentences
    shutil.copy(tmp_path / "scans/benign/1.png", tmp_path / "scans/malignant/1.png")
    with pytest.raises(BadInput, match=r"benign/1\.png and malignant/1\.png are the same image in two classes"):
        plan_of(options(tmp_path, classes="folders"))


def test_spellings_of_one_class_are_one(tmp_path):
    draw(tmp_path, ["train/Benign/1.png", "test/benign/2.png", "train/Malignant/3.png"])
    plan = plan_of(options(tmp_path, classes="folders"))
    assert plan.info.class_names == ["Malignant", "benign"]
    assert "benign and Benign are treated as one class" in plan.sentences


def test_wrong_uses_are_refused(tmp_path):
    draw(tmp_path, ["a.png"])
    with pytest.raises(BadInput, match=r"--classes .*none\.csv does not exist; give a CSV file, or `folders`"):
        plan_of(options(tmp_path, classes=str(tmp_path / "none.csv")))
    with pytest.raises(BadInput, match="is a folder"):
        plan_of(options(tmp_path, classes=str(tmp_path / "scans")))
    with pytest.raises(UsageError, match="--classes"):
        plan_of(options(tmp_path))


def test_a_single_class_of_a_csv_is_said(tmp_path):
    draw(tmp_path, ["a.png", "b.png"])
    plan = plan_of(options(tmp_path, classes=classes_csv(tmp_path, "image,class\na.png,x\nb.png,x\n")))
    assert "all scans are of one class, x" in plan.sentences


def test_classes_follow_scans_to_their_pseudonyms(tmp_path):
    draw(tmp_path, ["b/1.png", "b/2.png", "m/3.png"])
    (tmp_path / "key").write_bytes(b"0123456789abcdef")
    store = made(tmp_path, classes="folders", key=tmp_path / "key", split="1,0,0")
    assert store.class_names == ["b", "m"]
    assert sorted(store.classes.tolist()) == [0, 0, 1]
    assert not any("png" in own["file"] for own in store.details)


def test_a_store_of_other_classes_is_no_finished_work(tmp_path):
    draw(tmp_path, ["a.png", "b.png"])
    path = classes_csv(tmp_path, "image,class\na.png,x\nb.png,y\n")
    store = made(tmp_path, classes=path)
    assert made(tmp_path, classes=path, resume=True).hash == store.hash
    classes_csv(tmp_path, "image,class\na.png,y\nb.png,x\n")
    with pytest.raises(UsageError, match="with other settings"):
        made(tmp_path, classes=path, resume=True)


def test_a_share_of_the_training_patients_keeps_classes(tmp_path):
    for i in range(8):
        picture(tmp_path / f"scans/{KINDS[i % 2]}/{i}.png", BOX, (20, 20, 22 + i, 30))
        mask(tmp_path / f"masks/{i}.png", BOX)
    store = made(tmp_path, masks=tmp_path / "masks", classes="folders")
    part = subset(store, Detection(), 0.5, 0, tmp_path / "half/real.h5")
    assert 0 < len(part) < len(store)
    assert part.class_names == store.class_names
    assert {own.id: own.image_class for own in map(part.record, range(len(part)))}.items() <= {
        own.id: own.image_class for own in map(store.record, range(len(store)))
    }.items()


def test_joined_parts_keep_classes(tmp_path):
    draw(tmp_path, [f"{kind}/{kind}{i}.png" for kind in KINDS for i in range(4)])
    whole = made(tmp_path, classes="folders")
    paths = []
    for part in range(2):
        chosen = options(tmp_path, classes="folders", num_parts=2, part_id=part)
        own = preprocess(replace(chosen, out=tmp_path / f"part{part}/real.h5", workers=1))
        paths.append(own.path)
    joined = join_stores(paths, tmp_path / "joined/real.h5")
    assert joined.classes.tolist() == whole.classes.tolist()
    assert joined.class_names == list(KINDS)
    assert np.array_equal(joined.splits, whole.splits)


def test_labels_that_are_spelt_alike_stay_apart_and_are_said(tmp_path):
    names = draw(tmp_path, [f"{i}.png" for i in range(4)])
    lines = [
        f"{name},8,6,18,16,{label}" for name, label in zip(names, ("Mass", "mass", "left  cyst", "cyst"), strict=True)
    ]
    boxes = rows(tmp_path, lines, "image,x_min,y_min,x_max,y_max,label")
    plan = plan_of(options(tmp_path, boxes=boxes))
    assert plan.info.label_names == ["Mass", "cyst", "left  cyst", "mass"]
    assert [said for said in plan.sentences if "different labels" in said] == [
        "Mass and mass are different labels; if they are one, write them alike, or give all one with --label"
    ]
    assert not any(
        "different labels" in said
        for said in plan_of(
            replace(options(tmp_path, boxes=boxes), recipe=replace(options(tmp_path).recipe, label="mass"))
        ).sentences
    )


def test_more_names_than_a_mask_can_tell_are_refused(tmp_path):
    draw(tmp_path, ["a.png", "b.png"])
    for name in "ab":
        mask(tmp_path / f"set/labelsTr/{name}.png", BOX)
    for count in (300, 255):
        labels = {"background": 0} | {f"label {i}": i for i in range(1, count + 1)}
        (tmp_path / "set/dataset.json").write_text(json.dumps({"labels": labels}), encoding="utf-8")
        chosen = options(tmp_path, masks=tmp_path / "set/labelsTr")
        if count > 255:
            with pytest.raises(BadInput, match=r"masks name 300 labels; a store holds up to 255.*--label"):
                plan_of(chosen)
            chosen = replace(chosen, recipe=replace(chosen.recipe, label="lesion"))
        assert len(plan_of(chosen).recipe.mask_names) == (0 if count > 255 else 255)
