"""Runs of a model whose outputs may lie on its inputs."""

import onnx_ir as ir
import onnxruntime


def run(model, feeds, onto=()):
    """The outputs by name; those of the pairs `onto` are bound to the memory of a copy of their input."""
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString())
    binding, held = session.io_binding(), {name: array.copy() for name, array in feeds.items()}
    values = {name: onnxruntime.OrtValue.ortvalue_from_numpy(array) for name, array in held.items()}
    for name, value in values.items():
        binding.bind_ortvalue_input(name, value)
    memory = {new: values[old] for old, new in onto}
    for output in session.get_outputs():
        if output.name in memory:
            binding.bind_ortvalue_output(output.name, memory[output.name])
        else:
            binding.bind_output(output.name)
    session.run_with_iobinding(binding)
    outputs = (value.numpy().copy() for value in binding.get_outputs())
    return dict(zip([output.name for output in session.get_outputs()], outputs, strict=True))
