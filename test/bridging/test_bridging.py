"""A Program as a differentiable part of a torch model: losses, gradients, executed nodes, copies."""

import pytest
import torch
import torch.nn.functional as F

import gradport
from gradport.bridging.cut import cut


class Net(torch.nn.Module):
    """A convolution, batch normalization, dropout, and a head."""

    def __init__(self, p=0.0):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.norm = torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.BatchNorm2d(4)
        self.drop, self.head = torch.nn.Dropout(p), torch.nn.Linear(64, 5)

    def forward(self, x):
        return self.head(self.drop(F.max_pool2d(torch.relu(self.norm(self.conv(x))), 2).flatten(1)))


@pytest.fixture(scope="module")
def batch():
    torch.manual_seed(1)
    return torch.randn(4, 3, 8, 8), torch.randint(0, 5, (4,))


def exported(model, x, **options):
    return gradport.export(model, x, dynamic_shapes={"x": {0: "batch"}}, **{"wrt": "all", **options})


def test_twenty_steps_have_the_losses_of_torch(batch):
    x, y = batch
    model = Net()
    module = gradport.as_module(exported(model, x, wrt="parameters"))
    assert [name for name, _ in module.named_parameters()] == [name for name, _ in model.named_parameters()]
    losses = []
    for one in (model, module):
        optimizer = torch.optim.AdamW(one.parameters(), lr=0.003)
        found = []
        for _ in range(20):
            optimizer.zero_grad()
            loss = F.cross_entropy(one(x), y)
            loss.backward()
            optimizer.step()
            found.append(float(loss.detach()))
        losses.append(found)
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)


def test_it_takes_any_size_that_the_file_takes(batch):
    x, _ = batch
    function = gradport.as_function(exported(Net(), x))
    for size in (1, 7):
        other = torch.randn(size, 3, 8, 8, requires_grad=True)
        (gradient,) = torch.autograd.grad(function(other).sum(), other)
        expected = torch.autograd.functional.jacobian(lambda x: Net()(x).sum(), other.detach())
        torch.testing.assert_close(gradient, expected, rtol=1e-3, atol=1e-5)


def executed(model):
    return [node for node in model.graph.all_nodes() if node.op_type != "Constant"]


def test_no_node_runs_twice(batch):
    """What both models compute depends on no input: shapes that are constants."""
    program = exported(Net(), batch[0], functions="inline")
    outputs = [spec.name for spec in program.outputs if spec.role == "output"]
    gradients = [spec.name for spec in program.outputs if spec.role == "gradient"]
    parts = cut(program.model, outputs, gradients)
    weights = {value.name for value in program.model.graph.initializers.values()}
    inputs = {spec.name for spec in program.inputs} | weights

    def computed(model):
        """Names of values that depend on an input."""
        found = set(inputs) | {value.name for value in model.graph.inputs}
        for node in model.graph:
            if any(value is not None and value.name in found for value in node.inputs):
                found |= {value.name for value in node.outputs}
        return {value.name for node in model.graph for value in node.outputs if value.name in found}

    assert not computed(parts.forward) & computed(parts.backward)
    whole = len(executed(program.model))
    assert len(executed(parts.forward)) + len(executed(parts.backward)) <= whole + 10


def test_gradients_that_nobody_asks_for_are_not_computed(batch):
    x, _ = batch
    program = exported(Net(), x, functions="inline")
    outputs = [spec.name for spec in program.outputs if spec.role == "output"]
    few, all_of_them = (
        cut(program.model, outputs, [spec.name for spec in program.outputs if spec.role == "gradient" and keep(spec)])
        for keep in (lambda spec: spec.of == "head.bias", lambda spec: True)
    )
    assert len(executed(few.backward)) < 6 < len(executed(all_of_them.backward))
    assert few.saved == ()
    assert cut(program.model, outputs, []).backward is None


