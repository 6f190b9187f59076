"""`gradport` and `python -m gradport`: the command line, where its extra is installed."""

import sys

from gradport.compat.extras import Extra, extra
from gradport.errors import CompatibilityError

__all__ = ["main"]


def main() -> None:
    """Entry point. Exits with 0 ok, 1 not ok, 2 usage, 3 refused (cannot be exported), 70 a fault of gradport,
    130 interrupted."""
    try:
        with extra(Extra.CLI, "The commands of gradport"):
            from gradport.cli.main import app
    except CompatibilityError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(3)
    app()


if __name__ == "__main__":
    main()
