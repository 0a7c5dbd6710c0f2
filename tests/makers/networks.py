# SPDX-License-Identifier: Apache-2.0
"""Small networks by their makers' own packages, exported as their makers do.

The weights are random, but the last layer is scaled on photos so that answers differ. Each
function writes an export into a folder and returns the maker's own pipeline: from an RGB image of
Pillow to a row of scores, a NumPy array.
"""

from __future__ import annotations

import shutil

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed: make test-makers does it")

CLASSES = 10
NAMES = tuple(f"class {index}" for index in range(CLASSES))
SPREAD = 2.0  # standard deviation of a class's logit between photos


def seeded(make):
    torch.manual_seed(0)
    return make().eval()


def settle_norms(network, pixels):
    """Give batch normalisation the statistics of photos: without, all answers are nearly one."""
    norms = [layer for layer in network.modules() if isinstance(layer, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None
        norm.reset_running_stats()
    network.train(bool(norms))
    with torch.no_grad():
        network(pixels)
    network.eval()


def spread(linear, logits):
    """Scale the last layer so that each class's logits on photos have mean 0 and one spread."""
    with torch.no_grad():
        factor = SPREAD / logits.std(0).clamp_min(1e-9)
        linear.weight *= factor[:, None]
        linear.bias.copy_((linear.bias - logits.mean(0)) * factor)


def run(network, pixels):
    """Return the probabilities of a batch."""
    with torch.no_grad():
        return network(pixels).softmax(1).numpy()


def export(network, pixels, file, **options):
    torch.onnx.export(network, (pixels[:1],), str(file), dynamo=False, **options)


def timm_network(folder, photos, **cfg):
    """Write what ``timm.models.save_for_hf`` writes, with an ONNX file beside."""
    timm = pytest.importorskip("timm")
    from timm.data import create_transform, resolve_model_data_config
    from timm.models._hub import save_config_for_hf

    network = seeded(lambda: timm.create_model("test_resnet", num_classes=CLASSES))
    network.pretrained_cfg.update(cfg)
    network.pretrained_cfg.pop("test_input_size", None)
    transform = create_transform(**resolve_model_data_config(network))
    pixels = torch.stack([transform(photo) for photo in photos])
    settle_norms(network, pixels)
    with torch.no_grad():
        spread(network.get_classifier(), network(pixels))
    save_config_for_hf(network, folder / "config.json", {"label_names": list(NAMES)})
    export(network, pixels, folder / "model.onnx")
    return lambda photo: run(network, transform(photo)[None])[0]


class Logits(torch.nn.Module):
    """A network of transformers that returns its logits alone."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, pixel_values):
        return self.network(pixel_values=pixel_values).logits


def hugging_face_network(folder, photos, network, processor):
    """Write what ``save_pretrained`` writes, and the ONNX file where Optimum puts it."""
    processor.save_pretrained(folder)
    network.config.id2label = dict(enumerate(NAMES))
    network.config.architectures = [type(network).__name__]
    network.config.save_pretrained(folder)

    def prepare(images):
        return torch.cat(
            [
                torch.as_tensor(processor(one, return_tensors="pt")["pixel_values"])
                for one in images
            ]
        )

    pixels, logits = prepare(photos), Logits(network)
    settle_norms(logits, pixels)
    with torch.no_grad():
        linear = next(
            layer
            for layer in reversed(list(network.modules()))
            if isinstance(layer, torch.nn.Linear)
        )
        spread(linear, logits(pixels))
    (folder / "onnx").mkdir()
    export(logits, pixels, folder / "onnx" / "model.onnx", input_names=["pixel_values"])
    return lambda photo: run(logits, prepare([photo]))[0]


def vit(folder, photos):
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTConfig(
        hidden_size=48,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=96,
        num_labels=CLASSES,
        attn_implementation="eager",
    )
    network = seeded(lambda: transformers.ViTForImageClassification(config))
    return hugging_face_network(folder, photos, network, transformers.ViTImageProcessor())


def convnext(folder, photos):
    transformers = pytest.importorskip("transformers")
    config = transformers.ConvNextConfig(
        depths=[1, 1, 1, 1], hidden_sizes=[16, 24, 32, 48], num_labels=CLASSES
    )
    network = seeded(lambda: transformers.ConvNextForImageClassification(config))
    processor = transformers.ConvNextImageProcessor(size={"shortest_edge": 224})
    return hugging_face_network(folder, photos, network, processor)


def resnet_like_dinov2(folder, photos):
    transformers = pytest.importorskip("transformers")
    config = transformers.ResNetConfig(
        embedding_size=16, hidden_sizes=[16, 32], depths=[1, 1], num_labels=CLASSES
    )
    network = seeded(lambda: transformers.ResNetForImageClassification(config))
    processor = transformers.BitImageProcessor(size={"shortest_edge": 256}, crop_size=224)
    return hugging_face_network(folder, photos, network, processor)


def mobilevit(folder, photos):
    transformers = pytest.importorskip("transformers")
    config = transformers.MobileViTConfig(
        hidden_sizes=[16, 24, 32],
        neck_hidden_sizes=[8, 8, 16, 16, 24, 24, 32],
        num_labels=CLASSES,
        image_size=256,
    )
    network = seeded(lambda: transformers.MobileViTForImageClassification(config))
    processor = transformers.MobileViTImageProcessor(
        size={"shortest_edge": 288}, crop_size={"height": 256, "width": 256}
    )
    return hugging_face_network(folder, photos, network, processor)


def ultralytics_network(folder, photos, kind="onnx"):
    """Export as ``yolo export`` does, the metadata by its own exporter."""
    ultralytics = pytest.importorskip("ultralytics")
    from ultralytics.data.augment import classify_transforms

    torch.manual_seed(0)
    model = ultralytics.YOLO("yolo11n-cls.yaml")
    network = model.model.eval()
    network.names = dict(enumerate(NAMES))
    head = network.model[-1]
    head.linear = torch.nn.Linear(head.linear.in_features, CLASSES)
    transform = classify_transforms(96)
    pixels = torch.stack([transform(photo) for photo in photos])
    settle_norms(network, pixels)
    rows = []
    hook = head.linear.register_forward_hook(lambda _layer, _inputs, output: rows.append(output))
    with torch.no_grad():
        network(pixels)
    hook.remove()
    spread(head.linear, rows[0])
    options = {"simplify": False} if kind == "onnx" else {}
    shutil.move(model.export(format=kind, imgsz=96, **options), folder / f"best.{kind}")

    def classify(photo):
        with torch.no_grad():
            answer = network(transform(photo)[None])
        return (answer[0] if isinstance(answer, tuple) else answer)[0].numpy()

    return classify


# Each with the side of square photos that its pipeline only crops.
MAKERS = {
    "timm, crop 0.95": (168, lambda f, p: timm_network(f, p, crop_pct=0.95)),
    "timm, squash": (160, lambda f, p: timm_network(f, p, crop_pct=1.0, crop_mode="squash")),
    "Hugging Face, ViT": (224, vit),
    "Hugging Face, ConvNeXt": (256, convnext),
    "Hugging Face, DINOv2's processor": (256, resnet_like_dinov2),
    "Hugging Face, MobileViT": (288, mobilevit),
    "Ultralytics, ONNX": (96, ultralytics_network),
    "Ultralytics, TorchScript": (96, lambda f, p: ultralytics_network(f, p, "torchscript")),
}
