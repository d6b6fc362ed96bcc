"""The space in docs/serving.md is one: with a model, data and metrics it loads."""

import re
from pathlib import Path

from autotune.scenario import Scenario
from autotune.spec import load

PAGE = Path(__file__).parents[2] / "docs" / "serving.md"


def test_the_servers_space_of_the_docs_loads(folder, base):
    (given,) = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    head = base.partition("objectives:")[0]
    target = "targets: {local: {price_per_hour: 0.10}}\n"
    path = folder / "space.yaml"
    path.write_text(head + target + given)
    spec = load(path)
    assert spec.scenario == Scenario("server", 5.0)
    searched = {knob.name for knob in spec.space.searched()}
    assert searched == {"server.max_batch", "server.max_queue_delay_ms", "precision", "backend"}
