# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The checks of a machine whose containers use a GPU, on trees and with programs that answer as the real ones."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from ansible_collections.opennebula.flower.plugins.module_utils.nvidia import guest_checks
from ansible_collections.opennebula.flower.plugins.module_utils.nvidia.guest_checks import Guest, Settings
from ansible_collections.opennebula.flower.plugins.module_utils.nvidia.machine import Check, Machine

SMI = (0, "NVIDIA A100-SXM4-80GB, 81920 MiB, 550.163.01\n", "")
PROPRIETARY = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.163.01  Tue Apr  8 12:41:17 UTC 2025\nGCC version:  gcc 12.2.0\n"
OPEN = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.133.20  Release Build\n"
LISTED = (0, "GPU 0: NVIDIA A100-SXM4-80GB (UUID: GPU-9c73eb7b)\n", "")
MISSING = (127, "", "no such program")


class Lab:
    """A guest with a GPU where all is well; tests break one thing."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.answers: dict[str, tuple[int, str, str]] = {
            "nvidia-smi": SMI,
            "nvidia-ctk": (0, "NVIDIA Container Toolkit CLI version 1.20.0\ncommit: abc\n", ""),
            "info": (0, '{"nvidia":{"path":"nvidia-container-runtime"},"runc":{"path":"runc"}}\n', ""),
            "inspect": (0, "[]", ""),
            "--entrypoint nvidia-smi": LISTED,
            "--entrypoint python3": (0, '{"ok": true, "device": "NVIDIA A100", "detail": "right"}\n', ""),
            "/usr/bin/python3": (0, '{"ok": true, "device": "NVIDIA A100", "detail": "right"}\n', ""),
        }
        self.ran: list[str] = []
        self.write("proc/driver/nvidia/version", PROPRIETARY)
        self.write("sys/bus/pci/devices/0000:06:00.0/vendor", "0x10de\n").write("sys/bus/pci/devices/0000:06:00.0/device", "0x20b2\n")
        self.write("sys/bus/pci/devices/0000:06:00.0/class", "0x030200\n")
        for node in ("nvidia0", "nvidiactl", "nvidia-uvm"):
            self.write(f"dev/{node}", "")
        self.write("usr/lib/libcuda.so.550.163.01", "")
        self.write("etc/cdi/nvidia.yaml", "kind: nvidia.com/gpu\n- hostPath: /usr/lib/libcuda.so.550.163.01\n- path: /dev/nvidia0\n")

    def write(self, name: str, text: str) -> Lab:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return self

    def no_gpu(self) -> Lab:
        for path in (self.root / "sys/bus/pci/devices/0000:06:00.0").iterdir():
            path.unlink()
        (self.root / "sys/bus/pci/devices/0000:06:00.0").rmdir()
        (self.root / "proc/driver/nvidia/version").unlink()
        (self.root / "etc/cdi/nvidia.yaml").unlink()
        self.answers = {}
        return self

    def run(self, argv: Sequence[str]) -> tuple[int, str, str]:
        command = " ".join(argv)
        self.ran.append(command)
        found = [answer for words, answer in self.answers.items() if words in command]
        # The last one that fits is the most special one.
        return found[-1] if found else MISSING

    def guest(self, **settings: object) -> Guest:
        guest = guest_checks.look(Machine(self.run, str(self.root)), Settings(python="/usr/bin/python3", **settings))
        guest_checks.get_image(guest)
        return guest

    def check(self, name: str, **settings: object) -> Check:
        return guest_checks.CHECKS[name](self.guest(**settings))


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


def test_on_a_machine_with_a_gpu_everything_is_well(lab: Lab) -> None:
    checks = [check(lab.guest(image="torch:1")) for check in guest_checks.CHECKS.values()]
    assert [(check.name, check.state) for check in checks] == [(name, "ok") for name in guest_checks.CHECKS]


def test_a_machine_without_a_gpu_is_one_warning_and_no_error(lab: Lab) -> None:
    lab.no_gpu()
    checks = [check(lab.guest(image="torch:1", pull=True)) for check in guest_checks.CHECKS.values()]
    assert {check.name: check.state for check in checks} == {**dict.fromkeys(guest_checks.CHECKS, "skipped"), "gpu": "warning"}
    assert "the CPU" in checks[0].fix
    assert not any("pull --quiet" in command for command in lab.ran)


@pytest.mark.parametrize(("text", "version"), [(PROPRIETARY, "550.163.01"), (OPEN, "570.133.20")])
def test_the_version_of_the_driver_is_found(lab: Lab, text: str, version: str) -> None:
    assert lab.write("proc/driver/nvidia/version", text).check("driver").finding == f"kernel module nvidia {version} is loaded"


def test_a_gpu_without_a_driver_is_an_error(lab: Lab) -> None:
    (lab.root / "proc/driver/nvidia/version").unlink()
    lab.answers["nvidia-smi"] = MISSING
    assert lab.check("driver").state == lab.check("nvidia_smi").state == "error"
    assert lab.check("device_nodes").state == lab.check("cuda_product").state == "skipped"


def test_a_gpu_that_nouveau_holds_is_named(lab: Lab) -> None:
    (lab.root / "proc/driver/nvidia/version").unlink()
    (lab.root / "sys/bus/pci/drivers/nouveau").mkdir(parents=True)
    (lab.root / "sys/bus/pci/devices/0000:06:00.0/driver").symlink_to(lab.root / "sys/bus/pci/drivers/nouveau")
    assert lab.check("driver").finding == "0000:06:00.0 is held by nouveau"


def test_a_driver_that_was_updated_under_a_loaded_module_needs_a_reboot(lab: Lab) -> None:
    lab.answers["nvidia-smi"] = (18, "Failed to initialize NVML: Driver/library version mismatch\nNVML library version: 570.133\n", "")
    assert "reboot" in lab.check("nvidia_smi").fix


def test_a_missing_device_file_is_named(lab: Lab) -> None:
    (lab.root / "dev/nvidia-uvm").unlink()
    assert lab.check("device_nodes").finding == "/dev/nvidia-uvm missing"


def test_a_missing_toolkit_is_an_error(lab: Lab) -> None:
    del lab.answers["nvidia-ctk"]
    assert lab.check("toolkit").state == "error"


def test_docker_that_does_not_know_the_runtime_is_an_error(lab: Lab) -> None:
    lab.answers["info"] = (0, '{"runc":{"path":"runc"}}\n', "")
    assert lab.check("runtime").finding == "docker does not know the NVIDIA runtime"


def test_of_a_docker_that_is_stopped_the_settings_count(lab: Lab) -> None:
    lab.answers["info"] = (1, "", "Cannot connect to the Docker daemon")
    assert lab.check("runtime").state == "error"
    lab.write("etc/docker/daemon.json", json.dumps({"runtimes": {"nvidia": {"path": "nvidia-container-runtime"}}}))
    assert lab.check("runtime").state == "ok"


def test_podman_needs_the_cdi_specification(lab: Lab) -> None:
    assert lab.check("runtime", engines=["podman"]).state == "ok"
    (lab.root / "etc/cdi/nvidia.yaml").unlink()
    assert lab.check("runtime", engines=["podman"]).state == lab.check("cdi", engines=["podman"]).state == "error"
    assert lab.check("cdi").state == "warning"


def test_containerd_needs_the_runtime_in_its_settings(lab: Lab) -> None:
    assert lab.check("runtime", engines=["containerd"]).state == "error"
    lab.write("etc/containerd/conf.d/99-nvidia.toml", '[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.nvidia]\n')
    assert lab.check("runtime", engines=["containerd"]).state == "ok"


def test_a_cdi_specification_of_an_older_driver_is_an_error(lab: Lab) -> None:
    (lab.root / "usr/lib/libcuda.so.550.163.01").rename(lab.root / "usr/lib/libcuda.so.570.133.20")
    assert lab.check("cdi").finding == "/etc/cdi/nvidia.yaml is out of date: /usr/lib/libcuda.so.550.163.01 does not exist"


def test_without_an_image_no_container_is_run(lab: Lab) -> None:
    assert lab.check("container").state == lab.check("memory_limit").state == "skipped"
    assert not any(" run " in command for command in lab.ran)


def test_an_image_is_pulled_only_if_that_is_allowed(lab: Lab) -> None:
    lab.answers["inspect"] = (1, "[]", "No such image")
    assert lab.check("container", image="torch:1").state == "warning"
    assert not any("pull --quiet" in command for command in lab.ran)
    lab.check("container", image="torch:1", pull=True)
    assert "timeout 120 docker pull --quiet torch:1" in lab.ran


def test_a_container_is_given_the_gpu_as_its_engine_wants_it_and_no_network(lab: Lab) -> None:
    lab.check("container", image="torch:1", engines=["docker", "podman"])
    options = "run --rm --pull never --network none"
    assert f"timeout 120 docker {options} --gpus all --entrypoint nvidia-smi torch:1 --list-gpus" in lab.ran
    assert f"timeout 120 podman {options} --device nvidia.com/gpu=all --entrypoint nvidia-smi torch:1 --list-gpus" in lab.ran


def test_a_container_that_sees_no_gpu_is_an_error(lab: Lab) -> None:
    lab.answers["--entrypoint nvidia-smi"] = (125, "", 'docker: could not select device driver "" with capabilities: [[gpu]].')
    check = lab.check("container", image="torch:1")
    assert check.state == "error"
    assert "could not select device driver" in check.finding


def test_cuda_is_tried_on_the_machine_where_the_image_has_no_python(lab: Lab) -> None:
    lab.answers["--entrypoint python3"] = (127, "", "exec: python3: executable file not found")
    assert lab.check("cuda_product", image="small:1").finding == "NVIDIA A100 in this machine: right"


def test_a_wrong_product_is_an_error(lab: Lab) -> None:
    lab.answers["/usr/bin/python3"] = (0, '{"ok": false, "device": "NVIDIA A100", "detail": "3 of 256 elements are wrong"}\n', "")
    assert lab.check("cuda_product").finding == "in this machine: 3 of 256 elements are wrong"


def test_a_program_that_hangs_is_an_error(lab: Lab) -> None:
    lab.answers["/usr/bin/python3"] = (124, "", "")
    assert lab.check("cuda_product", timeout=5).finding == "the program ended early or took longer than 5 s"


@pytest.mark.parametrize(("ok", "state"), [("true", "ok"), ("false", "error"), ("null", "skipped")])
def test_the_memory_limit_is_judged_by_what_pytorch_does(lab: Lab, ok: str, state: str) -> None:
    lab.answers["--entrypoint python3"] = (0, f'{{"ok": {ok}, "detail": "so"}}\n', "")
    assert lab.check("memory_limit", image="torch:1", memory_fraction=0.25).state == state
    assert lab.ran[-1].endswith(" 0.25")
