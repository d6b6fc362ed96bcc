"""Train the teacher that ships with this example and write ``teacher.pt`` beside this file."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as nnf
from task import LENGTH, PADDING, build_model, data

EPOCHS = 24
BATCH = 64


def moved(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Half of the texts without some of their first bytes: a text may begin anywhere."""
    lengths = (x != PADDING).sum(1)
    skip = rng.integers(0, np.maximum(lengths - 7, 1)) * rng.integers(0, 2, len(x))
    padded = np.pad(x, ((0, 0), (0, LENGTH)), constant_values=PADDING)
    return np.take_along_axis(padded, skip[:, None] + np.arange(LENGTH), axis=1)


def main() -> None:
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    parts = data()
    (train_x, train_y), (test_x, test_y) = parts.train, parts.test
    network = build_model()
    steps = EPOCHS * (len(train_x) // BATCH)
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=5e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1.5e-3, total_steps=steps)
    start = time.perf_counter()
    for epoch in range(EPOCHS):
        network.train()
        order = rng.permutation(len(train_x))
        for first in range(0, len(order) - BATCH + 1, BATCH):
            rows = order[first : first + BATCH]
            logits = network(torch.from_numpy(moved(train_x[rows], rng)))
            loss = nnf.cross_entropy(logits, torch.from_numpy(train_y[rows]), label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            schedule.step()
        print(f"epoch {epoch + 1}: loss {loss.item():.3f}", flush=True)
    halves = {name: tensor.half() for name, tensor in network.state_dict().items()}
    torch.save(halves, Path(__file__).parent / "teacher.pt")
    network.load_state_dict(halves)  # what was saved is what is judged
    network.eval()
    with torch.inference_mode():
        right = (network(torch.from_numpy(test_x)).argmax(1).numpy() == test_y).sum()
    seconds = time.perf_counter() - start
    print(f"{EPOCHS} epochs in {seconds:.0f} s; {right} of {len(test_y)} test texts right")


if __name__ == "__main__":
    main()
