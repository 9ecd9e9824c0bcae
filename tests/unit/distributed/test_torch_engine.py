"""What torch's engine does with tensors before and after they are sent; tests/distributed has its ranks."""

import pytest
import torch
import torch.distributed as dist

from hpcfast.distributed.buckets import Bucket
from hpcfast.distributed.engines.torch import PeerLost, _groups, _telling


def test_a_bucket_holds_each_tensor_in_its_own_layout() -> None:
    """Slices have gaps, which must not reach into the neighbours."""
    wide = torch.arange(24.0).reshape(4, 6)
    turned = torch.rand(2, 3, 4, 4).to(memory_format=torch.channels_last)
    tensors = [wide[:, :2], turned, wide.t(), torch.tensor(7.0), wide[:, 4:]]
    bucket = Bucket(tensors)
    bucket.fill(tensors)
    for view, tensor in zip(bucket.views, tensors, strict=True):
        assert torch.equal(view, tensor)
    assert bucket.views[1].is_contiguous(memory_format=torch.channels_last)
    assert bucket.flat.numel() == sum(each.numel() for each in tensors)


def test_a_bucket_of_several_types_loses_no_digit() -> None:
    tensors = [torch.tensor([1.5], dtype=torch.float16), torch.tensor([1 + 2**-40], dtype=torch.float64)]
    bucket = Bucket(tensors)
    bucket.fill(tensors)
    assert [view.item() for view in bucket.views] == [1.5, 1 + 2**-40]


def test_what_is_missing_counts_as_zero() -> None:
    bucket = Bucket([torch.ones(2), torch.ones(3)])
    bucket.fill([torch.ones(2), torch.ones(3)])
    bucket.fill([None, torch.ones(3)])
    assert bucket.flat.tolist() == [0, 0, 1, 1, 1]


def test_gradients_are_sent_in_the_order_in_which_they_come() -> None:
    sizes = [7_000_000, 10, 10, 7_000_000]
    parameters = [torch.nn.Parameter(torch.empty(size, device="meta")) for size in sizes]
    assert [[each.numel() for each in group] for group in _groups(parameters)] == [[sizes[3]], [10, 10], [sizes[0]]]


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("[gloo/transport/tcp/pair.cc:544] Connection closed by peer [127.0.0.1]:1234"),
        dist.DistBackendError("NCCL communicator was aborted"),
    ],
)
def test_a_rank_that_has_gone_is_told_from_a_fault_of_our_own(error: RuntimeError) -> None:
    with pytest.raises(PeerLost), _telling():
        raise error
    with pytest.raises(RuntimeError, match="out of memory"), _telling():
        raise RuntimeError("out of memory")
