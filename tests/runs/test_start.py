"""Generators that begin with what others have learnt: folders, shared folders, installed weights; and who may not."""

import json
import shutil
import sys
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import torch
from classed import publish
from conftest import make_records, make_store
from safetensors.torch import load_file

from medaug_cli import registry
from medaug_cli.boxes import digest_patient
from medaug_cli.errors import BadInput, MissingPlugin, UsageError
from medaug_cli.inspection import installed_weights
from medaug_cli.runs import RunOptions, export_generator, load_generator, train_generator
from medaug_cli.runs.starting import opened_start
from medaug_cli.runs.training import TrainingRun
from medaug_cli.runs.weights import write_weights
from medaug_cli.store.examples import training_examples
from medaug_cli.study import StudyOptions, run_study
from medaug_cli.study.arms import parse_arms
from medaug_cli.synthesis import SynthesisOptions, synthesize
from medaug_cli.weights import WeightsCard, card_of, generator_folder, named_weights, weights_folder

BOXGAN = {"latent": 4, "base": 16, "max_maps": 4, "embedding": 2, "batch": 4, "r1_every": 2}
PGGAN = {"latent": 4, "base": 16, "max_maps": 4, "batches": "4:4"}
CARD = WeightsCard(
    draws="dim noise with bright boxes, 16x16", data="constructed", licence="CC0", source="nowhere", hours=0.01,
    measures={"recall": 0.5}, copies=0.0, not_for="nobody: these are for tests alone",
)  # fmt: skip


@pytest.fixture(scope="module")
def module_path(tmp_path_factory):
    return tmp_path_factory.mktemp("start")


@pytest.fixture(scope="module")
def real(module_path):
    return make_store(module_path / "real.h5")


@pytest.fixture(scope="module")
def trained(module_path, real):
    return fit(real, module_path / "trained", settings=BOXGAN)


def fit(store, out, name="boxgan", settings=None, kimg=0.008, said=None, resume=False, seed=0, **how):
    run = RunOptions(
        out, settings or {}, seed=seed, device="cpu", precision="32", resume=resume,
        announce=(lambda sentence: None) if said is None else said.append,
    )  # fmt: skip
    return train_generator(store.path, name, run, kimg, **how)


def weights(folder):
    return load_file(folder / "generator.safetensors")


def described(folder):
    return json.loads((folder / "generator.json").read_text(encoding="utf-8"))


def begun(said):
    return next(sentence for sentence in said if sentence.startswith("begins with"))


def test_it_goes_on_with_both_networks_and_the_settings(tmp_path, real, trained):
    said = []
    folder = fit(real, tmp_path / "gan", None, start=trained, kimg=0.004, settings={"lr": 0.0}, said=said)
    assert begun(said) == f"begins with the weights of {trained}; all of them fit"
    assert all(torch.equal(one, weights(trained)[name]) for name, one in weights(folder).items())  # lr 0
    state = [torch.load(sorted((each / "checkpoints").glob("*.pt"))[-1])["state"] for each in (trained, folder)]
    assert all(torch.equal(one, state[0]["discriminator"][name]) for name, one in state[1]["discriminator"].items())
    found = described(folder)
    assert found["start"] == described(trained)["weights"]
    assert (found["name"], found["settings"]["base"], found["settings"]["lr"]) == ("boxgan", 16, 0.0)


def test_a_shared_generator_has_no_discriminator_and_its_own_waits(tmp_path, real, trained):
    export_generator(trained, tmp_path / "shared")
    said = []
    folder = fit(real, tmp_path / "gan", start=tmp_path / "shared", kimg=0.08, said=said)
    assert "newly initialised, in the discriminator: all of it, since it is not available" in begun(said)
    assert any(not torch.equal(one, weights(trained)[name]) for name, one in weights(folder).items())
    state = torch.load(sorted((folder / "checkpoints").glob("*.pt"))[-1])["state"]
    assert state["warming"]


def test_other_labels_leave_all_that_is_alike(tmp_path, trained):
    names = ("cyst", "tumour")
    store = make_store(tmp_path / "real.h5", make_records(labels=names), labels=names)
    said = []
    folder = fit(store, tmp_path / "gan", start=trained, kimg=0.004, settings={"lr": 0.0}, said=said)
    assert "in the generator: first.conv.weight" in begun(said)
    assert "in the discriminator: embeddings.0.weight" in begun(said)
    before, after = weights(trained), weights(folder)
    assert torch.equal(before["dense.weight"], after["dense.weight"])
    first = before["first.conv.weight"], after["first.conv.weight"]
    features = first[0].shape[1] - 2  # lesions and halo before, two labels and halo now
    assert first[1].shape[1] == features + 3
    assert torch.equal(first[0][:, :features], first[1][:, :features])
    assert torch.equal(first[0][:, -1], first[1][:, -1])  # the halo


