"""How large a network is said to be."""

import numpy as np
import pytest
import torch
from torch import nn

from autotune.training import size


class Own(nn.Module):
    """One head of attention of width 4 over the 5 places that it reads."""

    def __init__(self):
        super().__init__()
        self.qkv, self.out = nn.Linear(4, 12), nn.Linear(4, 4)

    def forward(self, x):
        q, k, v = self.qkv(x).chunk(3, -1)
        return self.out(torch.softmax(q @ k.transpose(-2, -1), -1) @ v)


class Function(Own):
    """The same by PyTorch's function for it."""

    def forward(self, x):
        q, k, v = self.qkv(x).unsqueeze(1).chunk(3, -1)
        return self.out(nn.functional.scaled_dot_product_attention(q, k, v).squeeze(1))


class Stock(nn.Module):
    """The same by PyTorch's own layer, which has a kernel for all of it where nothing learns."""

    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 1, batch_first=True)

    def forward(self, x):
        return self.attention(x, x, x, need_weights=False)[0]


@pytest.mark.parametrize("network", [Own, Function, Stock])
def test_attention_counts_with_all_its_products(network):
    x = {"x": np.ones((2, 5, 4), np.float32)}
    found = size.of(network().eval(), x)
    assert found["macs"] == 5 * 4 * 12 + 5 * 4 * 4 + 2 * 5 * 5 * 4
    assert found["parameters"] == 4 * 12 + 12 + 4 * 4 + 4
    assert torch.backends.mha.get_fastpath_enabled()


@pytest.mark.parametrize(("kind", "gates"), [(nn.LSTM, 4), (nn.GRU, 3), (nn.RNN, 1)])
def test_recurrent_layers_count_every_step_in_both_directions(kind, gates):
    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = kind(4, 8, num_layers=2, bidirectional=True, batch_first=True)

        def forward(self, x):
            return self.body(x)[0]

    found = size.of(Recurrent().eval(), {"x": np.ones((2, 5, 4), np.float32)})
    weights = 2 * gates * 8 * (4 + 8) + 2 * gates * 8 * (16 + 8)
    assert found["macs"] == 5 * weights


def test_zeros_are_a_share_of_the_weights_without_biases():
    network = nn.Linear(4, 2)
    with torch.no_grad():
        network.weight[0] = 0
        network.bias.zero_()
    found = size.of(network, {"x": np.ones((1, 4), np.float32)})
    whole = {"parameters": 10.0, "parameters_read": 10.0}
    assert found == {**whole, "macs": 8.0, "sparsity": 0.5}


def test_a_table_of_embeddings_is_not_read_whole_unless_a_layer_shares_it():
    class Words(nn.Module):
        def __init__(self, shared):
            super().__init__()
            self.words, self.out = nn.Embedding(50, 4), nn.Linear(4, 50, bias=False)
            if shared:
                self.out.weight = self.words.weight

        def forward(self, x):
            return self.out(self.words(x))

    x = {"x": np.ones((1, 3), np.int64)}
    apart, shared = (size.of(Words(shared=s), x) for s in (False, True))
    assert (apart["parameters"], apart["parameters_read"]) == (400, 200)
    assert (shared["parameters"], shared["parameters_read"]) == (200, 200)
