"""Train the teacher that ships with this example and write ``teacher.pt`` beside this file."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as nnf
from task import build_model, data

EPOCHS = 25
BATCH = 64


def main() -> None:
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    parts = data()
    (train_x, train_y), (test_x, test_y) = parts.train, parts.test
    network = build_model(width=16, depth=2)
    steps = EPOCHS * (len(train_x) // BATCH)
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=5e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=6e-3, total_steps=steps)
    start = time.perf_counter()
    for _ in range(EPOCHS):
        network.train()
        order = rng.permutation(len(train_x))
        for first in range(0, len(order) - BATCH + 1, BATCH):
            rows = order[first : first + BATCH]
            logits = network(torch.from_numpy(train_x[rows]))
            loss = nnf.cross_entropy(logits, torch.from_numpy(train_y[rows]), label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    network.eval()
    with torch.inference_mode():
        right = (network(torch.from_numpy(test_x)).argmax(1).numpy() == test_y).sum()
    torch.save(network.state_dict(), Path(__file__).parent / "teacher.pt")
    seconds = time.perf_counter() - start
    print(f"{EPOCHS} epochs in {seconds:.0f} s; {right} of {len(test_y)} test images right")


if __name__ == "__main__":
    main()