def test_the_names_of_several_labels_tell_which_stays(tmp_path):
    def store(names):
        folder = tmp_path / "-".join(names)
        return make_store(folder / "real.h5", make_records(labels=names), labels=names)

    first = fit(store(("a", "b")), tmp_path / "first", settings=BOXGAN, kimg=0.004)
    second = fit(store(("b", "c")), tmp_path / "second", start=first, kimg=0.004, settings={"lr": 0.0})
    old, new = weights(first)["first.conv.weight"], weights(second)["first.conv.weight"]
    assert torch.equal(old[:, -2], new[:, -3])  # b
    assert not torch.equal(old[:, -3], new[:, -3])
    assert not any(torch.equal(old[:, k], new[:, -2]) for k in (-3, -2))  # c is begun anew


@pytest.mark.parametrize(("before", "now", "kept"), [("a", "ab", {0: 0}), ("ab", "b", {1: 0}), ("a", "b", {0: 0})])
def test_one_label_goes_by_its_name_where_there_are_several(tmp_path, before, now, kept):
    stores = [make_store(tmp_path / names / "real.h5", labels=tuple(names)) for names in (before, now)]
    first = fit(stores[0], tmp_path / "first", settings=BOXGAN, kimg=0.004)
    second = fit(stores[1], tmp_path / "second", start=first, kimg=0.004, settings={"lr": 0.0}, seed=1)
    assert planes_kept(first, second, ["first.conv.weight"], (before, now), 1) == kept


@pytest.mark.parametrize(
    ("name", "told", "before", "now", "kept"),
    [
        ("pggan-class", "class", "ab", "bc", {1: 0}),
        ("pggan-class", "class", "ab", "ba", {0: 1, 1: 0}),
        ("pggan-class", "label", "ab", "cba", {0: 2, 1: 1}),
        ("cpggan", "mask", "ab", "cb", {1: 1}),
        ("cpggan", "mask", "ab", "a", {0: 0}),
        ("cpggan", "boxes", "ab", "bc", {0: 0}),
    ],
)
def test_a_growing_generator_finds_by_name_what_it_is_told(tmp_path, name, told, before, now, kept):
    stores = [named_store(tmp_path / f"{names}.h5", tuple(names)) for names in (before, now)]
    first = fit(stores[0], tmp_path / "first", name, {**PGGAN, "condition": told}, kimg=0.004)
    said = []
    second = fit(
        stores[1], tmp_path / "second", start=first, kimg=0.004, settings={"lr": 0.0}, name=None, said=said, seed=1
    )
    counts = tuple("x" if told == "boxes" else names for names in (before, now))
    seeing = ["conv.weight", "blocks.0.first.weight", "blocks.1.first.weight"]
    assert planes_kept(first, second, seeing, counts) == kept
    assert begun(said).endswith("all of them fit") == (len(kept) == len(counts[1]))
    assert ("in the generator: conv.weight" in begun(said)) == (len(kept) < len(counts[1]))
    states = [torch.load(sorted((each / "checkpoints").glob("*.pt"))[-1])["state"] for each in (first, second)]
    critics = [state["discriminator"] for state in states]
    assert planes_found(*critics, ["from_image.0.weight", "from_image.2.weight"], counts) == kept


def planes_kept(first, second, names, channels, halo=0):
    """Return which channel of a condition before became which, in some weights of two generators."""
    return planes_found(weights(first), weights(second), names, channels, halo)


def planes_found(before, now, names, channels, halo=0):
    found = []
    for name in names:
        firsts = [state[name].shape[1] - halo - len(told) for state, told in zip((before, now), channels, strict=True)]
        assert firsts[0] == firsts[1]
        assert torch.equal(before[name][:, : firsts[0]], now[name][:, : firsts[0]])  # the features
        own, new = (state[name][:, firsts[0] :] for state in (before, now))
        pairs = [(i, k) for i in range(len(channels[0])) for k in range(len(channels[1]))]
        found.append({i: k for i, k in pairs if torch.equal(own[:, i], new[:, k])})
    assert all(each == found[0] for each in found)
    return found[0]


