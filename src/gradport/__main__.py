"""`python -m gradport`."""

from gradport.cli.main import main

if __name__ == "__main__":
    main()
