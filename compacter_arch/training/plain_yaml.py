"""YAML of option files: plain values alone, nothing executed, and no more of it than is written."""

from __future__ import annotations

import datetime
from typing import Any

import yaml

from ..compat.options import safe_loader

DEEPEST = 50  # sections in one another; at some thousands PyYAML would end the process
MOST = 100_000  # values; those that an alias repeats count each time
PLAIN = (type(None), bool, int, float, str, list, dict, datetime.date)


class _Loader(safe_loader()):  # type: ignore[misc]
    """BasicSR's YAML, read without executing anything, that refuses a key given twice."""

    def construct_mapping_once(self, node: yaml.MappingNode) -> dict[str, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise refusal("a key must be plain text", key)
            if key.value in seen:
                raise refusal(f"key {key.value!r} is given twice", key)
            seen.add(key.value)
        self.flatten_mapping(node)  # `<<: *anchor`
        pairs = self.construct_pairs(node, deep=True)
        for (written, _), (key, _) in zip(node.value, pairs, strict=True):
            if not isinstance(key, str):
                raise refusal(f"key {written.value!r} is no text; put it in quotes", written)
        return dict(pairs)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """As PyYAML's; what it fails on, as the 13th month, is told with its place."""
        try:
            value = super().construct_object(node, deep)
            if isinstance(value, int):
                float(value)  # a number that is too large for all that counts with it
        except (ValueError, OverflowError, LookupError, AttributeError) as error:
            raise refusal(f"{str(node.value)[:40]!r} is no value ({error})", node) from error
        if not isinstance(value, PLAIN):
            raise refusal(f"{node.tag} is for no value of an option file", node)
        return value


_Loader.add_constructor(
    yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _Loader.construct_mapping_once
)


def refusal(problem: str, place: Any) -> yaml.MarkedYAMLError:
    """An error at a node or an event."""
    return yaml.constructor.ConstructorError(None, None, problem, place.start_mark)


def load_plain(text: str) -> Any:
    """What a text of YAML holds; nothing in it is executed.

    Raises:
        yaml.YAMLError: not YAML; a tag that would run code; a key given twice or that is no text; a
            value of no plain type; too deep, or too much when aliases are written out.
    """
    check_extent(text)
    return unshared(yaml.load(text, Loader=_Loader))  # a SafeLoader


def check_extent(text: str) -> None:
    """Refuse what is small to write and large to read, before anything is made of it.

    Raises:
        yaml.YAMLError: too deep; an anchor within itself; too much when aliases are written out.
    """
    sizes: dict[str, int] = {}  # of what has an anchor, by its name
    open_ones: list[str | None] = []  # anchors of the sections that are not closed yet
    counts = [0]  # values in each of these, the last the innermost
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            open_ones.append(event.anchor)
            counts.append(1)
            if len(open_ones) > DEEPEST:
                raise refusal(f"more than {DEEPEST} sections in one another", event)
            continue
        if isinstance(event, yaml.CollectionEndEvent):
            anchor, size = open_ones.pop(), counts.pop()
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor in open_ones:
                raise refusal(f"*{event.anchor} is recursive, that is within itself", event)
            anchor, size = None, sizes.get(event.anchor or "", 1)
        elif isinstance(event, yaml.ScalarEvent):
            anchor, size = event.anchor, 1
        else:
            continue
        if anchor is not None:
            sizes[anchor] = size
        counts[-1] += size
        if counts[-1] > MOST:
            raise refusal(f"more than {MOST:,} values, with what aliases repeat", event)


def unshared(value: Any) -> Any:
    """A copy in which nothing is twice the same object, as an alias and its anchor are."""
    if isinstance(value, dict):
        return {key: unshared(content) for key, content in value.items()}
    if isinstance(value, list):
        return [unshared(content) for content in value]
    return value
