"""Time of each form of a convolution's weight gradient in ONNX Runtime, over torch's own, for shapes of known networks.

    python bench/convolution_forms.py [--rounds 15]

One thread, static shapes, forms in turns. The rules of `choose_form` come from this table. The fastest form is bold;
the form that `choose_form` chooses is in brackets.
"""

from __future__ import annotations

import argparse
import statistics

import onnx_ir as ir
import onnxruntime
import torch
import torch.nn.functional as F
from step import ratio, timed

import gradport
from gradport.operators import convolution
from gradport.operators.convolution_weights import Form

SHAPES = (  # batch, channels, outputs, size, kernel, stride, groups
    (16, 3, 16, 32, 3, 1, 1),
    (16, 16, 16, 32, 3, 1, 1),
    (16, 16, 32, 32, 3, 2, 1),
    (16, 32, 32, 16, 3, 1, 1),
    (16, 64, 64, 8, 3, 1, 1),
    (2, 64, 64, 56, 3, 1, 1),
    (2, 128, 128, 28, 3, 1, 1),
    (2, 256, 256, 14, 3, 1, 1),
    (2, 512, 512, 7, 3, 1, 1),
    (2, 32, 32, 64, 3, 1, 1),
    (2, 64, 32, 64, 3, 1, 1),
    (2, 3, 64, 224, 7, 2, 1),
    (2, 3, 32, 224, 3, 2, 1),
    (2, 16, 96, 112, 1, 1, 1),
    (2, 144, 24, 56, 1, 1, 1),
    (2, 384, 64, 14, 1, 1, 1),
    (2, 320, 1280, 7, 1, 1, 1),
    (2, 64, 128, 56, 1, 2, 1),
    (2, 96, 96, 112, 3, 2, 96),
    (2, 144, 144, 56, 3, 1, 144),
    (2, 384, 384, 14, 3, 1, 384),
    (2, 960, 960, 7, 3, 1, 960),
)


def main() -> None:
    """Prints one row for each shape."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    print(f"| batch, channels, outputs, size, kernel, stride, groups | torch ms | {' | '.join(f.name for f in Form)} |")
    print("| --- " * (len(Form) + 2) + "|")
    for shape in SHAPES:
        row(shape, rounds)


def row(shape: tuple[int, ...], rounds: int) -> None:
    """Measures one shape."""
    batch, channels, outputs, size, kernel, stride, groups = shape
    x, w = torch.randn(batch, channels, size, size), torch.randn(outputs, channels // groups, kernel, kernel)

    def convolve(w: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return F.conv2d(x, w, stride=stride, padding=kernel // 2, groups=groups)

    g = torch.randn_like(convolve(w, x))
    own = convolution.choose_form
    chosen: list[Form] = []
    calls = {
        "torch": lambda: torch.ops.aten.convolution_backward(
            g, x, w, None, [stride] * 2, [kernel // 2] * 2, [1, 1], False, [0, 0], groups, [False, True, False]
        )
    }
    for form in possible(shape):

        def choose(*values: object, form: Form = form) -> Form:
            chosen.append(own(*values))
            return form

        convolution.choose_form = choose
        try:
            program = gradport.export(convolve, (w, x), wrt=["w"], functions="inline", verify=False)
        finally:
            convolution.choose_form = own
        calls[form.name] = session_call(program, w, x, g)
    times = timed(calls, rounds)
    ratios = {name: ratio(times, name, "torch") for name in calls if name != "torch"}
    fastest = min(ratios.values(), key=float)
    cells = []
    for form in Form:
        text = ratios.get(form.name, "")
        text = f"**{text}**" if text == fastest else text
        cells.append(f"({text})" if form is chosen[0] else text)
    print(
        f"| {', '.join(map(str, shape))} | {1e3 * statistics.median(times['torch']):.2f} | {' | '.join(cells)} |",
        flush=True,
    )


def possible(shape: tuple[int, ...]) -> list[Form]:
    """The forms that are right for a shape."""
    *_, kernel, stride, groups = shape
    if groups > 1:
        return [Form.BATCH, Form.DEPTHWISE]
    dense = [form for form in Form if form not in (Form.DEPTHWISE, Form.FOLDED)]
    return [*dense, Form.FOLDED] if (kernel, stride) == (1, 1) else dense


def session_call(program: gradport.Program, *tensors: torch.Tensor):
    """A call of ONNX Runtime with bound inputs."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(ir.to_proto(program.model).SerializeToString(), options)
    names = [port.name for port in session.get_inputs()]
    feeds = dict(zip(names, (tensor.numpy() for tensor in tensors), strict=True))
    wanted = [port.name for port in session.get_outputs()][-1:]
    return lambda: session.run(wanted, feeds)


if __name__ == "__main__":
    main()
