"""For test suites of users: cases, assertions, and markers to skip or to expect a failure.

    SUBJECTS = [gradport.Subject(Swish, torch.randn(4, 3), wrt="inputs"), ...]

    @gradport.testing.cases(*SUBJECTS, opsets=(18, 23), functions=("keep", "inline"))
    def test_exports(case):
        case.assert_exports()

A failed assertion shows the Findings that are not ok, without a traceback through gradport.
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

    from gradport.campaigning.settings import Setting
    from gradport.evidence.evidence import Evidence
    from gradport.model.program import Program
    from gradport.subject.given import Arguments, Keywords, Target
    from gradport.subject.subject import Subject

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
    """One Subject under one setting, the parameter of a test with `cases`.

    Attributes:
        original: the unchanged Subject.
        setting: opset, dtype, dynamic, functions; None means the default.
        tolerances: rtol and atol of a `tolerance` marker.
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
"""The Evidence of the assertions in the running test, for the plugin's reports."""


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
        opsets: versions of ai.onnx; `min_opset` and `max_opset` skip some.
        dtypes: floating-point dtypes to which arguments and modules are cast.
        functions: forms of export.
        dynamic: whether dimensions are dynamic; a Subject without dynamic dimensions has no dynamic case.

    Returns:
        A decorator. The test's parameter `case` is a `Case`; it may also have the parameters `subject`, `setting`,
        `opset`, `dtype`, `functions` and `dynamic`.
    """

    def decorate(test: Test) -> Test:
        from gradport.campaigning.settings import settings
        from gradport.eager.inputs import has_dynamic

        parameters = inspect.signature(test).parameters
        wanted = [name for name in ("case", "subject", "setting", *_AXES) if name in parameters]
        if not wanted:
            raise TypeError(f"{test.__name__} has no parameter case, subject or setting.")
        rows = []
        for label, subject in _flat(subjects):
            for setting in settings(opsets, dtypes, dynamic, functions):
                if setting.dynamic and not has_dynamic(subject):
                    continue
                tag = str(setting)
                name = label if tag == "default" else f"{label}-{tag}"
                rows.append(pytest.param(*(_given_options(what, subject, setting) for what in wanted), id=name))
        return pytest.mark.parametrize(wanted, rows)(pytest.mark.gradport(test))  # type: ignore[no-any-return]

    return decorate


def assert_checked(subject: Target, args: Arguments = (), kwargs: Keywords = None, **options: Any) -> Evidence:
    """Checks a Function or module with `gradport.check` and its options.

    Returns:
        The Evidence, if it is ok.

    Raises:
        AssertionError: a Finding is not ok; the message has the Findings.
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
        subject, args, kwargs: as for `export`; or a `Case`, whose setting applies.
        also: further sets of arguments to verify the same Program with.
        remaining_dynamic: the exact set of names of the dynamic dimensions in the graph's inputs.
        **options: options of `export` and `verify`.

    Returns:
        The Program, if all Findings are ok.

    Raises:
        AssertionError: the export is refused, or a Finding is not ok; the message has the reason.
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
        raise AssertionError(f"Opset {opset} was requested, but the file has {program.opset}.")
    if remaining_dynamic is not None:
        _assert_dynamic(program, remaining_dynamic)
    _assert_evidence(gradport.verify(program, described, **verifying))
    for more in also:
        _assert_evidence(gradport.verify(program, described, more, **verifying))
    return program


def assert_equivalent(f: Target, g: Target, args: Arguments = (), kwargs: Keywords = None, **options: Any) -> Evidence:
    """Compares outputs and gradients of two callables with `gradport.equivalent`.

    Raises:
        AssertionError: they differ; the message has the Findings.
    """
    import gradport

    __tracebackhide__ = True
    return _assert_evidence(gradport.equivalent(f, g, args, kwargs, **options))


def not_held(evidence: Evidence) -> str:
    """The message of a failed assertion: all Findings that are not ok, with input and line."""
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
    """Skips a test without a CUDA device."""
    import torch

    return pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")(test)


def needs(package: str, version: str = "0") -> pytest.MarkDecorator:
    """Skips a test if a package is not installed, or is older than a version."""
    installed = _version(package)
    is_new = installed is not None and Version(installed) >= Version(version)
    state = f"{installed} is installed" if installed else "it is not installed"
    reason = f"needs {package}{'' if version == '0' else f' >= {version}'}; {state}"
    return pytest.mark.skipif(not is_new, reason=reason)


def needs_runtime(name: str) -> pytest.MarkDecorator:
    """Skips a test if a runtime (see `gradport.verify`) is not installed."""
    from gradport.runtimes.table import known_runtimes

    row = known_runtimes().get(name)
    reason = f"no runtime is called {name}" if row is None else row.absent()
    return pytest.mark.skipif(reason is not None, reason=f"needs the runtime {name}: {reason}")


def expected_failure(
    reason: str, raises: type[BaseException] | tuple[type[BaseException], ...] = AssertionError
) -> pytest.MarkDecorator:
    """Marks a case that does not work yet: the test must fail with this exception (strict)."""
    if not reason.strip():
        raise ValueError("An expected failure needs a reason.")
    return pytest.mark.xfail(strict=True, reason=reason, raises=raises)


def tolerance(*, rtol: float = 0.0, atol: float = 0.0, reason: str) -> pytest.MarkDecorator:
    """Tolerances for a test's cases, instead of gradport's criterion; they need a reason.

    A test reads them from `case.tolerances`; `case.assert_exports` applies them.
    """
    if not reason.strip():
        raise ValueError("A tolerance needs a reason.")
    return pytest.mark.gradport_tolerance(rtol=rtol, atol=atol, reason=reason)


@contextlib.contextmanager
def seeded(seed: int = 0) -> Iterator[None]:
    """Sets the seeds of random, numpy and torch, and restores their states at the end."""
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
    dynamic = {dim for spec in program.inputs for dim in spec.shape if isinstance(dim, str)}
    if dynamic != set(names):
        raise AssertionError(
            f"The dynamic dimensions of the graph are {', '.join(sorted(dynamic)) or 'none'}, "
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


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
