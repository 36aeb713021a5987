"""The registries."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from basicsr.utils import registry as registries
from basicsr.utils.registry import Registry

from compacter_arch.compat.registry import fill_when_asked

from .tools import original, within


def test_registry_names_the_nearest_match(capsys: pytest.CaptureFixture[str]) -> None:
    class TinyNetwork: ...

    class Suffixed: ...

    registry = Registry("arch")
    registry.register(TinyNetwork)
    registry.register(Suffixed, suffix="basicsr")
    assert registry.get("TinyNetwork") is TinyNetwork
    assert registry.get("Suffixed") is Suffixed
    assert "use name: Suffixed_basicsr" in capsys.readouterr().out

    with pytest.raises(KeyError, match="'tinynetwrk' found in 'arch'.* mean 'TinyNetwork'"):
        registry.get("tinynetwrk")
    with pytest.raises(KeyError, match="registry!.$"):
        registry.get("nothing like it")
    with pytest.raises(KeyError, match="No object named 'None'"):
        registry.get(None)
    assert capsys.readouterr().out == ""

    with pytest.raises(KeyError):
        original(Registry.get)(registry, "tinynetwrk")
    assert "use name: tinynetwrk_basicsr" in capsys.readouterr().out


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Any:
    """An empty one, of a class as BasicSR released it."""
    released = {name: original(value) for name, value in vars(Registry).items()}
    monkeypatch.setattr(registries, "Registry", type("Registry", (), released))
    return registries.Registry("arch")


@pytest.mark.parametrize(
    "ask",
    [
        lambda registry: registry.get("Part").__name__ == "Part",
        lambda registry: "Part" in registry,
        lambda registry: list(registry)[0][0] == "Part",
        lambda registry: list(registry.keys()) == ["Part"],
    ],
)
def test_registry_is_filled_before_the_first_answer(registry: Any, ask: Any) -> None:
    class Part: ...

    def fill() -> None:
        assert "Part" not in registry  # a question of its own
        registry.register(Part)

    fill_when_asked(fill)
    fill_when_asked(pytest.fail)
    assert registry._obj_map == {}
    assert ask(registry) and ask(registry)


def test_fill_that_fails_is_tried_again(registry: Any) -> None:
    class Part: ...

    attempts = []

    def fill() -> None:
        attempts.append(len(attempts))
        if len(attempts) == 1:
            raise ImportError("of a part")
        registry.register(Part)

    fill_when_asked(fill)
    with pytest.raises(ImportError, match="of a part"):
        registry.get("Part")
    assert registry.get("Part") is Part
    assert "Part" in registry and attempts == [0, 1]


def test_other_threads_wait_until_a_registry_is_filled(registry: Any) -> None:
    class Part: ...

    begun = threading.Event()

    def fill() -> None:
        begun.set()
        time.sleep(0.2)
        registry.register(Part)

    fill_when_asked(fill)
    thread = threading.Thread(target=registry.keys)
    thread.start()
    begun.wait()
    assert within(10, lambda: "Part" in registry)
    thread.join()
