"""A language model of Hugging Face with LoRA adapters: exported as a bundle, fine-tuned without torch, read back.

Only the adapters are state; the other weights lie in the bundle once, here in 8 bits. Batch and length are free.

Run: python examples/lora.py   (needs transformers and peft)
"""

import tempfile

import numpy as np
import peft
import torch
import transformers
from gradport_runtime import Trainer

import gradport

TEXT = "the quick brown fox jumps over the lazy dog. " * 20
LETTERS = sorted(set(TEXT))


def language_model():
    """A small Llama; put `AutoModelForCausalLM.from_pretrained(...)` here for a trained one."""
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=len(LETTERS),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
    )
    model = transformers.LlamaForCausalLM(config)
    adapters = peft.LoraConfig(task_type="CAUSAL_LM", r=8, target_modules="all-linear", modules_to_save=["lm_head"])
    return peft.get_peft_model(model, adapters)


def batches(steps, rows=8, length=48):
    """Pieces of the text; the model itself shifts the labels by one."""
    letters = np.array([LETTERS.index(letter) for letter in TEXT])
    starts = np.random.default_rng(0).integers(0, len(letters) - length, (steps, rows))
    for row in starts:
        ids = np.stack([letters[start : start + length] for start in row])
        yield {"input_ids": ids, "labels": ids}


def main():
    model = language_model()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    # the defaults of transformers.Trainer: AdamW, a linear schedule, gradients clipped at 1
    optimizer = torch.optim.AdamW(trained, lr=2e-2)
    ids = gradport.tensor("i64[batch:2,length:12]@0..9")
    training = gradport.export_training(
        model,
        kwargs={"input_ids": ids, "labels": ids},
        optimizer=optimizer,
        loss=lambda output: output.loss,
        scheduler=transformers.get_linear_schedule_with_warmup(optimizer, 5, 60),
        steps=60,
        clip_grad_norm=1.0,
        frozen="int8",
    )
    with tempfile.TemporaryDirectory() as folder:
        training.save(f"{folder}/bundle")
        trainer = Trainer(f"{folder}/bundle")
        history = trainer.fit(batches(60))
        logits = trainer.predict(input_ids=next(batches(1))["input_ids"][:1, :20])["logits"]
        training.write_back(trainer.state(), model)
    losses = [step["loss"] for step in history["steps"]]
    print(f"loss {losses[0]:.2f} to {losses[-1]:.2f}; logits {list(logits.shape)}")
    print(f"{sum(one.numel() for one in trained)} of {model.num_parameters()} parameters trained")


if __name__ == "__main__":
    main()