def test_tensors_are_not_copied(batch):
    """The output's memory is ONNX Runtime's, and an input of the session lies on torch's memory."""
    from gradport.bridging.bound import BoundModel
    from gradport.model.sessions import to_ort_value

    x, _ = batch
    assert to_ort_value(x).data_ptr() == x.data_ptr()
    program = gradport.export(torch.nn.Linear(3, 2), torch.randn(4, 3))
    model = BoundModel(program.model)
    seen = []

    def run(names, feeds):
        seen.append(session.run_with_ort_values(names, feeds))
        return seen[-1]

    model.run({"input": torch.randn(4, 3)})
    session = model._session
    model._session = type("Spy", (), {"run_with_ort_values": staticmethod(run)})()
    (output,) = model.run({"input": torch.randn(4, 3)}).values()
    assert output.data_ptr() == seen[0][0].data_ptr()


def test_a_loss_scales_its_gradients(batch):
    x, y = batch
    program = gradport.export(Net(), x, wrt="parameters", loss=F.cross_entropy, targets=y)
    module = gradport.as_module(program)
    (module(x, y) * 3).backward()
    model = Net()
    (F.cross_entropy(model(x), y) * 3).backward()
    for name, parameter in module.named_parameters():
        torch.testing.assert_close(parameter.grad, dict(model.named_parameters())[name].grad, rtol=1e-3, atol=1e-5)


def test_random_inputs_are_drawn_by_torch(batch):
    x, _ = batch
    module = gradport.as_module(exported(Net(0.5), x, wrt="parameters"))
    results = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        results.append(module(x))
    assert torch.equal(results[0], results[1]) and not torch.equal(results[0], results[2])


class Clamp(torch.autograd.Function):
    """Clamp at 0 forward, masked gradient backward."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g * (x > 0)


def test_gradcheck_and_check_pass():
    x = torch.randn(3, 4, dtype=torch.float64)
    function = gradport.as_function(gradport.export(Clamp, x, wrt="inputs"))
    assert torch.autograd.gradcheck(function, x.requires_grad_())
    assert gradport.check(gradport.Subject(lambda x: function(x), x.detach())).ok


def test_a_second_derivative_is_refused_and_never_zero():
    function = gradport.as_function(gradport.export(torch.sin, torch.randn(3), wrt="inputs"))
    x = torch.randn(3, requires_grad=True)
    (gradient,) = torch.autograd.grad(function(x).sum(), x, create_graph=True)
    with pytest.raises(gradport.SpecError, match="no second derivative"):
        torch.autograd.grad(gradient.square().sum() + x.sum(), x)
    (gradient,) = torch.autograd.grad(function(x).sum(), x, create_graph=True)
    with pytest.raises(gradport.SpecError, match="no second derivative"):
        gradient.sum().backward()


def test_a_second_derivative_that_the_program_carries():
    """A gradient penalty: the Program's output is the first derivative."""

    def slope(x):
        (gradient,) = torch.autograd.grad((x**3).sum(), x, create_graph=True)
        return gradient

    function = gradport.as_function(gradport.export(slope, torch.randn(3).requires_grad_(), wrt="inputs"))
    x = torch.randn(3, requires_grad=True)
    (second,) = torch.autograd.grad(function(x).sum(), x)
    torch.testing.assert_close(second, 6 * x.detach())


def test_bad_calls_are_one_sentence(batch):
    x, _ = batch
    with pytest.raises(gradport.SpecError, match="has no gradients"):
        gradport.as_function(gradport.export(Net(), x))
    function = gradport.as_function(exported(Net(), x))
    with pytest.raises(gradport.SpecError, match="takes x; 'x' is missing"):
        function()
    with pytest.raises(gradport.SpecError, match="'z' is unknown"):
        function(x, z=x)


def test_outputs_that_are_whole_numbers_have_no_gradient():
    def both(x):
        return x * 2, x.argmax(0)

    function = gradport.as_function(gradport.export(both, torch.randn(4), wrt="inputs"))
    x = torch.randn(4, requires_grad=True)
    double, place = function(x)
    assert not place.requires_grad and int(place) == int(x.argmax())
    double.sum().backward()
    assert x.grad.tolist() == [2.0] * 4
