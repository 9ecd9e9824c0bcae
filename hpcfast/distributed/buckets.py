"""Tensors that travel together."""

from collections.abc import Sequence
from functools import reduce

import torch
from torch import Tensor


class Bucket:
    """Tensors of one device one behind the other in memory, each in its own layout, in the type that holds them all."""

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        sizes = [each.numel() for each in tensors]
        dtype = reduce(torch.promote_types, (each.dtype for each in tensors))
        self.flat = torch.zeros(sum(sizes), dtype=dtype, device=tensors[0].device)
        # A layout with gaps, as a slice has it, would reach into the neighbours: empty_like closes them.
        layouts = [torch.empty_like(each, device="meta").stride() for each in tensors]
        self.views = [
            part.as_strided(each.shape, layout, part.storage_offset())
            for part, each, layout in zip(self.flat.split(sizes), tensors, layouts, strict=True)
        ]

    def fill(self, tensors: Sequence[Tensor | None]) -> None:
        """Copy ``tensors`` there; zeros where one is missing."""
        for view, tensor in zip(self.views, tensors, strict=True):
            if tensor is None:
                view.zero_()
            else:
                view.copy_(tensor)
