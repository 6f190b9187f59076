"""torch internal: every private name that gradport leans on, each asked to behave as it is leaned on.

When one of these fails after an update of torch, `gradport/compat/torch/` is the one folder to mend.
"""

import warnings

import pytest
import torch

import gradport
from gradport.compat.torch import checkpoints, functions, operators, selftest, tracing, versions
from gradport.compat.torch.size_arithmetic import OPERATIONS, remember_size_arithmetic
from gradport.compat.torch.tracing import fake_mode, fake_tensor
from gradport.errors import CompatibilityError


class Double(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 2

    @staticmethod
    def backward(ctx, g):
        return g * 2


bound_early = Double.apply


@pytest.mark.parametrize(
    "path",
    [
        "torch._subclasses.functional_tensor.dispatch_functionalize",
        "torch._subclasses.functional_tensor.FunctionalTensor.tolist",
        "torch._subclasses.functional_tensor.FunctionalTensorMode",
        "torch._subclasses.fake_tensor.FakeTensorMode",
        "torch._export.utils._compiling_state_context",
        "torch.fx.experimental.proxy_tensor.make_fx",
        "torch.fx.experimental.proxy_tensor.get_proxy_mode",
        "torch.fx.experimental.proxy_tensor.disable_proxy_modes_tracing",
        "torch._subclasses.functional_tensor.FunctionalTensor.__new__",
        "onnx_ir.schemas.OpSignature.from_op_schema",
        "onnxscript.evaluator.default",
        "onnxscript.values.TracedOnnxFunction.function_ir",
        "torch.onnx._internal.exporter._schemas.op_signature_from_function",
        "onnxruntime.OrtValue.ortvalue_from_numpy",
        "torch._ops.OpOverload",
        "torch._ops.HigherOrderOperator",
        "torch.export.dynamic_shapes._DimHint",
        "torch.utils._pytree.tree_map_only",
        "torch.utils._python_dispatch.TorchDispatchMode",
        "torch._subclasses.fake_tensor.DataDependentOutputException",
        "torch._subclasses.fake_tensor.DynamicOutputShapeException",
        "torch._subclasses.fake_tensor.UnsupportedOperatorException",
        "torch.fx.experimental.symbolic_shapes.GuardOnDataDependentSymNode",
        "torch.Tensor._version",
        "torch.UntypedStorage._cdata",
        "torch._pack_padded_sequence",
        "torch._pad_packed_sequence",
        "torch.fx.experimental.symbolic_shapes.StatelessSymbolicContext",
        "torch.utils._python_dispatch._disable_current_modes",
        "torch.autograd.function.FunctionMeta",
        "torch.utils.checkpoint._CheckpointFrame.__init__",
        "torch.autograd.function.BackwardCFunction.apply",
        "torch.autograd._get_sequence_nr",
        "torch._C._current_autograd_node",
        "torch.distributions.Distribution._validate_args",
        *(["torch._higher_order_ops.utils._hop_compile_and_call"] if versions.installed_minor() >= (2, 12) else []),
        "torch.onnx._constants.ONNX_DEFAULT_OPSET",
        "torch.onnx._internal.exporter._registration.ONNXRegistry.from_torchlib",
        "torch.onnx._internal.exporter._decomp.create_onnx_friendly_decomposition_table",
        "torch.onnx._internal.exporter._decomp.get_onnx_implemented_overloads",
        "torch.onnx._internal.exporter._dispatching.dispatch",
        "torch._guards.detect_fake_mode",
        "torch.onnx._internal.fx.passes.type_promotion._TypePromotionInterpreter._maybe_promote_node",
        "torch.onnx._internal.fx.passes.type_promotion.TypePromotionTable",
        "torch.onnx._internal.fx.passes.type_promotion.get_type_promotion_rule",
        "torch.onnx._internal.exporter._core._exported_program_to_onnx_program",
    ],
)
def test_private_name_is_where_it_was(path):
    import importlib

    parts = path.split(".")
    for end in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        for name in parts[end:]:
            found = getattr(found, name)
        return
    pytest.fail(f"{path} is gone")


def test_a_registry_is_the_one_that_parsed_sources_would_give():
    from torch.onnx._internal.exporter._registration import ONNXRegistry

    from gradport.compat.torch import exporter

    ours, theirs = exporter.lowerings(20), ONNXRegistry.from_torchlib(20)
    assert ours.functions.keys() == theirs.functions.keys()
    for name, metas in theirs.functions.items():
        for one, other in zip(ours.functions[name], metas, strict=True):
            assert one.onnx_function is other.onnx_function and one.is_complex == other.is_complex
            assert str(one.signature) == str(other.signature)


class Log(functions.Hooks):
    def __init__(self):
        self.seen = []

    def forward(self, call, run):
        self.seen.append((call.function.__name__, "forward", len(call.args)))
        return run()

    def setup(self, call, run):
        run()
        self.seen.append((call.function.__name__, "setup", len(functions.tensors_to_save(call.context))))

    def backward(self, context, cotangents, run):
        self.seen.append((functions.function_of(context).__name__, "backward", len(cotangents)))
        return run()


class Separate(torch.autograd.Function):
    @staticmethod
    def forward(x, k=3.0):
        return Double.apply(x) * k

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(inputs[0])
        ctx.k = inputs[1]

    @staticmethod
    def backward(ctx, g):
        return 2 * ctx.k * g, None


class InPlace(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.mark_dirty(x)
        return x.mul_(2)

    @staticmethod
    def vjp(ctx, g):
        return g * 2


def test_every_custom_function_passes_through_the_hooks_also_where_apply_was_bound_early():
    log = Log()
    x = torch.ones(2, requires_grad=True)
    with functions.function_calls(log):
        bound_early(Double.apply(x)).sum().backward()
    assert [entry[:2] for entry in log.seen] == [("Double", "forward")] * 2 + [("Double", "backward")] * 2
    assert torch.equal(x.grad, torch.full((2,), 4.0))
    log.seen.clear()
    Double.apply(x)
    assert log.seen == []


def test_a_function_with_a_setup_context_passes_through_all_three_and_defaults_are_among_its_arguments():
    log = Log()
    x = torch.ones(2, requires_grad=True)
    with functions.function_calls(log):
        Separate.apply(x).sum().backward()
    assert log.seen == [
        ("Separate", "forward", 2),
        ("Double", "forward", 1),
        ("Separate", "setup", 1),
        ("Separate", "backward", 1),
    ]
    assert torch.equal(x.grad, torch.full((2,), 6.0))


def test_a_function_that_writes_in_place_and_one_with_a_vjp_work_inside_of_hooks():
    log = Log()
    x = torch.ones(2, requires_grad=True)
    with functions.function_calls(log), functions.function_calls(Log()):
        InPlace.apply(x * 1).sum().backward()
    assert [entry[1] for entry in log.seen] == ["forward", "backward"]
    assert torch.equal(x.grad, torch.full((2,), 2.0))


def test_calling_forward_of_a_function_directly_is_no_call_of_the_function():
    log = Log()
    with functions.function_calls(log):
        Double.forward(None, torch.ones(2))
        Separate.forward(torch.ones(2))
    assert [entry[0] for entry in log.seen] == ["Double"]  # the one that Separate applies


def test_the_hook_opened_last_is_the_outermost():
    order = []

    class Named(functions.Hooks):
        def __init__(self, name):
            self.name = name

        def forward(self, call, run):
            order.append(self.name)
            return run()

    with functions.function_calls(Named("first")), functions.function_calls(Named("last")):
        Double.apply(torch.ones(2))
    assert order == ["last", "first"]


def test_hooks_are_gone_after_an_error():
    class Fails(functions.Hooks):
        def forward(self, call, run):
            raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"), functions.function_calls(Fails()):
        Double.apply(torch.ones(2))
    assert "__getattribute__" not in vars(type(Double))
    assert torch.equal(Double.apply(torch.ones(2)), torch.full((2,), 2.0))


def test_an_operator_that_torch_lacks_is_absent_and_not_an_error():
    assert operators.aten.no_such_operator.default == operators.Absent("aten.no_such_operator.default")
    assert operators.aten.add.NoSuchOverload == operators.Absent("aten.add.NoSuchOverload")
    known = operators.drop_absent(operators.aten.add.Tensor, operators.aten.nothing.default)
    assert known == {torch.ops.aten.add.Tensor}


INACTIVE = {
    (2, 11): [],
    (2, 12): [],
    (2, 13): [],
    (2, 14): ["aten.cholesky.default"],
    (2, 15): ["aten.cholesky.default"],
}
"""Rows of the table of lowerings for operators that a version of torch does not have."""


def test_the_rows_that_are_inactive_on_this_torch_are_the_known_ones():
    from gradport.operators.table import inactive_rows

    minor = tuple(map(int, torch.__version__.split(".")[:2]))
    assert sorted(inactive_rows()) == INACTIVE[minor]


def test_the_self_test_passes_here_and_names_what_is_missing():
    selftest.require_hooks.cache_clear()
    selftest.require_hooks()
    assert "self-test" not in str(selftest.incompatibility("x"))


def test_the_self_test_fails_where_no_hook_is_called(monkeypatch):
    monkeypatch.setattr(functions, "_install", lambda: None)
    monkeypatch.setattr(functions, "_uninstall", lambda: None)
    selftest.require_hooks.cache_clear()
    with pytest.raises(CompatibilityError, match=r"are not called \(forward, setup_context, backward\)"):
        selftest.require_hooks()
    with pytest.raises(CompatibilityError, match=r"gradport does not work with torch .*supports torch 2\.11 to 2\.15"):
        gradport.check(Double, (torch.ones(2),), only=["differences"])


def test_the_self_test_of_export_fails_where_marks_are_lost(monkeypatch):
    from gradport.exporting import selftest as export_selftest
    from gradport.tracing import regions

    monkeypatch.setattr(regions, "_mark", lambda tensors, key, side: None)
    export_selftest.require_working_export.cache_clear()
    try:
        with pytest.raises(CompatibilityError, match=r"borders of a custom autograd\.Function are lost"):
            gradport.export(Double, (torch.ones(2),), wrt="inputs")
    finally:
        export_selftest.require_working_export.cache_clear()


def test_a_newer_torch_is_warned_of_and_an_older_one_refused(monkeypatch):
    monkeypatch.setattr(versions.torch, "__version__", "2.99.0")
    with pytest.warns(UserWarning, match=r"torch 2\.99\.0 is newer .*torch 2\.11 to 2\.15"):
        versions.require_supported()
    monkeypatch.setattr(versions.torch, "__version__", "2.10.1")
    with pytest.raises(CompatibilityError, match=r"torch 2\.10\.1 is too old"):
        versions.require_supported()


def test_a_supported_torch_is_not_warned_of(monkeypatch):
    for minor in range(11, 16):
        monkeypatch.setattr(versions.torch, "__version__", f"2.{minor}.0+cpu")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            versions.require_supported()


def test_the_bounds_in_pyproject_are_those_of_the_code():
    import pathlib
    import tomllib

    project = tomllib.loads((pathlib.Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8"))["project"]
    (bound,) = [entry for entry in project["dependencies"] if entry.startswith("torch")]
    low, high = ".".join(map(str, versions.OLDEST)), f"{versions.NEWEST[0]}.{versions.NEWEST[1] + 1}"
    assert bound == f"torch>={low},<{high}"


def test_one_trace_holds_forward_and_backward_and_leaves_sizes_symbolic():
    mode = tracing.fake_mode()
    fake = tracing.fake_tensor(mode, torch.ones(3, 2), (0,))

    def joint(x):
        leaf = x.detach().requires_grad_()
        with torch.enable_grad():
            y = leaf.sin().sum()
            y.backward()
        return y.detach(), leaf.grad.detach()

    graph = tracing.trace_function(joint, [fake], mode, {})
    names = [str(node.target) for node in graph.graph.nodes if node.op == "call_function"]
    assert "aten.sin.default" in names
    assert "aten.cos.default" in names
    assert isinstance(fake.shape[0], torch.SymInt)
    assert fake.shape[1] == 2


def test_the_trace_says_that_a_compiler_is_at_work_and_stops_saying_so():
    mode = tracing.fake_mode()
    seen, validates = [], torch.distributions.Distribution._validate_args
    tracing.trace_function(
        lambda x: (seen.append(torch.compiler.is_compiling()), x * 1)[1],
        [tracing.fake_tensor(mode, torch.ones(2), ())],
        mode,
        {},
    )
    assert seen == [True]
    assert not torch.compiler.is_compiling()
    assert torch.distributions.Distribution._validate_args == validates


def test_sequence_numbers_join_a_backward_operator_with_its_forward():
    numbers = {}

    class Probe(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 1

        @staticmethod
        def backward(ctx, g):
            numbers["backward"] = tracing.current_sequence()
            return g

    x = torch.ones(2, requires_grad=True)
    y = Probe.apply(x)
    numbers["forward"] = tracing.current_forward_sequence()
    y.sum().backward()
    assert numbers["backward"] == numbers["forward"]
    assert tracing.current_sequence() is None


class OwnCheckpoint(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, body):
        ctx.save_for_backward(x)
        ctx.body = body
        return body(x)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        with torch.enable_grad():
            again = x.detach().requires_grad_()
            y = ctx.body(again)
        torch.autograd.backward(y, g)
        return again.grad, None


@pytest.mark.parametrize("style", ["reentrant", "not reentrant", "a user's own"])
def test_a_checkpoint_is_seen_to_run_its_forward_anew_and_asks_for_its_draws_again(style):
    seen, drawn = [], [0]

    def body(x):
        running = checkpoints.running_recomputation()
        seen.append(None if running is None else [running.next_draw(), running.next_draw()])
        drawn[0] += 2 * (running is None)
        return x * x

    def apply(x):
        if style == "a user's own":
            return OwnCheckpoint.apply(x, body)
        return torch.utils.checkpoint.checkpoint(body, x, use_reentrant=style == "reentrant")

    x = torch.ones(2, requires_grad=True)
    with checkpoints.track_recomputations(lambda: drawn[0]):
        apply(apply(x)).sum().backward()
    assert seen == [None, None, [2, 3], [0, 1]]
    assert checkpoints.running_recomputation() is None


def test_operations_on_sizes_are_remembered():
    """Fails if a name moves: then an export of a dynamic shape is slower, and nothing else tells."""
    from torch.fx.experimental.sym_node import SymNode

    assert [name for name in OPERATIONS if not hasattr(SymNode, name)] == []
    size = fake_tensor(fake_mode(), torch.ones(3, 4), (0,)).shape[0]
    with remember_size_arithmetic():
        assert (size * 2).node is (size * 2).node
        assert (size + 1).node is (size + 1).node
        assert (size * 2).node is not (size * 3).node
        assert (size == 4).node is (size == 4).node
    assert (size * 2).node is not (size * 2).node
