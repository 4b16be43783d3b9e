"""What images look like in numbers: pixels, a random network, a timm model, a trained classifier, or a third party's.

Legend of shapes: n images, b of a batch, c channels, *s spatial axes, k features.
"""

from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from medaug_cli.errors import BadInput, MissingPlugin, UsageError
from medaug_cli.store import Store

GROUP = "medaug.features"
BATCH = 64
SIDE = 32  # pixels of a shrunken image
COMPONENTS = 50

Extractor = Callable[[np.ndarray], np.ndarray]  # images (b, c, *s) in [0, 1] -> (b, k)


def feature_names() -> list[str]:
    """Return the names that `--features` takes; `timm:NAME` stands for any model of timm."""
    return [*BUILT_IN, "timm:NAME", "a folder of train-classifier", *sorted(_installed())]


def extractor(name: str) -> Extractor:
    """Return a feature extractor by name; raise UsageError or MissingPlugin where there is none."""
    if name in BUILT_IN:
        return BUILT_IN[name]()
    if name.startswith("timm:"):
        return _timm(name.removeprefix("timm:"))
    found = _installed().get(name)
    if found is None and Path(name).is_dir():
        return _classifier(Path(name))
    if found is None:
        raise UsageError(f"--features {name}: the choices are {', '.join(feature_names())}")
    try:
        return found.load()
    except Exception as error:  # whatever a third party's import raises
        raise MissingPlugin(f"the features {name!r} do not load ({type(error).__name__}: {error})") from error


def is_classifier(name: str) -> bool:
    """Tell whether features are those of a trained classifier, so that it is its map that is drawn."""
    return name not in BUILT_IN and Path(name, "classifier.json").is_file()


def _classifier(folder: Path) -> Extractor:
    """Return the last layer of a trained classifier before its class scores (Han et al., 2.5)."""
    from medaug_cli.plugin import Featured
    from medaug_cli.runs import load_network

    network, metadata = load_network(folder, "classifier")
    if not isinstance(network, Featured):
        raise UsageError(f"--features {folder}: a {metadata.name} exposes no features")
    form = (metadata.form.channels, *metadata.form.spatial)

    def extract(images: np.ndarray) -> np.ndarray:
        if images.shape[1:] != form:
            sizes = ["x".join(map(str, each)) for each in (form, images.shape[1:])]
            raise UsageError(f"--features {folder}: it was trained on images of {sizes[0]}, these are {sizes[1]}")
        return np.stack(list(network.features(iter(images))))

    return extract


def _installed() -> dict[str, Any]:
    from importlib.metadata import entry_points

    return {entry.name: entry for entry in entry_points(group=GROUP)}


def describe(
    store: Store, indices: np.ndarray, extract: Extractor, region: str = "image", mirrored: bool = False
) -> np.ndarray:
    """Return features (n, k) of some images of a store, or of the region around their first box, mirrored or not."""
    batches = _batches(store, indices, region)
    batches = (np.ascontiguousarray(batch[..., ::-1]) for batch in batches) if mirrored else batches
    parts = [np.asarray(extract(batch), np.float64) for batch in batches]
    features = np.concatenate(parts)
    if not np.isfinite(features).all():
        raise BadInput(f"the features of {store.path} are not all finite numbers")
    return features.reshape(len(indices), -1)


def _batches(store: Store, indices: np.ndarray, region: str) -> Iterator[np.ndarray]:
    for start in range(0, len(indices), BATCH):
        chosen = indices[start : start + BATCH]
        images = store.read(chosen)
        if region == "box":
            images = np.stack([_around(image, store.boxes[i]) for image, i in zip(images, chosen, strict=True)])
        yield images


