"""Which mask belongs to which scan, in layouts that people have: right pairs, what is left over, what is refused."""

import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from thoroughness import examples

from medaug_cli.errors import BadInput, UsageError
from medaug_cli.scans.mask_names import MaskIndex, Named, is_mask_name
from medaug_cli.scans.pairing import pair_masks
from medaug_cli.scans.survey import of_one_kind, survey

LAYOUTS = {  # files, SCANS, MASKS, {scan: its masks}
    "same stem in another folder": (
        "scans/a.png scans/b.png masks/a.png masks/b.png", "scans", "masks", {"a": ["a"], "b": ["b"]}),
    "only one is annotated": (
        "p1/s_1.png p1/s_2.png p1/s_3.png p1/s_3_mask.png p2/s_3.png", ".", ".", {"p1/s_3": ["s_3_mask"]}),
    "numbers that begin alike": (
        "x_1.tif x_1_mask.tif x_10.tif x_10_mask.tif x_11.tif x_11_mask.tif", ".", ".",
        {"x_1": ["x_1_mask"], "x_10": ["x_10_mask"], "x_11": ["x_11_mask"]}),
    "BUSI": (
        "benign (1).png|benign (1)_mask.png|benign (1)_mask_1.png|benign (1)_mask_2.png|benign (11).png|"
        "benign (11)_mask.png", ".", ".",
        {"benign (1)": ["benign (1)_mask", "benign (1)_mask_1", "benign (1)_mask_2"],
         "benign (11)": ["benign (11)_mask"]}),
    "ten parts keep their order": (
        "a.png a_mask_10.png a_mask_2.png a_mask_1.png", ".", ".", {"a": ["a_mask_1", "a_mask_2", "a_mask_10"]}),
    "LiTS": (
        "volume-0.nii volume-1.nii volume-10.nii segmentation-0.nii segmentation-1.nii segmentation-10.nii", ".", ".",
        {"volume-0": ["segmentation-0"], "volume-1": ["segmentation-1"], "volume-10": ["segmentation-10"]}),
    "BTCV": ("img/img0001.nii.gz label/label0001.nii.gz", "img", "label", {"img0001": ["label0001"]}),
    "BraTS 2021": (
        "B_1/B_1_t1ce.nii.gz B_1/B_1_seg.nii.gz B_2/B_2_t1ce.nii.gz B_2/B_2_seg.nii.gz", ".", ".",
        {"B_1/B_1_t1ce": ["B_1_seg"], "B_2/B_2_t1ce": ["B_2_seg"]}),
    "BraTS 2023": (
        "BraTS-GLI-1-0/BraTS-GLI-1-0-t1c.nii.gz BraTS-GLI-1-0/BraTS-GLI-1-0-seg.nii.gz", ".", ".",
        {"BraTS-GLI-1-0/BraTS-GLI-1-0-t1c": ["BraTS-GLI-1-0-seg"]}),
    "nnU-Net": (
        "imagesTr/c_0000.nii.gz imagesTr/d_0000.nii.gz labelsTr/c.nii.gz labelsTr/d.nii.gz", "imagesTr", "labelsTr",
        {"c_0000": ["c"], "d_0000": ["d"]}),
    "nnU-Net, pictures": (
        "imagesTr/c_0000.png imagesTr/d_0000.png labelsTr/c.png labelsTr/d.png", "imagesTr", "labelsTr",
        {"c_0000": ["c"], "d_0000": ["d"]}),
    "nnU-Net, from the folder above": (
        "imagesTr/c_0000.nii.gz labelsTr/c.nii.gz dataset.json", ".", ".", {"imagesTr/c_0000": ["c"]}),
    "MSD": (
        "imagesTr/lung_001.nii.gz imagesTr/lung_003.nii.gz labelsTr/lung_001.nii.gz", "imagesTr", "labelsTr",
        {"lung_001": ["lung_001"]}),
    "KiTS": (
        "case_0/imaging.nii.gz case_0/segmentation.nii.gz case_1/imaging.nii.gz case_1/segmentation.nii.gz", ".", ".",
        {"case_0/imaging": ["case_0/segmentation"], "case_1/imaging": ["case_1/segmentation"]}),
    "a folder a case, a file a mask": (
        "scans/c1/image.nii.gz scans/c2/image.nii.gz masks/c1.nii.gz masks/c2.nii.gz", "scans", "masks",
        {"c1/image": ["c1"], "c2/image": ["c2"]}),
    "two visits in a folder": (
        "1/Pre_Scan_T1.nii.gz 1/Pre_Mask.nii.gz 1/Post_Scan_T1.nii.gz 1/Post_Mask.nii.gz", ".", ".",
        {"1/Pre_Scan_T1": ["Pre_Mask"], "1/Post_Scan_T1": ["Post_Mask"]}),
    "images/ and masks/ from the folder above": (
        "images/a.png images/b.png masks/a.png masks/b.png", ".", ".",
        {"images/a": ["masks/a"], "images/b": ["masks/b"]}),
    "images/ and masks/ of each split": (
        "train/images/a.jpg train/masks/a.jpg test/images/a.jpg test/masks/a.jpg", ".", ".",
        {"train/images/a": ["train/masks/a"], "test/images/a": ["test/masks/a"]}),
    "masks/ below the scans": ("a.png b.png masks/a.png masks/b.png", ".", "masks", {"a": ["a"], "b": ["b"]}),
    "BUS-BRA": (
        "Images/bus_0001-l.png Images/bus_0001-r.png Masks/mask_0001-l.png Masks/mask_0001-r.png", "Images", "Masks",
        {"bus_0001-l": ["mask_0001-l"], "bus_0001-r": ["mask_0001-r"]}),
    "ISIC": (
        "Training_Input/ISIC_1.jpg Training_GroundTruth/ISIC_1_segmentation.png", "Training_Input",
        "Training_GroundTruth", {"ISIC_1": ["ISIC_1_segmentation"]}),
    "PROMISE12": ("Case00.mhd Case00_segmentation.mhd", ".", ".", {"Case00": ["Case00_segmentation"]}),
    "ACDC": (
        "patient1/patient1_frame01.nii.gz patient1/patient1_frame01_gt.nii.gz", ".", ".",
        {"patient1/patient1_frame01": ["patient1_frame01_gt"]}),
    "Slicer": ("scans/c1.nrrd masks/c1.seg.nrrd", "scans", "masks", {"c1": ["c1.seg"]}),
    "Slicer's own names": (
        "p1/CT.nrrd p1/Segmentation.seg.nrrd p2/CT.nrrd p2/Segmentation.seg.nrrd", ".", ".",
        {"p1/CT": ["p1/Segmentation.seg"], "p2/CT": ["p2/Segmentation.seg"]}),
    "words before the word": ("a.nii a_lesion_mask.nii b.nii b_manual_seg.nii", ".", ".",
        {"a": ["a_lesion_mask"], "b": ["b_manual_seg"]}),
    "capitals": ("Case1.png CASE1_Mask.PNG case2.png case2Mask.png", ".", ".",
        {"Case1": ["CASE1_Mask"], "case2": ["case2Mask"]}),
    "masks in one folder, scans in many": (
        "scans/p1/a.png scans/p2/b.png masks/a.png masks/b.png", "scans", "masks", {"p1/a": ["a"], "p2/b": ["b"]}),
    "names of the store": ("scans/p1/a.png scans/p2/a.png kept/p1-a.png kept/p2-a.png", "scans", "kept",
        {"p1/a": ["p1-a"], "p2/a": ["p2-a"]}),
    "the whole name before the case's": (
        "p1.nii p1_flair.nii p1_seg.nii p2.nii p2_flair.nii p2_flair_seg.nii", ".", ".",
        {"p1": ["p1_seg"], "p2_flair": ["p2_flair_seg"]}),
    "the folder of the patient": (
        "scans/P1/study/t.nii scans/P2/study/u.nii masks/P1.nii masks/P2_seg.nii", "scans", "masks",
        {"P1/study/t": ["P1"], "P2/study/u": ["P2_seg"]}),
    "a word for the lesion": ("a.nii a_lesion.nii b.nii b-tumour.nii lesion_1.nii", ".", ".",
        {"a": ["a_lesion"], "b": ["b-tumour"]}),
    "composed and decomposed letters": (
        "scans/Scha\u0308del.nii masks/Sch\u00e4del_mask.nii", "scans", "masks",
        {"Scha\u0308del": ["Sch\u00e4del_mask"]}),
    "BIDS": (
        "sub-1/ses-1/anat/sub-1_ses-1_T1w.nii.gz sub-1/ses-1/anat/sub-1_ses-1_label-L_desc-T1lesion_mask.nii.gz "
        "sub-2/ses-1/anat/sub-2_ses-1_T1w.nii.gz sub-2/ses-1/anat/sub-2_ses-1_label-L_desc-T1lesion_mask.nii.gz",
        ".", ".",
        {"sub-1/ses-1/anat/sub-1_ses-1_T1w": ["sub-1_ses-1_label-L_desc-T1lesion_mask"],
         "sub-2/ses-1/anat/sub-2_ses-1_T1w": ["sub-2_ses-1_label-L_desc-T1lesion_mask"]}),
    "BIDS, derivatives": (
        "rawdata/sub-1/dwi/sub-1_dwi.nii.gz derivatives/lesions/sub-1/dwi/sub-1_msk.nii.gz", "rawdata", "derivatives",
        {"sub-1/dwi/sub-1_dwi": ["sub-1_msk"]}),
    "ISLES 2024": (
        "raw/sub-1/ses-02/sub-1_ses-02_dwi.nii.gz d/sub-1/ses-02/sub-1_ses-02_space-ncct_lesion-msk.nii.gz", "raw", "d",
        {"sub-1/ses-02/sub-1_ses-02_dwi": ["sub-1_ses-02_space-ncct_lesion-msk"]}),
    "the scan's own name holds a word for masks": (
        "scans/label_free_1.png scans/label_free_2.png masks/label_free_1.png masks/label_free_2.png", "scans", "masks",
        {"label_free_1": ["label_free_1"], "label_free_2": ["label_free_2"]}),
}  # fmt: skip

