"""Channels removed: how many of which layer, by which allocation, and what stands in the way."""

import pytest
import torch
from prune_nets import context, outputs, reader, residual, shapes
from torch import nn

from autotune.errors import StageError
from autotune.training import allocation, channels, clock, importance, knives

X = (torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0)),)


def cut(network, folder, ratios, where="uniform", round_to=1, criterion="magnitude"):
    wish = channels.Wish(ratios, where, round_to)
    knives.of_channels(network, context(folder), wish, criterion).cut(network, 1.0)
    return network


def widths(network):
    return {
        name: m.weight.shape[0]
        for name, m in network.named_modules()
        if isinstance(m, (nn.Conv2d, nn.Linear))
    }


# ---- one ratio -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ratio", "round_to", "narrow", "wide"),
    [(0.5, 1, 8, 16), (0.3, 8, 8, 16), (0.3, 4, 8, 20), (0.9, 8, 8, 8), (0.25, 1, 12, 24)],
)
def test_every_layer_keeps_its_share_rounded_down(ratio, round_to, narrow, wide, tmp_path):
    found = widths(cut(residual(), tmp_path, (ratio,) * 3, round_to=round_to))
    assert found == {
        **dict.fromkeys(("stem", "grouped", "mix"), narrow),
        **dict.fromkeys(("deep", "each", "wide"), wide),
        "head": 3,
    }


def test_channels_that_do_nothing_are_the_ones_that_go():
    network = residual()
    with torch.no_grad():
        for part in (network.wide.weight[8:], network.wide.bias[8:]):
            part.zero_()
        network.head.weight[:, 8:] = 0
        network.each.weight[::2] = network.each.bias[::2, None, None, None] = 0
        network.deep.weight[::2] = 0
        network.deep.bias[::2] = 0
        network.wide.weight[:, ::2] = 0
        for i in range(4):  # two of the four channels of each of the grouped convolution's ways
            pair = [4 * i, 4 * i + 1]
            for layer in (network.stem, network.norm, network.grouped, network.mix):
                layer.weight[pair] = 0
                layer.bias[pair] = 0
            network.mix.weight[:, pair] = 0
            network.deep.weight[:, pair] = 0
        network.grouped.weight[:, :2] = 0
    before = outputs(network)
    channels.remove(network, X, 0.5, 1)
    assert widths(network)["stem"] == 8
    assert torch.allclose(outputs(network), before, atol=1e-6)


def test_a_transformer_keeps_its_heads_and_loses_the_rest():
    network = reader()
    channels.remove(network, X, 0.5, 4)
    assert network.embed.out_features == network.places.shape[-1] == 8
    assert [up.out_features for up in network.ups] == [16, 16]
    assert [a.query.weight.shape for a in network.attentions] == [(16, 8)] * 2
    assert [a.num_heads for a in network.attentions] == [4, 4]
    assert outputs(network).shape == (7, 3)


@pytest.mark.parametrize("criterion", ["magnitude", "taylor", "lamp", "random"])
@pytest.mark.parametrize("make", [residual, reader])
def test_every_criterion_makes_the_same_shapes_and_chance_hangs_on_the_seed(
    criterion, make, tmp_path
):
    one = cut(make(), tmp_path, (0.5,) * 3, criterion=criterion)
    again = cut(make(), tmp_path, (0.5,) * 3, criterion=criterion)
    assert torch.equal(outputs(one), outputs(again))
    assert shapes(one) == shapes(cut(make(), tmp_path, (0.5,) * 3))


# ---- allocations ---------------------------------------------------------------------------------


def test_each_third_of_the_network_has_its_own_ratio(tmp_path):
    found = widths(cut(residual(), tmp_path, (0.25, 0.5, 0.75), "stages"))
    assert found["stem"] == found["mix"] == 12  # layers 0 to 2 of 7: their middle is in the first
    assert found["deep"] == found["each"] == 16
    assert found["wide"] == 8


def test_a_ranking_over_the_network_takes_more_where_less_is(tmp_path):
    network = residual()
    with torch.no_grad():
        network.wide.weight[16:] *= 0.01  # half of its channels hardly count
        network.head.weight[:, 16:] *= 0.01
    found = widths(cut(network, tmp_path, (0.3,) * 3, "global"))
    even = widths(cut(residual(), tmp_path, (0.3,) * 3))
    assert found["wide"] == 16
    assert found["deep"] > even["deep"]
    of_each = ("stem", "grouped", "deep", "wide")
    assert sum(found[layer] for layer in of_each) == pytest.approx(0.7 * 96, abs=3)


def test_no_layer_is_ranked_away(tmp_path):
    network = residual()
    with torch.no_grad():
        for part in (network.wide.weight, network.head.weight):
            part *= 1e-6
    importances = importance.of_groups("taylor", None, "global")
    importance.gradients(network, context(tmp_path))
    wish = channels.Wish((0.5,) * 3, "global")
    channels.cut(network, X, wish, 1.0, channels.sizes(network, X), importances)
    assert widths(network)["wide"] >= 8  # a quarter of 32, half of the mean share


