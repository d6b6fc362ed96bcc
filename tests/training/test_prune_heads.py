"""Attention heads removed: the network computes what it does where nobody reads them."""

import copy

import pytest
import torch
from prune_nets import context, model, outputs, reader
from torch import nn

from autotune.errors import StageError
from autotune.training import dependencies, heads, knives
from autotune.training import network as networks

X = (torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0)),)
FUSED = ["", "chunks", "places"]


def found(network, attribute="num_heads"):
    return heads.named(network, dependencies.trace(network, X), attribute)


@pytest.mark.parametrize("fused", FUSED)
def test_every_attention_and_the_layers_of_its_heads_are_found(fused):
    network = reader(fused=fused)
    first, second = found(network)
    assert (first.name, second.name) == ("attentions.0", "attentions.1")
    assert first.output is network.attentions[0].output
    inside = network.attentions[1]
    three = (inside.all_three,) if fused else (inside.query, inside.key, inside.value)
    assert second.projections == three


@pytest.mark.parametrize("fused", FUSED)
def test_the_rest_computes_what_it_did(fused):
    network = reader(fused=fused)
    masked = copy.deepcopy(network)
    with torch.no_grad():
        masked.attentions[0].output.weight[:, 4:12] = 0  # heads 1 and 2
        masked.attentions[1].output.weight[:, 12:] = 0  # head 3
    heads.remove(network, X, "num_heads", {"attentions.0": [1, 2], "attentions.1": [3]})
    assert [a.num_heads for a in network.attentions] == [2, 3]
    assert [a.output.in_features for a in network.attentions] == [8, 12]
    assert sum(p.numel() for p in network.parameters()) < sum(
        p.numel() for p in masked.parameters()
    )
    assert torch.allclose(outputs(network), outputs(masked), atol=1e-5)


@pytest.mark.parametrize("fused", FUSED)
@pytest.mark.parametrize("criterion", ["magnitude", "taylor"])
def test_heads_without_a_say_are_the_ones_that_go(criterion, fused, tmp_path):
    network = reader(fused=fused)
    with torch.no_grad():
        for attention in network.attentions:
            attention.output.weight[:, 4:12] = 0
            for layer in (m for m in attention.children() if m is not attention.output):
                layer.weight.view(-1, 4, 4, 16)[:, 1:3] *= 1e-3
    before = outputs(network)
    knife = knives.of_heads(network, context(tmp_path), "num_heads", 0.5, criterion)
    assert knife.cut(network, 1.0) == {"attentions.0": [1, 2], "attentions.1": [1, 2]}
    assert torch.allclose(outputs(network), before, atol=1e-5)


def test_one_head_always_stays(tmp_path):
    network = reader()
    knives.of_heads(network, context(tmp_path), "num_heads", 0.95, "magnitude").cut(network, 1.0)
    assert [a.num_heads for a in network.attentions] == [1, 1]


@pytest.mark.parametrize("fused", FUSED)
def test_it_comes_back_from_disk(fused, tmp_path):
    of = model("reader", fused=fused)
    network = networks.given(of)
    where = context(tmp_path, of)
    knives.of_heads(network, where, "num_heads", 0.5, "magnitude").cut(network, 1.0)
    networks.save(network, where.blueprint, of, tmp_path)
    loaded, _, _ = networks.load(tmp_path)
    assert [a.num_heads for a in loaded.attentions] == [2, 2]
    assert torch.equal(outputs(loaded), outputs(network))


# ---- what cannot lose heads ----------------------------------------------------------------------


def test_the_attribute_is_named_where_no_module_has_it():
    words = r"counts heads in 'n_head'.*attentions.0 \(Attention\) with num_heads = 4, size = 4.*"
    with pytest.raises(StageError, match=words + r"name the attribute in prune.heads"):
        found(reader(), "n_head")


def test_a_network_without_attention_says_so():
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 3))
    with pytest.raises(StageError, match="no module's class has attention in its name"):
        found(network)


def test_torchs_own_attention_is_said_to_be_the_reason():
    class Stock(nn.Module):
        def __init__(self):
            super().__init__()
            self.mixing = nn.MultiheadAttention(8, 2, batch_first=True)
            self.head = nn.Linear(8, 3)

        def forward(self, x):
            x = x.flatten(1, 2)
            return self.head(self.mixing(x, x, x)[0].mean(1))

    with pytest.raises(StageError, match=r"mixing: torch's MultiheadAttention cannot lose heads"):
        found(Stock())


def test_an_attribute_that_counts_something_else_is_refused():
    network = reader()
    for attention in network.attentions:
        attention.num_words = 5
    with pytest.raises(StageError, match="num_words = 5 does not divide the 16 inputs"):
        found(network, "num_words")


def test_a_module_that_hides_its_width_in_a_number_is_named():
    class Fixed(type(reader().attentions[0])):
        def forward(self, x):
            three = (layer(x) for layer in (self.query, self.key, self.value))
            parts = (t.reshape(*x.shape[:2], 4, -1).transpose(1, 2) for t in three)
            y = nn.functional.scaled_dot_product_attention(*parts)
            return self.output(y.transpose(1, 2).reshape(*x.shape[:2], 16))

    network = reader()
    network.attentions[1].__class__ = Fixed
    with pytest.raises(StageError, match=r"some of its heads attentions.1 \(Fixed\) fails"):
        heads.remove(network, X, "num_heads", {"attentions.1": [0]})


def test_another_order_of_heads_is_found_out():
    class Woven(type(reader().attentions[0])):
        def forward(self, x):
            three = (layer(x) for layer in (self.query, self.key, self.value))
            parts = (t.reshape(*x.shape[:2], -1, self.num_heads).transpose(1, 3) for t in three)
            y = nn.functional.scaled_dot_product_attention(*(p.transpose(2, 3) for p in parts))
            return self.output(y.permute(0, 2, 3, 1).reshape(*x.shape[:2], -1))

    network = reader()
    network.attentions[0].__class__ = Woven
    with pytest.raises(StageError, match="must be one block of"):
        heads.remove(network, X, "num_heads", {"attentions.0": [1]})
