"""Lets pip build BasicSR 1.4.2 on Python 3.13: ``PYTHONPATH=<this folder, absolute> pip ...``.

BasicSR's ``setup.py`` runs its version file with ``exec`` inside a function and then looks
``__version__`` up in ``locals()``. Since Python 3.13 (PEP 667) ``exec`` writes into a copy of the
function's variables, and the build ends with ``KeyError: '__version__'``. Here ``exec`` without
namespaces writes into the calling function again, as it did before. Python imports a module of this
name by itself when it starts.
"""

import builtins
import sys

if sys.version_info >= (3, 13):
    _exec = builtins.exec

    def exec_in_caller(source, globals=None, locals=None, /, **options):
        """``exec`` whose definitions, without namespaces, are seen by the caller's ``locals()``."""
        if globals is not None:
            return _exec(source, globals, locals, **options)
        caller, defined = sys._getframe(1), {}
        _exec(source, caller.f_globals, defined, **options)
        caller.f_locals.update(defined)

    builtins.exec = exec_in_caller
