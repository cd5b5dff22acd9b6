"""Plant copies of real images and count what the audit finds: ``python scripts/checks/audit.py DATA``.

DATA needs an images.csv with a group column, such as BUSI's: pairs of originals in different groups count as false.
"""

from __future__ import annotations

import argparse
import json

import numpy as np
from PIL import Image, ImageFilter

from sonoedge.edge_runtime.imaging.image import read_image
from sonoedge.train.data.copies import centre_square, copy_pairs
from sonoedge.train.data.dataset import load_dataset
from sonoedge.train.data.grouping import near_duplicate_pairs, thumbnail


def planted(image: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """One copy of every kind, by its name."""
    picture = Image.fromarray(image)
    angle = float(rng.uniform(5, 30) * rng.choice((-1, 1)))
    flipped = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    width, height = (max(32, round(side * rng.uniform(0.5, 1.5))) for side in picture.size)
    sharpen = ImageFilter.UnsharpMask(2, 150, 0)
    copies = {
        "turned": picture.rotate(angle, Image.Resampling.BILINEAR),
        "flipped": flipped,
        "sharpened": picture.filter(sharpen),
        "rescaled": picture.resize((width, height)),
        "turned, sharpened": picture.rotate(-angle, Image.Resampling.BILINEAR).filter(sharpen),
        "flipped, turned": flipped.rotate(angle, Image.Resampling.BICUBIC),
    }
    return {name: np.asarray(copy) for name, copy in copies.items()}


def main() -> None:
    """Plant, audit and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data")
    parser.add_argument("--sources", type=int, default=120)
    args = parser.parse_args()
    dataset = load_dataset(args.data)
    images = [read_image(sample.path) for sample in dataset.samples]
    rng = np.random.default_rng(0)
    sources = rng.permutation(len(images))[: args.sources].tolist()
    copies = [(source, kind, copy) for source in sources for kind, copy in planted(images[source], rng).items()]
    everything = [*images, *(copy for _, _, copy in copies)]
    pairs = {(p.first, p.second) for p in copy_pairs(np.stack([centre_square(x) for x in everything]))}
    pairs |= set(near_duplicate_pairs(np.stack([thumbnail(x) for x in everything]), invariant=True))
    found: dict[str, list[bool]] = {}
    for number, (source, kind, _) in enumerate(copies, start=len(images)):
        found.setdefault(kind, []).append((source, number) in pairs)
    originals = [(a, b) for a, b in pairs if b < len(images)]
    false = [(a, b) for a, b in originals if dataset.groups[a] != dataset.groups[b]]
    names = [[dataset.samples[i].relative_path for i in pair] for pair in false]
    recall = {kind: float(np.mean(hits)) for kind, hits in found.items()}
    print(json.dumps({"recall": recall, "pairs_of_originals": len(originals), "false": names}, indent=1))


if __name__ == "__main__":
    main()
