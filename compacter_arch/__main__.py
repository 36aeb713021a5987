"""``python -m compacter_arch`` is the ``basicsr`` command; torchrun starts it so."""

from .cli import main

if __name__ == "__main__":
    raise SystemExit(main())
