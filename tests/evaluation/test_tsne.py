"""The map of real against synthetic images, and whether its numbers notice planted defects."""

import json
from dataclasses import replace

import numpy as np
import pytest
from conftest import make_records, make_store
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as numbers
from jsonschema import Draft202012Validator
from PIL import Image

import data_schemas
from medaug_cli.embedding import MapOptions, compare_sets, draw_map
from medaug_cli.embedding.features import reduced, scaled
from medaug_cli.embedding.layout import layout
from medaug_cli.embedding.statistics import (
    expected_copies,
    expected_coverage,
    kernel_distance,
    manifolds,
    memorisation,
    one_nn_accuracy,
    pixel_spread,
    unbiased_mmd,
)
from medaug_cli.embedding.tables import numbers_table
from medaug_cli.errors import BadInput, UsageError
from medaug_cli.runs import RunOptions, train_detector
from medaug_cli.store import GeneratorOrigin, Record, StoreInfo, StoreWriter, digest_patient, open_store
from medaug_cli.store.folds import Fold, deal_folds

pytestmark = pytest.mark.usefixtures("undrawn")
SIZE = 16
ALL = ("train", "val", "test")
ORIGIN = GeneratorOrigin(name="g", version="1", hash="h", training_store="t", training_patients=[])
INFO = StoreInfo(tool_version="0", command="test", settings={}, seed=0, label_names=["lesion"], generators=[ORIGIN])


@pytest.fixture(autouse=True)
def _short(monkeypatch):
    """Lay maps out in the fewest iterations: no number that is tested depends on their places."""
    monkeypatch.setattr("medaug_cli.embedding.layout.ITERATIONS", 250)


def write(path, records, info=INFO):
    writer = StoreWriter(path, info, {})
    for i, record in enumerate(records):
        record.source, record.split, record.patient, record.seed, record.id = "g", "train", "synthetic", i, f"s{i:03d}"
        writer.add(i, [record])
    return writer.publish()


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """Publish 90 real images and synthetic stores with planted defects; return their folder."""
    tmp_path = tmp_path_factory.mktemp("map")
    make_store(tmp_path / "real.h5", n=90, seed=1)
    train = [record for record in make_records(90, seed=1) if record.split == "train"]
    write(tmp_path / "good.h5", make_records(60, seed=2))
    copies = []
    for record in train:
        record.image = np.clip(record.image.astype(int) + 1, 0, 255).astype(np.uint8)
        copies.append(record)
    write(tmp_path / "copies.h5", copies)
    repeated = list(make_records(60, seed=3))
    for record in repeated:
        noise = np.random.default_rng(record.image.sum()).integers(0, 3, record.image.shape)
        record.image, record.boxes = (repeated[0].image + noise).astype(np.uint8), repeated[0].boxes
    write(tmp_path / "repeated.h5", repeated)
    blurred = list(make_records(60, seed=4))
    for record in blurred:
        record.image = np.full_like(record.image, int(record.image.mean()))
    write(tmp_path / "flat.h5", blurred)
    return tmp_path


def compared(folder, *names, **changed):
    chosen = {"perplexity": 8, "overwrite": True, **changed}
    return draw_map(MapOptions(folder / "real.h5", [folder / f"{n}.h5" for n in names], folder / "map.png", **chosen))


def test_planted_defects_show(stores):
    report = compared(stores, "good", "copies", "repeated", "flat")
    good, copies, repeated, flat = report.sets
    assert abs(good.one_nn_accuracy - 0.5) < 0.2
    assert good.suspicious < 0.15 < 0.9 < copies.suspicious
    assert copies.memorisation_ratio < 0.2 < 0.8 < good.memorisation_ratio
    assert repeated.recall < 0.1 < good.recall
    assert repeated.coverage < good.coverage / 2
    assert repeated.one_nn_accuracy > 0.95
    assert flat.kid > 5 * abs(good.kid)
    assert flat.spread < good.spread
    assert all(pair.real.startswith("i") for pair in copies.nearest)


