"""What a user's own test-suite imports: cases, assertions, and what skips or expects a failure.

    SUBJECTS = [gradport.Subject(Swish, torch.randn(4, 3), wrt="inputs"), ...]

    @gradport.testing.cases(*SUBJECTS, opsets=(18, 23), functions=("keep", "inline"))
    def test_exports(case):
        case.assert_exports()

An assertion that fails says which Finding does not hold, not where in gradport that was found out.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib.metadata
import inspect
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import pytest
from packaging.version import Version

if TYPE_CHECKING:
    import torch

    from gradport.evidence.evidence import Evidence
    from gradport.model.program import Program
    from gradport.subject.given import Arguments, Keywords, Target
    from gradport.subject.subject import Subject
    from gradport.verifying.sweep import Setting

__all__ = [
    "Case",
    "assert_checked",
    "assert_equivalent",
    "assert_exports",
    "cases",
    "expected_failure",
    "max_opset",
    "min_opset",
    "needs",
    "needs_cuda",
    "needs_runtime",
    "not_held",
    "seeded",
    "tolerance",
]


Test = TypeVar("Test", bound=Callable[..., object])


@dataclasses.dataclass(eq=False)
class Case:
    """One Subject under one setting, as `cases` hands it to a test.

    Attributes:
        original: the Subject as it was given.
        setting: opset, dtype, dynamic, functions; what is None is left to the defaults.
        tolerances: what a `tolerance` marker says: rtol and atol.
    """

    original: Subject
    setting: Setting
    tolerances: dict[str, float] = dataclasses.field(default_factory=dict)

    @functools.cached_property
    def subject(self) -> Subject:
        """The Subject in the setting's dtype, with or without dynamic shapes."""
        return self.setting.apply(self.original)

    @property
    def opset(self) -> int | None:
        """The setting's opset."""
        return self.setting.opset

    @property
    def dtype(self) -> torch.dtype | None:
        """The setting's dtype."""
        return self.setting.dtype

    @property
    def functions(self) -> str | None:
        """The setting's form."""
        return self.setting.functions

    @property
    def dynamic(self) -> bool | None:
        """Whether the setting's shapes are dynamic."""
        return self.setting.dynamic

    def assert_checked(self, **options: Any) -> Evidence:
        """`assert_checked` of this Subject."""
        __tracebackhide__ = True
        return assert_checked(self.subject, **options)

    def assert_exports(self, **options: Any) -> Program:
        """`assert_exports` of this Subject under this setting."""
        __tracebackhide__ = True
        own = {"opset_version": self.setting.opset, "functions": self.setting.functions}
        given = {key: value for key, value in own.items() if value is not None}
        return assert_exports(self.subject, **{**given, **self.tolerances, **options})


RECORDED: list[Evidence] = []
"""What the assertions of the test that is running were about; the plugin takes it for its reports."""


def cases(
    *subjects: object,
    opsets: Sequence[int] = (),
    dtypes: Sequence[torch.dtype] = (),
    functions: Sequence[str] = (),
    dynamic: Sequence[bool] = (),
) -> Callable[[Test], Test]:
    """Parametrises a test over Subjects and settings.

    Args:
        subjects: Subjects, lists or mappings of them.
        opsets: versions of ai.onnx; `min_opset` and `max_opset` take some out.
        dtypes: floating-point dtypes that arguments and modules are cast to.
        functions: forms of export.
        dynamic: whether the Subject's dynamic dimensions are; a Subject without any has no dynamic case.

    Returns:
        A decorator. The test's parameter `case` is a `Case`; where it has parameters `subject`, `setting`, `opset`,
        `dtype`, `functions` or `dynamic`, those are what they say.
    """

    def decorate(test: Test) -> Test:
        from gradport.verifying.sweep import settings

        taken = inspect.signature(test).parameters
        wanted = [name for name in ("case", "subject", "setting", *_AXES) if name in taken]
        if not wanted:
            raise TypeError(f"{test.__name__} takes neither case nor subject nor setting.")
        rows = []
        for label, subject in _flat(subjects):
            for setting in settings(opsets, dtypes, dynamic, functions):
                if setting.dynamic and not _has_dynamic(subject):
                    continue
                tag = str(setting)
                name = label if tag == "default" else f"{label}-{tag}"
                rows.append(pytest.param(*(_given_options(what, subject, setting) for what in wanted), id=name))
        return pytest.mark.parametrize(wanted, rows)(pytest.mark.gradport(test))  # type: ignore[no-any-return]

    return decorate


