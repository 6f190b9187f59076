"""An ONNX file as a torch module: names, sizes, gradients, training, refusals."""

import io

import numpy as np
import onnx
import onnx.parser
import onnxruntime
import pytest
import torch
import torch.nn.functional as F

import gradport


class Classifier(torch.nn.Module):
    """A small network with a head."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.body = torch.nn.Sequential(
            torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.BatchNorm2d(4), torch.nn.ReLU(), torch.nn.MaxPool2d(2)
        )
        self.head = torch.nn.Linear(64, 5)

    def forward(self, x):
        return self.head(self.body(x).flatten(1))


class Encoder(torch.nn.Module):
    """Attention over a dynamic batch."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.words = torch.nn.Embedding(20, 8)
        self.layer = torch.nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)

    def forward(self, x):
        return self.layer(self.words(x)).mean(1)


class Recurrent(torch.nn.Module):
    """A GRU and a linear layer."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.rnn, self.head = torch.nn.GRU(3, 4, batch_first=True), torch.nn.Linear(4, 2)

    def forward(self, x):
        return self.head(self.rnn(x)[0][:, -1])


MODELS = {
    "convolutions": (Classifier, lambda: torch.randn(2, 3, 8, 8)),
    "attention": (Encoder, lambda: torch.randint(0, 20, (2, 5))),
    "recurrent": (Recurrent, lambda: torch.randn(2, 5, 3)),
}


def by_torch(model, x, file):
    """A file of torch's exporter, with a dynamic batch."""
    batch = torch.export.Dim("batch")
    torch.onnx.export(model, (x,), file, dynamo=True, verbose=False, dynamic_shapes=({0: batch},))
    return file


def model_of(text):
    return onnx.parser.parse_model(text)


@pytest.fixture(scope="module", params=MODELS)
def imported(request, tmp_path_factory):
    """No two weights are equal: torch's exporter merges equal ones."""
    build, batch = MODELS[request.param]
    model, x = build().eval(), batch()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    file = by_torch(model, x, tmp_path_factory.mktemp("files") / "model.onnx")
    return model, x, file


def test_outputs_and_gradients_are_those_of_the_source(imported):
    """Weights that torch's exporter keeps have their names; each gets the gradient of the source."""
    model, x, file = imported
    module = gradport.from_onnx(file)
    own, others = dict(model.named_parameters()), dict(module.named_parameters())
    torch.testing.assert_close(module(x), model(x), rtol=1e-4, atol=1e-6)
    module(x).square().sum().backward()
    model(x).square().sum().backward()
    both = [name for name in own if name in others and torch.equal(own[name], others[name])]
    assert both  # torch's exporter folds normalizations into other weights, which keep their names
    for name in both:
        torch.testing.assert_close(others[name].grad, own[name].grad, rtol=1e-3, atol=1e-5)


def test_it_exports_again_with_a_dynamic_batch(imported):
    _, x, file = imported
    module = gradport.from_onnx(file)
    subject = gradport.Subject(module, x, wrt="parameters", dynamic_shapes={module.input_names[0]: {0: "batch"}})
    program = gradport.export(subject)
    assert program.inputs[0].shape[0] == "batch" and program.inputs[0].name == module.input_names[0]
    assert gradport.verify(file, module, x, only=["agrees-with-eager"]).ok


def test_a_head_trains_from_the_file_alone(tmp_path):
    """Twenty steps of AdamW on the head have the losses of the source model."""
    from gradport_runtime import Trainer

    model, x, y = Classifier().eval(), torch.randn(6, 3, 8, 8), torch.randint(0, 5, (6,))
    module = gradport.from_onnx(by_torch(model, x, tmp_path / "model.onnx"), train="head.*")
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    assert len(trained) == 2
    optimizer = torch.optim.AdamW(trained, lr=0.01)
    training = gradport.export_training(module, x, optimizer=optimizer, loss=F.cross_entropy, targets=y)
    training.save(tmp_path / "bundle")
    trainer = Trainer(tmp_path / "bundle")
    found = [trainer.step(x=x.numpy(), target=y.numpy())["loss"] for _ in range(20)]
    optimizer, expected = torch.optim.AdamW(model.head.parameters(), lr=0.01), []
    for _ in range(20):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        expected.append(float(loss))
    assert found == pytest.approx(expected, rel=1e-4)


