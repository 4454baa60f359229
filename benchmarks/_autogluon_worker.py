"""AutoGluon's part of ``autogluon_step``, in its environment: TABLE FOLDER PRECISION DEVICE."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pandas as pd
from _turns import Turns

PRECISIONS = {"32": "32-true", "bf16": "bf16-mixed"}


def main(table: Path, folder: Path, precision: str, device: str) -> None:
    """Fit on all rows but the last, which validates; then predict single images."""
    from autogluon.multimodal import MultiModalPredictor
    from autogluon.multimodal.models.custom_hf_models import modeling_sam_for_conv_lora as sam
    from autogluon.multimodal.optim import SemanticSegmentationLitModule as Module

    checkpoint = folder / "sam"
    sam.SamModel(sam.SamConfig()).save_pretrained(checkpoint)
    gpu = device == "cuda"
    step, prediction = Turns("step", gpu), Turns("prediction", gpu)

    def hook(action: Any) -> Any:
        return lambda self, *arguments, **options: action()

    Module.on_train_batch_start = hook(step.begin)
    Module.on_train_batch_end = hook(step.end)
    Module.on_predict_batch_start = hook(prediction.begin)
    Module.on_predict_batch_end = hook(prediction.end)
    rows = pd.read_csv(table)
    train, tuning = rows[:-1], rows[-1:]
    predictor = MultiModalPredictor(
        problem_type="semantic_segmentation",
        label="label",
        num_classes=1,
        path=str(folder / "run"),
        verbosity=0,
        enable_progress_bar=False,
    )
    predictor.fit(
        train,
        tuning_data=tuning,
        hyperparameters={
            "model.names": ["sam"],
            "model.sam.checkpoint_name": str(checkpoint),
            "optim.peft": "conv_lora",
            "optim.lora.r": 3,
            "optim.lora.conv_lora_expert_num": 8,
            "optim.loss_func": "structure_loss",
            "optim.max_epochs": 1,
            "optim.val_check_interval": 1.0,
            "optim.top_k": 1,
            "env.num_gpus": int(gpu),
            "env.accelerator": "gpu" if gpu else "cpu",
            "env.precision": PRECISIONS[precision],
            "env.batch_size": 1,
            "env.per_gpu_batch_size": 1,
            "env.inference_batch_size_ratio": 1,
            "env.num_workers": 0,
            "env.num_workers_inference": 0,
        },
    )
    predictor.predict(train)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4])