def assert_checked(subject: Target, args: Arguments = (), kwargs: Keywords = None, **options: Any) -> Evidence:
    """Checks a Function or module with `gradport.check`, whose options these are.

    Returns:
        The Evidence, where everything holds.

    Raises:
        AssertionError: a Finding does not hold; the message is what it says.
    """
    import gradport

    __tracebackhide__ = True
    subject = subject.subject if isinstance(subject, Case) else subject
    return _assert_evidence(gradport.check(subject, args, kwargs, **options))


def assert_exports(
    subject: Target,
    args: Arguments = (),
    kwargs: Keywords = None,
    *,
    also: Sequence[Arguments] = (),
    remaining_dynamic: Sequence[str] | None = None,
    **options: Any,
) -> Program:
    """Exports a Subject and verifies the Program.

    Args:
        subject, args, kwargs: as for `export`; or a `Case`, whose setting then holds.
        also: further sets of arguments that the one export is verified with.
        remaining_dynamic: the names of the dimensions that the graph's inputs must leave dynamic, no more and no
            fewer.
        **options: `export`'s and `verify`'s.

    Returns:
        The Program, where everything holds.

    Raises:
        AssertionError: the export is refused, or a Finding does not hold; the message is what it says.
    """
    import gradport
    from gradport.errors import ExportError
    from gradport.subject.subject import ABOUT, as_subject

    __tracebackhide__ = True
    if isinstance(subject, Case):
        return subject.assert_exports(also=also, remaining_dynamic=remaining_dynamic, **options)
    verifying = {key: options.pop(key) for key in _VERIFY if key in options}
    about = {key: options.pop(key) for key in ABOUT if key in options}
    described = as_subject(subject, args, kwargs, **about)
    opset = options.get("opset_version")
    try:
        program = gradport.export(described, verify=False, **options)
    except ExportError as error:
        raise AssertionError(str(error)) from None
    if opset is not None and program.opset != opset:
        raise AssertionError(f"Opset {opset} was asked for and {program.opset} written.")
    if remaining_dynamic is not None:
        _assert_dynamic(program, remaining_dynamic)
    _assert_evidence(gradport.verify(program, described, **verifying))
    for more in also:
        _assert_evidence(gradport.verify(program, described, more, **verifying))
    return program


def assert_equivalent(f: Target, g: Target, args: Arguments = (), kwargs: Keywords = None, **options: Any) -> Evidence:
    """Holds two callables against each other, outputs and gradients, with `gradport.equivalent`.

    Raises:
        AssertionError: they differ; the message says where.
    """
    import gradport

    __tracebackhide__ = True
    return _assert_evidence(gradport.equivalent(f, g, args, kwargs, **options))


def not_held(evidence: Evidence) -> str:
    """What does not hold, as a failing test prints it: a Finding each, with its input and line."""
    lines = []
    for finding in evidence.findings:
        if not finding.outcome.passes:
            lines.append(f"{finding.outcome} {finding.key}: {finding.message}")
            lines += [f"  shown by {finding.input}"] if finding.input else []
            lines += [f"  at {finding.where}"] if finding.where else []
    return "\n".join(lines)


def min_opset(version: int, reason: str = "") -> pytest.MarkDecorator:
    """Skips the cases below an opset."""
    return pytest.mark.gradport_opsets(low=version, reason=reason)