class LoRA(torch.nn.Module):
    """A weight and a product of two thin matrices."""

    def __init__(self, weight):
        super().__init__()
        rows, columns = weight.shape
        self.down = torch.nn.Parameter(torch.linspace(-1, 1, 2 * columns).reshape(2, columns) * 0.1)
        self.up = torch.nn.Parameter(torch.zeros(rows, 2))

    def forward(self, weight):
        return weight + self.up @ self.down


def add_lora(owner, name):
    weight = getattr(owner, name)
    weight.requires_grad_(False)
    torch.nn.utils.parametrize.register_parametrization(owner, name, LoRA(weight))


def trained_alike(source, module, x, y, tmp_path):
    """The losses of 20 steps of a bundle of the imported module, and of torch on the source."""
    from gradport_runtime import Trainer

    found = [parameter for parameter in module.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(found, lr=0.01)
    training = gradport.export_training(module, x, optimizer=optimizer, loss=F.cross_entropy, targets=y)
    training.save(tmp_path / "bundle")
    trainer = Trainer(tmp_path / "bundle")
    batch = {module.input_names[0]: x.numpy(), "target": y.numpy()}
    ours = [trainer.step(batch)["loss"] for _ in range(20)]
    optimizer = torch.optim.AdamW([one for one in source.parameters() if one.requires_grad], lr=0.01)
    theirs = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = F.cross_entropy(source(x), y)
        loss.backward()
        optimizer.step()
        theirs.append(float(loss))
    return ours, theirs


class Tokens(torch.nn.Module):
    """Attention with a product for each projection, without biases."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.words = torch.nn.Embedding(20, 8)
        self.query, self.key, self.value = (torch.nn.Linear(8, 8, bias=False) for _ in range(3))
        self.head = torch.nn.Linear(8, 3)

    def forward(self, x):
        hidden = self.words(x)
        mixed = F.scaled_dot_product_attention(self.query(hidden), self.key(hidden), self.value(hidden))
        return self.head(mixed.mean(1))


def test_a_lora_on_products_trains_from_the_file_alone(tmp_path):
    """torch.nn.utils.parametrize puts it on an initializer; in the file a weight is the right operand of a MatMul."""
    source, x, y = Tokens().eval(), torch.randint(0, 20, (4, 6)), torch.tensor([0, 1, 2, 1])
    gradport.export(source, x).save(tmp_path / "model.onnx")
    module = gradport.from_onnx(tmp_path / "model.onnx").requires_grad_(False)
    source.requires_grad_(False)
    for name in ("query", "value"):
        add_lora(getattr(module, name), "weight")
        add_lora(getattr(source, name), "weight")
    ours, theirs = trained_alike(source, module, x, y, tmp_path)
    assert ours == pytest.approx(theirs, rel=1e-4) and ours[-1] < ours[0]


class Folded(torch.nn.Module):
    """What a classifier is after its normalization went into the convolution."""

    def __init__(self, model):
        super().__init__()
        conv, norm = model.body[0], model.body[1]
        self.conv = torch.nn.utils.fusion.fuse_conv_bn_eval(conv, norm)
        self.head = model.head

    def forward(self, x):
        return self.head(F.max_pool2d(torch.relu(self.conv(x)), 2).flatten(1))


def test_a_network_with_folded_normalization_trains_from_the_file_alone(tmp_path):
    """torch's exporter folds the normalization; training the file is training the folded weights."""
    model, x, y = Classifier().eval(), torch.randn(4, 3, 8, 8), torch.randint(0, 5, (4,))
    with torch.no_grad():
        model.body[1].running_var.uniform_(0.5, 2)
        model.body[1].weight.uniform_(0.5, 2)
    module = gradport.from_onnx(by_torch(model, x, tmp_path / "model.onnx"))
    assert not any("running" in name for name, _ in module.named_buffers())
    ours, theirs = trained_alike(Folded(model), module, x, y, tmp_path)
    assert ours == pytest.approx(theirs, rel=1e-3)


def test_the_command_line_trains_a_file(tmp_path, monkeypatch):
    from typer.testing import CliRunner

    from gradport.cli.main import app

    model, x = Classifier().eval(), torch.randn(2, 3, 8, 8)
    by_torch(model, x, tmp_path / "model.onnx")
    monkeypatch.chdir(tmp_path)
    arguments = [
        "export-training",
        "model.onnx",
        "x=f32[2,3,8,8]",
        "--target",
        "i64[2]@0..5",
        "--loss",
        "cross_entropy",
    ]
    ran = CliRunner().invoke(app, [*arguments, "--train", "head.*", "--out", "out"])
    assert ran.exit_code == 0, ran.output
    ran = CliRunner().invoke(app, ["export", "model.onnx", "x=f32[2,3,8,8]", "--wrt", "x", "--out", "out"])
    assert ran.exit_code == 0, ran.output


class Clamp(torch.autograd.Function):
    """Clamp at 0 forward; a backward that is not its derivative."""

    @staticmethod
    def forward(ctx, x, y):
        ctx.save_for_backward(x)
        return x.clamp(min=0) * y, y * 2

    @staticmethod
    def backward(ctx, one, other):
        (x,) = ctx.saved_tensors
        return one * 3 * (x > 0), one * x + other * 5


class Twice(torch.nn.Module):
    """Two calls of one Function."""

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor([1.0, 2.0, 3.0]))

    def forward(self, x):
        one, two = Clamp.apply(x * self.scale, x + 1)
        three, four = Clamp.apply(one + two, self.scale)
        return three * four


