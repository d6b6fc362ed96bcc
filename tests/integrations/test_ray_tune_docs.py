"""The example in docs/ray-tune.md runs as it stands, on the tiny task instead of the digits."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs" / "ray-tune.md"


@pytest.mark.slow
def test_the_example_runs_and_its_experiment_can_be_restored(tiny, space_file, tmp_path):
    example, restore = (
        code for code in re.findall(r"^```python\n(.*?)^```", DOCS.read_text(), re.S | re.M)
    )
    folder = tmp_path / "search_spaces" / "digits"
    shutil.copytree(tiny, folder)
    text = space_file.read_text().replace("[16, 8, 5]", "16").replace("[1, 2]", "1")
    (folder / "space.yaml").write_text(text.replace("  distill: {epochs: 1}\n", ""))
    after = "\nassert len(results) == 6 and not results.num_errors, results.errors\n"
    (tmp_path / "example.py").write_text(example + after + restore + after)
    done = subprocess.run(
        [sys.executable, "example.py"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("completed") >= 6