AMBIGUOUS = {  # files, SCANS, MASKS, both names
    "two scans of one name": ("scans/p1/a.png scans/p2/a.png masks/a.png", "scans", "masks", ("p1/a.png", "p2/a.png")),
    "two masks of one scan": ("a.png a_mask.png a_seg.png", ".", ".", ("a_mask.png", "a_seg.png")),
    "two suffixes": ("scans/a.nii.gz masks/a.nii masks/a.nii.gz", "scans", "masks", ("a.nii", "a.nii.gz")),
    "two readers": ("s/a.png m/mask-0/a.png m/mask-1/a.png", "s", "m", ("mask-0/a.png", "mask-1/a.png")),
    "two words for images": ("image_1.png scan_1.png mask_1.png", ".", ".", ("image_1.png", "scan_1.png")),
    "two series of a patient": (
        "s/P1/a/t.nii s/P1/b/u.nii m/P1.nii", "s", "m", ("P1/a/t.nii", "P1/b/u.nii")),
    "two runs": (
        "sub-1_run-1_T1w.nii.gz sub-1_run-2_T1w.nii.gz sub-1_label-L_mask.nii.gz", ".", ".",
        ("sub-1_run-1_T1w", "sub-1_run-2_T1w")),
    "a number of a part or of a slice": (
        "slice.png slice_3.png slice_mask_3.png slice_3_mask.png", ".", ".", ("slice_mask_3.png", "slice_3")),
}  # fmt: skip

