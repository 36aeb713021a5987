"""Option files and the command line: nothing in them is run, and numbers are numbers."""

from __future__ import annotations

import ast
import functools
import re
import sys
from argparse import ArgumentParser
from collections import OrderedDict
from typing import Any

from .patching import Function, patch

_PLAIN = r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)"
_EXPONENT = r"[eE][-+]?[0-9]+"


@functools.cache
def safe_loader() -> type:
    """The YAML loader for option files: safe, ordered, and ``1e-4`` is a number.

    Returns:
        A subclass of PyYAML's safe loader, for ``yaml.load(..., Loader=safe_loader())``. Mappings
        become OrderedDict, ``<<`` merges are resolved, and a tag such as ``!!python/name`` is a
        `yaml.YAMLError`.
    """
    import yaml

    base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

    class SafeLoader(base):
        """PyYAML's safe loader with ordered mappings and the exponents of YAML 1.2."""

    def ordered_mapping(loader: Any, node: Any) -> OrderedDict:
        loader.flatten_mapping(node)
        return OrderedDict(loader.construct_pairs(node))

    SafeLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, ordered_mapping)
    # YAML 1.1, which PyYAML reads, wants a dot in the mantissa and a sign in the exponent: 1e-4
    # would be text
    pattern = re.compile(f"^{_PLAIN}{_EXPONENT}$")
    SafeLoader.add_implicit_resolver("tag:yaml.org,2002:float", pattern, list("-+.0123456789"))
    return SafeLoader


def repair_yaml() -> None:
    """`utils/options.py:22, 95`: option files are read by PyYAML's unsafe loader.

    A ``!!python/object/apply`` tag in a file that somebody shared runs code. The same loader reads
    ``lr: 1e-4`` as text, on which Adam fails.
    """
    from basicsr.utils import options

    @patch(options, "ordered_yaml")
    def ordered_yaml(original: Function) -> tuple[type, type]:
        return safe_loader(), original()[1]


def repair_force_yml_values() -> None:
    """`utils/options.py:77`: a list given by `--force_yml` is passed to eval.

    Whatever the value calls is run. Negative numbers and exponents stay text, unlike in the file
    that they override.
    """
    from basicsr.utils import options

    @patch(options, "_postprocess_yml_value")
    def postprocess(original: Function, value: str) -> Any:
        if value.startswith("["):
            try:
                return ast.literal_eval(value)
            except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
                message = f"--force_yml: {value} is not a list of plain values."
                raise ValueError(message) from error
        result = original(value)
        if isinstance(result, str):
            if re.fullmatch(r"[-+][0-9]+", result):
                return int(result)
            if re.fullmatch(f"{_PLAIN}({_EXPONENT})?", result):
                return float(result)
        return result


def _check_force_yml() -> None:
    """Refuse what BasicSR would paste into code."""
    parser = ArgumentParser(add_help=False)
    parser.add_argument("--force_yml", nargs="+", default=[])
    for entry in parser.parse_known_args()[0].force_yml:
        if entry.count("=") != 1:
            raise ValueError(f"--force_yml: {entry!r} is not of the form key:key=value.")
        if not re.fullmatch(r"[\w:-]+", entry.partition("=")[0].strip()):
            raise ValueError(
                f"--force_yml: the key of {entry!r} may hold letters, digits, '_-:' only."
            )


def repair_command_line() -> None:
    """`utils/options.py:128`: the keys of `--force_yml` are pasted into code for exec.

    A key that closes the bracket runs what follows it. Besides, `utils/options.py:88` knows
    ``--local_rank`` only, while `torch.distributed.launch` passes ``--local-rank``: argparse
    refuses to start.
    """
    from basicsr.utils import options

    @patch(options, "parse_options")
    def parse_options(original: Function, *args: Any, **kwargs: Any) -> Any:
        sys.argv[1:] = [
            re.sub(r"^--local-rank(?==|$)", "--local_rank", arg) for arg in sys.argv[1:]
        ]
        _check_force_yml()
        return original(*args, **kwargs)


REPAIRS = (repair_yaml, repair_force_yml_values, repair_command_line)