def test_the_backward_in_a_file_is_the_backward_of_the_module(tmp_path):
    model, x = Twice(), torch.randn(4, 3)
    program = gradport.export(model, x, wrt="all")
    program.save(tmp_path / "model.onnx")
    module = gradport.from_onnx(tmp_path / "model.onnx")
    assert module.input_names == ("x",) and module.output_names == ("output",)
    leaf, other = x.clone().requires_grad_(), x.clone().requires_grad_()
    torch.testing.assert_close(module(leaf), model(other))
    module(leaf).sum().backward()
    model(other).sum().backward()
    torch.testing.assert_close(leaf.grad, other.grad)
    torch.testing.assert_close(module.scale.grad, model.scale.grad)
    again = gradport.export(module, x, wrt="all")
    assert {one.name.split(".")[0] for one in again.functions} == {"Clamp"}
    for one, two in zip(again.run(x, torch.ones(4, 3)), program.run(x, torch.ones(4, 3)), strict=True):
        torch.testing.assert_close(one, two)


def test_without_the_backward_a_gradient_is_refused_or_the_derivative(tmp_path):
    gradport.export(Twice(), torch.randn(4, 3)).save(tmp_path / "model.onnx")
    x = torch.rand(4, 3)
    with pytest.raises(gradport.ExportError, match="forward of Clamp and not the backward"):
        gradport.from_onnx(tmp_path / "model.onnx")(x).sum().backward()
    module = gradport.from_onnx(tmp_path / "model.onnx", backward="derivative")
    gradient = torch.autograd.functional.jacobian(lambda x: module(x).sum(), x)
    assert gradient.shape == x.shape and torch.isfinite(gradient).all()


QUANTIZED = """
    <ir_version: 10, opset_import: ["" : 21]>
    g (float[n, 4] x) => (float[n, 4] y)
    <float s = {0.1}, int8 z = {3}> {
        q = QuantizeLinear(x, s, z)
        y = DequantizeLinear(q, s, z)
    }"""


