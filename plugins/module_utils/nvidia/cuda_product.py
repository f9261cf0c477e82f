# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A program of its own: computes a known product of matrices on the first GPU with the CUDA driver alone and prints the outcome as JSON.

Runs wherever a Python and the driver's libcuda are, in a container or not, without any framework.
"""

from __future__ import annotations

import ctypes
import json
import sys

SIZE = 16
# One thread for each element of the result. Drivers compile it for the GPU they find, from Maxwell (2014) on.
KERNEL = b"""
.version 6.0
.target sm_50
.address_size 64
.visible .entry product(.param .u64 left_of, .param .u64 right_of, .param .u64 result_of, .param .u32 size_of)
{
    .reg .pred %more;
    .reg .u32 %row, %column, %size, %step, %index;
    .reg .u64 %left, %right, %result, %offset, %address;
    .reg .f32 %sum, %x, %y;
    ld.param.u64 %left, [left_of];
    ld.param.u64 %right, [right_of];
    ld.param.u64 %result, [result_of];
    ld.param.u32 %size, [size_of];
    cvta.to.global.u64 %left, %left;
    cvta.to.global.u64 %right, %right;
    cvta.to.global.u64 %result, %result;
    mov.u32 %row, %tid.y;
    mov.u32 %column, %tid.x;
    mov.u32 %step, 0;
    mov.f32 %sum, 0f00000000;
NEXT:
    mad.lo.u32 %index, %row, %size, %step;
    mul.wide.u32 %offset, %index, 4;
    add.u64 %address, %left, %offset;
    ld.global.f32 %x, [%address];
    mad.lo.u32 %index, %step, %size, %column;
    mul.wide.u32 %offset, %index, 4;
    add.u64 %address, %right, %offset;
    ld.global.f32 %y, [%address];
    fma.rn.f32 %sum, %x, %y, %sum;
    add.u32 %step, %step, 1;
    setp.lt.u32 %more, %step, %size;
    @%more bra NEXT;
    mad.lo.u32 %index, %row, %size, %column;
    mul.wide.u32 %offset, %index, 4;
    add.u64 %address, %result, %offset;
    st.global.f32 [%address], %sum;
    ret;
}
"""


class CudaError(Exception):
    """A call of the CUDA driver failed."""


class Cuda:
    """The calls that are needed of a CUDA driver library. Raises CudaError."""

    def __init__(self, library):
        self._library = library

    def call(self, name, *arguments):
        """Call a function of the driver."""
        status = getattr(self._library, name)(*arguments)
        if status:
            text = ctypes.c_char_p()
            self._library.cuGetErrorString(status, ctypes.byref(text))
            raise CudaError(f"{name}: {(text.value or b'unknown error').decode()} ({status})")

    def device_name(self):
        """Use the first GPU and return its name."""
        self.call("cuInit", 0)
        device, context, name = ctypes.c_int(), ctypes.c_void_p(), ctypes.create_string_buffer(256)
        self.call("cuDeviceGet", ctypes.byref(device), 0)
        self.call("cuDeviceGetName", name, len(name), device)
        self.call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
        self.call("cuCtxSetCurrent", context)
        return name.value.decode()

    def product(self, left, right):
        """Return the product of two square matrices, each a flat list of numbers."""
        module, kernel = ctypes.c_void_p(), ctypes.c_void_p()
        self.call("cuModuleLoadData", ctypes.byref(module), ctypes.c_char_p(KERNEL))
        self.call("cuModuleGetFunction", ctypes.byref(kernel), module, b"product")
        result = (ctypes.c_float * len(left))()
        places = []
        for _matrix in range(3):
            places.append(ctypes.c_uint64())
            self.call("cuMemAlloc_v2", ctypes.byref(places[-1]), ctypes.c_size_t(ctypes.sizeof(result)))
        for place, matrix in ((places[0], left), (places[1], right)):
            self.call("cuMemcpyHtoD_v2", place, (ctypes.c_float * len(matrix))(*matrix), ctypes.c_size_t(ctypes.sizeof(result)))
        size = ctypes.c_uint32(SIZE)
        values = [*places, size]
        parameters = (ctypes.c_void_p * len(values))(*[ctypes.addressof(value) for value in values])
        self.call("cuLaunchKernel", kernel, 1, 1, 1, SIZE, SIZE, 1, 0, None, parameters, None)
        self.call("cuCtxSynchronize")
        self.call("cuMemcpyDtoH_v2", result, places[2], ctypes.c_size_t(ctypes.sizeof(result)))
        for place in places:
            self.call("cuMemFree_v2", place)
        return list(result)


def compute(library):
    """Compute the product with a driver library and return the outcome: ok, device, detail."""
    cuda = Cuda(library)
    device = cuda.device_name()
    # Small whole numbers: the sums are exact, whatever order they are made in.
    left = [float(index % 7 - 3) for index in range(SIZE * SIZE)]
    right = [float(index % 5 - 2) for index in range(SIZE * SIZE)]
    wanted = [sum(left[row * SIZE + step] * right[step * SIZE + column] for step in range(SIZE)) for row in range(SIZE) for column in range(SIZE)]
    found = cuda.product(left, right)
    wrong = sum(found[index] != wanted[index] for index in range(len(wanted)))
    detail = f"{wrong} of {len(wanted)} elements are wrong" if wrong else f"product of two {SIZE}x{SIZE} matrices is right"
    return {"ok": not wrong, "device": device, "detail": detail}


def main():
    """Print the outcome as one line of JSON."""
    try:
        outcome = compute(ctypes.CDLL("libcuda.so.1"))
    except (CudaError, OSError, AttributeError) as problem:
        outcome = {"ok": False, "device": "", "detail": str(problem)}
    sys.stdout.write(json.dumps(outcome) + "\n")


if __name__ == "__main__":
    main()
