"""A hundred steps of a network stay within ten times of how far eager goes from itself when its weights move by one ULP
at the start."""

import copy

import pytest
import torch
import torch.nn.functional as F

import gradport

pytestmark = pytest.mark.corpus


class Round(torch.autograd.Function):
    """Rounding whose gradient is straight-through within the range."""

    @staticmethod
    def forward(ctx, x, scale):
        ctx.save_for_backward((x / scale).abs() <= 127)
        return torch.clamp(torch.round(x / scale), -127, 127) * scale

    @staticmethod
    def backward(ctx, cotangent):
        (inside,) = ctx.saved_tensors
        return cotangent * inside, None


class Quantized(torch.nn.Module):
    """A linear layer with rounded weights and rounded inputs."""

    def __init__(self, *sizes):
        super().__init__()
        self.linear = torch.nn.Linear(*sizes)

    def forward(self, x):
        return F.linear(Round.apply(x, 0.05), Round.apply(self.linear.weight, 0.01), self.linear.bias)


class Last(torch.nn.Module):
    """An LSTM's last output through a linear layer."""

    def __init__(self):
        super().__init__()
        self.rnn, self.head = torch.nn.LSTM(4, 8, batch_first=True), torch.nn.Linear(8, 3)

    def forward(self, x):
        return self.head(self.rnn(x)[0][:, -1])


class Encoder(torch.nn.Module):
    """A BERT of two layers, predicting the word at each place."""

    def __init__(self):
        super().__init__()
        self.words, self.places = torch.nn.Embedding(11, 16), torch.nn.Embedding(6, 16)
        layer = torch.nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, activation="gelu", batch_first=True)
        self.layers = torch.nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = torch.nn.Linear(16, 11)

    def forward(self, ids):
        return self.head(self.layers(self.words(ids) + self.places.weight)).transpose(1, 2)


def image_to_image():
    return torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3, stride=2, padding=1),
        torch.nn.BatchNorm2d(4),
        torch.nn.ReLU(),
        torch.nn.ConvTranspose2d(4, 1, 4, stride=2, padding=1),
    )


def normal(*shape):
    return lambda generator: torch.randn(shape, generator=generator)


def whole(high, *shape):
    return lambda generator: torch.randint(0, high, shape, generator=generator)


def perceptron():
    return torch.nn.Sequential(torch.nn.Linear(6, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3))


def quantized():
    return torch.nn.Sequential(Quantized(6, 16), torch.nn.ReLU(), Quantized(16, 3))


NETWORKS = {
    "MLP": (perceptron, normal(8, 6), whole(3, 8), F.cross_entropy, torch.optim.Adam),
    "CNN with transposed convolution": (
        image_to_image,
        normal(4, 1, 8, 8),
        normal(4, 1, 8, 8),
        F.mse_loss,
        torch.optim.AdamW,
    ),
    "LSTM": (Last, normal(5, 6, 4), whole(3, 5), F.cross_entropy, torch.optim.RMSprop),
    "BERT": (Encoder, whole(11, 4, 6), whole(11, 4, 6), F.cross_entropy, torch.optim.AdamW),
    "quantization-aware": (quantized, normal(8, 6), whole(3, 8), F.cross_entropy, torch.optim.SGD),
}
RATE, STEPS = 1e-3, 100


@pytest.mark.parametrize("name", NETWORKS)
def test_a_hundred_steps(name):
    build, draw, draw_target, loss, optimizer = NETWORKS[name]
    generator = torch.Generator().manual_seed(0)
    feeds = [(draw(generator), draw_target(generator)) for _ in range(STEPS)]
    torch.manual_seed(0)
    net = build()
    program = gradport.export_step(
        net, feeds[0][0], optimizer=optimizer(net.parameters(), lr=RATE), loss=loss, targets=feeds[0][1]
    )
    state, losses = program.state(), []
    for x, target in feeds:
        argument = next(spec.name for spec in program.inputs if spec.role == "argument")
        found = program.run_named({argument: x, "target": target, "lr": torch.tensor(RATE), **state})
        losses.append(float(found["loss"]))
        state = {spec.of: found[spec.name] for spec in program.outputs if spec.role == "new_state"}
    twins = [net, *(moved(net, up) for up in (True, False))]
    for twin in twins:
        train(twin, optimizer(twin.parameters(), lr=RATE), feeds, loss)
    for key, value in net.state_dict().items():
        if key.endswith("num_batches_tracked"):
            assert torch.equal(state[key], value)
            continue
        own = max(float((value - twin.state_dict()[key]).abs().max()) for twin in twins[1:])
        floor = 4 * torch.finfo(torch.float32).eps * float(value.abs().max())
        assert float((state[key] - value).abs().max()) <= 10 * max(own, floor), key
    assert losses[-1] != losses[0]


def moved(net, up):
    """The net with every weight one ULP away."""
    twin = copy.deepcopy(net)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.copy_(torch.nextafter(parameter, torch.full_like(parameter, float("inf" if up else "-inf"))))
    return twin


def train(net, optimizer, feeds, loss):
    for x, target in feeds:
        optimizer.zero_grad()
        loss(net(x), target).backward()
        optimizer.step()
