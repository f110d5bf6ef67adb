"""DMPO in a training loop of one's own, in plain PyTorch.

python examples/own_loop.py writes the records my-loop/val and my-loop/test, which evaluate and the app open.
"""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils.data import DataLoader

import dmpo_explore as dx

EPOCHS, RATE = 8, 1e-3
torch.manual_seed(0)
config = dx.ModelConfig("test_vit", "random", 32, exits=3, tuning="full")  # yours: any timm name
model = dx.build_model(config, n_classes=10)
images = {split: dx.load_images("digits", split) for split in ("train", "val", "test")}


def batches(split: str) -> DataLoader[tuple[Tensor, Tensor]]:
    """Yours: any loader of images (B, 3, S, S), scaled as `model.preprocess` says, and labels (B,)."""
    return dx.data.make_loader(images[split], model.preprocess, batch_size=64, shuffle=split == "train")


optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=RATE)  # the rest is frozen
for epoch in range(EPOCHS):
    weights = dx.training.loss_weights("switch", epoch, EPOCHS, n_exits=model.n_exits)  # DMPO's two phases
    model.train()
    for pixels, labels in batches("train"):
        loss, by_exit = dx.training.weighted_loss(model(pixels), labels, weights)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"epoch {epoch + 1}: loss by exit", by_exit.detach().numpy().round(2).tolist())


@torch.inference_mode()
def answers(split: str) -> Iterator[tuple[Tensor, Tensor]]:
    """Logits of all exits (B, K, C), and labels."""
    for pixels, labels in batches(split):
        yield model(pixels), labels


model.eval()
flops = dx.models.measure_flops(model, dx.models.build_reference(config, 10))
for split in ("val", "test"):
    record = dx.record_logits(
        answers(split), flops=flops.cumulative, reference_flops=flops.reference, split=split,
        class_names=images[split].class_names, exit_blocks=model.exits, data="digits", model="test_vit",
    )  # fmt: skip
    record.save(f"my-loop/{split}", force=True)
    print(split, "accuracy by exit", record.correct.mean(axis=0).round(3).tolist())
