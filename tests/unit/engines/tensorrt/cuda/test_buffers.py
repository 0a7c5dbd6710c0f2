# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from perception_node.engines.tensorrt.cuda.buffers import SharedBuffer
from perception_node.errors import EngineError
from tests.standin_cuda import StandinCuda


def test_a_discrete_gpu_gets_a_copy_in_its_own_memory():
    cuda = StandinCuda()
    buffer = SharedBuffer(cuda, 8)
    assert not buffer.is_mapped
    assert buffer.address != buffer.host.ctypes.data
    buffer.host[:] = 5
    buffer.upload()
    cuda.synchronize()
    buffer.host[:] = 0
    buffer.download()
    assert (buffer.host == 0).all(), "copies wait for the stream"
    cuda.synchronize()
    assert (buffer.host == 5).all()
    buffer.free()
    cuda.close()


def test_an_integrated_gpu_works_in_the_memory_of_the_cpu():
    cuda = StandinCuda(integrated=True)
    buffer = SharedBuffer(cuda, 8)
    assert buffer.is_mapped
    assert buffer.address == buffer.host.ctypes.data
    buffer.upload()
    buffer.download()
    assert cuda.calls == {"host_memory": 1}
    buffer.free()
    cuda.close()


def test_only_the_bytes_in_use_are_copied():
    cuda = StandinCuda()
    source, target = SharedBuffer(cuda, 8), SharedBuffer(cuda, 8)
    source.host[:] = 5
    source.upload(3)
    cuda.download(target.host, source.address)
    cuda.synchronize()
    assert (target.host[:3] == 5).all()
    assert (target.host[3:] != 5).all()
    source.free()
    target.free()
    cuda.close()


def test_a_new_buffer_holds_zeros():
    cuda = StandinCuda()
    buffer = SharedBuffer(cuda, 8)
    assert not buffer.host.any()
    buffer.free()


def test_half_a_buffer_is_not_left_behind():
    cuda = StandinCuda(fail_at=1)
    with pytest.raises(EngineError, match="device_memory"):
        SharedBuffer(cuda, 8)
    cuda.close()