def test_latency_takes_from_the_slow_layer_what_uniform_takes_from_both(tmp_path):
    class Uneven(nn.Module):
        """Two layers of one width and the same weights; one runs on 1,024 places, one on one."""

        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.slow, self.narrow = nn.Conv2d(1, 64, 7, padding=3), nn.Conv2d(64, 4, 7, padding=3)
            self.fast, self.head = nn.Linear(4, 64), nn.Linear(64, 3)

        def forward(self, x):
            y = torch.relu(self.slow(nn.functional.interpolate(x, scale_factor=4.0)))
            return self.head(torch.relu(self.fast(self.narrow(y).mean((2, 3)))))

    found = widths(cut(Uneven(), tmp_path, (0.5,) * 3, "latency"))
    even = widths(cut(Uneven(), tmp_path, (0.5,) * 3))
    assert even["slow"] == even["fast"] == 32
    assert found["slow"] < 32 < found["fast"]


def test_the_clock_sees_every_run_of_a_layer_in_order():
    network = residual()
    network.forward = lambda x: network.head(
        network.each(network.each(network.deep(network.stem(x)))).mean((2, 3))
    )
    took = clock.layers_ms(network, X)
    order = clock.order(network, X)
    assert list(order) == [network.stem, network.deep, network.each, network.head]
    assert took.keys() == order.keys()
    assert all(0 < ms < 1000 for ms in took.values())


def test_ranked_counts_follow_the_scores():
    scores = [torch.tensor([5.0, 4.0, 3.0, 2.0]), torch.tensor([1.0, 0.5, 0.4, 0.3])]
    one, two = allocation.Room(4), allocation.Room(4, 2, 2)
    assert allocation.ranked(scores, [one, one], 5) == [4, 1]
    assert allocation.ranked(scores, [two, two], 5) == [4, 2]
    ways = allocation.Room(8, 2, 4)
    assert allocation.ranked(scores, [ways, one], 8) == [6, 1]  # two channels a score
    assert allocation.ranked(scores[::-1], [ways, one], 5) == [4, 4]  # but four of them stay


def test_a_small_layer_is_left_whole_and_nothing_asked_takes_nothing():
    rooms = [allocation.Room(4, 8, 8), allocation.Room(12, 8, 8), allocation.Room(12, 8, 8)]
    assert allocation.even(rooms, [0.5, 0.5, 0.0]) == [4, 8, 12]
    assert [allocation.third(i, 7) for i in range(7)] == [0, 0, 1, 1, 1, 2, 2]


# ---- what stands in the way ----------------------------------------------------------------------


SMALL = (X[0][:, :, :4, :4],)


class Inner(nn.Module):
    """A layer in a module of its own, whose forward is given."""

    def __init__(self, forward):
        super().__init__()
        self.layer = nn.Conv2d(4, 4, 1)
        self.run = forward

    def forward(self, x):
        return self.run(self.layer, x)


def around(forward):
    return nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.Sequential(nn.ReLU(), Inner(forward)),
        nn.Flatten(),
        nn.Linear(16, 3),
    )


def test_a_module_that_cannot_be_traced_is_named():
    network = around(lambda layer, x: torch.from_numpy(layer(x).numpy() * 2))
    with pytest.raises(StageError, match=r"gradients on, 1.1 \(Inner\) fails: .*numpy\(\)"):
        channels.remove(network, SMALL, 0.5, 1)


def test_a_layer_that_is_cut_off_is_named():
    network = nn.Sequential(around(lambda layer, x: layer(x)), nn.Identity())
    network[1].forward = torch.Tensor.detach
    with pytest.raises(StageError, match=r"cannot trace .*connected to its output by gradients"):
        channels.remove(network, SMALL, 0.5, 1)


def test_a_module_that_fixes_a_width_is_named():
    network = around(lambda layer, x: layer(x).reshape(-1, 4, 4).reshape(-1, 4, 2, 2))
    with pytest.raises(StageError, match=r"channels of 1.1.layer .* before 3 .*fixes a size"):
        channels.remove(network, SMALL, 0.5, 1)


def test_a_module_that_fails_with_fewer_channels_is_named():
    network = around(lambda layer, x: layer(x) * torch.ones(1, 4, 1, 1))
    with pytest.raises(StageError, match=r"with fewer channels 1.1 \(Inner\) fails: The size"):
        channels.remove(network, SMALL, 0.5, 1)


def test_a_ratio_that_removes_nothing_is_refused():
    with pytest.raises(StageError, match="removed nothing: raise the ratio or lower round_to"):
        channels.remove(residual(), X, 0.1, 32)


def test_a_network_without_channels_is_told_its_layers():
    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.LSTM(8, 16, batch_first=True)
            self.head = nn.Linear(16, 3)

        def forward(self, x):
            return self.head(self.layers(x)[0][:, -1])

    with pytest.raises(StageError, match=r"no layer .* can be removed .* LSTM, Linear"):
        channels.remove(Recurrent().eval(), (torch.ones(2, 5, 8),), 0.5, 1)
