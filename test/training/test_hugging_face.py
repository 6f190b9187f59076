"""Models of Hugging Face with labels, and LoRA adapters of peft, at any batch and length."""

import pytest
import torch
from gradport_runtime import Trainer

import gradport

pytestmark = pytest.mark.corpus

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 60}


def llama(adapters):
    import peft
    import transformers

    torch.manual_seed(0)
    options = {"intermediate_size": 64, "num_key_value_heads": 2, "max_position_embeddings": 64}
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**SIZES, **options))
    if not adapters:
        return model
    settings = peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    adapted = peft.get_peft_model(model, settings)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:  # peft starts them at zero, where half of the gradients are zero
            torch.nn.init.normal_(parameter, std=0.1)
    return adapted


def gpt2():
    import transformers

    torch.manual_seed(0)
    drop = {"embd_pdrop": 0.0, "attn_pdrop": 0.0, "resid_pdrop": 0.0}
    config = transformers.GPT2Config(vocab_size=60, n_embd=32, n_layer=2, n_head=4, n_positions=64, **drop)
    return transformers.GPT2LMHeadModel(config)


MODELS = {"Llama": lambda: llama(False), "Llama with LoRA": lambda: llama(True), "GPT-2": gpt2}


def batch_of(rows, length, seed):
    ids = torch.randint(0, 60, (rows, length), generator=torch.Generator().manual_seed(seed))
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids}


@pytest.mark.parametrize("name", MODELS)
def test_a_causal_language_model_trains_as_in_torch_at_any_batch_and_length(name, tmp_path):
    model = MODELS[name]()
    trained = {name: one for name, one in model.named_parameters() if one.requires_grad}
    optimizer = torch.optim.AdamW(trained.values(), lr=1e-2)
    sizes = {0: "batch", 1: "length"}
    training = gradport.export_training(
        model,
        kwargs=batch_of(2, 8, 0),
        optimizer=optimizer,
        loss=lambda output: output.loss,
        dynamic_shapes={"input_ids": sizes, "attention_mask": sizes, "labels": sizes},
    )
    training.save(tmp_path / "bundle")
    trainer = Trainer(tmp_path / "bundle")
    weights = {name for name in training.state() if not name.startswith("optim.")}
    assert weights == set(trained)
    for step, (rows, length) in enumerate([(2, 8), (3, 5), (1, 17), (4, 2), (2, 30)]):
        batch = batch_of(rows, length, step)
        optimizer.zero_grad()
        loss = model(**batch).loss
        loss.backward()
        optimizer.step()
        found = trainer.step({name: tensor.numpy() for name, tensor in batch.items()})
        assert found["loss"] == pytest.approx(float(loss.detach()), rel=1e-5)
    model.eval()
    asked = batch_of(3, 11, 9)
    del asked["labels"]
    logits = trainer.predict({name: tensor.numpy() for name, tensor in asked.items()})["logits"]
    torch.testing.assert_close(torch.from_numpy(logits), model(**asked).logits, atol=2e-4, rtol=1e-4)


def test_a_classifier_predicts_without_labels(tmp_path):
    import transformers

    torch.manual_seed(0)
    config = transformers.BertConfig(**SIZES, intermediate_size=64, max_position_embeddings=32, num_labels=3)
    model = transformers.BertForSequenceClassification(config)
    ids = torch.randint(0, 60, (2, 7))
    training = gradport.export_training(
        model,
        kwargs={"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": torch.tensor([0, 2])},
        optimizer=torch.optim.AdamW(model.parameters(), lr=1e-3),
        loss=lambda output: output.loss,
    )
    names = [port["name"] for port in training.manifest["models"]["predict"]["inputs"] if port["role"] == "argument"]
    assert names == ["input_ids", "attention_mask"]