def test_real_against_real_is_the_best_to_hope_for(stores):
    report = compared(stores, "repeated")
    assert report.reference.images == 60
    assert report.reference.held_out == 30
    assert report.reference.kid < report.sets[0].kid
    assert report.reference.coverage > report.sets[0].coverage


def test_the_nearest_training_image_of_a_copy_is_its_original(stores):
    report = compared(stores, "copies")
    originals = [record.id for record in make_records(90, seed=1) if record.split == "train"]
    for pair in report.sets[0].nearest:
        assert originals[int(pair.synthetic[1:])] == pair.real


@pytest.mark.drawn
def test_the_same_seed_gives_the_same_numbers_and_picture(stores):
    first, picture = compared(stores, "good"), (stores / "map.png").read_bytes()
    assert compared(stores, "good") == first
    assert (stores / "map.png").read_bytes() == picture


@pytest.mark.drawn
def test_the_picture_and_its_numbers_are_written(stores):
    report = compared(stores, "good", "flat", dims=3)
    said = json.loads((stores / "map.json").read_text(encoding="utf-8"))
    assert said["points"][0]["set"] == "real"
    assert {point["set"] for point in said["points"]} == {"real", "good", "flat"}
    assert len(said["points"]) == 60 + 60 + 60
    assert all(len(point["at"]) == 3 for point in said["points"])
    assert 0 < report.trustworthiness <= 1
    with Image.open(stores / "map.png") as picture:
        assert np.asarray(picture.convert("L")).std() > 5


def test_patients_whom_a_generator_saw_are_not_held_out(stores, tmp_path):
    """Where it was fitted in a fold they are those of the fold, and not those of the store's own split."""
    real = open_store(stores / "real.h5")
    fold = Fold(deal_folds(real, 2), 1)
    splits = fold.of(real).splits
    seen = sorted({digest_patient(real.patients[i]) for i in np.flatnonzero(splits == "train")})
    info = INFO.model_copy(update={"generators": [ORIGIN.model_copy(update={"training_patients": seen})]})
    write(tmp_path / "drawn.h5", make_records(60, seed=2), info)
    asked = MapOptions(stores / "real.h5", [tmp_path / "drawn.h5"], tmp_path / "map.png", fold=fold)
    reference, _ = compare_sets(asked)
    assert (reference.images, reference.held_out) == (np.sum(splits == "train"), np.sum(splits != "train"))
    with pytest.raises(BadInput, match=r"g was fitted on \d patients? that .*real\.h5 holds out; give the --fold"):
        compare_sets(replace(asked, fold=Fold(fold.folds, 2)))


def test_lesions_can_be_compared_alone(stores):
    whole, boxes = compared(stores, "good"), compared(stores, "good", region="box")
    assert boxes.region == "box"
    assert boxes.sets[0].kid != whole.sets[0].kid


def numbers_of_sets(folder, *names, **options):
    """Return the numbers of held-out real images and of sets, without a map."""
    stores = [folder / f"{name}.h5" for name in names]
    return compare_sets(MapOptions(folder / "real.h5", stores, folder / "map.png", **options))


def test_images_without_a_box_are_not_among_the_lesions(tmp_path):
    """What a map of lesions says does not depend on how many healthy images there are."""
    mixed = [one if i % 2 else next(healthy([one], ALL)) for i, one in enumerate(make_records(120, seed=1))]
    make_store(tmp_path / "mixed.h5", mixed)
    make_store(tmp_path / "boxed.h5", [one for one in make_records(120, seed=1) if int(one.id[1:]) % 2])
    make_store(tmp_path / "healthy.h5", healthy(make_records(90, seed=1), ALL))
    write(tmp_path / "boxes.h5", make_records(40, seed=2))
    write(tmp_path / "some.h5", [*make_records(40, seed=2), *healthy(make_records(40, seed=3), ALL)])

    def numbers(real, name):
        (tmp_path / "real.h5").write_bytes((tmp_path / f"{real}.h5").read_bytes())
        reference, [own] = numbers_of_sets(tmp_path, name, region="box")
        return reference, own.model_copy(update={"name": "", "hash": ""})

    assert numbers("mixed", "some") == numbers("boxed", "boxes")
    with pytest.raises(UsageError, match="has 0 real training images with a box"):
        numbers("healthy", "boxes")
    with pytest.raises(UsageError, match=r"healthy\.h5 has 0 images with a box"):
        numbers("mixed", "healthy")


