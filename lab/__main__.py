"""``python -m lab`` is the console command ``smtunnel``."""

from lab.cli import main

main()