def test_a_pair_of_quantization_has_a_straight_through_gradient():
    module = gradport.from_onnx(model_of(QUANTIZED))
    x = torch.tensor([[0.04, 5.0, 100.0, -50.0]], requires_grad=True)
    expected = torch.fake_quantize_per_tensor_affine(x.detach().requires_grad_(), 0.1, 3, -128, 127)
    y = module(x)
    torch.testing.assert_close(y, expected.detach())
    y.sum().backward()
    assert x.grad.tolist() == [[1.0, 1.0, 0.0, 0.0]]


OLDER = {
    "Squeeze-11": ("(float[2, 1, 3, 1] x)", "Squeeze<axes = [1, -1]>(x)", 11),
    "Softmax-11": ("(float[2, 3, 4] x)", "Softmax<axis = 1>(x)", 11),
    "LogSoftmax-11": ("(float[2, 3, 4] x)", "LogSoftmax(x)", 11),
    "Unsqueeze-11": ("(float[2, 3] x)", "Unsqueeze<axes = [0, 3]>(x)", 11),
    "ReduceSum-11": ("(float[2, 3, 4] x)", "ReduceSum<axes = [0, 2], keepdims = 0>(x)", 11),
    "ReduceMean-13": ("(float[2, 3, 4] x)", "ReduceMean<axes = [1]>(x)", 13),
    "Split-11": ("(float[6, 4] x)", "Split<axis = 0, split = [6]>(x)", 11),
    "Upsample-9": (
        "(float[1, 2, 3, 3] x)",
        'Upsample<mode = "linear">(x, s)',
        9,
    ),
    "Resize-10": ("(float[1, 2, 3, 3] x)", 'Resize<mode = "nearest">(x, s)', 10),
    "Resize-11": (
        "(float[1, 2, 3, 3] x)",
        'Resize<mode = "cubic", coordinate_transformation_mode = "align_corners">(x, r, s)',
        11,
    ),
    "Clip-6": ("(float[2, 3] x)", "Clip<min = -0.5, max = 0.5>(x)", 9),
    "Pad-2": ("(float[2, 3] x)", "Pad<pads = [1, 0, 0, 2], value = 2.0>(x)", 9),
    "Slice-1": ("(float[4, 5] x)", "Slice<axes = [0, 1], starts = [1, -3], ends = [3, 9]>(x)", 9),
    "Flatten-9": ("(float[2, 3, 4] x)", "Flatten<axis = 2>(x)", 9),
    "BatchNormalization-9": ("(float[2, 3, 4] x)", "BatchNormalization<epsilon = 0.01>(x, a, a, a, a)", 9),
}


@pytest.mark.parametrize("name", OLDER)
def test_older_versions_of_operators_are_those_of_onnx_runtime(name):
    inputs, node, opset = OLDER[name]
    model = model_of(f"""
        <ir_version: 6, opset_import: ["" : {opset}]>
        g {inputs} => (float y)
        <float[4] s = {{1.0, 1.0, 2.0, 2.0}}, float[0] r = {{}}, float[3] a = {{0.5, 1.0, 2.0}}> {{ y = {node} }}""")
    model.graph.output[0].type.tensor_type.ClearField("shape")
    shape = [size.dim_value for size in model.graph.input[0].type.tensor_type.shape.dim]
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    (expected,) = onnxruntime.InferenceSession(model.SerializeToString(), options).run(None, {"x": x})
    found = gradport.from_onnx(model)(torch.from_numpy(x))
    np.testing.assert_allclose(found.detach().numpy(), expected, rtol=1e-4, atol=1e-5)


MICROSOFT = {
    "Gelu": "Gelu(x)",
    "BiasGelu": "BiasGelu(x, b)",
    "FastGelu": "FastGelu(x, b)",
    "QuickGelu": "QuickGelu<alpha = 1.5>(x)",
    "FusedMatMul": "FusedMatMul<alpha = 0.5, transA = 1>(x, x)",
    "SkipLayerNormalization": "SkipLayerNormalization<epsilon = 0.001>(x, x, b, b)",
    "FusedGemm": 'FusedGemm<transB = 1, activation = "Relu">(x, w, b)',
    "MatMulNBits": "MatMulNBits<K = 4, N = 2, bits = 4, block_size = 16>(x, q, s)",
}


