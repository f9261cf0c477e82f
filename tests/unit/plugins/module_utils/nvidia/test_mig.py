# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""MIG layouts, from the output of nvidia-smi to the commands that are run."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from ansible_collections.opennebula.flower.plugins.module_utils.nvidia import mig

UUID = "GPU-9c73eb7b-8d6d-6c0e-dc13-97873e2ede40"
A100 = f"0, {UUID}, NVIDIA A100-SXM4-80GB, 81920, {{mode}}, {{mode}}\n"
T4 = "1, GPU-f05b1cb4-0c43-44dd-a6a7-2ad43a1f5c65, Tesla T4, 15360, [N/A], [N/A]\n"
PROFILES = """+-----------------------------------------------------------------------------+
| GPU instance profiles:                                                      |
| GPU   Name             ID    Instances   Memory     P2P    SM    DEC   ENC  |
|                              Free/Total   GiB              CE    JPEG  OFA  |
|=============================================================================|
|   0  MIG 1g.10gb       19     7/7        9.50       No     14     0     0   |
|                                                             1     0     0   |
+-----------------------------------------------------------------------------+
|   0  MIG 1g.10gb+me    20     1/1        9.50       No     14     1     0   |
|                                                             1     1     1   |
+-----------------------------------------------------------------------------+
|   0  MIG 3g.40gb        9     0/2        39.25      No     42     2     0   |
|                                                             3     0     0   |
+-----------------------------------------------------------------------------+
"""
INSTANCES = """+-------------------------------------------------------+
| GPU instances:                                        |
| GPU   Name             Profile  Instance   Placement  |
|                          ID       ID       Start:Size |
|=======================================================|
|   0  MIG 3g.40gb          9        2          4:4     |
+-------------------------------------------------------+
|   0  MIG 1g.10gb         19        9          2:1     |
+-------------------------------------------------------+
"""
NO_INSTANCES = (6, "No GPU instances found: Not Found\n", "")


class Smi:
    """Answers as nvidia-smi of a machine with an A100 and a T4, and remembers what it was asked to change."""

    def __init__(self, mode: str = mig.ENABLED, instances: tuple[int, str, str] = (0, INSTANCES, ""), processes: str = "", stays: bool = False) -> None:
        self.mode, self.instances, self.processes = mode, instances, processes
        self.stays = stays
        self.ran: list[str] = []

    def __call__(self, argv: Sequence[str]) -> tuple[int, str, str]:
        if argv[1].startswith("--query-gpu="):
            return 0, A100.format(mode=self.mode) + T4, ""
        if argv[1].startswith("--query-compute-apps="):
            return 0, self.processes, ""
        if argv[-1] in ("-lgi", "-lgip") and self.mode != mig.ENABLED:
            return 6, "No MIG-enabled devices found.\n", ""
        if argv[-1] == "-lgi":
            return self.instances
        if argv[-1] == "-lgip":
            return 0, PROFILES, ""
        self.ran.append(" ".join(argv))
        if "-mig" in argv and not self.stays:
            self.mode = mig.ENABLED if argv[-1] == "1" else mig.DISABLED
        return 0, "", ""


def gpu(smi: Smi, number: int = 0) -> mig.Gpu:
    return mig.read(smi, [number])[0]


def test_profiles_instances_and_programs_are_read() -> None:
    found = gpu(Smi(processes=f"{UUID}, 4711, python3, of us\n"))
    assert found.profiles == {"1g.10gb": 7, "1g.10gb+me": 1, "3g.40gb": 2}
    assert found.instances == ["1g.10gb", "3g.40gb"]
    assert found.processes == ["python3, of us (process 4711)"]


def test_the_order_of_profiles_makes_no_difference() -> None:
    found = gpu(Smi())
    assert not mig.differs(found, ["3g.40gb", "1g.10gb"])
    assert mig.differs(found, ["3g.40gb", "1g.10gb", "1g.10gb"])


def test_a_divided_gpu_is_cleared_and_divided_anew_the_largest_first() -> None:
    smi = Smi()
    mig.apply(smi, gpu(smi), ["1g.10gb", "3g.40gb", "1g.10gb"])
    assert smi.ran == ["nvidia-smi mig -i 0 -dci", "nvidia-smi mig -i 0 -dgi", "nvidia-smi mig -i 0 -cgi 3g.40gb,1g.10gb,1g.10gb -C"]