def named_store(path, names):
    """Publish a store whose labels, classes and values of masks have these names."""
    records = [
        replace(record, image_class=names[i % len(names)])
        for i, record in enumerate(make_records(labels=names, masks=True))
    ]
    return publish(path, records, names, class_names=list(names), mask_names=list(names))


def test_a_larger_size_begins_with_the_coarse_levels(tmp_path, trained):
    store = make_store(tmp_path / "real.h5", make_records(size=32))
    said = []
    folder = fit(store, tmp_path / "gan", start=trained, kimg=0.004, settings={"lr": 0.0}, said=said)
    assert torch.equal(weights(trained)["rising.0.conv.weight"], weights(folder)["rising.0.conv.weight"])
    assert "rising.2" in begun(said)


@pytest.mark.parametrize(("name", "settings"), [("pggan", PGGAN), ("cpggan", PGGAN)])
def test_growing_generators_go_on_at_the_level_that_they_reached(tmp_path, real, name, settings):
    first = fit(real, tmp_path / "first", name, settings, kimg=0.08)
    assert weights(first)["lod"] == 0
    said = []
    second = fit(real, tmp_path / "second", None, start=first, kimg=0.008, settings={"lr": 0.0}, said=said)
    assert begun(said).endswith("all of them fit")
    assert all(torch.equal(one, weights(first)[key]) for key, one in weights(second).items())
    with pytest.raises(UsageError, match=r"--set preset=paper changes nothing about weights to start from"):
        fit(real, tmp_path / "third", None, start=first, settings={"preset": "paper"})
    assert not list(tmp_path.glob("third*"))


def test_a_run_that_was_started_so_resumes_to_the_bit(tmp_path, real, trained, monkeypatch):
    whole = fit(real, tmp_path / "whole", start=trained, kimg=0.016)
    checkpoint = TrainingRun.checkpoint

    def stop(run, done, state, force=False):
        checkpoint(run, done, state, force=True)
        if done == 8:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(TrainingRun, "checkpoint", stop)
        with pytest.raises(KeyboardInterrupt):
            fit(real, tmp_path / "gan", start=trained, kimg=0.016)
    with pytest.raises(UsageError, match="start"):
        fit(real, tmp_path / "gan", settings=BOXGAN, kimg=0.016, resume=True)
    said = []
    fit(real, tmp_path / "gan", start=trained, kimg=0.016, said=said, resume=True)
    assert not any(sentence.startswith("begins with") for sentence in said)
    assert all(torch.equal(one, weights(whole)[name]) for name, one in weights(tmp_path / "gan").items())
    assert described(whole)["start"] == described(tmp_path / "gan")["start"]


@pytest.mark.parametrize(
    ("name", "words"),
    [("pggan", "it holds a boxgan, from which pggan cannot start"), ("nothing", "from which nothing cannot start")],
)
def test_another_kind_is_refused(tmp_path, real, trained, name, words):
    with pytest.raises(UsageError, match=words):
        fit(real, tmp_path / "gan", name, start=trained)


def test_who_cannot_go_on_says_so(tmp_path, real, tiny_plugins):
    first = fit(real, tmp_path / "first", "tiny")
    with pytest.raises(UsageError, match="tiny cannot continue from trained weights"):
        fit(real, tmp_path / "gan", None, start=first)
    with pytest.raises(BadInput, match="no such folder, and no installed weights"):
        fit(real, tmp_path / "gan", start=tmp_path / "absent")


def test_a_patient_whom_it_has_seen_may_not_be_held_out(tmp_path, trained):
    swapped = {"train": "test", "val": "val", "test": "train"}
    store = make_store(tmp_path / "other.h5", [replace(r, split=swapped[r.split]) for r in make_records()])
    with pytest.raises(BadInput, match=r"fitted on patient p0 \(and 3 more\), which .* holds out"):
        fit(store, tmp_path / "gan", start=trained)


def test_an_arm_of_a_study_begins_with_weights_and_has_their_settings(tmp_path, real, trained):
    first, second = parse_arms([f"boxgan[start={trained},lr=0.006]@2", "copy-paste"], "yolov3")[1:]
    assert (first.start, first.given, first.ratio) == (str(trained), (("lr", 0.006),), 2.0)
    assert (first.built({}).base, first.built({}).lr) == (16, 0.006)
    assert "/" not in first.folder
    assert second.start is None
    (other,) = parse_arms([f"pggan[start={trained}]"], "yolov3")[1:]
    with pytest.raises(UsageError, match="it holds a boxgan, from which pggan cannot start"):
        other.built({})
    with pytest.raises(UsageError, match="cannot start from weights"):
        parse_arms([f"boxgan[start={trained}]/each-class"], "yolov3")


