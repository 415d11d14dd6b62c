# SPDX-License-Identifier: MIT
"""Readout: the tensor of each crystal from the latents of its atoms."""

from __future__ import annotations

import torch
from torch import Tensor

from .._backend import reference_implementations, uses_reference
from ._batch_index import ptr_of_batch
from ._registration import check_same_device, register_autocast, register_derivatives, register_vmap


def tensor_readout(
    atom_scalar: Tensor,
    atom_vector: Tensor,
    atom_rank2: Tensor,
    ptr: Tensor | None = None,
    *,
    batch_idx: Tensor | None = None,
) -> Tensor:
    """Average isotropic, dyadic and symmetric parts over each crystal's atoms: Eq. 27 of arXiv 2405.09052.

    ``epsilon[b] = mean over atoms of sum_c (s_c I + v_c (x) v_c + t_c)``

    Args:
        atom_scalar: isotropic parts s. [N, C], float32 or float64.
        atom_vector: vectors v. [N, 3, C], dtype of `atom_scalar`.
        atom_rank2: symmetric tensors t, stored xx yy zz yz xz xy. [N, 6, C], dtype of `atom_scalar`.
        ptr: crystal b owns the atoms ``ptr[b]:ptr[b + 1]``, at least one. [B+1], int64; or give
            `batch_idx`.
        batch_idx: index of each atom's crystal, in ascending order; give it instead of `ptr`. The number of crystals is
            the last index plus 1, for which the host waits, so this does not work under torch.compile with fullgraph.
            [N], any integer dtype.

    Returns:
        Symmetric tensors. [B, 3, 3], dtype of `atom_scalar`.

    Raises:
        RuntimeError: a shape, dtype or device does not fit, `ptr` is missing or not increasing from 0 to N.

    Example:
        >>> s, v, t = torch.ones(1, 1), torch.tensor([[[1.0], [0.0], [2.0]]]), torch.zeros(1, 6, 1)
        >>> tensor_readout(s, v, t, torch.tensor([0, 1]))
        tensor([[[2., 0., 2.],
                 [0., 1., 0.],
                 [2., 0., 5.]]])
    """
    ptr = ptr_of_batch("tensor_readout", atom_scalar.shape[0], ptr, batch_idx)
    if uses_reference():
        return reference_implementations().tensor_readout(atom_scalar, atom_vector, atom_rank2, ptr)
    return torch.ops.dtnn_fast.tensor_readout(atom_scalar, atom_vector, atom_rank2, ptr)


@torch.library.register_fake("dtnn_fast::tensor_readout")
def _fake(atom_scalar: Tensor, atom_vector: Tensor, atom_rank2: Tensor, ptr: Tensor) -> Tensor:
    check_same_device(
        "tensor_readout", atom_scalar=atom_scalar, atom_vector=atom_vector, atom_rank2=atom_rank2, ptr=ptr
    )
    return atom_scalar.new_empty((ptr.shape[0] - 1, 3, 3))


@torch.library.register_fake("dtnn_fast::tensor_readout_backward")
def _fake_backward(grad_epsilon: Tensor, atom_vector: Tensor, ptr: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    check_same_device("tensor_readout_backward", atom_vector=atom_vector, grad=grad_epsilon, ptr=ptr)
    num_atoms, _, channels = atom_vector.shape
    return (
        atom_vector.new_empty((num_atoms, channels)),
        atom_vector.new_empty((num_atoms, 3, channels)),
        atom_vector.new_empty((num_atoms, 6, channels)),
    )


def _setup_context(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    _, atom_vector, _, ptr = inputs
    ctx.save_for_backward(atom_vector, ptr)


def _backward(ctx, grad_epsilon):  # type: ignore[no-untyped-def]
    return *torch.ops.dtnn_fast.tensor_readout_backward(grad_epsilon, *ctx.saved_tensors), None


def _setup_backward(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    ctx.save_for_backward(*inputs)


def _backward_backward(ctx, grad_grad_scalar, grad_grad_vector, grad_grad_rank2):  # type: ignore[no-untyped-def]
    grad_epsilon, atom_vector, ptr = ctx.saved_tensors
    # With v = atom_vector and w = grad_grad_vector: <grad_vector(v), w> is symmetric in v and w, so its derivative by v
    # is the first backward at w.
    _, grad_atom_vector, _ = torch.ops.dtnn_fast.tensor_readout_backward(grad_epsilon, grad_grad_vector, ptr)
    # All is linear in grad_epsilon: the derivative is the readout, with v (x) v replaced by v (x) w + w (x) v.
    dyadic = _rows(atom_vector) * _columns(grad_grad_vector) + _rows(grad_grad_vector) * _columns(atom_vector)
    grad_grad_epsilon = torch.ops.dtnn_fast.tensor_readout(
        grad_grad_scalar, torch.zeros_like(grad_grad_vector), grad_grad_rank2 + dyadic, ptr
    )
    return grad_grad_epsilon, grad_atom_vector, None


# Row and column of the stored components xx yy zz yz xz xy. Slices, because an index list would be copied to the GPU:
# the host waits for that copy, and a CUDA graph cannot capture it.
def _rows(vector: Tensor) -> Tensor:
    return torch.cat([vector, vector[:, 1:2], vector[:, 0:1], vector[:, 0:1]], dim=1)


def _columns(vector: Tensor) -> Tensor:
    return torch.cat([vector, vector[:, 2:3], vector[:, 2:3], vector[:, 1:2]], dim=1)


def _off_diagonal(matrix: Tensor) -> Tensor:
    return torch.stack([matrix[:, 1, 2], matrix[:, 0, 2], matrix[:, 0, 1]], dim=1)


def _reference(atom_scalar, atom_vector, atom_rank2, ptr):  # type: ignore[no-untyped-def]
    return reference_implementations().tensor_readout(atom_scalar, atom_vector, atom_rank2, ptr)


def _reference_backward(grad_epsilon, atom_vector, ptr):  # type: ignore[no-untyped-def]
    num_atoms, _, channels = atom_vector.shape
    crystal = torch.searchsorted(ptr.contiguous(), torch.arange(num_atoms, device=ptr.device), right=True) - 1
    grad_atom = (grad_epsilon / ptr.diff().to(grad_epsilon.dtype)[:, None, None])[crystal]
    symmetric = grad_atom + grad_atom.transpose(1, 2)  # twice the symmetric part
    grad_rank2 = torch.cat([symmetric.diagonal(dim1=1, dim2=2) / 2, _off_diagonal(symmetric)], dim=1)
    grad_scalar = grad_rank2[:, :3].sum(1, keepdim=True)
    return grad_scalar.expand(-1, channels), symmetric @ atom_vector, grad_rank2.unsqueeze(2).expand(-1, -1, channels)


register_derivatives("tensor_readout", setup_context=_setup_context, backward=_backward, reference=_reference)
register_derivatives(
    "tensor_readout_backward", setup_context=_setup_backward, backward=_backward_backward, reference=_reference_backward
)
register_vmap("tensor_readout")
register_vmap("tensor_readout_backward")
register_autocast("tensor_readout")
