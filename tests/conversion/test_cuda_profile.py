"""Profiles of a GPU: what is summed, and what is told where none can be seen."""

import numpy as np
import pytest
import torch
from torch.autograd import DeviceType
from torch.autograd.profiler_util import FunctionEvent

from autotune.conversion import cuda_profile
from autotune.errors import StageError


def event(name, start_us, end_us, **more):
    times = {"start_us": start_us, "end_us": end_us}
    return FunctionEvent(0, name, 0, **times, device_type=DeviceType.CUDA, **more)


def test_kernels_are_summed_by_name_and_shared_among_the_requests():
    events = [
        event("copy in", 0, 100),
        event("gemm", 100, 400),
        event("copy in", 1000, 1300),
        event("gemm", 1300, 1600),
        event("gemm", 1600, 1700),
        event("what a user named", 0, 1700, is_user_annotation=True),
    ]
    found = cuda_profile.summed(events, [2.0, 4.0])
    assert [(row.operator, row.ms, row.calls) for row in found.rows] == [
        ("copy in", pytest.approx(0.2), 1.0),
        ("gemm", pytest.approx(0.35), 1.5),
    ]
    assert (found.wall_ms, found.requests) == (3.0, 2)


def test_a_request_that_nothing_of_was_seen_has_no_profile():
    with pytest.raises(StageError, match="saw nothing run on the GPU"):
        cuda_profile.summed([], [1.0])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_torch_without_cuda_is_told():
    with pytest.raises(StageError, match="a build of torch with CUDA; the one that is installed"):
        cuda_profile.profile(lambda batch: None, [{"x": np.zeros(1)}])
