"""DSGM against its slow reference."""

from __future__ import annotations

import torch

from compacter_arch import DSGM
from compacter_arch.archs.dsgm_arch import MLP

from .reference import dsgm_reference


def test_equals_reference_in_value_and_gradient():
    dsgm = DSGM(5, expansion_ratio=2).double()
    for parameter in dsgm.parameters():
        parameter.data = 0.5 * torch.randn_like(parameter)
    x = torch.randn(2, 5, 6, 7, dtype=torch.float64, requires_grad=True)
    probe = torch.randn(2, 5, 6, 7, dtype=torch.float64)
    inputs = [x, *dsgm.parameters()]
    fast, slow = dsgm(x), dsgm_reference(dsgm, x)
    torch.testing.assert_close(fast, slow, rtol=0, atol=1e-5)
    fast_grads = torch.autograd.grad((fast * probe).sum(), inputs)
    slow_grads = torch.autograd.grad((slow * probe).sum(), inputs)
    for ours, reference in zip(fast_grads, slow_grads, strict=True):
        torch.testing.assert_close(ours, reference, rtol=1e-5, atol=1e-5)


def test_mlp_has_no_spatial_reach():
    mlp, x = MLP(4), torch.randn(1, 4, 5, 5, requires_grad=True)
    mlp(x)[0, :, 2, 2].sum().backward()
    touched = x.grad.abs().sum((0, 1)) > 0
    assert touched.sum() == 1 and touched[2, 2]