def edged(records, value):
    for record in records:
        record.image[..., :4] = value
        yield record


@pytest.mark.parametrize("features", ["pixels", "texture", "network"])
def test_a_defect_shows_where_no_real_image_varies(tmp_path, features):
    """So it is with what is painted into a black background."""
    make_store(tmp_path / "real.h5", edged(make_records(120, seed=1), 0))
    write(tmp_path / "good.h5", edged(make_records(60, seed=2), 0))
    write(tmp_path / "edge.h5", edged(make_records(60, seed=2), 200))
    _, (good, edge) = numbers_of_sets(tmp_path, "good", "edge", features=features)
    assert edge.kid > 1 > abs(good.kid)
    assert edge.one_nn_accuracy == edge.auc == 1
    assert edge.density < 0.1 < good.density


def test_pasted_images_of_one_host_are_judged_together(tmp_path):
    """Else a classifier that has seen a host says of its other images that they are drawn."""
    rng = np.random.default_rng(0)
    heads, box = rng.integers(20, 60, (40, 1, 16, 16)), np.array([[2, 2, 6, 6]], np.float32)

    def record(name, head, **more):
        image = (heads[head] + rng.integers(0, 6, (1, 16, 16))).astype(np.uint8)
        return Record(name, image, box, ["lesion"], f"p{head}", "train" if head < 20 else "test", **more)

    make_store(tmp_path / "real.h5", [record(f"i{head}-{k}", head) for head in range(40) for k in range(4)])
    write(tmp_path / "into.h5", [record("", k % 20, details={"host": f"i{k % 20}-{k % 3}"}) for k in range(160)])
    write(tmp_path / "drawn.h5", [record("", k % 20) for k in range(160)])
    _, (into, drawn) = numbers_of_sets(tmp_path, "into", "drawn")
    assert into.auc < 0.8 < drawn.auc


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("width", [1, 2, 3, 60])
def test_features_of_any_number_are_laid_out(width, dims):
    places, _, trust = layout(np.random.default_rng(0).normal(size=(41, width)), dims, 8, 0)
    assert places.shape == (41, dims)
    assert np.isfinite(places).all()
    assert 0 < trust <= 1


@pytest.mark.drawn
def test_images_of_two_channels_and_odd_names_are_drawn(tmp_path):
    make_store(tmp_path / "real.h5", make_records(60, seed=1, channels=2))
    write(tmp_path / "a$b_\x1b^.h5", make_records(30, seed=2, channels=2))
    assert compared(tmp_path, "a$b_\x1b^").sets[0].images == 30
    with Image.open(tmp_path / "map.png") as picture:
        assert np.asarray(picture.convert("L")).std() > 5


def test_the_table_calls_no_set_the_best_to_hope_for_but_real_images(stores):
    report = compared(stores, "good")
    assert "The first row is the best to hope for." in numbers_table(report).notes[0]
    [note] = numbers_table(report.model_copy(update={"reference": None})).notes
    assert "of real training against these images" in note
    assert "best to hope for" not in note


@pytest.mark.parametrize("shape", [(1, 1, 4, 4), (2, 3, 4, 5), (30, 1, 4, 4, 4)])
def test_spread_is_the_mean_standard_deviation_of_a_pixel(shape):
    images = np.random.default_rng(0).random(shape, np.float32)
    assert pixel_spread(iter(images)) == pytest.approx(images.std(0).mean(), rel=1e-5)
    assert pixel_spread([images[0]] * 5) == 0


