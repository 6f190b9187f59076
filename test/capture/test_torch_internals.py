"""torch internal: every private name that gradport leans on, each asked to behave as it is leaned on.

When one of these fails after an update of torch, `gradport/torch_internals.py` is the one file to mend.
"""

import pathlib
import re

import pytest
import torch

import gradport
from gradport import torch_internals

SOURCE = pathlib.Path(gradport.__file__).parent


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
        "torch.fx.experimental.symbolic_shapes.StatelessSymbolicContext",
        "torch.utils._python_dispatch._disable_current_modes",
        "torch.autograd.function._SingleLevelFunction.apply",
        "torch.autograd.function.BackwardCFunction.apply",
        "torch.autograd._get_sequence_nr",
        "torch._C._current_autograd_node",
        "torch.distributions.Distribution._validate_args",
        "torch._higher_order_ops.utils._hop_compile_and_call",
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


def test_every_custom_function_passes_through_the_two_hooks_also_where_apply_was_bound_early():
    seen = []
    with torch_internals.function_calls(
        lambda cls, args, run: (seen.append(cls.__name__), run())[1],
        lambda ctx, cotangents, run: (seen.append(type(ctx).__name__), run())[1],
    ):
        x = torch.ones(2, requires_grad=True)
        bound_early(Double.apply(x)).sum().backward()
    assert seen == ["Double", "Double", "DoubleBackward", "DoubleBackward"]
    assert torch.equal(x.grad, torch.full((2,), 4.0))
    seen.clear()
    Double.apply(x)
    assert seen == []


def test_one_trace_holds_forward_and_backward_and_leaves_sizes_symbolic():
    mode = torch_internals.fake_mode()
    fake = torch_internals.fake_tensor(mode, torch.ones(3, 2), (0,))

    def joint(x):
        leaf = x.detach().requires_grad_()
        with torch.enable_grad():
            y = leaf.sin().sum()
            y.backward()
        return y.detach(), leaf.grad.detach()

    graph = torch_internals.trace(joint, [fake], mode, {})
    names = [str(node.target) for node in graph.graph.nodes if node.op == "call_function"]
    assert "aten.sin.default" in names
    assert "aten.cos.default" in names
    assert isinstance(fake.shape[0], torch.SymInt)
    assert fake.shape[1] == 2


def test_the_trace_says_that_a_compiler_is_at_work_and_stops_saying_so():
    mode = torch_internals.fake_mode()
    seen = []
    torch_internals.trace(
        lambda x: (seen.append(torch.compiler.is_compiling()), x * 1)[1],
        [torch_internals.fake_tensor(mode, torch.ones(2), ())],
        mode,
        {},
    )
    assert seen == [True]
    assert not torch.compiler.is_compiling()
    assert torch.distributions.Distribution._validate_args


def test_sequence_numbers_join_a_backward_operator_with_its_forward():
    numbers = {}

    class Probe(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 1

        @staticmethod
        def backward(ctx, g):
            numbers["backward"] = torch_internals.current_sequence()
            return g

    x = torch.ones(2, requires_grad=True)
    y = Probe.apply(x)
    numbers["forward"] = torch_internals.current_forward_sequence()
    y.sum().backward()
    assert numbers["backward"] == numbers["forward"]
    assert torch_internals.current_sequence() is None


def test_a_checkpoint_is_seen_to_run_its_forward_anew():
    seen = []

    def inside(x):
        seen.append(torch_internals.is_running_again())
        return x * x

    for reentrant in (True, False):
        x = torch.ones(2, requires_grad=True)
        torch.utils.checkpoint.checkpoint(inside, x, use_reentrant=reentrant).sum().backward()
    assert seen == [False, True, False, True]


def test_private_torch_is_imported_in_one_room_alone():
    private = re.compile(
        r"^\s*(?:from|import) torch\.(?:[\w.]*\.)?_\w+|torch\.onnx\._internal|torch\._C\b", re.MULTILINE
    )
    allowed = {
        "torch_internals.py",
        "capture/constants.py",  # TorchDispatchMode and pytree: documented, in a module with an underscore
        "branches.py",  # TorchDispatchMode, as in capture/constants.py
        "capture/refusals.py",  # the exceptions of fake tensors
        "capture/indexing.py",  # pytree
        "control_flow.py",  # pytree
        "randomness.py",  # TorchDispatchMode, as in capture/constants.py
        "check/cost.py",  # TorchDispatchMode and pytree, as in capture/constants.py
    }
    found = {str(path.relative_to(SOURCE)) for path in SOURCE.rglob("*.py") if private.search(path.read_text("utf-8"))}
    assert found <= allowed
