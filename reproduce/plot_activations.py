#!/usr/bin/env python3
"""Figures from activation studies (`ptq activations`).

    plot_activations.py OUT [LABEL=]DIR... [--without-first]

Writes OUT/histograms and OUT/patterns as .png and .pdf. Histograms: density of all activations of a module type,
averaged over layers, one panel for each module, studies overlaid. Patterns: per study and module the means of every
channel in every layer; means between the 1st and 99th percentile of the study's module become 0; what is left is
max-pooled (positive) and min-pooled (negative) over neighbouring channels to 128 blocks. Where 128 does not divide the
number of channels, blocks are as equal as can be (differing by one channel). --without-first leaves out position 0 of
every window, where massive activations sit. Equal studies give equal files.
"""
import argparse
import itertools
import json
import pathlib
import struct
import sys

import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402  (the backend comes first)
from matplotlib.colors import ListedColormap, LogNorm  # noqa: E402

MODULES = {"o": "attention output projection", "down": "last MLP linear"}
BLOCKS = 128
# Sequential colours without their palest third, which is too close to the white of "nothing here".
REDS, BLUES = (ListedColormap(plt.get_cmap(name)(np.linspace(0.3, 1.0, 256))) for name in ("Reds", "Blues"))


def read_safetensors(path):
    """Name -> array, for the types that a study has."""
    types = {"F64": "<f8", "F32": "<f4", "I64": "<i8"}
    data = path.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:8 + length])
    header.pop("__metadata__", None)
    return {name: np.frombuffer(data[8 + length:][slice(*t["data_offsets"])], types[t["dtype"]]).reshape(t["shape"])
            for name, t in header.items()}


class Study:
    def __init__(self, text, without_first):
        label, equals, directory = text.rpartition("=")
        path = pathlib.Path(directory)
        self.label = label if equals else path.name
        self.about = json.loads((path / "activations.json").read_text(encoding="utf-8"))
        self.arrays = read_safetensors(path / "activations.safetensors")
        self.variant = ".without_first" if without_first else ""
        if without_first and self.about["tokens"] == self.about["windows"]:
            raise ValueError(f"{directory}: every window is one token, nothing is left without position 0")

    def __getitem__(self, name):
        """The module's array: study["o", "mean"]."""
        module, array = name
        return self.arrays[f"{module}{self.variant}.{array}"]


def density(counts, step):
    """Per layer counts / (elements * bin width), averaged over layers; and the share outside of the histogram."""
    total = counts.sum(axis=1, keepdims=True)
    return (counts[:, 1:-1] / total / step).mean(axis=0), ((counts[:, 0] + counts[:, -1]) / total[:, 0]).mean()


def draw_histograms(studies, side):
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.8), constrained_layout=True)
    for axis, (module, title) in zip(axes, MODULES.items()):
        for study, line in zip(studies, itertools.cycle(["-", "--", ":", "-."])):  # equal curves stay visible
            edge, bins = study.about["range"], study.about["bins"]
            values, outside = density(study[module, "counts"], 2 * edge / bins)
            axis.stairs(values, np.linspace(-edge, edge, bins + 1), linewidth=1.3, linestyle=line, baseline=None,
                        label=f"{study.label} ({100 * outside:.2g} % beyond ±{edge:g})")
        axis.set_title(f"{title}, {side}")
        axis.set_xlabel("activation")
        axis.set_ylabel("density, mean over layers")
        axis.set_xlim(-edge, edge)
        axis.set_ylim(bottom=0)
        axis.grid(color="0.92")
        axis.set_axisbelow(True)
        axis.legend(fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.12))  # the peak is where room would be
    return figure


def pattern(means):
    """[layers, channels] -> positive and negative [layers, blocks]."""
    low, high = np.percentile(means, [1, 99])
    kept = np.where((means < low) | (means > high), means, 0.0)
    starts = np.arange(min(BLOCKS, means.shape[1])) * means.shape[1] // min(BLOCKS, means.shape[1])
    positive = np.maximum.reduceat(np.maximum(kept, 0.0), starts, axis=1)
    negative = np.minimum.reduceat(np.minimum(kept, 0.0), starts, axis=1)
    return positive, negative


def block_note(channels):
    blocks = min(BLOCKS, channels)
    small, rest = divmod(channels, blocks)
    return f"{small} channels" if rest == 0 else f"{small} or {small + 1} channels"


def draw_patterns(studies, side):
    figure, axes = plt.subplots(len(studies), 4, figsize=(16, 0.9 + 3.1 * len(studies)), squeeze=False,
                                constrained_layout=True)
    for column, (module, title) in enumerate(MODULES.items()):
        maps = [pattern(study[module, "mean"]) for study in studies]
        magnitudes = np.abs(np.concatenate([m[m != 0] for pair in maps for m in pair] or [np.ones(1)]))
        norm = LogNorm(magnitudes.min(), max(magnitudes.max(), magnitudes.min() * 1.001))
        for row, (study, pair) in enumerate(zip(studies, maps)):
            for sign, (values, name, colors) in enumerate(zip(pair, ("positive", "negative"), (REDS, BLUES))):
                axis = axes[row][2 * column + sign]
                image = axis.imshow(np.ma.masked_equal(np.abs(values), 0.0), norm=norm, cmap=colors, aspect="auto",
                                    interpolation="nearest", extent=(0, values.shape[1], values.shape[0] - 0.5, -0.5))
                bar = figure.colorbar(image, ax=axis, pad=0.02)
                bar.set_label("mean activation" if sign == 0 else "-(mean activation)", fontsize="small")
                axis.set_title(f"{study.label}\n{title}, {name}", fontsize="medium")
                axis.set_xlabel(f"block of {block_note(study[module, 'mean'].shape[1])}")
                axis.set_ylabel("layer")
    figure.suptitle(f"Channel means of the {side} beyond the 1st and 99th percentile, pooled "
                    f"(shared colour scale per module)")
    return figure


def save(figure, path):
    figure.savefig(path.with_suffix(".png"), dpi=150, metadata={"Software": None})
    figure.savefig(path.with_suffix(".pdf"), metadata={"CreationDate": None, "Creator": None, "Producer": None})
    plt.close(figure)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("studies", nargs="+", metavar="[LABEL=]DIR")
    parser.add_argument("--without-first", action="store_true")
    args = parser.parse_args()
    try:
        studies = [Study(text, args.without_first) for text in args.studies]
        sides = {study.about["side"] for study in studies}
        if len(sides) > 1:
            raise ValueError("studies of inputs and of outputs do not belong in one figure")
        side = sides.pop() + (" (position 0 left out)" if args.without_first else "")
        histograms, patterns = draw_histograms(studies, side), draw_patterns(studies, side)
    except FileNotFoundError as error:
        print(f"plot_activations.py: {error}", file=sys.stderr)
        return 66
    except (ValueError, KeyError, TypeError, IndexError, struct.error) as error:
        print(f"plot_activations.py: {error!r}", file=sys.stderr)
        return 65
    args.out.mkdir(parents=True, exist_ok=True)
    save(histograms, args.out / "histograms")
    save(patterns, args.out / "patterns")
    return 0


if __name__ == "__main__":
    sys.exit(main())
