"""Tables of the docs that are made from the code, when the site is built: `<!-- table: NAME -->` stands for one."""

import re


def on_page_markdown(markdown, page, config, files):
    """The page with its tables."""
    return re.sub(r"<!-- table: (\w+) -->", lambda found: TABLES[found[1]](), markdown)


def rows():
    """The rows of the table of operators, by family."""
    from gradport.operators import rows as known

    lines = []
    for row in sorted(known(), key=lambda row: row.name):
        targets = ", ".join(f"`{_name(target)}`" for target in row.targets) or "not in this torch"
        links = " ".join(f"[{number}]({link})" for number, link in enumerate(row.links, 1))
        lines.append((f"`{row.name}`", targets, row.kind, str(row.since), links))
    return _table(("row", "operators", "written with", "opset", "source"), lines)


def rules():
    """The rules of `check`."""
    from gradport.checking.table import RULES

    return _table(("rule", "question"), [(f"`{rule.name}`", rule.question) for rule in RULES.values()])


def questions():
    """The rules of `verify`."""
    from gradport.verifying.rules import QUESTIONS

    return _table(("rule", "question"), [(f"`{rule}`", text) for rule, text in QUESTIONS.items()])


def refusals():
    """The reasons not to export, with what to do about each."""
    from gradport.errors import Refusal

    lines = [(f"`{refusal.name}`", _readable(refusal.what), _readable(refusal.advice)) for refusal in Refusal]
    return _table(("reason", "the subject …", "what to do"), lines)


def _table(head, lines):
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, ["---"] * len(head), *lines))


def _name(target):
    if hasattr(target, "_schema"):
        return str(target)
    return f"{getattr(target, '__module__', None) or 'torch'}.{target.__name__}".replace("torch.torch.", "torch.")


def _readable(text):
    """A sentence with places as italics: `{operator}` becomes *operator*."""
    return re.sub(r"\{(\w+)(?:![rs])?\}", r"*\1*", text).replace("|", "\\|")


TABLES = {"rows": rows, "rules": rules, "questions": questions, "refusals": refusals}