NEVER = {  # a mask here is of another scan, or of none: files, SCANS, MASKS
    "the only one": ("scans/a.png scans/b.png masks/c.png", "scans", "masks"),
    "the only one in its folder": ("P1/t.nii P1/segmentation.nii P2/u.nii", ".", "."),
    "of tissue": ("sub-1_T1w.nii.gz sub-1_label-GM_mask.nii.gz", ".", "."),
    "the only one, called mask": ("images/a.png masks/mask.png", "images", "masks"),
    "the only one, in the folder above": ("images/a.png masks/mask.png", ".", "."),
    "the most alike": ("scans/case_1.png masks/case_12.png masks/case_2_mask.png", "scans", "masks"),
    "of another patient": ("scans/p1/a.png masks/p2/a.png", "scans", "masks"),
    "a volume of a picture": ("scans/a.png masks/a.nii.gz", "scans", "masks"),
    "of a brain": ("sub-1_T1w.nii.gz sub-1_desc-brain_mask.nii.gz", ".", "."),
    "no word for masks beside the scan": ("a.png a_old.png a2.png", ".", "."),
}


STEMS = st.builds(
    "{}{}{}{}".format,
    st.sampled_from(("a", "Case", "p1", "t1", "us", "ct", "scan", "img", "x")),
    st.sampled_from(("", "_", "-", " ", ".")),
    st.sampled_from(("1", "01", "10", "100", "b", "t1c", "(1)", "(11)", "0000")),
    st.sampled_from(("", "_1", "-2", "_flair", " x")),
)
WORDS = ("{}", "{}_mask", "{}-seg", "{}.seg", "{}_gt", "{} label", "{}_Segmentation", "{}_lesion_mask", "mask_{}")


