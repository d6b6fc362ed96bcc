"""Simulated INT8: how near it is to what ONNX Runtime computes, and what training makes of it."""

import copy
import dataclasses
import logging

import numpy as np
import onnxruntime
import pytest
import torch
import torch.nn.functional as nnf
from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from sklearn.datasets import load_digits
from torch import nn

from autotune.contracts import TechniqueContext
from autotune.conversion.graphs import Batches
from autotune.errors import StageError
from autotune.task import Blueprint
from autotune.training import attention, fakequant, loop, losses
from autotune.training.network import predict

TEACH = losses.distillation(4.0, 0.3)
TEST = slice(1000, 1797)


class Residual(nn.Module):
    """Convolutions with folded norms around a shortcut, and a linear head."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 3, padding=1)
        self.norm1 = nn.BatchNorm2d(8)
        self.conv = nn.Conv2d(8, 8, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(8)
        self.head = nn.Linear(128, 10)

    def forward(self, x):
        y = nnf.relu(self.norm1(self.stem(x)))
        y = nnf.relu(self.norm2(self.conv(y)) + y)
        return self.head(nnf.max_pool2d(y, 2).flatten(1))


class Attending(nn.Module):
    """An image's rows as tokens; attention by torch's function, added to what came in."""

    def __init__(self):
        super().__init__()
        self.enter = nn.Linear(8, 16)
        self.place = nn.Parameter(0.1 * torch.randn(1, 8, 16))
        self.norm = nn.LayerNorm(16)
        self.qkv = nn.Linear(16, 48)
        self.out = nn.Linear(16, 16)
        self.head = nn.Linear(16, 10)

    def forward(self, x):
        y = self.enter(x.flatten(1, 2)) + self.place
        q, k, v = self.qkv(self.norm(y)).reshape(-1, 8, 3, 2, 8).permute(2, 0, 3, 1, 4).unbind(0)
        mixed = nnf.scaled_dot_product_attention(q, k, v)
        y = y + self.out(mixed.transpose(1, 2).reshape(-1, 8, 16))
        return self.head(nnf.gelu(y).amax(1))


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def digits():
    data = load_digits()
    return (data.images / 16).astype(np.float32)[:, None], data.target.astype(np.int64)


@pytest.fixture(scope="module")
def trained(digits, tmp_path_factory):
    """Both networks, each trained for a few epochs on 600 digits."""
    folder = tmp_path_factory.mktemp("trained")
    found = {}
    for kind, epochs in ((Residual, 8), (Attending, 8)):
        torch.manual_seed(0)
        network = kind()
        loop.train(network, context(digits, folder), TEACH, loop.Recipe(epochs, 1e-2))
        found[kind] = network
    return found


def context(digits, folder, samples=600, **changes):
    x, y = digits
    plain = TechniqueContext(
        build=Residual,
        blueprint=Blueprint(),
        train_x={"input": x[:samples]},
        train_y=y[:samples],
        teacher_logits=None,
        teacher_features=None,
        seed=0,
        checkpoint=folder / "training.pt",
    )
    return dataclasses.replace(plain, **changes)


def integers(network, x, calibration, folder, operators=None):
    """The outputs for ``x`` in ONNX Runtime's INT8, by integer kernels."""
    logging.getLogger().setLevel(logging.ERROR)
    paths = [str(folder / name) for name in ("exported.onnx", "prepared.onnx", "integers.onnx")]
    torch.onnx.export(
        network.eval(),
        (torch.from_numpy(x[:2]),),
        paths[0],
        input_names=["input"],
        output_names=["output"],
        dynamic_axes={"input": {0: "batch"}, "output": {0: "batch"}},
        opset_version=17,
        dynamo=False,
    )
    quant_pre_process(paths[0], paths[1])
    quantize_static(
        paths[1],
        paths[2],
        Batches({"input": calibration}),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        op_types_to_quantize=operators,
        extra_options={"OpTypesToExcludeOutputQuantization": ["Gemm", "MatMul"]},
    )
    session = onnxruntime.InferenceSession(paths[2], providers=["CPUExecutionProvider"])
    return session.run(None, {"input": x})[0]


def decibels(wanted, found):
    """Signal to noise."""
    return 10 * np.log10((wanted**2).sum() / ((wanted - found) ** 2).sum())


