"""Tables of the docs that are made from the code, when the site is built: `<!-- table: NAME -->` stands for one."""

import inspect
import re


def on_page_markdown(markdown, page, config, files):
    """The page with its tables."""
    return re.sub(r"<!-- table: (\w+) -->", lambda found: TABLES[found[1]](), markdown)


def rows():
    """The rows of the table of operators, by family."""
    from gradport.operators import rows as known

    lines = ["| row | operators | written with | opset | source |", "| --- | --- | --- | --- | --- |"]
    for row in sorted(known(), key=lambda row: row.name):
        targets = ", ".join(f"`{_name(target)}`" for target in row.targets) or "not in this torch"
        links = " ".join(f"[{number}]({link})" for number, link in enumerate(row.links, 1))
        lines.append(f"| `{row.name}` | {targets} | {row.kind} | {row.since} | {links} |")
    return "\n".join(lines)


def rules():
    """The rules of `check`."""
    from gradport.checking.rules import RULES

    lines = ["| rule | question |", "| --- | --- |"]
    lines += [f"| `{rule.name}` | {rule.question} |" for rule in RULES.values()]
    return "\n".join(lines)


def questions():
    """The rules of `verify`."""
    from gradport.verifying.rules import QUESTIONS

    return "\n".join(["| rule | question |", "| --- | --- |", *(f"| `{rule}` | {text} |" for rule, text in QUESTIONS.items())])


def refusals():
    """The reasons not to export, with what to do about each."""
    from gradport.errors import Refusal

    lines = ["| reason | the subject … | what to do |", "| --- | --- | --- |"]
    for refusal in Refusal:
        lines.append(f"| `{refusal.name}` | {_readable(refusal.what)} | {_readable(refusal.advice)} |")
    return "\n".join(lines)


def _name(target):
    if hasattr(target, "_schema"):
        return str(target)
    return f"{getattr(target, '__module__', None) or 'torch'}.{target.__name__}".replace("torch.torch.", "torch.")


def _readable(text):
    """A sentence with places as italics: `{operator}` becomes *operator*."""
    return re.sub(r"\{(\w+)(?:![rs])?\}", r"*\1*", text).replace("|", "\\|")


TABLES = {name: made for name, made in list(globals().items()) if inspect.isfunction(made) and name in ("rows", "rules", "questions", "refusals")}
