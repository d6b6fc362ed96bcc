"""Networks for the tests of the measuring process: what they answer, and how they misbehave."""

from autotune.task import Blueprint, CodeRef, ModelSource
from autotune.training import network as networks


def network(folder, body):
    """An artifact whose network does what ``body`` says when it is run."""
    (folder / "nets.py").write_text(
        "import ctypes, os, signal, time, torch\nfrom torch import nn\n"
        "class Net(nn.Module):\n"
        f"    kept = []\n    def forward(self, x):\n        {body}\n"
        "def build():\n    return Net()\n"
    )
    model = ModelSource(CodeRef(str(folder / "nets.py"), "build"))
    artifact = folder / "artifact"
    artifact.mkdir()
    networks.save(networks.build(model, Blueprint()), Blueprint(), model, artifact)
    return artifact
