"""The data that the figures on the pages were taken with, as zips of class folders: mnist-train.zip, mnist-test.zip.

    python benchmarks/data.py ylecun/mnist --as mnist
    python benchmarks/data.py uoft-cs/cifar10 --as cifar10

The data sets come from the Hub (pip install 'fewstep[data]'), one zip a split. The pictures are the published ones, as
PNG, in the order of the data set. Other copies of them lie in other orders, which changes a figure as another seed
does; CIFAR-10 is often found as JPEG, which changes the pictures a little too.
"""

import argparse
import io
import zipfile
from pathlib import Path

from PIL import Image

from fewstep.files import whole_file
from fewstep.images import Data, open_images

SPLITS = ("train", "test")


def write(data: Data, path: Path) -> int:
    """A zip with a folder a class, entries stored as they are; how many pictures it holds."""
    images = open_images(data)
    with whole_file(path) as aside, zipfile.ZipFile(aside, "w") as file:
        for i in range(len(images)):
            pixels, picture = images.picture(i), io.BytesIO()
            Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(picture, "PNG")
            file.writestr(f"{images.class_names[images.labels[i]]}/{i:05}.png", picture.getvalue())
    return len(images)


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("source", help="a data set of the Hub, as owner/name")
    asked.add_argument("--as", dest="name", required=True, help="how the zips begin")
    options = asked.parse_args()
    for split in SPLITS:
        path = Path(f"{options.name}-{split}.zip")
        print(f"{path}: {write(Data(options.source, split=split), path):,} pictures", flush=True)


if __name__ == "__main__":
    main()
