"""Trainings that are tried in every runtime, with the losses that torch has for the same random draws."""

import json
import pathlib

import torch
from gradport_runtime import Trainer
from gradport_runtime.draws import Place, draw_inputs

import gradport
from gradport.eager.halves import Gradients
from gradport.eager.randomness import draw_from
from gradport.eager.run import ones, run_eager
from gradport.eager.update import Update
from gradport.subject.ports import Role, Slot
from gradport.subject.subject import Subject

__all__ = ["CASES", "SEED", "STEPS", "write_case"]

SEED = 7

STEPS = 20


def mlp():
    return torch.nn.Sequential(torch.nn.Linear(6, 16), torch.nn.GELU(), torch.nn.Linear(16, 4))


def wide():
    """A weight of more than 2**19 elements: the optimizer's step updates it in rows."""
    return torch.nn.Sequential(
        torch.nn.Linear(6, 1024), torch.nn.Tanh(), torch.nn.Linear(1024, 512), torch.nn.Linear(512, 4)
    )


def cnn():
    return torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3),
        torch.nn.BatchNorm2d(4),
        torch.nn.ReLU(),
        torch.nn.MaxPool2d(2),
        torch.nn.Dropout(0.25),
        torch.nn.Flatten(),
        torch.nn.Linear(36, 4),
    )


class Recurrent(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.gru, self.head = torch.nn.GRU(3, 8, batch_first=True), torch.nn.Linear(8, 4)

    def forward(self, input):
        return self.head(self.gru(input)[0][:, -1])


class Adapted(torch.nn.Module):
    """A small Llama, frozen but for LoRA adapters of peft; it classifies by four logits of the last token."""

    def __init__(self):
        super().__init__()
        import peft
        import transformers

        sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "vocab_size": 50}
        heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 32}
        model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**sizes, **heads))
        self.model = peft.get_peft_model(model, peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj"]))

    def forward(self, input):
        return self.model(input_ids=input).logits[:, -1, :4]


CASES = {
    "MLP": (mlp, (6,), lambda p: torch.optim.AdamW(p, lr=1e-2)),
    "wide": (wide, (6,), lambda p: torch.optim.AdamW(p, lr=1e-3)),
    "CNN": (cnn, (1, 8, 8), lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9)),
    "GRU": (Recurrent, (5, 3), lambda p: torch.optim.Adam(p, lr=1e-2)),
    "LoRA": (Adapted, None, lambda p: torch.optim.AdamW(p, lr=1e-2)),
}


def batches_of(shape):
    generator = torch.Generator().manual_seed(0)
    rows = []
    for step in range(STEPS):
        count = 4 + step % 3
        x = (
            torch.randint(0, 50, (count, 7), generator=generator)
            if shape is None
            else torch.randn(count, *shape, generator=generator)
        )
        rows.append((x, torch.randint(0, 4, (count,), generator=generator)))
    return rows


def in_torch(trainer, subject, optimizer, batches):
    """The losses of torch from the starting state, with the draws of the Trainer."""
    gradients = Gradients(subject, optimizer)
    update = Update(optimizer, gradients.trained, None)
    placed = gradients.examples() | update.state | update.rates
    losses = []
    for step, (x, y) in enumerate(batches):
        batch = {Slot(Role.ARGUMENT, "input"): x, Slot(Role.TARGET, "target"): y}
        drawn = draw_inputs(
            trainer.bundle.models["gradients"], {"input": x.numpy(), "target": y.numpy()}, Place(SEED, step)
        )
        random = draw_from({name: torch.from_numpy(value) for name, value in drawn.items()})
        results = run_eager(gradients, placed | batch, ones, random)
        found = {slot.name: gradient for slot, gradient in results.gradients.items()}
        placed |= update(placed, found) | {slot: tensor.detach() for slot, tensor in results.new_state.items()}
        losses.append(float(results.loss.detach()))
    return losses


def write_case(name, folder, verify=True):
    """Writes `bundle/` and `batches.json` into a folder; gives the batches and the losses of torch."""
    make, shape, optimizer_of = CASES[name]
    torch.manual_seed(0)
    model = make()
    optimizer = optimizer_of([parameter for parameter in model.parameters() if parameter.requires_grad])
    batches = batches_of(shape)
    x, y = batches[0]
    shapes = {"input": {0: "batch"}, "target": {0: "batch"}}
    loss = torch.nn.functional.cross_entropy
    subject = Subject(model, x, loss=loss, targets=y, dynamic_shapes=shapes)
    folder = pathlib.Path(folder)
    gradport.export_training(subject, optimizer=optimizer, loss=loss, verify=verify).save(folder / "bundle")
    losses = in_torch(Trainer(folder / "bundle"), subject, optimizer, batches)
    said = [{"input": {"data": x.flatten().tolist(), "dims": list(x.shape)}, "target": y.tolist()} for x, y in batches]
    (folder / "batches.json").write_text(json.dumps(said))
    return batches, losses
