"""DMPO under the Trainer of Hugging Face's transformers; its loss weights follow the epochs.

python examples/hf_trainer.py writes the record hf-trainer/test, which evaluate and the app open.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import Trainer, TrainerCallback, TrainingArguments

import dmpo_explore as dx

EPOCHS = 8
torch.manual_seed(0)
images = {split: dx.load_images("digits", split) for split in ("train", "test")}
config = dx.ModelConfig("test_vit", "random", 32, exits=3, tuning="full")  # yours: any timm name
model = dx.build_model(config, n_classes=10)
see = dx.data.make_transform(model.preprocess)


class WithLoss(nn.Module):
    """The model as a Trainer wants it: a dictionary with the loss and the logits of all exits (B, K, C)."""

    def __init__(self) -> None:
        super().__init__()
        self.exits, self.weights = model, (1.0,) * model.n_exits

    def forward(self, pixels: Tensor, labels: Tensor) -> dict[str, Tensor]:
        logits = self.exits(pixels)
        return {"loss": dx.training.weighted_loss(logits, labels, self.weights)[0], "logits": logits}


class TwoPhases(TrainerCallback):
    """Sets DMPO's loss weights when an epoch begins."""

    def on_epoch_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        model.weights = dx.training.loss_weights("switch", round(state.epoch), EPOCHS, n_exits=model.exits.n_exits)


def rows(split: str) -> list[dict[str, Any]]:
    """Yours: any data set whose rows name ``forward``'s arguments."""
    return [{"pixels": see(images[split][i]), "labels": int(label)} for i, label in enumerate(images[split].labels)]


how = TrainingArguments(
    "hf-trainer/checkpoints", num_train_epochs=EPOCHS, per_device_train_batch_size=64, learning_rate=1e-3,
    label_names=["labels"], report_to="none", save_strategy="no", dataloader_pin_memory=torch.cuda.is_available(),
)  # fmt: skip
trainer = Trainer(WithLoss(), how, train_dataset=rows("train"), callbacks=[TwoPhases()])
trainer.train()
found, flops = trainer.predict(rows("test")), dx.models.measure_flops(model, dx.models.build_reference(config, 10))
record = dx.record_logits(
    [(torch.from_numpy(np.asarray(found.predictions)), found.label_ids)], flops=flops.cumulative,
    reference_flops=flops.reference, class_names=images["test"].class_names, exit_blocks=model.exits,
    data="digits", model="test_vit",
)  # fmt: skip
record.save("hf-trainer/test", force=True)
print("accuracy by exit", record.correct.mean(axis=0).round(3).tolist())