def test_what_cannot_be_compared_is_named(stores):
    make_store(stores / "large.h5", make_records(60, 32))
    write(stores / "few.h5", make_records(6))
    with pytest.raises(BadInput, match=r"large\.h5 has images of 32x32"):
        compared(stores, "large")
    with pytest.raises(UsageError, match=r"few\.h5 has 6 images"):
        compared(stores, "few")
    with pytest.raises(UsageError, match="texture"):
        compared(stores, "good", features="nonsense")
    compared(stores, "good")
    with pytest.raises(UsageError, match="--overwrite"):
        compared(stores, "good", overwrite=False)


def test_kernel_distance_of_one_distribution_is_about_nothing():
    rng = np.random.default_rng(0)
    x, y, z = rng.normal(size=(400, 8)), rng.normal(size=(400, 8)), rng.normal(1, 1, size=(400, 8))
    same, error = kernel_distance(x, y)
    assert abs(same) < 5 * error + 0.05
    assert kernel_distance(x, z)[0] > 1


@pytest.mark.parametrize(("n", "m"), [(40, 31), (1400, 900)])  # fewer and more than the subsets hold
def test_kernel_distance_is_the_mean_over_subsets(n, m):
    rng = np.random.default_rng(2)
    x, y, drawn = rng.normal(size=(n, 6)), rng.normal(0.2, 1, size=(m, 6)), np.random.default_rng(7)
    size = min(100, m // 2)
    each = [unbiased_mmd(x[drawn.permutation(n)[:size]], y[drawn.permutation(m)[:size]]) for _ in range(100)]
    assert kernel_distance(x, y, 7) == pytest.approx((np.mean(each), np.std(each) / 10))


def test_unbiased_mmd_by_its_definition():
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(5, 3)), rng.normal(size=(4, 3))

    def kernel(a, b):
        return (a @ b / 3 + 1) ** 3

    within_x = np.mean([kernel(x[i], x[j]) for i in range(5) for j in range(5) if i != j])
    within_y = np.mean([kernel(y[i], y[j]) for i in range(4) for j in range(4) if i != j])
    across = np.mean([kernel(a, b) for a in x for b in y])
    assert unbiased_mmd(x, y) == pytest.approx(within_x + within_y - 2 * across)


def test_manifolds_of_a_set_with_itself_and_with_a_far_one():
    x = np.random.default_rng(0).normal(size=(50, 4))
    same, far = manifolds(x, x), manifolds(x, x + 100)
    assert (same.precision, same.recall, same.coverage) == (1, 1, 1)
    assert (far.precision, far.recall, far.density, far.coverage) == (0, 0, 0, 0)


@pytest.mark.parametrize(("real", "generated"), [(300, 20), (300, 100), (200, 200), (60, 400)])
def test_coverage_of_images_like_the_real_ones_is_that_expected_of_their_number(real, generated):
    rng, found = np.random.default_rng(0), []
    for _ in range(10):
        found.append(manifolds(rng.normal(size=(real, 6)), rng.normal(size=(generated, 6))).coverage)
    assert np.mean(found) == pytest.approx(expected_coverage(real, generated), abs=0.04)


@pytest.mark.parametrize("held_out", [20, 40, 100, 1000])
def test_copies_are_expected_by_the_number_of_held_out_images(held_out):
    rng, found = np.random.default_rng(0), []
    train = np.zeros((1, 1))  # so that an image lies as far from it as its feature says
    for _ in range(300):
        images = rng.gamma(9, size=(held_out + 1000, 1))
        found.append(memorisation(train, images[:held_out], images[held_out:]).suspicious)
    assert np.mean(found) == pytest.approx(expected_copies(held_out), rel=0.15)


def test_the_table_says_what_coverage_sets_of_several_sizes_may_reach(stores):
    report = compared(stores, "good")
    assert "reach about 0.88 (real, held out), 0.97 (good)." in numbers_table(report).notes[0]
    reference = report.reference.model_copy(update={"held_out": 60})
    assert "Coverage" not in numbers_table(report.model_copy(update={"reference": reference})).notes[0]