@pytest.mark.parametrize("name", MICROSOFT)
def test_operators_of_com_microsoft_are_those_of_onnx_runtime(name):
    packed = ", ".join(str(37 * at % 256) for at in range(16))
    model = model_of(f"""
        <ir_version: 10, opset_import: ["" : 20, "com.microsoft" : 1]>
        g (float[3, 4] x) => (float y)
        <float[4] b = {{0.5, -1.0, 2.0, 0.1}}, float[4, 4] w = {{{", ".join(map(str, range(16)))}}},
         uint8[2, 1, 8] q = {{{packed}}}, float[2] s = {{0.5, 0.25}}> {{ y = com.microsoft.{MICROSOFT[name]} }}""")
    model.graph.output[0].type.tensor_type.ClearField("shape")
    x = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    (expected,) = onnxruntime.InferenceSession(model.SerializeToString(), options).run(None, {"x": x})
    found = gradport.from_onnx(model)(torch.from_numpy(x))
    np.testing.assert_allclose(found.detach().numpy(), expected, rtol=1e-3, atol=1e-4)


BRANCH = """
    <ir_version: 10, opset_import: ["" : 20]>
    g (float[n, 3] x, bool c) => (float[n, 3] y) {
        y = If(c) <then_branch = a () => (float[n, 3] p) { p = Sin(x) },
                   else_branch = b () => (float[n, 3] q) { q = Mul(x, x) }>
    }"""

LOOP = """
    <ir_version: 10, opset_import: ["" : 20]>
    g (float[3] x) => (float[3] last, float[4, 3] rows)
    <int64 count = {4}, bool go = {1}> {
        last, rows = Loop(count, go, x) <body = step (int64 i, bool c, float[3] s) => (bool d, float[3] t, float[3] r) {
            d = Identity(c)
            t = Sin(s)
            r = Mul(t, s)
        }>
    }"""


def test_a_branch_is_torch_cond():
    x = torch.randn(2, 3)
    module = gradport.from_onnx(model_of(BRANCH))
    subject = gradport.Subject(module, (x, torch.tensor(True)), wrt="x", dynamic_shapes={"x": {0: "n"}})
    program = gradport.export(subject)
    assert "If" in {node.op_type for node in program.model.graph}
    for condition, expected in ((True, x.sin()), (False, x * x)):
        torch.testing.assert_close(module(x, torch.tensor(condition)), expected)
        torch.testing.assert_close(program.run(x, torch.tensor(condition), torch.ones(2, 3))[0], expected)


def test_a_loop_of_known_length_is_unrolled():
    x = torch.randn(3)
    module = gradport.from_onnx(model_of(LOOP))
    state, rows = x, []
    for _ in range(4):
        rows.append(state.sin() * state)
        state = state.sin()
    found = module(x)
    torch.testing.assert_close(found["last"], state)
    torch.testing.assert_close(found["rows"], torch.stack(rows))
    assert gradport.export(module, x, wrt="x").outputs[-1].name == "grad_x"


UNKNOWN = """
    <ir_version: 10, opset_import: ["" : 20, "acme" : 1]>
    g (float[3] x) => (float[3] y, float[3] z) {
        y = acme.Thing(x)
        z = LeakyRelu<beta = 2.0>(x)
    }"""


def test_what_has_no_row_is_refused_with_everything_else_that_is_not_carried():
    with pytest.raises(gradport.ExportError, match=r"acme::Thing.*'beta' of LeakyRelu"):
        gradport.from_onnx(model_of(UNKNOWN))


