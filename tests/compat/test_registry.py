"""The registries."""

from __future__ import annotations

import pytest
from basicsr.utils.registry import Registry

from .tools import original


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