def right(outputs, y):
    return (outputs.argmax(1) == y).mean()


# ---- as the runtime computes ---------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "operators"), [(Residual, None), (Attending, ["Gemm", "MatMul"])])
def test_it_computes_what_integer_kernels_do(kind, operators, trained, digits, tmp_path):
    """Much nearer to them than the float network is: the same tensors are on the same grids."""
    x, _ = digits
    network = trained[kind]
    real = integers(network, x[TEST], x[600:664], tmp_path, operators)
    calibrated = fakequant.simulated(network, {"input": x[600:664]}, 0).eval()
    apart = decibels(real, predict(network, {"input": x[TEST]}, 0))
    near = decibels(real, predict(calibrated, {"input": x[TEST]}, 0))
    assert apart < 45
    assert near > apart + 6


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_weights_lie_on_one_grid_a_channel(axis):
    weight = torch.randn(5, 6, 7, generator=torch.manual_seed(0))
    rounded = fakequant.rounded_weight(weight, axis).transpose(0, axis).flatten(1)
    steps = weight.transpose(0, axis).flatten(1).abs().amax(1, keepdim=True) / 127
    ratio = rounded / steps
    assert torch.allclose(ratio, ratio.round(), atol=1e-3)
    assert ratio.abs().amax(1).round().eq(127).all()
    assert not torch.equal(rounded, weight.transpose(0, axis).flatten(1))


@pytest.mark.parametrize(
    ("low", "high", "zero"), [(0.0, 2.55, 0), (-2.55, 0.0, 255), (1.0, 2.55, 0), (-1.0, 1.55, 100)]
)
def test_an_activations_grid_holds_zero_exactly(low, high, zero):
    scale, point = fakequant.grid(torch.tensor(low), torch.tensor(high))
    assert scale.item() == pytest.approx(0.01)
    assert point.item() == zero


def test_the_gradient_passes_and_stops_at_the_range(trained, digits):
    network = copy.deepcopy(trained[Residual])
    simulated = fakequant.simulated(network, {"input": digits[0][:64]}, 0).eval()
    x = torch.from_numpy(digits[0][:8]).requires_grad_()
    simulated(x).square().sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in network.parameters())
    assert x.grad[x == 1].abs().sum() > 0
    beyond = (2 + x.detach()).requires_grad_()
    simulated(beyond).square().sum().backward()
    assert beyond.grad.abs().sum() == 0


# ---- what is seen --------------------------------------------------------------------------------


