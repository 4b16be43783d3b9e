"""The network as a cfg of darknet, which describes what a weight file beside it holds."""

from collections.abc import Iterable, Sequence
from typing import Any

from medaug_plugins.yolov3.networks import ANCHORS, POOLS, YOLO, TinyBackbone

Section = tuple[str, dict[str, Any]]
STAGES = (1, 2, 8, 8, 4)  # shortcuts of Darknet-53 (table 1)


def cfg(network: YOLO, spatial: tuple[int, int], channels: int, reach: float = 1.0) -> str:
    """Return the cfg of a network that darknet has (`darknet.convolutions`) for inputs of this size.

    A `reach` beyond 1 (`anchors.decode`) is what newer darknets call scale_x_y.
    """
    height, width = spatial
    net: Section = ("net", {"batch": 1, "width": width, "height": height, "channels": channels})
    body = _tiny() if isinstance(network.backbone, TinyBackbone) else _darknet53(network.backbone.outputs[-1])
    return "\n".join(_text(each) for each in [net, *body, *_heads(network, len(body), reach)])


def _text(section: Section) -> str:
    name, values = section
    return "\n".join([f"[{name}]", *(f"{key}={value}" for key, value in values.items()), ""])


def _block(filters: int, size: int, stride: int = 1) -> Section:
    values = {"batch_normalize": 1, "filters": filters, "size": size, "stride": stride, "pad": 1}
    return "convolutional", {**values, "activation": "leaky"}


def _pool(size: int, stride: int) -> Section:
    return "maxpool", {"stride": stride, "size": size}


def _route(*layers: int) -> Section:
    return "route", {"layers": ",".join(map(str, layers))}


def _darknet53(widest: int) -> list[Section]:
    filters = widest >> len(STAGES)
    body = [_block(filters, 3)]
    for count in STAGES:
        filters *= 2
        body.append(_block(filters, 3, 2))
        for _ in range(count):
            body += [_block(filters // 2, 1), _block(filters, 3), ("shortcut", {"from": -3, "activation": "linear"})]
    return body


def _tiny() -> list[Section]:
    body: list[Section] = []
    for filters in (16, 32, 64, 128, 256, 512):
        body += [_block(filters, 3), _pool(2, 2 if filters < 512 else 1)]
    return [*body, _block(1024, 3)]


def _heads(network: YOLO, length: int, reach: float) -> Iterable[Section]:
    """Return the sections from the coarsest head on, after `length` of the backbone."""
    tiny = len(network.heads) == 2
    features = [8] if tiny else [36, 61]  # the layers of the finer features
    layers: list[Section] = []
    for i in reversed(range(len(network.heads))):
        wide = network.heads[i].out[1].in_channels  # type: ignore[union-attr, index]
        if tiny:
            layers += [_block(256, 1)] if i else []
        else:
            spp = len(network.heads[i].neck) > 5  # type: ignore[union-attr, arg-type]
            layers += _neck(wide // 2, spp)
        passed = length + len(layers) - 1
        layers += [_block(wide, 3), *_last(network, i, reach)]
        if i:
            narrow = network.lateral[i - 1][0].out_channels  # type: ignore[index]
            layers += [_route(passed - length - len(layers)), _block(narrow, 1), ("upsample", {"stride": 2})]
            layers.append(_route(-1, features[i - 1]))
    return layers


def _neck(width: int, spp: bool) -> list[Section]:
    begin = [_block(width, 1), _block(2 * width, 3), _block(width, 1)]
    if spp:
        fine, middle, coarse = sorted(POOLS)
        begin += [_pool(fine, 1), _route(-2), _pool(middle, 1), _route(-4), _pool(coarse, 1), _route(-1, -3, -5, -6)]
        begin.append(_block(width, 1))
    return [*begin, _block(2 * width, 3), _block(width, 1)]


def _last(network: YOLO, scale: int, reach: float) -> Sequence[Section]:
    first, count = ANCHORS * scale, len(network.anchors)
    sides = ",  ".join(f"{w:.6g},{h:.6g}" for w, h in network.anchors.tolist())
    filters = ANCHORS * (5 + network.classes)
    linear = {"size": 1, "stride": 1, "pad": 1, "filters": filters, "activation": "linear"}
    yolo = {"mask": ",".join(map(str, range(first, first + ANCHORS))), "anchors": sides, "classes": network.classes}
    yolo |= {"num": count, "ignore_thresh": 0.7, "truth_thresh": 1} | ({"scale_x_y": reach} if reach != 1 else {})
    return [("convolutional", linear), ("yolo", yolo)]
