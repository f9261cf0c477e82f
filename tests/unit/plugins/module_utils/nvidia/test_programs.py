# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The programs that gpu_check runs, with a driver and a PyTorch that work on ordinary memory."""

from __future__ import annotations

import ctypes
import json
import subprocess
import sys

import pytest

from ansible_collections.opennebula.flower.plugins.module_utils.nvidia import cuda_product, memory_limit


class Driver:
    """Answers as libcuda does, on memory of this process; computes what the kernel would."""

    def __init__(self, broken: str = "", off_by: float = 0.0) -> None:
        self.broken, self.off_by = broken, off_by
        self.buffers: dict[int, object] = {}

    def __getattr__(self, name: str) -> object:
        if not name.startswith("cu"):
            raise AttributeError(name)
        return lambda *arguments: 719 if name == self.broken else 0

    def cuGetErrorString(self, _status: int, text: object) -> int:
        text._obj.value = b"unspecified launch failure"
        return 0

    def cuDeviceGetName(self, name: object, _length: int, _device: object) -> int:
        name.value = b"NVIDIA A100"
        return 0

    def cuMemAlloc_v2(self, place: object, size: object) -> int:
        buffer = ctypes.create_string_buffer(size.value)
        place._obj.value = ctypes.addressof(buffer)
        self.buffers[place._obj.value] = buffer
        return 0

    def cuMemcpyHtoD_v2(self, place: object, source: object, size: object) -> int:
        ctypes.memmove(place.value, source, size.value)
        return 0

    def cuMemcpyDtoH_v2(self, target: object, place: object, size: object) -> int:
        ctypes.memmove(target, place.value, size.value)
        return 0

    def cuLaunchKernel(self, *arguments: object) -> int:
        if self.broken == "cuLaunchKernel":
            return 719
        threads, parameters = arguments[4:6], arguments[9]
        size = ctypes.c_uint32.from_address(parameters[3]).value
        assert threads == (size, size)
        matrix = ctypes.c_float * (size * size)
        left, right, result = (matrix.from_address(ctypes.c_uint64.from_address(parameters[index]).value) for index in range(3))
        for row in range(size):
            for column in range(size):
                result[row * size + column] = sum(left[row * size + step] * right[step * size + column] for step in range(size))
        result[0] += self.off_by
        return 0


def test_a_right_product_is_recognized() -> None:
    assert cuda_product.compute(Driver()) == {"ok": True, "device": "NVIDIA A100", "detail": "product of two 16x16 matrices is right"}


def test_one_wrong_element_is_noticed() -> None:
    outcome = cuda_product.compute(Driver(off_by=1.0))
    assert (outcome["ok"], outcome["detail"]) == (False, "1 of 256 elements are wrong")


@pytest.mark.parametrize("call", ["cuInit", "cuModuleLoadData", "cuLaunchKernel", "cuCtxSynchronize"])
def test_a_call_that_fails_is_named_with_what_the_driver_says(call: str) -> None:
    with pytest.raises(cuda_product.CudaError, match=rf"{call}: unspecified launch failure \(719\)"):
        cuda_product.compute(Driver(broken=call))


def test_the_program_ends_well_on_a_machine_without_a_driver() -> None:
    done = subprocess.run([sys.executable, cuda_product.__file__], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["ok"] is False


class Torch:
    """A PyTorch whose GPU has 80 GiB."""

    class version:
        cuda = "12.8"

    uint8 = "uint8"

    def __init__(self, available: bool = True, keeps_limit: bool = True) -> None:
        self.cuda = self
        self.available, self.keeps_limit, self.limit = available, keeps_limit, None
        self.total_memory = 80 << 30

    class OutOfMemoryError(RuntimeError):
        pass

    def is_available(self) -> bool:
        return self.available

    def set_per_process_memory_fraction(self, fraction: float, _device: int) -> None:
        self.limit = fraction * self.total_memory

    def get_device_properties(self, _device: int) -> Torch:
        return self

    def empty(self, size: int, **_how: object) -> None:
        if self.keeps_limit and size > self.limit:
            raise self.OutOfMemoryError


def test_a_limit_that_holds_is_recognized() -> None:
    assert memory_limit.judge(Torch(), 0.25) == {"ok": True, "detail": "more than 20480 of 81920 MiB are refused"}


def test_a_limit_that_does_not_hold_is_noticed() -> None:
    assert memory_limit.judge(Torch(keeps_limit=False), 0.25) == {"ok": False, "detail": "more than 20480 of 81920 MiB were handed out"}


def test_a_pytorch_that_sees_no_gpu_is_named() -> None:
    assert memory_limit.judge(Torch(available=False), 0.25)["detail"] == "PyTorch sees no GPU"