def test_mig_is_switched_on_where_it_is_off() -> None:
    smi = Smi(mode=mig.DISABLED, instances=NO_INSTANCES)
    mig.apply(smi, gpu(smi), ["3g.40gb"])
    assert smi.ran == ["nvidia-smi -i 0 -mig 1", "nvidia-smi mig -i 0 -cgi 3g.40gb -C"]


def test_no_profiles_switch_mig_off() -> None:
    smi = Smi()
    mig.apply(smi, gpu(smi), [])
    assert smi.ran == ["nvidia-smi mig -i 0 -dci", "nvidia-smi mig -i 0 -dgi", "nvidia-smi -i 0 -mig 0"]
    assert not mig.differs(gpu(Smi(mode=mig.DISABLED)), [])


def test_a_profile_found_unknown_only_once_mig_is_on_switches_it_off_again() -> None:
    smi = Smi(mode=mig.DISABLED, instances=NO_INSTANCES)
    with pytest.raises(mig.MigError, match=r"does not offer the MIG profile '1g\.5gb'; it offers 1g\.10gb, 1g\.10gb\+me, 3g\.40gb"):
        mig.apply(smi, gpu(smi), ["1g.5gb"])
    assert smi.ran == ["nvidia-smi -i 0 -mig 1", "nvidia-smi -i 0 -mig 0"]


def test_a_gpu_that_has_to_be_reset_first_is_named() -> None:
    smi = Smi(mode=mig.DISABLED, instances=NO_INSTANCES, stays=True)
    with pytest.raises(mig.MigError, match=r"GPU 0 \(NVIDIA A100-SXM4-80GB\) switches MIG on only when it is reset"):
        mig.apply(smi, gpu(smi), ["3g.40gb"])


@pytest.mark.parametrize(
    ("mode", "profiles", "complaint"),
    [
        (mig.ENABLED, ["2g.20gb"], "does not offer the MIG profile '2g.20gb'; it offers 1g.10gb, 1g.10gb[+]me, 3g.40gb"),
        (mig.ENABLED, ["1g.10gb+me", "1g.10gb+me"], "takes 1 of the MIG profile '1g.10gb[+]me', 2 are wanted"),
        (mig.DISABLED, ["7g.141gb"], "it has 81920 MiB of memory in all"),
    ],
)
def test_what_a_gpu_does_not_offer_is_refused(mode: str, profiles: list[str], complaint: str) -> None:
    with pytest.raises(mig.MigError, match=complaint):
        mig.check_profiles(gpu(Smi(mode=mode)), profiles)


def test_a_gpu_without_mig_is_named() -> None:
    with pytest.raises(mig.MigError, match=r"GPU 1 \(Tesla T4\) has no MIG"):
        mig.check_profiles(gpu(Smi(), 1), ["1g.10gb"])


def test_a_number_that_no_gpu_has_is_named() -> None:
    with pytest.raises(mig.MigError, match="there is no GPU 2, nvidia-smi shows 0, 1"):
        gpu(Smi(), 2)


def test_a_gpu_in_use_is_not_touched() -> None:
    with pytest.raises(mig.MigError, match=r"is in use by python3 \(process 4711\)"):
        mig.check_idle(gpu(Smi(processes=f"{UUID}, 4711, python3\n")))


@pytest.mark.parametrize(
    ("layout", "complaint"),
    [
        ([{"gpu": 0, "profiles": ["small"]}], "GPU 0: 'small' is not a valid MIG profile, expected a name such as 1g.10gb"),
        ([{"gpu": 0, "profiles": []}, {"gpu": 0, "profiles": []}], "GPU 0 is listed twice"),
        ([{"gpu": 0, "profiles": ["4g.40gb", "4g.40gb"]}], "need 8 slices, a GPU has 7"),
    ],
)
def test_a_layout_that_no_gpu_can_have_is_refused_before_any_is_asked(layout: list[dict], complaint: str) -> None:
    with pytest.raises(mig.MigError, match=complaint):
        mig.check_layout(layout)


def test_a_driver_that_does_not_answer_is_named() -> None:
    mismatch = "Failed to initialize NVML: Driver/library version mismatch\nNVML library version: 570.133\n"
    with pytest.raises(mig.MigError, match="failed: Failed to initialize NVML: Driver/library version mismatch; NVML"):
        mig.read(lambda _argv: (18, mismatch, ""), [0])
