"""The networks of the benchmarks: those that are installed have the parameters of their papers."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks import peers
from benchmarks.networks import INSTALL, Padded, Peer, merge_branches
from benchmarks.peers import PEERS
from compacter_arch.errors import UserError
from compacter_arch.tables.complexity import count_parameters


@pytest.mark.parametrize("name", PEERS)
def test_builds_with_the_parameters_of_the_table(name: str):
    if not PEERS[name].installed:
        pytest.skip("its package is not installed")
    network = PEERS[name].build(2)
    assert count_parameters(network) == PEERS[name].parameters
    assert not network.training


def test_missing_package_is_one_line_with_the_remedy():
    peer = Peer("no_such_package.network", "Network", {}, 0, "")
    assert not peer.installed
    with pytest.raises(UserError, match=r'^Network needs no_such_package: pip install "[^\n]+"$'):
        peer.build(2)


def test_padding_makes_any_size_possible_and_leaves_whole_windows_alone():
    class NeedsWindows(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            assert x.shape[2] % 8 == x.shape[3] % 8 == 0
            return F.interpolate(x, scale_factor=2)

    padded = Padded(NeedsWindows(), 8, 2)
    for size in ((9, 13), (16, 24)):
        x = torch.rand(1, 3, *size)
        assert torch.equal(padded(x), F.interpolate(x, scale_factor=2))


def test_merged_branches_compute_the_same():
    span = pytest.importorskip("spandrel.architectures.SPAN").SPAN
    network = span(num_in_ch=3, num_out_ch=3, feature_channels=4, upscale=2).eval()
    x = torch.rand(1, 3, 6, 7)
    merged = merge_branches(copy.deepcopy(network))  # before the network merges them by itself
    assert torch.equal(merged(x), network(x))
    assert count_parameters(merged) < count_parameters(network)


def test_list_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    missing = Peer("no_such_package.network", "Network", {}, 0, "somewhere")
    found = {"Compacter": PEERS["Compacter"], "Other": missing}
    monkeypatch.setattr(peers, "PEERS", found)
    assert peers.installed_peers() == ["Compacter"]
    assert peers.main() == 0
    _, _, ours, other = capsys.readouterr().out.splitlines()
    assert ours.startswith("| Compacter | 392,909 |")
    assert other == f"| Other | {INSTALL} | somewhere |"
