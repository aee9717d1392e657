# SPDX-License-Identifier: GPL-3.0-or-later
"""What the worker's Python environment consists of: pinned packages, the Pythons they come for, and uv's own wheels."""

PYTHONS = ((3, 11), (3, 12))  # mediapipe's pinned release has no wheels for later ones
TORCH = "torch==2.13.0"
PACKAGES = ("numpy==1.26.4", "scipy==1.17.1", "opencv-python==4.11.0.86", "mediapipe==0.10.21", "onnxruntime==1.32.0", "pycolmap==4.2.1")
SMPLX = "smplx==0.1.28"

# What the pinned packages bring along, as tested; a name that nothing needs is not installed.
CONSTRAINTS = (
    "absl-py==2.5.1", "attrs==26.1.0", "cffi==2.1.1", "contourpy==1.3.3", "cycler==0.12.1", "filelock==4.2.12",
    "flatbuffers==25.12.19", "fonttools==4.68.0", "fsspec==2026.9.0", "jax==0.7.1", "jaxlib==0.7.1",
    "Jinja2==3.1.6", "kiwisolver==1.5.1", "MarkupSafe==3.0.4", "matplotlib==3.11.2", "ml_dtypes==0.5.4",
    "mpmath==1.3.0", "networkx==3.6.1", "opencv-contrib-python==4.11.0.86", "opt_einsum==3.4.0", "packaging==26.3",
    "pillow==13.0.0", "protobuf==4.25.9", "pycparser==3.12", "pyparsing==3.3.3", "python-dateutil==4.0.0",
    "sentencepiece==0.2.3", "sounddevice==0.5.6", "sympy==1.14.0", "typing_extensions==4.16.0",
)  # fmt: skip

# module to import: (package, needed for everything, what it is for)
MODULES = {
    "torch": ("torch", True, "the fit"),
    "numpy": ("numpy", True, "everything"),
    "scipy": ("scipy", True, "the fit"),
    "cv2": ("opencv-python", True, "reading footage"),
    "mediapipe": ("mediapipe", True, "the default detector"),
    "onnxruntime": ("onnxruntime", False, "detectors in ONNX format"),
    "pycolmap": ("pycolmap", False, "cameras that travel"),
    "smplx": ("smplx", False, "scripts of your own"),
}

UV_VERSION = "0.13.9"
# (system, machine): (the wheel's file name, its SHA-256), as PyPI lists them
UV_WHEELS = {
    ("Linux", "x86_64"): (
        "uv-0.13.9-py3-none-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
        "d7f459fe4fd247d830351c75686d3996ace3c6f3f728eb0e85a30b7ada0cef19",
    ),
    ("Linux", "arm64"): (
        "uv-0.13.9-py3-none-manylinux_2_28_aarch64.whl",
        "ecb6028d79dc96fbeafffe5c8af62a7099487ebc05a701e76714eebcffd06375",
    ),
    ("Darwin", "arm64"): (
        "uv-0.13.9-py3-none-macosx_11_0_arm64.whl",
        "66c512266d633bef48384a1f53003f41f2a8e7b36fe6e7fbfd3e0fd52d96fa63",
    ),
    ("Windows", "x86_64"): (
        "uv-0.13.9-py3-none-win_amd64.whl",
        "6a44b2ed8111d2f60d2b92627c5dccda3f7ed7570b18ce115e569cd68c28246b",
    ),
    ("Windows", "arm64"): (
        "uv-0.13.9-py3-none-win_arm64.whl",
        "eeb92051c2123b9730c46b04cc843cfa4bc7d7b0aec56df431a2215ef4cb0273",
    ),
}