def max_opset(version: int, reason: str = "") -> pytest.MarkDecorator:
    """Skips the cases above an opset."""
    return pytest.mark.gradport_opsets(high=version, reason=reason)


def needs_cuda(test: Test) -> Test:
    """Skips where no CUDA device is."""
    import torch

    return pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, which is not here")(test)


def needs(package: str, version: str = "0") -> pytest.MarkDecorator:
    """Skips where a package is not installed, or is older than a version."""
    found = _version(package)
    late = found is not None and Version(found) >= Version(version)
    said = f"needs {package}{'' if version == '0' else f' >= {version}'}; {found or 'it is not'} installed"
    return pytest.mark.skipif(not late, reason=said)


def needs_runtime(name: str) -> pytest.MarkDecorator:
    """Skips where a runtime (see `gradport.verify`) is not on this machine."""
    from gradport.runtimes.table import known_runtimes

    row = known_runtimes().get(name)
    reason = f"no runtime is called {name}" if row is None else row.absent()
    return pytest.mark.skipif(reason is not None, reason=f"needs the runtime {name}: {reason}")


def expected_failure(
    reason: str, raises: type[BaseException] | tuple[type[BaseException], ...] = AssertionError
) -> pytest.MarkDecorator:
    """A case that does not work yet: it must fail, in this way, or the test is red (strict)."""
    if not reason.strip():
        raise ValueError("An expected failure needs a reason.")
    return pytest.mark.xfail(strict=True, reason=reason, raises=raises)


def tolerance(*, rtol: float = 0.0, atol: float = 0.0, reason: str) -> pytest.MarkDecorator:
    """Tolerances for a test's cases, in place of gradport's criterion; they need a reason.

    A test takes them as `case.tolerances`; `case.assert_exports` uses them by itself.
    """
    if not reason.strip():
        raise ValueError("A tolerance needs a reason.")
    return pytest.mark.gradport_tolerance(rtol=rtol, atol=atol, reason=reason)


@contextlib.contextmanager
def seeded(seed: int = 0) -> Iterator[None]:
    """Sets the seeds of random, numpy and torch, and afterwards puts back what was there."""
    import numpy as np
    import torch

    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)


_AXES = ("opset", "dtype", "functions", "dynamic")
_VERIFY = ("sizes", "inputs", "runtimes", "budget", "seed", "rtol", "atol", "reproducer")


def _assert_evidence(evidence: Evidence) -> Evidence:
    __tracebackhide__ = True
    RECORDED.append(evidence)
    if not evidence.ok:
        raise AssertionError(not_held(evidence))
    return evidence


def _assert_dynamic(program: Program, names: Sequence[str]) -> None:
    __tracebackhide__ = True
    found = {dim for spec in program.inputs for dim in spec.shape if isinstance(dim, str)}
    if found != set(names):
        raise AssertionError(
            f"The graph leaves {', '.join(sorted(found)) or 'no dimension'} dynamic, "
            f"not {', '.join(sorted(names)) or 'none'}."
        )


def _given_options(what: str, subject: Subject, setting: Setting) -> Any:
    if what == "setting":
        return setting
    if what in _AXES:
        return getattr(setting, what)
    return setting.apply(subject) if what == "subject" else Case(subject, setting)


def _flat(subjects: Sequence[Any]) -> Iterator[tuple[str, Any]]:
    from gradport.subject.subject import as_subject

    for subject in subjects:
        if isinstance(subject, Mapping):
            yield from ((str(name), as_subject(one)) for name, one in subject.items())
        elif isinstance(subject, (list, tuple)):
            yield from _flat(subject)
        else:
            described = as_subject(subject)
            yield described.name, described


def _has_dynamic(subject: Subject) -> bool:
    from gradport.eager.inputs import with_example

    return bool(with_example(subject).dynamic_shapes)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