def test_a_study_refuses_weights_that_have_seen_who_is_tested(tmp_path, trained):
    records = [replace(r, split="test" if r.patient == "p2" else r.split) for r in make_records()]
    store = make_store(tmp_path / "real.h5", records)
    arms = parse_arms([f"boxgan[start={trained}]"], "yolov3")
    with pytest.raises(BadInput, match=r"fitted on patient p2, which .* holds out"):
        run_study(StudyOptions(store.path, arms, tmp_path / "study", dry_run=True))


@pytest.fixture
def installed(tmp_path, trained, monkeypatch):
    """Install a package of weights, as another distribution would bring it, and no others."""
    size = write_weights(trained, tmp_path / "packages/tiny_weights/small", CARD)
    assert 0 < size < 100_000
    (tmp_path / "packages/tiny_weights/__init__.py").write_text("", encoding="utf-8")
    (tmp_path / "packages/tiny_weights/small/__init__.py").write_text("", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path / "packages"))
    for module in ("tiny_weights", "tiny_weights.small"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    found = registry.entry_points
    entry = EntryPoint("tiny-16", "tiny_weights.small", "medaug.weights")
    monkeypatch.setattr(registry, "entry_points", lambda group: [entry] if group == entry.group else found(group))
    return tmp_path / "packages/tiny_weights/small"


def test_installed_weights_are_listed_with_their_card_and_begun_with_by_name(tmp_path, real, trained, installed):
    assert list(named_weights()) == ["tiny-16"]
    (listed,) = installed_weights()
    assert (listed["name"], listed["problem"], listed["card"]["licence"]) == ("tiny-16", "", "CC0")
    assert card_of(installed) == CARD
    said = []
    folder = fit(real, tmp_path / "gan", None, start="tiny-16", kimg=0.004, said=said)
    assert "all of it, since it is not available" in begun(said)
    assert digest_patient("p0") in described(folder)["training_patients"]
    with pytest.raises((UsageError, BadInput), match=r"tiny-17.*tiny-16"):
        fit(real, tmp_path / "gan2", None, start="tiny-17")


def test_with_their_discriminator_installed_weights_go_on_as_the_folder_does(tmp_path, real, trained, installed):
    without = {path.name for path in installed.iterdir()}
    write_weights(trained, installed, CARD, discriminator=True)
    assert {path.name for path in installed.iterdir()} - without == {"discriminator.safetensors"}
    said = []
    fit(real, tmp_path / "gan", None, start="tiny-16", said=said)
    assert "all of them fit" in begun(said)
    packed, whole = (opened_start(each).checkpoint["discriminator"] for each in ("tiny-16", trained))
    assert packed.keys() == whole.keys()
    assert all(torch.allclose(value.float(), whole[name], atol=2e-3) for name, value in packed.items())
    write_weights(trained, installed, CARD)
    assert {path.name for path in installed.iterdir()} == without


def test_a_run_follows_the_settings_that_a_card_advises_unless_others_are_given(tmp_path, real, trained, installed):
    write_weights(trained, installed, CARD.model_copy(update={"start_with": {"lr": 0.001}}))
    said = []
    followed = fit(real, tmp_path / "followed", None, start="tiny-16", said=said)
    assert begun(said).endswith("; with lr=0.001, as their card advises")
    assert described(followed)["settings"]["lr"] == 0.001
    said.clear()
    other = fit(real, tmp_path / "other", None, settings={"lr": 0.002}, start="tiny-16", said=said)
    assert "advises" not in begun(said)
    assert described(other)["settings"]["lr"] == 0.002


def test_a_folder_whose_checkpoints_are_gone_has_no_discriminator_to_hand_on(tmp_path, trained):
    shutil.copytree(trained, tmp_path / "gan")
    shutil.rmtree(tmp_path / "gan/checkpoints")
    with pytest.raises(BadInput, match="gan holds no checkpoint with a discriminator"):
        write_weights(tmp_path / "gan", tmp_path / "out", CARD, discriminator=True)
    assert not (tmp_path / "out").exists()


def test_checkpoints_that_are_all_damaged_are_named_and_not_passed_over(tmp_path, real, trained):
    shutil.copytree(trained, tmp_path / "gan")
    for path in (tmp_path / "gan/checkpoints").glob("*.pt"):
        path.write_bytes(path.read_bytes()[:-99])
    with pytest.raises(BadInput, match=r"\.pt is damaged.*remove .*checkpoints to begin with the generator alone"):
        fit(real, tmp_path / "second", start=tmp_path / "gan")
    shutil.rmtree(tmp_path / "gan/checkpoints")
    fit(real, tmp_path / "second", start=tmp_path / "gan", kimg=0.004)


@pytest.mark.parametrize("state", [[1, 2], None, {"discriminator": [1]}, {"discriminator": {"conv.weight": 3}}])
def test_checkpoints_that_hold_something_else_are_damaged(tmp_path, real, trained, state):
    shutil.copytree(trained, tmp_path / "gan")
    for path in (tmp_path / "gan/checkpoints").glob("*.pt"):
        torch.save(torch.load(path) | {"state": state}, path)
    with pytest.raises(BadInput, match=r"gan\S* (is|the networks in its checkpoint are) damaged"):
        fit(real, tmp_path / "second", start=tmp_path / "gan")


def test_a_damaged_discriminator_is_named(tmp_path, real, installed):
    (installed / "discriminator.safetensors").write_bytes(b"not tensors at all")
    with pytest.raises(BadInput, match=r"discriminator\.safetensors is damaged"):
        fit(real, tmp_path / "gan", None, start="tiny-16")


def test_installed_weights_draw_by_name_and_the_store_counts_whom_they_have_seen(tmp_path, installed):
    said = []
    other = make_store(tmp_path / "other.h5", [replace(r, patient=f"q{r.patient}") for r in make_records()])
    ask = {"like": other.path, "device": "cpu", "announce": said.append, "advise": said.append}
    store = synthesize(SynthesisOptions(3, "tiny-16", tmp_path / "drawn.h5", **ask))
    assert (len(store), set(store.sources)) == (3, {"boxgan"})
    assert not any("the generator has seen" in sentence for sentence in said)  # a card is there
    (origin,) = store.info.generators
    assert set(origin.training_patients) >= {digest_patient(name) for name in ("p0", "p3", "qp0")}
    assert said[0] == (
        "tiny-16 draws dim noise with bright boxes, 16x16; it has seen 4 patients, and so has what learns from these"
    )
    by_folder = synthesize(SynthesisOptions(3, installed, tmp_path / "again.h5", **ask))
    assert (by_folder.images[:] == store.images[:]).all()
    held_out = make_store(tmp_path / "third.h5", [replace(r, split="test" if r.patient == "p3" else "train")
                                                  for r in make_records()])  # fmt: skip
    with pytest.raises(BadInput, match="its generator boxgan was fitted on 1 patients that"):
        training_examples(held_out, [store], held_out.annotated)


def test_a_folder_comes_before_installed_weights_of_its_name(tmp_path, trained, installed, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(trained, "tiny-16")
    assert generator_folder("tiny-16") == Path("tiny-16")
    assert generator_folder(str(tmp_path / "tiny-16")) == tmp_path / "tiny-16"


@pytest.mark.parametrize("name", ["tiny-17", "gan", "some/tiny-16"])
def test_neither_a_folder_nor_a_name_is_said_in_one_sentence(tmp_path, installed, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput, match=f"^{name} holds no trained generator .*no such folder.*installed: tiny-16") as e:
        generator_folder(name)
    assert ("did you mean 'tiny-16'?" in str(e.value)) == (name != "gan")


def test_half_precision_is_as_good_as_the_whole(trained, installed):
    half = weights(installed)
    assert {value.dtype for value in half.values()} == {torch.float16}
    plugin, metadata = load_generator(installed)
    assert all(torch.allclose(one, weights(trained)[name], atol=2e-3) for name, one in plugin.state_dict().items())
    assert metadata.training_patients == sorted(digest_patient(f"p{i}") for i in range(4))


def test_the_guards_know_whom_installed_weights_have_seen(tmp_path, installed):
    store = make_store(tmp_path / "other.h5", [replace(r, split="test" if r.patient == "p2" else "train")
                                               for r in make_records()])  # fmt: skip
    with pytest.raises(BadInput, match=r"fitted on patient p2, which .* holds out"):
        fit(store, tmp_path / "gan", None, start="tiny-16")


def test_a_package_without_its_files_says_so(installed):
    (installed / "generator.json").unlink()
    (listed,) = installed_weights()
    assert "tiny-16" in listed["problem"]
    assert "hold no generator" in listed["problem"]
    with pytest.raises(MissingPlugin, match="hold no generator"):
        weights_folder("tiny-16")
