# SPDX-License-Identifier: Apache-2.0
"""Package definition, for colcon and for pip. Light: colcon runs it only to read it."""

import re
from pathlib import Path

from setuptools import find_packages, setup

NAME = "perception_node"
EXTRAS = {
    # perception bench, perception hil, the reports of perception replay
    "bench": ["hdrhistogram", "jinja2", "junitparser", "matplotlib", "pillow", "pyyaml"],
    "build": ["onnx"],  # perception build, to derive a model in half precision
    "gpu": ["pycuda>=2025.1.2"],  # the first one that compiles with CUDA 13; TensorRT: JetPack
    "import": ["onnx", "onnxscript", "torch==2.13.0"],  # perception import
    # perception serve, on a machine without ROS: all that it imports, as requirements/serve.in
    "serve": [
        "flask>=3.1",  # these four as in doctor/http_findings.py
        "flask-cors>=6.0",
        "jsonschema",
        "numpy",
        "onnxruntime",
        "opencv-python-headless",
        "prometheus-client>=0.19",
        "rich",
        "simplejpeg",
        "waitress>=3.0.1",
    ],
    "test": ["hypothesis", "onnx", "pytest", "pytest-timeout"],  # colcon looks for pytest here
}
# Ubuntu 22.04 and 24.04, Python 3.10 and 3.12, have OpenCV and ROS messages compiled against it.
NUMPY_1 = 'numpy<2 ; python_version < "3.13"'


def version() -> str:
    """Read `__version__` without importing the package."""
    text = Path(NAME, "__init__.py").read_text(encoding="utf-8")
    return re.findall(r'^__version__ = "(.+)"$', text, re.MULTILINE)[0]


def shared(pattern: str) -> tuple[str, list[str]]:
    """Install files into share/perception_node, in the folder they have here."""
    files = sorted(str(file) for file in Path().glob(pattern) if file.is_file())
    return str(Path("share", NAME, pattern).parent), files


setup(
    name=NAME,
    version=version(),
    description="Image classification for ROS 2 on TensorRT, with a CPU fallback",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=find_packages(include=[NAME, f"{NAME}.*"]),
    package_data={
        "": ["*.json", "*.j2", "*.css", "scenarios/*.yaml", "examples/*.yaml"],  # schemas, pages
        NAME: ["py.typed"],
        f"{NAME}.engines.tensorrt.cuda": ["*.cu"],
        f"{NAME}.serving": ["page/*"],
    },
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        shared("package.xml"),
        shared("launch/*.launch.py"),
        shared("launch/*.xml"),
        shared("launch/params/*.yaml"),
        shared("models/efficientnet_lite0/*"),
        shared("samples/photos/*"),
    ],
    install_requires=["setuptools"],
    extras_require={extra: [*packages, NUMPY_1] for extra, packages in EXTRAS.items()},
    zip_safe=False,  # the model and the launch files are read by path
    entry_points={
        "console_scripts": [
            "perception = perception_node.cli:main",
            "perception_node = perception_node.ros.main:main",
        ],
        "pytest11": ["perception_node.pytest_plugin = perception_node.pytest_plugin"],
    },
)
