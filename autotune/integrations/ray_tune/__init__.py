"""Ray Tune: the same space, sampler and evaluation, run by ``tune.Tuner``.

``trainable`` evaluates a configuration with autotune's engine, ``AutotuneSearcher`` proposes with
autotune's sampler, ``search_space`` gives the space to a search algorithm of Tune's own. See
``docs/ray-tune.md``.
"""

from autotune.integrations.ray_tune.reporting import row
from autotune.integrations.ray_tune.running import TrialFailed, trainable
from autotune.integrations.ray_tune.searcher import AutotuneSearcher
from autotune.integrations.ray_tune.space import in_flight, search_space

__all__ = ["AutotuneSearcher", "TrialFailed", "in_flight", "row", "search_space", "trainable"]