def test_memorisation_of_copies():
    rng = np.random.default_rng(0)
    train, held_out = rng.normal(size=(80, 6)), rng.normal(size=(40, 6))
    copied = memorisation(train, held_out, train[:30] + 1e-6)
    fresh = memorisation(train, held_out, rng.normal(size=(60, 6)))
    assert copied.suspicious == 1
    assert copied.nearest.tolist() == list(range(30))
    assert fresh.suspicious < 0.2
    assert fresh.ratio == pytest.approx(1, abs=0.2)


@given(numbers.arrays(np.float64, st.tuples(st.integers(6, 20), st.just(3)), elements=st.floats(-5, 5)))
def test_one_nn_accuracy_is_a_share(x):
    assert 0 <= one_nn_accuracy(x, x[::-1] + 0.5) <= 1


def test_scaled_features_of_real_images_have_unit_mean_square():
    rng = np.random.default_rng(0)
    real = rng.normal(3, 7, size=(120, 200)) * np.linspace(0, 2, 200)
    found = scaled(np.concatenate([real, real + 1]), real)
    assert found.shape == (240, 200)  # the first of them real images all have alike
    assert (found[:120] ** 2).mean() == pytest.approx(1)
    assert reduced(found, 0).shape == (240, 50)
    assert reduced(found[:30], 0).shape == (30, 30)
    alike = np.tile(rng.random(50), (67, 1))  # the mean of which is not quite what all of them are
    for same in (np.ones((5, 3)), alike, np.zeros((1, 4))):
        with pytest.raises(BadInput, match="nothing to compare"):
            scaled(np.concatenate([same, same + 1]), same)


def healthy(records, splits=("val", "test")):
    for record in records:
        if record.split in splits:
            object.__setattr__(record, "boxes", np.empty((0, 4), np.float32))
            object.__setattr__(record, "labels", [])
        yield record


@pytest.fixture
def judged(tmp_path, tiny_plugins):
    """Return a folder with a store whose held-out images are healthy, a detector fitted on it and synthetic images."""
    make_store(tmp_path / "real.h5", healthy(make_records(90, seed=1)))
    write(tmp_path / "good.h5", make_records(40, seed=2))
    train_detector(tmp_path / "real.h5", "tiny", RunOptions(tmp_path / "detector", device="cpu"), steps=2)
    return tmp_path


def test_healthy_held_out_images_end_no_map(judged):
    told = []
    report = compared(judged, "good", detector=judged / "detector", device="cpu", announce=told.append)
    assert report.reference.fidelity is None
    assert 0 <= report.sets[0].fidelity.found <= 1
    assert any("the held-out images have no boxes" in sentence for sentence in told)
    said = json.loads((judged / "map.json").read_text(encoding="utf-8"))
    Draft202012Validator(data_schemas.load("tsne")).validate(said)


def test_few_held_out_images_are_said_before_long_work(judged, monkeypatch):
    make_store(judged / "real.h5", make_records(30, seed=1))
    monkeypatch.setattr("medaug_cli.embedding.layout.layout", lambda *_: pytest.fail("long work was begun"))
    with pytest.raises(UsageError, match=r"--detector needs 20 real images of held-out patients, .* has 10"):
        compared(judged, "good", detector=judged / "detector", device="cpu")


def test_a_map_without_held_out_images_keeps_its_schema_and_is_drawn_again(tmp_path):
    make_store(tmp_path / "real.h5", make_records(30, seed=1))
    write(tmp_path / "good.h5", make_records(24, seed=2))
    first = compared(tmp_path, "good")
    said = json.loads((tmp_path / "map.json").read_text(encoding="utf-8"))
    Draft202012Validator(data_schemas.load("tsne")).validate(said)
    assert said["reference"] is None
    assert said["sets"][0]["suspicious"] is None
    (tmp_path / "map.png").unlink()
    assert compared(tmp_path, "good", overwrite=False) == first
