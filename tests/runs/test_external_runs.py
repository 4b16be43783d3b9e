"""Training beside images from elsewhere and images that nobody annotated: what is learnt from, refused and noted."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import make_records, make_store
from safetensors.torch import load_file
from typer.testing import CliRunner

from medaug_cli.boxes import digest_patient
from medaug_cli.cli import app
from medaug_cli.errors import BadInput, UsageError
from medaug_cli.runs import RunOptions, train_detector, train_generator, train_network
from medaug_cli.runs.beside import External
from medaug_cli.store import generator_examples
from medaug_cli.store.external import Beside
from medaug_cli.tasks.classification import Classification
from medaug_plugins import inpaint, regions
from medaug_plugins.hosts import lesion_weights

BOXGAN = {"latent": 4, "base": 16, "max_maps": 4, "embedding": 2, "batch": 4, "r1_every": 2}
PGGAN = {"latent": 4, "base": 16, "max_maps": 4, "batches": "4:4"}


def unannotated(record):
    return replace(record, boxes=record.boxes[:0], labels=[], annotated=False)


def elsewhere(n=6, seed=9, known=False, **changes):
    """Return images of other patients, with or without their annotations."""
    for record in make_records(n=n, seed=seed):
        other = replace(record, id=f"w{record.id}", patient=f"w{record.patient}", split="train", source="external:web")
        yield replace(other if known else unannotated(other), **changes)


@pytest.fixture
def real(tmp_path):
    """Return a store of 24 images, 16 of the training split, of which two of the four patients are annotated."""
    records = [unannotated(r) if r.patient in ("p0", "p1") else r for r in make_records()]
    return make_store(tmp_path / "real.h5", records)


@pytest.fixture
def web(tmp_path):
    return make_store(tmp_path / "web.h5", elsewhere())


def fit(real, out, name="boxgan", settings=BOXGAN, kimg=0.016, external=(), said=None, resume=False, **how):
    run = RunOptions(
        out, settings, device="cpu", precision="32", checkpoint_seconds=0, resume=resume,
        announce=(lambda sentence: None) if said is None else said.append,
    )  # fmt: skip
    return train_generator(real.path, name, run, kimg, external=External([each.path for each in external], **how))


def card(folder):
    return json.loads((folder / "generator.json").read_text(encoding="utf-8"))


def test_the_weights_give_others_their_share_of_a_batch(real, web):
    alone = generator_examples(real)
    assert alone.annotated.all()
    assert len(alone) == 8
    data = generator_examples(real, unannotated=True)
    assert (len(data), data.annotated.sum()) == (16, 8)
    assert data.weights[~data.annotated].sum() == pytest.approx(0.5)
    data = generator_examples(real, unannotated=True, beside=Beside([web], share=0.3, anneal=0.5))
    assert (len(data), data.annotated.sum()) == (22, 8)
    assert data.weights[~data.annotated].sum() == pytest.approx(0.3)
    for fraction, share in ((0.5, 0.3), (0.75, 0.15), (1.0, 0.0)):
        data.at(fraction)
        assert data.weights[~data.annotated].sum() == pytest.approx(share)
        assert data.weights.sum() == pytest.approx(1)
    hidden = int(np.flatnonzero(~data.annotated)[0])
    condition = data.condition(hidden)
    assert (len(data.boxes[hidden]), len(condition.boxes), condition.mask, condition.image_class) == (0, 0, None, -1)
    assert len(generator_examples(real, unannotated=True, beside=Beside(share=0.0))) == 8


def test_noisy_labels_are_used_only_where_that_is_said(tmp_path, real):
    web = make_store(tmp_path / "web.h5", elsewhere(known=True))
    told = generator_examples(real, unannotated=True, beside=Beside([web], labelled=True))
    assert told.annotated.sum() == 8 + 6
    untold = generator_examples(real, unannotated=True, beside=Beside([web]))
    assert untold.annotated.sum() == 8
    assert sum(map(len, untold.boxes)) == 8


def test_labels_of_another_order_keep_their_meaning(tmp_path):
    names = ("cyst", "tumour")
    real = make_store(tmp_path / "real.h5", make_records(n=6, labels=names), labels=names)
    own = [replace(r, labels=["tumour"]) for r in elsewhere(known=True)]
    web = make_store(tmp_path / "web.h5", own, labels=("tumour", "wart"))
    data = generator_examples(real, beside=Beside([web], labelled=True))
    assert [data.condition(i).labels.tolist() for i in range(4, 10)] == [[1]] * 6
    wart = make_store(tmp_path / "wart.h5", [replace(r, labels=["wart"]) for r in own], labels=("wart",))
    with pytest.raises(BadInput, match=r"label 'wart', and .*has cyst, tumour; .*--label"):
        generator_examples(real, beside=Beside([wart], labelled=True))


def test_boxgan_learns_beside_them_and_its_card_names_all(tmp_path, real, web):
    said = []
    folder = fit(real, tmp_path / "gan", external=[web], share=0.5, said=said)
    words = "boxgan on 8 images of 2 training patients, beside 14 images (6 external, 14 without annotation; 50 % of a"
    assert words in said[0]
    found = card(folder)
    assert found["unannotated_images"] == 14
    (part,) = found["external"]
    assert part == {
        "hash": web.hash,
        "names": ["web"],
        "images": 6,
        "annotated": 0,
        "share": pytest.approx(0.5 * 6 / 14, abs=1e-3),
    }
    for patient in ("p0", "p3", "wp5"):
        assert digest_patient(patient) in found["training_patients"]


@pytest.mark.parametrize(("name", "settings"), [("boxgan", BOXGAN), ("pggan", PGGAN)])
def test_a_resumed_run_beside_them_equals_one_that_was_not_stopped(tmp_path, real, web, name, settings):
    how = {"name": name, "settings": settings, "external": [web], "anneal": 0.5}
    stopped = tmp_path / "stopped"

    class Stop(Exception):
        pass

    def stop(progress):
        raise Stop

    run = RunOptions(stopped, settings, device="cpu", precision="32", checkpoint_seconds=0, report=stop)
    external = External([web.path], anneal=0.5)
    with pytest.raises(Stop):  # at the first log, after ten steps or at the end
        train_generator(real.path, name, run, 0.048, external=external)
    kept = sorted((tmp_path / "stopped.parts/checkpoints").glob("*.pt"))
    assert kept
    fit(real, stopped, kimg=0.048, resume=True, **how)
    other = fit(real, tmp_path / "other", kimg=0.048, **how)
    first, second = (load_file(each / "generator.safetensors") for each in (stopped, other))
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_who_is_told_nothing_learns_from_a_store_without_any_annotation(tmp_path):
    store = make_store(tmp_path / "archive.h5", [unannotated(replace(r, split="train")) for r in make_records(n=6)])
    said = []
    folder = fit(store, tmp_path / "gan", "pggan", PGGAN, said=said)
    assert "pggan on 6 images of 6 training patients, 16x16" in said[0]
    assert card(folder)["unannotated_images"] == 6
    with pytest.raises(BadInput, match="no annotated image in the training split"):
        fit(store, tmp_path / "other")


def test_a_run_goes_on_only_with_the_same_stores(tmp_path, real, web):
    fit(real, tmp_path / "gan", external=[web])
    with pytest.raises(UsageError, match="external"):
        fit(real, tmp_path / "gan", resume=True)
    with pytest.raises(UsageError, match="that is the store itself"):
        fit(real, tmp_path / "other", external=[real])


def test_who_learns_from_annotated_images_alone_says_so(tmp_path, real, web, tiny_plugins):
    with pytest.raises(UsageError, match=r"tiny learns from annotated images only; .*--external-labels noisy"):
        fit(real, tmp_path / "gan", "tiny", {}, external=[web])
    with pytest.raises(BadInput, match="has no annotated image in its training split"):
        fit(real, tmp_path / "gan", "tiny", {}, external=[web], labelled=True)
    known = make_store(tmp_path / "known.h5", elsewhere(known=True))
    said = []
    folder = fit(real, tmp_path / "gan", "tiny", {}, external=[known], labelled=True, said=said)
    assert card(folder)["external"][0]["annotated"] == 6
    assert any("are not annotated and are left out" in sentence for sentence in said)


def same_patient(record):
    return replace(record, patient="p5")


def same_pixels(record):
    (test,) = [r for r in make_records(n=6) if r.split == "test"]
    brighter = np.clip(test.image.astype(np.float64) * 1.2 + 5, 0, 255).astype(np.uint8)
    return replace(record, image=brighter)


def same_patient_spelt_otherwise(record):
    return replace(record, patient="P5")


def drawn(record):
    return replace(record, source="gan")


def larger(record):
    return replace(record, image=np.zeros((1, 32, 32), np.uint8))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (same_patient, "holds patient p5, which .*real.h5 holds out for validation or test"),
        (same_patient_spelt_otherwise, "holds patient P5, which .*real.h5 holds out for validation or test"),
        (same_pixels, r"the image wi000 of .*web.h5 and the test image i005 of .* nearly the same \(correlation"),
        (drawn, r"holds synthetic images \(wi000\); --external takes scans"),
        (larger, "has 32x32 pixels, .* but .* has 16x16"),
    ],
)
@pytest.mark.parametrize("kind", ["generator", "detector"])
def test_what_may_not_be_learnt_from_is_refused(tmp_path, tiny_plugins, change, words, kind):
    real = make_store(tmp_path / "real.h5")
    web = make_store(tmp_path / "web.h5", [change(r) for r in elsewhere(n=1, known=True)])
    train = {"generator": train_generator, "detector": train_detector}[kind]
    with pytest.raises(BadInput, match=words):
        train(real.path, "tiny", RunOptions(tmp_path / "out"), external=External([web.path], labelled=True))
    assert not list(tmp_path.glob("*.parts"))


def test_a_network_trains_on_annotated_images_from_elsewhere(tmp_path, tiny_plugins):
    real = make_store(tmp_path / "real.h5")
    others = [replace(r, id=f"x{r.id}") for r in elsewhere(n=3, seed=4)]
    web = make_store(tmp_path / "web.h5", [*elsewhere(known=True), *others])
    said = []
    run = RunOptions(tmp_path / "d", device="cpu", announce=said.append)
    folder = train_detector(real.path, "tiny", run, steps=2, external=External([web.path], labelled=True, share=0.25))
    assert "web.h5: 3 of its images have no annotation to learn from and are left out" in said[0]
    assert "tiny on 16 real, 6 external and 0 synthetic images" in said[1]
    found = json.loads((folder / "detector.json").read_text(encoding="utf-8"))
    assert [(part["images"], part["annotated"], part["share"]) for part in found["external"]] == [(6, 6, 0.25)]
    assert digest_patient("wp0") in found["training_patients"]


LESIONS = {
    "inpaint": {"patch": 16, "latent": 4, "width": 4, "max_maps": 4, "batch": 8},
    "regions": {"side": 16, "latent": 4, "base": 16, "max_maps": 4, "batch": 8},
}


@pytest.mark.parametrize("name", LESIONS)
def test_lesions_from_elsewhere_have_the_share_that_is_asked_for(tmp_path, real, name):
    """And none at the end of an annealed run; without external images all are seen equally often, as ever."""
    web = make_store(tmp_path / "web.h5", elsewhere(known=True))
    data = generator_examples(real, beside=Beside([web], labelled=True, share=0.1, anneal=0.5))
    own = sum(len(data.boxes[i]) for i in range(8))
    share = lesion_weights(data)[own:].sum()
    lesions = len(lesion_weights(data)) - own
    assert share == pytest.approx(0.1 / 6 * lesions / (0.1 / 6 * lesions + 0.9 / 8 * own))
    alone = lesion_weights(generator_examples(real))
    assert alone.tolist() == [1 / len(alone)] * len(alone)
    seen = []
    with pytest.MonkeyPatch.context() as patched:
        for module in (inpaint.training, regions):
            patched.setattr(module, "lesion_weights", lambda data: seen.append(lesion_weights(data)) or seen[-1])
        fit(real, tmp_path / "gan", name, LESIONS[name], 0.032, [web], labelled=True, share=0.1, anneal=0.5)
    assert seen[0][own:].sum() == pytest.approx(share)
    assert seen[-1][own:].sum() < share


@pytest.mark.parametrize("name", ["copy-paste", "inpaint"])
def test_masks_are_not_lost_beside_images_that_have_none(tmp_path, name):
    real = make_store(tmp_path / "real.h5", make_records(masks=True))
    web = make_store(tmp_path / "web.h5", elsewhere(known=True))
    masked = {"inpaint": {**LESIONS["inpaint"], "form": "mask"}}.get(name, {})
    with pytest.raises(BadInput, match=f"web.h5 holds no masks, .* does, and {name} takes masks from the images"):
        fit(real, tmp_path / "gan", name, masked, external=[web], labelled=True)
    if name == "inpaint":
        fit(real, tmp_path / "gan", name, LESIONS[name], external=[web], labelled=True)  # it is told boxes alone


LINES = {  # options -> what is said
    ("--external-share", "0.3"): "do nothing for tiny: it is given no external or unannotated images to learn from",
    ("--external-anneal", "0.5"): "do nothing for tiny: it is given no external or unannotated images to learn from",
    ("--external-share", "0.3", "--each-class"): "cannot be combined with --class or --each-class",
    ("--external-anneal", "0.5", "--class", "normal"): "cannot be combined with --class or --each-class",
    ("--external", "KNOWN", "--external-labels", "noisy", "--external-share", "0.3", "--generator", "copy-paste"): (
        "do nothing for copy-paste: it is not trained"
    ),
    ("--external-labels", "noisy"): "--external-labels needs --external",
    ("--external", "KNOWN", "--each-class"): "--external cannot be combined with --class or --each-class",
    ("--external", "KNOWN", "--external-share", "0"): "--external-share 0 leaves external and unannotated images out",
    ("--external", "KNOWN", "--external", "KNOWN", "--external-labels", "noisy"): "a store is given twice",
    ("--start", "REAL", "--each-class"): "--start takes the weights of a single generator",
    ("--start", "nobody"): "no installed weights",
}


def test_the_command_line_takes_and_refuses_what_belongs_together(tmp_path, tiny_plugins):
    real = make_store(tmp_path / "real.h5")
    known = make_store(tmp_path / "known.h5", elsewhere(known=True))
    names = {"KNOWN": str(known.path), "REAL": str(real.path)}

    def run(options):
        line = ["train-gan", str(real.path), "--generator", "tiny", "--out", str(tmp_path / "gan"), "--device", "cpu"]
        return CliRunner().invoke(app, [*line, *(names.get(word, word) for word in options)])

    for options, words in LINES.items():
        result = run(options)
        assert isinstance(result.exception, (UsageError, BadInput)), (options, result.output)
        assert words in str(result.exception), options
    done = run(["--external", "KNOWN", "--external-labels", "noisy", "--external-share", "0.25", "--kimg", "0.008"])
    assert done.exit_code == 0, done.output
    assert card(tmp_path / "gan")["external"][0]["share"] == 0.25


def test_a_class_that_the_store_does_not_have_is_refused(tmp_path, tiny_plugins):
    from classed import publish

    def of(names, records):
        return [replace(r, image_class=names[i % 2]) for i, r in enumerate(records)]

    real = publish(
        tmp_path / "real.h5", of(("benign", "malignant"), make_records()), class_names=["benign", "malignant"]
    )
    names = ["benign", "foggy"]
    web = publish(tmp_path / "web.h5", of(names, elsewhere(known=True)), class_names=names)
    run = RunOptions(tmp_path / "c", device="cpu")
    with pytest.raises(BadInput, match=r"class 'foggy', and .* has benign, malignant"):
        train_network(Classification(), real.path, "tiny", run, steps=2, external=External([web.path], labelled=True))