def test_bad_calls_are_one_sentence(tmp_path):
    (tmp_path / "text.onnx").write_text("no model")
    with pytest.raises(gradport.SpecError, match="is not a file"):
        gradport.from_onnx(tmp_path / "none.onnx")
    with pytest.raises(gradport.SpecError, match="not an ONNX file"):
        gradport.from_onnx(tmp_path / "text.onnx")
    with pytest.raises(gradport.SpecError, match="fits no floating-point initializer"):
        gradport.from_onnx(model_of(QUANTIZED), train="head.*")
    with pytest.raises(gradport.SpecError, match="backward='none'"):
        gradport.from_onnx(model_of(QUANTIZED), backward="none")


FIXED = """
    <ir_version: 10, opset_import: ["" : 20]>
    g (float[n, 3] x) => (float[n, 3] y)
    <float[3] s = {1.0, 2.0, 3.0}> {
        h = BatchNormalization(x, s, s, s, s)
        y = Dropout(h)
    }"""


NORMALIZED = """
    <ir_version: 10, opset_import: ["" : 20]>
    g (float[n, 2] x) => (float[n, 2] y)
    <float[2] scale = {1.0, 2.0}, float[2] bias = {0.5, 0.0}, float[2] mean = {1.0, -1.0}, float[2] var = {4.0, 0.25}> {
        y = BatchNormalization<momentum = 0.9>(x, scale, bias, mean, var)
    }"""


def test_train_turns_on_what_an_exporter_turned_off():
    """Normalization with the statistics of the batch, and its running statistics, as in torch."""
    source, x = torch.nn.BatchNorm1d(2), torch.randn(6, 2)
    module = gradport.from_onnx(model_of(NORMALIZED))
    names = {"weight": "scale", "bias": "bias", "running_mean": "mean", "running_var": "var"}
    source.load_state_dict({name: module.state_dict()[other] for name, other in names.items()}, strict=False)
    assert not module.training
    torch.testing.assert_close(module(x), source.eval()(x))
    torch.testing.assert_close(module.train()(x), source.train()(x))
    torch.testing.assert_close(module.mean, source.running_mean)
    torch.testing.assert_close(module.var, source.running_var)
    dropped = gradport.from_onnx(model_of(FIXED)).train()(torch.randn(50, 3))
    assert 0.2 < float((dropped == 0).float().mean()) < 0.8


def test_a_normalization_trains_in_a_bundle(tmp_path):
    """Its running statistics are state of the training."""
    module = gradport.from_onnx(model_of(NORMALIZED)).train()
    optimizer = torch.optim.SGD(module.parameters(), 0.1)
    training = gradport.export_training(
        module, torch.randn(6, 2), optimizer=optimizer, loss=lambda y, t: F.mse_loss(y, t), targets=torch.randn(6, 2)
    )
    assert {"mean", "var"} <= set(training.state())


def test_layers_that_stand_still_in_eval_mode_are_named():
    """Their statistics are buffers; the same initializer as a scale is none."""
    module = gradport.from_onnx(model_of(FIXED))
    assert [line.split()[0] for line in module.fixed] == ["BatchNormalization", "Dropout"]
    assert "statistics of the file" in repr(module) and "keeps every element" in repr(module)


def test_a_training_step_is_refused(tmp_path):
    model = torch.nn.Linear(3, 2)
    step = gradport.export_step(
        model, torch.randn(4, 3), optimizer=torch.optim.SGD(model.parameters(), 0.1), loss=lambda y: y.square().mean()
    )
    with pytest.raises(gradport.ExportError, match="training step"):
        gradport.from_onnx(step.model)


def test_a_file_can_be_given_as_any_model():
    model = model_of(QUANTIZED)
    buffer = io.BytesIO(model.SerializeToString())
    x = torch.randn(2, 4)
    expected = gradport.from_onnx(model)(x)
    import onnx_ir as ir

    torch.testing.assert_close(gradport.from_onnx(ir.from_proto(model))(x), expected)
    torch.testing.assert_close(gradport.from_onnx(onnx.load_model(buffer))(x), expected)
