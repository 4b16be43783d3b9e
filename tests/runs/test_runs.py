"""Training runs: folders, checkpoints, resume, and the files they leave."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import make_records, make_store
from safetensors.torch import load_file

from medaug_cli.errors import BadInput, MedaugError, MissingPlugin, UsageError
from medaug_cli.registry import build, names
from medaug_cli.runs import RunOptions, fitting, load_detector, load_generator, train_detector, train_generator
from medaug_cli.runs.training import Budget, TrainingRun
from medaug_cli.store import open_store

pytestmark = pytest.mark.usefixtures("tiny_plugins")


def options(out, **changed):
    return RunOptions(out, device="cpu", precision="32", **changed)


def test_a_generators_folder_holds_what_is_promised(real, tmp_path):
    train_generator(real, "tiny", options(tmp_path / "gan"), kimg=0.04)
    gan = tmp_path / "gan"
    assert {p.name for p in gan.iterdir()} == {
        "generator.json", "generator.safetensors", "checkpoints", "samples", "metrics.jsonl", "plan.json",
    } - ({"checkpoints"} if not (gan / "checkpoints").exists() else set())  # fmt: skip
    generator, metadata = load_generator(gan)
    assert metadata.images_shown == 40
    assert metadata.training_store == open_store(real).hash
    assert len(metadata.training_patients) == 4
    assert "p0" not in (gan / "generator.json").read_text(encoding="utf-8")
    assert str(tmp_path) not in (gan / "generator.json").read_text(encoding="utf-8")
    data = open_store(real)
    picture = next(iter(generator.sample([data.condition(0)], [1])))
    assert picture.shape == (1, 16, 16)
    assert [
        json.loads(line)["done"] for line in (gan / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    ] == list(range(4, 41, 4))


def test_without_a_name_the_run_that_is_resumed_goes_on(real, tmp_path):
    out = tmp_path / "gan"
    train_generator(real, "tiny", options(out, checkpoint_seconds=0, settings={"amount": "0.5"}), kimg=0.04)
    train_generator(real, None, options(out, resume=True), kimg=0.08)
    _, metadata = load_generator(out)
    assert (metadata.name, metadata.settings["amount"], metadata.images_shown) == ("tiny", 0.5, 80)
    train_generator(real, None, options(out, resume=True))  # as long as it was trained for, not as by default
    assert load_generator(out)[1].images_shown == 80
    with pytest.raises(UsageError, match=r"amount 0\.5, now 0\.7"):
        train_generator(real, None, options(out, resume=True, settings={"amount": "0.7"}), kimg=0.08)
    with pytest.raises(UsageError, match=r"other settings \(plugin tiny, now copy-paste\)"):
        train_generator(real, "copy-paste", options(out, resume=True), kimg=0.08)


@pytest.mark.parametrize("finished", [True, False])
def test_a_setting_that_the_version_of_a_run_lacked_stands_at_its_default(real, tmp_path, finished):
    out = tmp_path / "gan"
    train_generator(real, "tiny", options(out, checkpoint_seconds=0), kimg=0.04)
    place = out if finished else out.rename(out.with_name("gan.parts"))
    plan = json.loads((place / "plan.json").read_text(encoding="utf-8"))
    assert plan["settings"].pop("amount") is not None
    (place / "plan.json").write_text(json.dumps(plan), encoding="utf-8")
    with pytest.raises(UsageError, match=r"amount 0\.\d+, now 0\.5"):
        train_generator(real, "tiny", options(out, resume=True, settings={"amount": "0.5"}), kimg=0.04)
    train_generator(real, "tiny", options(out, resume=True), kimg=0.04)
    assert (out / "generator.safetensors").exists()


def test_a_finished_run_is_kept_and_continued(real, tmp_path):
    out = tmp_path / "gan"
    train_generator(real, "tiny", options(out, checkpoint_seconds=0), kimg=0.04)
    before = (out / "generator.safetensors").stat().st_mtime_ns
    train_generator(real, "tiny", options(out, resume=True), kimg=0.04)
    assert (out / "generator.safetensors").stat().st_mtime_ns == before
    with pytest.raises(UsageError, match="--overwrite"):
        train_generator(real, "tiny", options(out), kimg=0.04)
    with pytest.raises(UsageError, match="settings"):
        train_generator(real, "tiny", options(out, resume=True, settings={"amount": "0.5"}), kimg=0.04)
    train_generator(real, "tiny", options(out, resume=True, checkpoint_seconds=0), kimg=0.08)
    train_generator(real, "tiny", options(tmp_path / "whole", checkpoint_seconds=0), kimg=0.08)
    assert torch.equal(
        load_file(out / "generator.safetensors")["mean"], load_file(tmp_path / "whole/generator.safetensors")["mean"]
    )


def test_a_damaged_checkpoint_falls_back_to_the_one_before(tmp_path):
    def run():
        return TrainingRun(tmp_path, "cpu", "32", 0, 0, Budget(100), checkpoint_seconds=0)

    first = run()
    for done in (10, 20, 30):
        first.log(done, loss=1.0)
        first.checkpoint(done, lambda done=done: {"value": torch.tensor(done)})
    kept = sorted((tmp_path / "checkpoints").iterdir())
    assert [p.stem for p in kept] == ["0000000020", "0000000030"]
    kept[-1].write_bytes(kept[-1].read_bytes()[:200])
    again = run()
    assert again.state["value"] == 20
    assert again.done == 20
    assert len((tmp_path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()) == 2


def test_a_checkpoint_can_run_no_code(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "written"), "w"))

    (tmp_path / "checkpoints").mkdir()
    torch.save({"done": 1, "seconds": 0.0, "state": Evil()}, tmp_path / "checkpoints/0000000001.pt")
    with pytest.raises(BadInput, match="is not a checkpoint of medaug"):
        TrainingRun(tmp_path, "cpu", "32", 0, 0, Budget(1))
    assert not (tmp_path / "written").exists()


def test_pictures_are_drawn_before_the_checkpoint_that_a_killed_run_goes_on_from(tmp_path):
    def draw(done):
        seen.append((done, [int(path.stem) for path in sorted(tmp_path.glob("checkpoints/*.pt"))]))

    seen = []
    run = TrainingRun(tmp_path, "cpu", "32", 0, 0, Budget(100), checkpoint_seconds=0, on_checkpoint=draw)
    for done in (4, 8):
        run.checkpoint(done, dict)
    assert seen == [(4, []), (8, [4])]


def test_a_loss_that_is_no_number_stops_the_run(tmp_path):
    run = TrainingRun(tmp_path, "cpu", "32", 0, 0, Budget(1))
    with pytest.raises(MedaugError, match="loss_g"):
        run.log(1, loss_g=float("nan"))


def test_a_detector_says_what_it_was_fitted_on(real, tmp_path):
    train_detector(real, "tiny", options(tmp_path / "detector"), steps=5)
    detector, metadata = load_detector(tmp_path / "detector")
    assert metadata.steps == 5
    assert metadata.validation["score"] >= 0
    image = open_store(real).read([0])[0]
    boxes, scores, labels = next(iter(detector.predict([image])))
    assert boxes.shape == (len(scores), 4)
    assert labels.dtype == np.int64


def test_epochs_are_passes_over_the_real_images(real, tmp_path):
    train_detector(real, "tiny", options(tmp_path / "d"), epochs=2)
    assert load_detector(tmp_path / "d")[1].steps == 2 * 16 / 4
    with pytest.raises(UsageError, match="--epochs"):
        train_detector(real, "tiny", options(tmp_path / "e"), epochs=2, steps=3)


def test_without_a_name_the_network_that_is_resumed_goes_on(real, tmp_path):
    out = tmp_path / "network"
    train_detector(real, "tiny", options(out, checkpoint_seconds=0, settings={"batch": "3"}), epochs=0.5)
    train_detector(real, None, options(out, resume=True))  # as long as it was trained for, not as by default
    assert load_detector(out)[1].steps == 3
    train_detector(real, None, options(out, resume=True), steps=7)
    _, metadata = load_detector(out)
    assert (metadata.name, metadata.settings["batch"], metadata.steps) == ("tiny", 3, 7)
    with pytest.raises(UsageError, match="batch 3, now 2"):
        train_detector(real, None, options(out, resume=True, settings={"batch": "2"}))
    with pytest.raises(UsageError, match=r"other settings \(plugin tiny, now yolov3\)"):
        train_detector(real, "yolov3", options(out, resume=True))
    gan = train_generator(real, "tiny", options(tmp_path / "gan"), kimg=0.01)
    with pytest.raises(UsageError, match="is not a detector"):
        train_detector(real, None, options(gan, resume=True))


def test_a_network_that_starts_from_another_has_its_name_and_settings(real, tmp_path):
    first = train_detector(real, "tiny", options(tmp_path / "first", settings={"batch": "3"}), steps=3)
    second = train_detector(real, None, options(tmp_path / "second"), steps=2, start=first)
    metadata = load_detector(second)[1]
    assert (metadata.name, metadata.settings["batch"], metadata.start) == (
        "tiny",
        3,
        load_detector(first)[1].weights,
    )
    third = train_detector(real, None, options(tmp_path / "third", settings={"batch": "2"}), steps=2, start=first)
    assert load_detector(third)[1].settings["batch"] == 2
    with pytest.raises(UsageError, match="it holds a tiny, from which yolov3 cannot start"):
        train_detector(real, "yolov3", options(tmp_path / "fourth"), start=first)


def test_a_network_that_has_seen_a_patient_who_is_held_out_now_starts_nothing(real, tmp_path):
    first = train_detector(real, "tiny", options(tmp_path / "first"), steps=3)
    dealt = [replace(each, split="val" if each.patient == "p1" else each.split) for each in make_records()]
    other = make_store(tmp_path / "other/real.h5", dealt).path
    with pytest.raises(BadInput, match=r"--start .*first: it was fitted on patient p1, which .* holds out"):
        train_detector(other, None, options(tmp_path / "second"), start=first)
    assert not (tmp_path / "second").exists()


@pytest.mark.parametrize("damage", ["truncate", "swap", "json"])
def test_damaged_weights_are_refused(real, tmp_path, damage):
    train_generator(real, "tiny", options(tmp_path / "gan"), kimg=0.01)
    weights = tmp_path / "gan/generator.safetensors"
    if damage == "truncate":
        weights.write_bytes(weights.read_bytes()[:-9])
    elif damage == "swap":
        weights.write_bytes(weights.read_bytes()[:-1] + b"\x00")
    else:
        described = tmp_path / "gan/generator.json"
        described.write_text(
            described.read_text(encoding="utf-8").replace('"version": 1,', '"version": 7,', 1), encoding="utf-8"
        )
    with pytest.raises(BadInput, match=r"generator\.(safetensors|json)"):
        load_generator(tmp_path / "gan")
    with pytest.raises(BadInput, match=r"generator\.(safetensors|json)"):
        train_generator(real, None, options(tmp_path / "gan", resume=True))


def test_a_resumed_run_goes_on_at_the_precision_it_began_with(real, tmp_path, monkeypatch):
    """What auto finds depends on the machine, on its load just then, and on the device, which may change."""
    found = iter(["32", "bf16", "bf16", "bf16"])
    monkeypatch.setattr(fitting, "resolve_precision", lambda name, device: next(found) if name == "auto" else name)
    for kimg in (0.008, 0.016):
        run = RunOptions(tmp_path / "gan", device="cpu", resume=True)
        train_generator(real, "tiny", run, kimg=kimg)
        assert load_generator(tmp_path / "gan")[1].precision == "32"
    with pytest.raises(UsageError, match="precision"):
        train_generator(real, "tiny", RunOptions(tmp_path / "gan", device="cpu", precision="bf16", resume=True), kimg=1)
    train_generator(real, "tiny", RunOptions(tmp_path / "gan", device="cpu", overwrite=True), kimg=0.008)
    assert load_generator(tmp_path / "gan")[1].precision == "bf16"


def test_an_unfinished_run_is_named(real, tmp_path):
    (tmp_path / "gan.parts").mkdir()
    with pytest.raises(BadInput, match="not finished"):
        load_generator(tmp_path / "gan")


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"amuont": 1}, "did you mean 'amount'"),
        ({"amount": "red"}, "number"),
        ({"amount": 7}, "from 0.0 to 1.0"),
        ({"pause": -1}, ">= 0.0"),
    ],
)
def test_wrong_settings_are_named(settings, word):
    with pytest.raises(UsageError, match=word):
        build("generator", "tiny", settings)


def test_a_wrong_name_lists_the_installed_ones():
    assert "tiny" in names("generator")
    with pytest.raises(MissingPlugin, match=r"did you mean 'tiny'.*boxgan"):
        build("generator", "tinyy", {})


def test_what_a_plugin_cannot_do_is_refused_before_it_starts(tmp_path):
    make_store(tmp_path / "odd.h5", make_records(size=12))
    with pytest.raises(BadInput, match="powers of two"):
        train_generator(tmp_path / "odd.h5", "cpggan", options(tmp_path / "gan"), kimg=1)
    assert not (tmp_path / "gan.parts").exists()