class Functional(nn.Module):
    """Products without layers: a weight used directly, in-place sums, every kind of convolution."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(8, 8))
        self.kernel = nn.Parameter(torch.randn(8, 1, 3))
        self.back = nn.Parameter(torch.randn(8, 8, 3))

    def forward(self, x):
        y = x.flatten(1, 2) @ self.weight.t()
        z = nnf.conv1d(input=y, weight=self.kernel, groups=8, padding=1)
        z += y
        z = nnf.conv_transpose1d(z, self.back, padding=1)
        return torch.bmm(z, y.mT).flatten(1)


def test_products_are_seen_however_they_are_written(digits):
    torch.manual_seed(0)
    network = Functional()
    simulated = fakequant.simulated(network, {"input": digits[0][:16]}, 0).eval()
    assert len(simulated.ranges) == 4 + 1  # the input, y, both before and after, and for bmm z
    assert simulated.skipped == ()
    x = torch.from_numpy(digits[0][16:32])
    plain, rounded = network(x), simulated(x)
    assert 20 < decibels(plain.detach().numpy(), rounded.detach().numpy()) < 60


def test_a_tensor_that_two_layers_read_has_one_grid(trained, digits):
    """Input, the block's input (read by a convolution and the sum), its other side, the head's."""
    simulated = fakequant.simulated(trained[Residual], {"input": digits[0][:64]}, 0)
    assert simulated.ranges.shape == (4, 2)
    assert simulated.ranges[0].tolist() == [0.0, 1.0]


def test_sums_stay_wide_where_there_is_attention(trained, digits):
    """The input, the norm's output, q, k, v, the weights, the mixture, the head's input."""
    simulated = fakequant.simulated(trained[Attending], {"input": digits[0][:64]}, 0)
    assert not simulated.sums
    assert len(simulated.ranges) == 8


class Recurrent(nn.Module):
    def __init__(self, head):
        super().__init__()
        self.rnn = nn.LSTM(8, 10, batch_first=True)
        self.head = nn.Linear(10, 10) if head else nn.Identity()

    def forward(self, x):
        return self.head(self.rnn(x.flatten(1, 2))[0][:, -1])


def test_what_it_does_not_know_is_listed(digits):
    simulated = fakequant.simulated(Recurrent(head=True), {"input": digits[0][:16]}, 0)
    assert simulated.skipped == ("lstm", "LSTM rnn")
    assert len(simulated.ranges) == 1


def test_a_network_of_which_nothing_can_be_simulated_is_refused(digits):
    with pytest.raises(StageError, match=r"no convolution or matrix product .*: Identity, LSTM"):
        fakequant.simulated(Recurrent(head=False), {"input": digits[0][:16]}, 0)


def test_a_network_that_takes_another_way_every_time_is_refused(digits):
    class Moody(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(64, 64)
            self.calls = 0

        def forward(self, x):
            self.calls += 1
            y = x.flatten(1)
            for _ in range(self.calls):
                y = self.layer(y)
            return y

    with pytest.raises(StageError, match="the same steps in every call"):
        fakequant.simulated(Moody(), {"input": digits[0][:128]}, 0)
    simulated = fakequant.simulated(Moody(), {"input": digits[0][:16]}, 0)
    with pytest.raises(StageError, match="the same steps in every call"):
        simulated(torch.from_numpy(digits[0][:16]))


# ---- attention written out -----------------------------------------------------------------------


def masks():
    torch.manual_seed(0)
    flags = torch.rand(6, 6) > 0.3
    flags |= torch.eye(6, dtype=torch.bool)
    return {
        "none": {},
        "true where it may be read": {"attn_mask": flags},
        "added": {"attn_mask": torch.randn(6, 6)},
        "causal": {"is_causal": True},
        "scaled": {"scale": 0.7},
    }


@pytest.mark.parametrize("name", masks())
def test_attention_written_out_is_torchs_own(name):
    q, k, v = torch.randn(3, 2, 4, 6, 5, generator=torch.manual_seed(1))
    expected = nnf.scaled_dot_product_attention(q, k, v, **masks()[name])
    found = attention.scaled_dot_product(torch.matmul, q, k, v, **masks()[name])
    assert torch.allclose(found, expected, atol=1e-6)


def test_grouped_queries_written_out_are_torchs_own():
    torch.manual_seed(1)
    q, k, v = torch.randn(2, 4, 6, 5), torch.randn(2, 2, 6, 5), torch.randn(2, 2, 6, 5)
    expected = nnf.scaled_dot_product_attention(q, k, v, enable_gqa=True)
    found = attention.scaled_dot_product(torch.matmul, q, k, v, enable_gqa=True)
    assert torch.allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("masked", ["none", "flags", "added", "by head"])
@pytest.mark.parametrize("sizes", [{}, {"kdim": 6, "vdim": 7}])
@pytest.mark.parametrize("averaged", [False, True])
def test_an_attention_layer_written_out_is_torchs_own(padded, masked, sizes, averaged):
    torch.manual_seed(2)
    layer = nn.MultiheadAttention(8, 2, batch_first=True, **sizes)
    nn.init.normal_(layer.in_proj_bias)
    q = torch.randn(3, 5, 8)
    k = torch.randn(3, 5, sizes.get("kdim", 8))
    v = torch.randn(3, 5, sizes.get("vdim", 8))
    flags = torch.rand(5, 5) > 0.7
    flags &= ~torch.eye(5, dtype=torch.bool)
    flags[:, 0] = False  # something is left to read for everyone
    padding = torch.tensor([[False] * 4 + [True]] * 3)
    if masked in ("added", "by head"):  # both masks are of one kind
        padding = torch.zeros(3, 5).masked_fill_(padding, -torch.inf)
    given = {"flags": flags, "added": torch.randn(5, 5), "by head": torch.randn(6, 5, 5)}
    told = {
        "attn_mask": given.get(masked),
        "key_padding_mask": padding if padded else None,
        "average_attn_weights": averaged,
    }
    expected = layer(q, k, v, **told)
    seen = fakequant._Observed()
    with fakequant.Products(seen):
        found = layer(q, k, v, **told)
    assert len(seen.ranges) == 3 + 4 + 1  # read by the projections, then q, k, weights, v, the mix
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one, other, atol=1e-5)


def test_a_rare_attention_layer_is_computed_as_it_is_and_told():
    layer = nn.MultiheadAttention(8, 2, batch_first=True, add_bias_kv=True)
    x = torch.randn(3, 5, 8)
    seen = fakequant._Observed()
    with fakequant.Products(seen):
        found = layer(x, x, x)[0]
    assert torch.allclose(found, layer(x, x, x)[0], atol=1e-6)
    assert seen.names == ["an attention layer with bias_k, static keys or no batch"]


# ---- training ------------------------------------------------------------------------------------


def hurt(network, factor=300.0):
    """One channel, which nothing reads, is so large that the others keep few of the 256 steps."""
    found = copy.deepcopy(network)
    with torch.no_grad():
        found.norm1.weight[0] *= factor
        found.norm1.bias[0] *= factor
        found.conv.weight[:, 0] = 0
        found.head.weight[:, :16] = 0
    return found


def test_training_recovers_what_rounding_took(trained, digits, tmp_path):
    """And as much more training without the simulation does not."""
    x, y = digits
    start = hurt(trained[Residual])
    recipe = loop.Recipe(4, 1e-2, keep_zeros=True)
    found, control = copy.deepcopy(start), copy.deepcopy(start)
    simulated = fakequant.simulated(found, {"input": x[:600]}, 0)
    loop.train(simulated, context(digits, tmp_path), TEACH, recipe)
    loop.train(control, context(digits, tmp_path), TEACH, recipe)
    before, after, without = (
        right(integers(n, x[TEST], x[600:664], tmp_path), y[TEST]) for n in (start, found, control)
    )
    assert before < 0.8
    assert after > before + 0.08
    assert after > without + 0.05
    assert not found.conv.weight[:, 0].any()
    assert not found.head.weight[:, :16].any()


def test_ranges_follow_the_training_and_stand_still_otherwise(trained, digits):
    simulated = fakequant.simulated(copy.deepcopy(trained[Residual]), {"input": digits[0][:64]}, 0)
    before = simulated.ranges.clone()
    x = 2 * torch.from_numpy(digits[0][:64])
    simulated.eval()(x)
    assert torch.equal(simulated.ranges, before)
    simulated.train()(x)
    high = torch.lerp(torch.tensor(1.0), torch.tensor(2.0), fakequant.FOLLOW)
    assert simulated.ranges[0].tolist() == pytest.approx([0.0, high.item()])


def test_the_network_inside_can_be_used_as_before(trained, digits):
    network = copy.deepcopy(trained[Residual])
    x = torch.from_numpy(digits[0][:8])
    before = network(x)
    simulated = fakequant.simulated(network, {"input": digits[0][:64]}, 0)
    assert not torch.equal(simulated.eval()(x), before)
    assert torch.equal(network(x), before)
    assert simulated.head is network.head
    with pytest.raises(AttributeError, match="tail"):
        simulated.tail  # noqa: B018 - reading it is what is tried
    assert {n.removeprefix("network.") for n, _ in simulated.named_parameters()} == {
        n for n, _ in network.named_parameters()
    }


def test_a_training_that_broke_off_ends_with_the_weights_it_would_have_had(
    trained, digits, tmp_path
):
    """The ranges go on from where they were, too."""

    def train(loss):
        network = copy.deepcopy(trained[Residual])
        where = context(digits, tmp_path, samples=96)
        simulated = fakequant.simulated(network, where.train_x, where.seed)
        loop.train(simulated, where, loss, loop.Recipe(3, 1e-3, batch=32))
        return simulated.state_dict()

    whole = train(TEACH)
    left = 5

    def breaking(*values):
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        return TEACH(*values)

    with pytest.raises(KeyboardInterrupt):
        train(breaking)
    assert (tmp_path / "training.pt").exists()
    again = train(TEACH)
    assert all(torch.equal(whole[k], again[k]) for k in whole)
