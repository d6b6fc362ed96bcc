"""Single weights pruned: how many, which, and what stays as it is."""

import copy

import pytest
import torch
from prune_nets import context, residual
from torch import nn

from autotune.errors import StageError
from autotune.training import importance, sparsity


def weights(network):
    return torch.cat([w.flatten() for w in sparsity.layers(network).values()])


@pytest.mark.parametrize("criterion", ["magnitude", "lamp", "random", "taylor"])
@pytest.mark.parametrize("ratio", [0.25, 0.9])
def test_exactly_the_share_is_zero(criterion, ratio, tmp_path):
    network = residual()
    importance.gradients(network, context(tmp_path))
    sparsity.unstructured(network, ratio, criterion, seed=0)
    found = weights(network)
    assert int((found == 0).sum()) == round(len(found) * ratio)


def test_magnitude_takes_the_smallest_of_the_whole_network_and_nothing_else():
    before, after = residual(), residual()
    sparsity.unstructured(after, 0.5, "magnitude", seed=0)
    gone = weights(after) == 0
    assert weights(before)[gone].abs().max() <= weights(before)[~gone].abs().min()
    assert torch.equal(weights(after)[~gone], weights(before)[~gone])
    kept = sparsity.layers(before).keys()
    for name, value in before.state_dict().items():
        if name.removesuffix(".weight") not in kept:
            assert torch.equal(after.state_dict()[name], value)


def test_lamp_is_blind_to_a_layers_scale_where_magnitude_is_not():
    def shares(criterion):
        network = residual()
        with torch.no_grad():
            network.head.weight.mul_(100)
        sparsity.unstructured(network, 0.5, criterion, seed=0)
        return float((network.head.weight == 0).float().mean())

    plain = residual()
    sparsity.unstructured(plain, 0.5, "lamp", seed=0)
    assert shares("magnitude") == 0
    assert shares("lamp") == float((plain.head.weight == 0).float().mean()) > 0


def test_lamp_scores_as_its_paper_defines():
    weight = torch.tensor([[3.0, -1.0], [2.0, 0.0]])
    expected = torch.tensor([[1.0, 1 / 14], [4 / 13, 0.0]], dtype=torch.float64)
    assert torch.allclose(importance.of_weights(weight, "lamp", None), expected)


def test_what_was_zero_stays_zero_as_more_goes():
    network = residual()
    sparsity.unstructured(network, 0.3, "random", seed=0)
    first = weights(network) == 0
    sparsity.unstructured(network, 0.6, "random", seed=1)
    second = weights(network) == 0
    assert bool((second | ~first).all())
    assert int(second.sum()) == round(len(second) * 0.6)


def test_taylor_is_the_change_of_the_loss_when_one_weight_goes(tmp_path):
    where = context(tmp_path)
    network = residual()
    importance.gradients(network, where)
    scores = importance.of_weights(network.head.weight, "taylor", None)
    x, y = torch.from_numpy(where.train_x["input"]), torch.from_numpy(where.train_y)

    def loss(changed):
        with torch.no_grad():
            return nn.functional.cross_entropy(changed(x), y).double()

    for place in ((0, 0), (2, 5)):
        changed = copy.deepcopy(network)
        with torch.no_grad():
            changed.head.weight[place] *= 0.99
        slope = (loss(changed) - loss(network)).abs() / 0.01
        assert float(slope) == pytest.approx(float(scores[place]), rel=0.1, abs=2e-5)


def test_taylor_needs_something_to_measure_the_loss_by(tmp_path):
    where = context(tmp_path, train_y=None, teacher_logits=None)
    with pytest.raises(StageError, match="needs labels, or a teacher"):
        importance.gradients(residual(), where)


def test_two_of_every_four_go_and_they_are_the_smaller():
    before, after = residual(), residual()
    skipped = sparsity.two_of_four(after)
    assert skipped == ["stem", "each"]  # 9 inputs each
    for name, weight in sparsity.layers(after).items():
        given = sparsity.layers(before)[name]
        if name in skipped:
            assert torch.equal(weight, given)
            continue
        fours, old = weight.reshape(-1, 4), given.reshape(-1, 4)
        assert bool(((fours == 0).sum(1) == 2).all())
        kept = old.abs().masked_fill(fours == 0, torch.inf).min(1).values
        gone = old.abs().masked_fill(fours != 0, 0).max(1).values
        assert bool((gone <= kept).all())


def test_two_of_four_names_the_counts_where_no_layer_fits():
    with pytest.raises(StageError, match=r"multiple of 4; there are 0: 6, 1: 3"):
        sparsity.two_of_four(nn.Sequential(nn.Linear(6, 3), nn.Linear(3, 2)))


def test_an_embedding_that_is_tied_to_a_layer_is_left_alone():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.words, self.middle, self.head = (
                nn.Embedding(5, 8),
                nn.Linear(8, 8),
                nn.Linear(8, 5, bias=False),
            )
            self.head.weight = self.words.weight

    assert list(sparsity.layers(Tied())) == ["middle"]


def test_recurrent_and_attention_layers_are_pruned_without_their_biases():
    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.LSTM(4, 8, batch_first=True)
            self.attention = nn.MultiheadAttention(8, 2, add_bias_kv=True)
            self.head = nn.Linear(8, 2)

    network = Both()
    found = sparsity.layers(network)
    names = ["body.weight_ih_l0", "body.weight_hh_l0", "attention.in_proj_weight"]
    assert list(found) == [*names, "attention.out_proj", "head"]
    assert sparsity.two_of_four(network) == []
    assert all(int((w == 0).sum()) == w.numel() // 2 for w in found.values())


def test_a_network_without_such_layers_is_refused():
    with pytest.raises(
        StageError, match="no convolution and no linear, recurrent or attention layer"
    ):
        sparsity.unstructured(nn.Sequential(nn.LayerNorm(4)), 0.5, "magnitude", seed=0)
