"""A small interpreter of darknet's cfg files in plain torch, to compare with: it shares no code with the plugin."""

import struct

import numpy as np
import torch
import torch.nn.functional as F


def block(filters, size, stride=1, normal=1, activation="leaky"):
    return (
        f"[convolutional]\nbatch_normalize={normal}\nfilters={filters}\nsize={size}\nstride={stride}\npad=1\n"
        f"activation={activation}\n"
    )


def yolov3_cfg(classes=80, channels=3, spp=False, narrower=1):
    """Return the published yolov3.cfg or yolov3-spp.cfg, or narrower ones, without what only training needs."""

    def conv(filters, *options):
        return block(filters // narrower, *options)

    last = block(3 * (5 + classes), 1, 1, 0, "linear") + "[yolo]\n"
    text = f"[net]\nchannels={channels}\n" + conv(32, 3)
    for filters, repeats in ((64, 1), (128, 2), (256, 8), (512, 8), (1024, 4)):
        text += conv(filters, 3, 2)
        text += repeats * (conv(filters // 2, 1) + conv(filters, 3) + "[shortcut]\nfrom=-3\nactivation=linear\n")
    text += conv(512, 1) + conv(1024, 3) + conv(512, 1)
    if spp:
        text += "[maxpool]\nstride=1\nsize=5\n[route]\nlayers=-2\n[maxpool]\nstride=1\nsize=9\n[route]\nlayers=-4\n"
        text += "[maxpool]\nstride=1\nsize=13\n[route]\nlayers=-1,-3,-5,-6\n" + conv(512, 1)
    text += conv(1024, 3) + conv(512, 1) + conv(1024, 3) + last
    for width, layer in ((256, 61), (128, 36)):
        text += "[route]\nlayers=-4\n" + conv(width, 1) + f"[upsample]\nstride=2\n[route]\nlayers=-1,{layer}\n"
        text += 2 * (conv(width, 1) + conv(2 * width, 3)) + conv(width, 1) + conv(2 * width, 3) + last
    return text


def tiny_cfg(classes=80, channels=3):
    """Return the published yolov3-tiny.cfg, without what only training needs."""
    last = block(3 * (5 + classes), 1, 1, 0, "linear") + "[yolo]\n"
    text = f"[net]\nchannels={channels}\n"
    for filters in (16, 32, 64, 128, 256):
        text += block(filters, 3) + "[maxpool]\nsize=2\nstride=2\n"
    text += block(512, 3) + "[maxpool]\nsize=2\nstride=1\n" + block(1024, 3) + block(256, 1) + block(512, 3) + last
    text += "[route]\nlayers=-4\n" + block(128, 1) + "[upsample]\nstride=2\n[route]\nlayers=-1,8\n"
    return text + block(256, 3) + last


class Darknet:
    """A network as its cfg says, with weights out of one flat array in the order of the cfg."""

    def __init__(self, text):
        self.layers = []
        for part in text.split("[")[1:]:
            kind, _, body = part.partition("]")
            pairs = [line.split("=") for line in body.split("\n") if "=" in line]
            self.layers.append((kind.strip(), {key.strip(): value.strip() for key, value in pairs}))
        self.channels = int(self.layers.pop(0)[1]["channels"])
        self.maps = self._maps()

    def _maps(self):
        """Return how many feature maps leave each layer."""
        maps = []
        for i, (kind, values) in enumerate(self.layers):
            before = maps[-1] if maps else self.channels
            if kind == "convolutional":
                before = int(values["filters"])
            elif kind == "route":
                before = sum(maps[j] for j in self._from(i, values))
            maps.append(before)
        return maps

    @staticmethod
    def _from(i, values):
        return [j if j >= 0 else i + j for j in map(int, values["layers"].split(","))]

    def shapes(self):
        """Yield (name, shape) of every array of the weight file, in its order."""
        for i, (kind, values) in enumerate(self.layers):
            if kind == "convolutional":
                filters, size = int(values["filters"]), int(values["size"])
                inputs = self.maps[i - 1] if i else self.channels
                if int(values.get("batch_normalize", 0)):
                    yield from ((i, name, (filters,)) for name in ("beta", "scale", "mean", "variance"))
                else:
                    yield i, "bias", (filters,)
                yield i, "weights", (filters, inputs, size, size)

    def count(self):
        return sum(int(np.prod(shape)) for _, _, shape in self.shapes())

    def load(self, numbers):
        self.held, place = {}, 0
        for i, name, shape in self.shapes():
            size = int(np.prod(shape))
            self.held[i, name] = torch.from_numpy(numbers[place : place + size].reshape(shape).copy())
            place += size
        assert place == len(numbers)

    def random(self, seed):
        """Return weights under which activations stay near 1."""
        rng = np.random.default_rng(seed)
        parts = []
        for _, name, shape in self.shapes():
            drawn = rng.standard_normal(int(np.prod(shape)), np.float32)
            if name == "weights":
                drawn *= np.float32(np.prod(shape[1:])) ** -0.5
            elif name in ("scale", "variance"):
                drawn = np.abs(drawn) * 0.3 + 0.7
            parts.append(drawn * (0.3 if name in ("mean", "beta", "bias") else 1))
        return np.concatenate(parts).astype(np.float32)

    def __call__(self, x):
        """Return what enters each [yolo] layer, in the order of the cfg."""
        seen, out = [], []
        for i, (kind, values) in enumerate(self.layers):
            if kind == "convolutional":
                x = self._convolved(i, values, x)
            elif kind == "shortcut":
                x = x + seen[i + int(values["from"])]
            elif kind == "route":
                x = torch.cat([seen[j] for j in self._from(i, values)], 1)
            elif kind == "upsample":
                x = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
            elif kind == "maxpool":
                x = self._pooled(int(values["size"]), int(values["stride"]), x)
            elif kind == "yolo":
                out.append(x)
            seen.append(x)
        return out

    def _convolved(self, i, values, x):
        weights, size = self.held[i, "weights"], int(values["size"])
        x = F.conv2d(x, weights, stride=int(values["stride"]), padding=size // 2)
        if (i, "mean") in self.held:
            beta, scale, mean, variance = (
                self.held[i, name][:, None, None] for name in ("beta", "scale", "mean", "variance")
            )
            x = (x - mean) / torch.sqrt(variance + 1e-5) * scale + beta
        else:
            x = x + self.held[i, "bias"][:, None, None]
        return torch.where(x > 0, x, 0.1 * x) if values["activation"] == "leaky" else x

    @staticmethod
    def _pooled(size, stride, x):
        """Darknet pads by size - 1, half of it (rounded down) before."""
        before = (size - 1) // 2
        pads = (before, size - 1 - before) * 2
        h, w = x.shape[2:]
        return F.max_pool2d(F.pad(x, pads, value=-np.inf), size, stride)[..., : -(-h // stride), : -(-w // stride)]


def written(path, numbers, version=(0, 2, 0), seen=1234):
    """Write a weight file with the header of a version of darknet."""
    wide = version[0] * 10 + version[1] >= 2
    path.write_bytes(struct.pack("<3i" + ("Q" if wide else "I"), *version, seen) + numbers.astype("<f4").tobytes())
    return path