@examples(100, deadline=None)
@given(st.lists(STEMS, min_size=1, max_size=8, unique_by=str.casefold), st.data())
def test_a_mask_is_of_the_scan_whose_name_it_carries_whatever_the_names(stems, data):
    assume(not any(is_mask_name(stem) for stem in stems))
    index = MaskIndex([Named((), stem, True, stem) for stem in stems])
    for number, stem in enumerate(stems):
        called = data.draw(st.sampled_from(WORDS)).format(stem)
        assert index.of(Named((), called, True, called)) == ([number], None), called


def laid_out(folder, files, scans, masks):
    """Make empty files; return the folders of scans and of masks."""
    for name in files.split("|" if "|" in files else None):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder / scans, folder / masks


def paired(scans, masks, say=lambda sentence: None):
    found = survey(scans, say, marks=[masks]).scans
    return found, pair_masks(masks, found, say)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_scan_gets_the_mask_of_its_name(tmp_path, layout):
    files, scans, masks, wanted = LAYOUTS[layout]
    found, pairs = paired(*laid_out(tmp_path, files, scans, masks))
    names = {scan.id: scan.name for scan in found}
    got = {names[key]: [mask.relative_to(tmp_path).as_posix() for mask in own] for key, own in pairs.masks.items()}
    assert set(got) == set(wanted)
    for scan, own in got.items():
        for path, end in zip(own, wanted[scan], strict=True):
            assert re.sub(r"(\.nii)?\.\w+$", "", path).endswith(end)
            assert path in [one.removeprefix("./") for one in (files.split("|") if "|" in files else files.split())]
    assert not {scan.path for scan in found} & {mask for own in pairs.masks.values() for mask in own}


@pytest.mark.parametrize("layout", AMBIGUOUS)
def test_what_may_be_two_is_refused_with_both_names(tmp_path, layout):
    files, scans, masks, names = AMBIGUOUS[layout]
    with pytest.raises(BadInput) as refused:
        paired(*laid_out(tmp_path, files, scans, masks))
    assert all(name in str(refused.value) for name in names)


@pytest.mark.parametrize("layout", NEVER)
def test_a_mask_is_never_given_to_a_scan_whose_name_it_does_not_carry(tmp_path, layout):
    with pytest.raises(BadInput, match="holds no mask with the name of a scan"):
        paired(*laid_out(tmp_path, *NEVER[layout]))


def test_what_is_left_over_is_said(tmp_path):
    said = []
    files = "a.png b.png c.png d.png e.png a_mask.png x_mask.png sub/y_mask.png"
    _, pairs = paired(*laid_out(tmp_path, files, ".", "."), said.append)
    assert pairs.unclaimed == ["sub/y_mask.png", "x_mask.png"]
    assert said == [
        "3 files are masks by folder or name, not scans: a_mask.png, sub/y_mask.png, x_mask.png",
        "4 of 5 scans have no mask: b.png, c.png, d.png and 1 more",
    ]


def test_public_sets_have_masks_that_are_of_no_scan(tmp_path):
    files = (
        "case_0/imaging.nii.gz case_0/segmentation.nii.gz case_0/instances/kidney_instance-1_annotation-1.nii.gz "
        "B_355/B_355_t1ce.nii.gz B_355/W39_1998.09.19_Segm.nii.gz sub-1_T1w.nii.gz sub-1_desc-brain_mask.nii.gz"
    )
    found, pairs = paired(*laid_out(tmp_path, files, ".", "."))
    assert sorted(scan.name for scan in found) == ["B_355/B_355_t1ce", "case_0/imaging", "sub-1_T1w"]
    assert pairs.unclaimed == [
        "B_355/W39_1998.09.19_Segm.nii.gz", "case_0/instances/kidney_instance-1_annotation-1.nii.gz",
        "sub-1_desc-brain_mask.nii.gz",
    ]  # fmt: skip
    assert [[scan.name for scan in found if scan.id == key] for key in pairs.masks] == [["case_0/imaging"]]