def _around(image: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Return the square around an image's first box, half a box wider on every side, resized to SIDE pixels."""
    d = image.ndim - 1
    low, high = boxes[0][:d], boxes[0][d:]
    centre, half = (low + high) / 2, (high - low).max()
    for axis in range(d):
        x = d - 1 - axis
        at = np.linspace(centre[x] - half, centre[x] + half, SIDE) - 0.5
        place = np.clip(np.rint(at).astype(int), 0, image.shape[axis + 1] - 1)
        image = np.take(image, place, axis + 1)
    return image


def shrunk(images: np.ndarray, side: int = SIDE) -> np.ndarray:
    """Return images (b, c, *s) averaged down to at most `side` pixels along each axis."""
    for axis in range(2, images.ndim):
        while images.shape[axis] > side and images.shape[axis] % 2 == 0:
            paired = np.moveaxis(images, axis, -1)
            images = np.moveaxis((paired[..., ::2] + paired[..., 1::2]) / 2, -1, axis)
    return images


def _pixels(images: np.ndarray) -> np.ndarray:
    return shrunk(images).reshape(len(images), -1)


def _texture(images: np.ndarray) -> np.ndarray:
    """Return local spread and edges on a grid of 8 cells a side: what averaging away detail does not see."""
    maps = [images]
    for axis in range(2, images.ndim):
        maps.append(np.abs(np.diff(images, axis=axis, append=images.take([-1], axis))))
    whole = np.concatenate(maps, 1)
    fine = shrunk(whole, 8)
    spread = np.sqrt(np.maximum(shrunk(whole**2, 8) - fine**2, 0))
    return np.concatenate([fine.reshape(len(images), -1), spread.reshape(len(images), -1)], 1)


def _network() -> Extractor:
    """Return a convolutional network of random weights, always the same ones: means and spreads of its maps.

    Random features know no training set that is foreign to the images (Naeem et al. 2020, 4); it sees fine detail
    beside the image itself, which would drown in it.
    """
    import torch
    import torch.nn.functional as F

    def weights(channels: int, dims: int) -> list[torch.Tensor]:
        chance, widths = torch.Generator().manual_seed(channels), (16, 32, 64, 64)
        drawn = [torch.randn(o, i, *[3] * dims, generator=chance) for i, o in pairwise((2 * channels, *widths))]
        return [w * (2 / w[0].numel()) ** 0.5 for w in drawn]

    def extract(images: np.ndarray) -> np.ndarray:
        dims = images.ndim - 2
        pool, whole = ((F.avg_pool2d, F.adaptive_avg_pool2d), (F.avg_pool3d, F.adaptive_avg_pool3d))[dims - 2]
        convolve = (F.conv2d, F.conv3d)[dims - 2]
        cells = (4, 2)[dims - 2]  # along a side: 16 of a picture, 8 of a volume
        x, found = torch.from_numpy(np.ascontiguousarray(images, np.float32)), []
        detail = x - pool(F.pad(x, (1, 1) * dims, mode="replicate"), 3, 1)
        x = torch.cat([2 * x - 1, 4 * detail], 1)
        for weight in weights(images.shape[1], dims):
            x = F.leaky_relu(convolve(x, weight, padding=1), 0.2)
            coarse = whole(x, cells)
            spread = (whole(x.square(), cells) - coarse.square()).clamp(min=0).sqrt()
            found += [coarse.flatten(1), spread.flatten(1)]
            x = pool(x, 2) if min(x.shape[2:]) >= 8 else x
        return torch.cat(found, 1).numpy()

    return extract


def _timm(name: str) -> Extractor:
    import timm
    import torch

    try:
        model = timm.create_model(name, pretrained=True, num_classes=0).eval()
    except Exception as error:  # no such model, no network, no weights
        reason = " ".join(str(error).split())[:160]
        raise UsageError(f"--features timm:{name}: its weights cannot be loaded ({reason})") from error
    config: Any = model.pretrained_cfg
    mean, std = (torch.tensor(config[key]).view(1, 3, 1, 1) for key in ("mean", "std"))

    def extract(images: np.ndarray) -> np.ndarray:
        if images.ndim == 5:  # of a volume the three planes through its middle
            middles = [np.take(images, images.shape[axis] // 2, axis) for axis in (2, 3, 4)]
            return np.concatenate([extract(plane) for plane in middles], 1)
        x = torch.from_numpy(np.ascontiguousarray(images))
        x = x[:, :1].expand(-1, 3, -1, -1) if x.shape[1] != 3 else x
        with torch.no_grad():
            x = torch.nn.functional.interpolate(x, size=config["input_size"][1:], mode="bilinear")
            return model((x - mean) / std).numpy()

    return extract


BUILT_IN: dict[str, Callable[[], Extractor]] = {
    "pixels": lambda: _pixels, "texture": lambda: _texture, "network": _network,
}  # fmt: skip


def scaled(features: np.ndarray, fitted_on: np.ndarray) -> np.ndarray:
    """Return features (n, k) centred and divided by one number.

    Centre and number are those of `fitted_on` (real images): no feature is blown up by its own tiny spread, and the
    mean square of a real image's feature is 1, so that a kernel distance has the same scale for any extractor. No
    direction is dropped: a defect may lie where real images do not vary, as in a black background.
    """
    if (fitted_on == fitted_on[:1]).all():
        raise BadInput("all real images have the same features: there is nothing to compare")
    centre = fitted_on.mean(0)
    return (features - centre) / np.sqrt(((fitted_on - centre) ** 2).mean())


def reduced(features: np.ndarray, seed: int) -> np.ndarray:
    """Return features (n, k) on their 50 principal axes at most, as t-SNE takes them."""
    from sklearn.decomposition import PCA

    most = min(COMPONENTS, *features.shape)
    axes = PCA(most, svd_solver="randomized", random_state=seed)
    return axes.fit_transform(features) if features.shape[1] > most else features