def test_a_mask_in_a_format_that_is_not_read_is_named(tmp_path):
    files = "s/a.png s/b.png s/c.png m/a.png m/b_mask.gif m/c.npy m/c.json m/other.npy"
    scans, masks = laid_out(tmp_path, files, "s", "m")
    _, pairs = paired(scans, masks)
    assert list(pairs.masks) == ["a"]
    assert pairs.unread == ["b_mask.gif", "c.npy"]
    (masks / "a.png").unlink()
    with pytest.raises(BadInput, match=r"b_mask\.gif is a mask in an unknown format; the choices are "):
        paired(scans, masks)


def test_links_are_where_they_stand(tmp_path):
    laid_out(tmp_path, "store/1.nii store/2.nii store/3.nii", ".", ".")
    for name, target in {"c/c_t1.nii": 1, "c/c_t2.nii": 2, "c/masks/c.nii": 3}.items():
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / name).symlink_to(tmp_path / f"store/{target}.nii")
    data, said = tmp_path / "data", []
    for masks in (data, data / "c/masks"):
        found = survey(data, said.append, modality="t1", marks=[masks]).scans
        assert [scan.name for scan in found] == ["c/c_t1"]
        pairs = pair_masks(masks, found)
        assert [mask.name for (mask,) in pairs.masks.values()] == ["c.nii"]
        assert not pairs.unclaimed


def test_masks_beside_scans_are_no_scans_where_none_are_given(tmp_path):
    laid_out(tmp_path, "a.png a_mask.png roi_1.png data/images/b.png data/masks/b.png", ".", ".")
    assert sorted(scan.relative for scan in survey(tmp_path).scans) == ["a.png", "data/images/b.png", "roi_1.png"]


@pytest.mark.parametrize(
    ("files", "annotated", "kept", "said"),
    [
        ("c1.nii c2.nii montage.png", {"c1"}, ["c1", "c2"], "a picture beside volumes is left out: montage.png"),
        ("c1.nii c1.png c2.nii c2.png", {"c1"}, ["c1", "c2"], "2 pictures beside volumes are left out: c1.png, c2.png"),
        ("a.png b.png atlas.nii", {"b"}, ["a", "b"], "a volume beside pictures is left out: atlas.nii"),
        ("p1/t1.nii p1/t1.jpg p1/snap.jpg", {"p1/t1"}, ["p1/t1"], "a picture beside volumes is left out: p1/snap.jpg"),
    ],
)
def test_previews_beside_scans_are_left_out(tmp_path, files, annotated, kept, said):
    laid_out(tmp_path, files, ".", ".")
    heard = []
    found = survey(tmp_path, heard.append).scans
    scans, _ = of_one_kind(found, {scan.id for scan in found if scan.name in annotated}, heard.append)
    assert [scan.name for scan in scans] == kept
    assert heard[-1] == said


def test_pictures_and_volumes_that_are_annotated_are_to_be_kept_apart(tmp_path):
    laid_out(tmp_path, "a.png b.nii", ".", ".")
    found = survey(tmp_path).scans
    for annotated in ({"a", "b"}, set()):
        with pytest.raises(UsageError, match=r"a\.png is a picture and b\.nii a volume; move one kind away"):
            of_one_kind(found, annotated, lambda sentence: None)


def test_one_file_is_the_mask_of_one_scan(tmp_path):
    scans, mask = laid_out(tmp_path, "scans/a.png scans/b.png other.png", "scans", "other.png")
    found = survey(scans).scans
    with pytest.raises(UsageError, match="is a single mask, but there are 2 scans"):
        pair_masks(mask, found)
    assert pair_masks(mask, found[:1]).masks == {"a": (mask,)}


def test_brain_masks_may_be_called_so(tmp_path):
    names = "a.nii.gz b.nii.gz c.nii.gz m/a_brain_mask.nii.gz m/b_brainmask.nii.gz m/c_bet.nii.gz"
    scans, masks = laid_out(tmp_path, names, ".", "m")
    found = survey(scans, marks=[masks]).scans
    assert {key: own[0].name for key, own in pair_masks(masks, found, brain=True).masks.items()} == {
        "a": "a_brain_mask.nii.gz", "b": "b_brainmask.nii.gz", "c": "c_bet.nii.gz",
    }  # fmt: skip
