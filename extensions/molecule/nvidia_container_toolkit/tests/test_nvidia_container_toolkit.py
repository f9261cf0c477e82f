# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""A machine whose containers see a GPU, and how it gets there; with stand-ins for NVIDIA's programs. The tests build on each other."""

import json
import os
import pathlib
import re
import subprocess

import pytest
from testing import container, on, output, wait_until

PROJECT = pathlib.Path(os.environ["MOLECULE_PROJECT_DIRECTORY"])
GPU, FRESH, MIRROR = "mol-nvidia-gpu", "mol-nvidia-fresh", "mol-nvidia-mirror"
IMAGE = "small:1"
SMALL = "/tmp/small"
KEY = "/etc/apt/keyrings/nvidia-container-toolkit.asc"
CDI = "/etc/cdi/nvidia.yaml"
UNIT = PROJECT / "roles" / "flower_supernode" / "templates" / "flower-supernode.service.j2"
LIBRARY = "/usr/lib/x86_64-linux-gnu/libcuda.so.550.163.01"


def changed_files(machine):
    """Return what differs from the machine's image."""
    said = subprocess.run(["docker", "diff", container(machine)], check=True, capture_output=True, text=True).stdout
    by_itself = r". /(etc|root|run|tmp|var|var/log|var/lib|var/cache|(root/.ansible|run|tmp|var/log|var/lib/systemd|var/tmp)(/.*)?)$"
    return {line for line in said.splitlines() if not re.match(by_itself, line)}


def play(tmp_path, tasks, machine, *extra, fails=False, **variables):
    """Run tasks, or the role if there are none, on a machine and return what ansible-playbook said, as one line; a failing run must be expected."""
    book = tmp_path / "play.yml"
    role = [{"ansible.builtin.include_role": {"name": "opennebula.flower.nvidia_container_toolkit"}}]
    book.write_text(json.dumps([{"hosts": machine, "gather_facts": False, "tasks": tasks or role}]))
    values = tmp_path / "values.json"
    values.write_text(json.dumps(variables))
    done = subprocess.run(
        ["ansible-playbook", "-i", os.environ["MOLECULE_INVENTORY_FILE"], "-e", f"@{values}", *extra, book],
        capture_output=True, text=True, check=False, cwd=PROJECT, env={**os.environ, "ANSIBLE_FORCE_COLOR": "0", "ANSIBLE_NOCOLOR": "1"},
    )  # fmt: skip
    assert (done.returncode != 0) == fails, done.stdout + done.stderr
    return " ".join((done.stdout + done.stderr).replace("''", "'").split())


def instances():
    """Return the profiles of the GPU's instances."""
    return re.findall(r"^  MIG (\S+)", output(GPU, "nvidia-smi", "--list-gpus"), re.MULTILINE)


@pytest.fixture
def role(tmp_path):
    """Run the role on a machine, see play."""
    return lambda machine, *extra, **how: play(tmp_path, None, machine, *extra, **how)


@pytest.fixture
def checks(tmp_path):
    """Run gpu_check on the machine with the GPU and return the checks by name."""

    def run(**options):
        result = tmp_path / "result.json"
        tasks = [
            {"opennebula.flower.gpu_check": {"where": "guest", **options}, "register": "found"},
            {"ansible.builtin.copy": {"dest": str(result), "content": "{{ found | to_json }}"}, "delegate_to": "localhost"},
        ]
        play(tmp_path, tasks, GPU)
        return {check["name"]: check for check in json.loads(result.read_text())["checks"]}

    return run


@pytest.fixture
def node(tmp_path):
    """Return what Ansible says of a SuperNode that asks for a GPU, and the unit that it would have."""

    def configure(machine, **variables):
        tasks = [
            {"ansible.builtin.include_role": {"name": "opennebula.flower.flower_supernode", "tasks_from": "gpu", "public": True}},
            {"ansible.builtin.template": {"src": str(UNIT), "dest": "/run/node.service"}},
        ]
        wish = {"flower_gpu_enabled": True, "flower_tls_enabled": False, "flower_supernode_superlink": "192.0.2.1:9092", **variables}
        return play(tmp_path, tasks, machine, **wish), output(machine, "cat", "/run/node.service")

    return configure


@pytest.fixture(scope="module")
def small():
    """Make a file system that is little more than a shell and return where it is on the machine."""
    output(GPU, "sh", "-c", f"mkdir -p {SMALL}/bin && cp /bin/busybox {SMALL}/bin/ && ln -sf busybox {SMALL}/bin/sh")
    return SMALL


@pytest.fixture(scope="module")
def image(small):
    """Load an image of that file system into the machine's engine."""
    output(GPU, "sh", "-c", f"tar -C {small} -cf - . | docker import - {IMAGE}")
    return IMAGE


@pytest.fixture(scope="module")
def podman(small):
    """List the driver's library in a container of Podman that gets these options."""
    def run(*options):
        # The machine is a container itself: its file system has no layers, and its control groups are not its own, which runc insists on.
        engine = ["podman", "--root=/tmp/podman", "--storage-driver=vfs", "--runtime=crun"]
        container = ["--rm", "--network=none", "--cgroups=disabled", *options, "--rootfs", f"{small}:O"]
        return on(GPU, *engine, "run", *container, "/bin/busybox", "ls", LIBRARY)

    return run


def test_docker_knows_the_runtime_and_what_the_engine_was_told_before():
    assert json.loads(output(GPU, "docker", "info", "--format", "{{json .Runtimes}}"))["nvidia"]["path"] == "nvidia-container-runtime"
    assert output(GPU, "docker", "info", "--format", "{{.DefaultRuntime}} {{.LiveRestoreEnabled}}") == "runc true\n"


def test_containerd_reads_the_runtime_from_a_file_of_its_own():
    assert "containerd.runtimes.nvidia]" in output(GPU, "containerd", "config", "dump")
    assert output(GPU, "systemctl", "is-active", "containerd.service") == "active\n"


def test_a_container_runs_with_the_runtime(image):
    assert output(GPU, "docker", "run", "--rm", "--runtime", "nvidia", image, "/bin/busybox", "echo", "hello") == "hello\n"
    assert "create" in output(GPU, "cat", "/run/nvidia-container-runtime.log")


def test_a_container_that_asks_for_gpus_sees_one_and_others_do_not(image):
    assert "A100" in output(GPU, "docker", "run", "--rm", "--gpus", "all", "--entrypoint", "nvidia-smi", image, "-L")
    assert on(GPU, "docker", "run", "--rm", "--entrypoint", "nvidia-smi", image, "-L").returncode != 0


def test_a_container_of_podman_sees_the_driver_if_it_asks_for_gpus(podman):
    seen = podman("--device=nvidia.com/gpu=all")
    assert seen.stdout == f"{LIBRARY}\n", seen.stderr
    assert podman().returncode != 0


def test_podman_refuses_a_gpu_that_is_not_described(podman):
    refused = podman("--device=nvidia.com/gpu=9")
    assert refused.returncode != 0
    assert "nvidia.com/gpu=9" in refused.stderr


def test_the_toolkit_stays_at_its_version_though_the_repository_has_a_newer_one():
    assert "1.21.0-1" in output(GPU, "apt-cache", "madison", "nvidia-container-toolkit")
    assert "0 upgraded" in output(GPU, "apt-get", "--simulate", "dist-upgrade")
    assert "1.20.0-1" in output(GPU, "dpkg-query", "--show", "nvidia-container-toolkit", "libnvidia-container1")


def test_the_gpu_is_divided_as_declared():
    assert instances() == ["3g.40gb", "1g.10gb", "1g.10gb"]


def test_the_description_of_the_gpus_names_each_instance():
    assert re.findall(r'name: "(.+)"', output(GPU, "cat", CDI)) == ["0:0", "0:1", "0:2", "all"]


def test_the_description_is_written_again_when_the_driver_changes():
    newer = LIBRARY.replace("550.163.01", "570.1")
    output(GPU, "sh", "-c", f"mv {LIBRARY} {newer} && touch /usr/bin/nvidia-smi")
    assert wait_until(lambda: newer in output(GPU, "cat", CDI))
    output(GPU, "mv", newer, LIBRARY)


def test_the_check_notices_a_description_that_is_out_of_date(checks):
    assert checks(checks=["cdi"])["cdi"]["state"] == "error"
    output(GPU, "systemctl", "start", "nvidia-cdi-refresh.service")
    assert checks(checks=["cdi"])["cdi"]["state"] == "ok"


def test_the_units_of_boot_are_enabled_and_divide_and_describe_the_gpus_again():
    for unit in ("nvidia-mig-layout.service", "nvidia-cdi-refresh.service", "nvidia-cdi-refresh.path"):
        assert output(GPU, "systemctl", "is-enabled", unit) == "enabled\n"
    output(GPU, "rm", "/var/lib/nvidia-standin.json", CDI)
    output(GPU, "systemctl", "restart", "nvidia-mig-layout.service", "nvidia-cdi-refresh.service")
    assert instances() == ["3g.40gb", "1g.10gb", "1g.10gb"]
    assert output(GPU, "cat", CDI).count("containerEdits") == 5


def test_the_check_sees_all_but_what_needs_a_real_gpu(checks, image):
    found = checks(image=image)
    states = {name: check["state"] for name, check in found.items()}
    assert {name: states[name] for name in ("gpu", "nvidia_smi", "toolkit", "runtime", "cdi", "container")} == dict.fromkeys(
        ("gpu", "nvidia_smi", "toolkit", "runtime", "cdi", "container"), "ok"
    )
    assert states["driver"] == states["device_nodes"] == states["cuda_product"] == "error"
    assert "libcuda.so.1" in found["cuda_product"]["finding"]
    assert states["memory_limit"] == "skipped"


def test_the_check_does_not_pull_an_image_unless_told(checks):
    assert checks(image="not.example.org/there:1", checks=["container"])["container"]["state"] == "warning"


def test_a_supernode_that_asks_for_the_gpu_gets_it_with_a_share_of_its_memory(node):
    _said, unit = node(GPU, flower_ml_framework="pytorch", flower_gpu_memory_fraction=0.25)
    assert "--gpus all" in unit
    assert "gpu-memory-fraction=0.25" in unit
    assert "CUDA_VISIBLE_DEVICES" not in unit


def test_a_supernode_may_have_one_instance_alone_and_tensorflow_grows(node):
    _said, unit = node(GPU, flower_ml_framework="tensorflow", flower_cuda_visible_devices="MIG-a686709d")
    assert "--env CUDA_VISIBLE_DEVICES=MIG-a686709d" in unit
    assert "--env TF_FORCE_GPU_ALLOW_GROWTH=true" in unit
    assert "gpu-memory-fraction" not in unit


def test_a_supernode_that_asks_for_a_gpu_on_a_machine_without_one_is_warned_and_has_its_cpu(node):
    said, unit = node(FRESH, flower_cuda_visible_devices="0")
    assert "flower_gpu_enabled is set, but this node trains on its CPU: no NVIDIA GPU" in said, said
    assert "--gpus" not in unit
    assert "CUDA_VISIBLE_DEVICES" not in unit


def test_an_unknown_profile_is_refused_with_those_that_the_gpu_offers(role):
    said = role(GPU, fails=True, nvidia_container_toolkit_mig=[{"gpu": 0, "profiles": ["1g.5gb"]}])
    assert "does not offer the MIG profile '1g.5gb'; it offers 1g.10gb, 1g.10gb+me, 1g.20gb, 2g.20gb, 3g.40gb, 4g.40gb, 7g.80gb" in said, said
    assert "changed=0" in said, said


def test_a_gpu_in_use_keeps_its_layout(role):
    state = output(GPU, "cat", "/var/lib/nvidia-standin.json")
    busy = json.dumps({**json.loads(state), "process": "python3"})
    output(GPU, "sh", "-c", f"echo '{busy}' > /var/lib/nvidia-standin.json")
    said = role(GPU, fails=True, nvidia_container_toolkit_mig=[{"gpu": 0, "profiles": ["7g.80gb"]}])
    output(GPU, "sh", "-c", f"echo '{state}' > /var/lib/nvidia-standin.json")
    assert "is in use by python3 (process 4711)" in said, said
    assert instances() == ["3g.40gb", "1g.10gb", "1g.10gb"]


def test_another_layout_and_a_default_runtime_are_shown_and_then_applied(role):
    wish = {"nvidia_container_toolkit_mig": [{"gpu": 0, "profiles": ["7g.80gb"]}], "nvidia_container_toolkit_default_runtime": True}
    said = role(GPU, "--check", "--diff", **wish)
    assert "MIG with 7g.80gb" in said, said
    assert '+ "default-runtime": "nvidia"' in said, said
    assert instances() == ["3g.40gb", "1g.10gb", "1g.10gb"]
    role(GPU, **wish)
    assert instances() == ["7g.80gb"]
    assert output(GPU, "docker", "info", "--format", "{{.DefaultRuntime}}") == "nvidia\n"
    assert "changed=0" in role(GPU, **wish)


def test_a_key_with_another_fingerprint_is_refused_and_nothing_is_written(role):
    before = changed_files(FRESH)
    wrong = "0123456789ABCDEF0123456789ABCDEF01234567"
    said = role(FRESH, fails=True, nvidia_container_toolkit_key_fingerprint=wrong, nvidia_container_toolkit_engines=[])
    right = output(MIRROR, "cat", "/srv/mirror/fingerprint").strip()
    assert f"has the fingerprint {right}, expected is {wrong}" in said, said
    assert changed_files(FRESH) == before


def test_a_container_engine_that_is_not_there_is_refused(role):
    assert "docker of nvidia_container_toolkit_engines is not on mol-nvidia-fresh" in role(FRESH, fails=True)


def test_a_directory_without_the_packages_is_refused_and_nothing_is_written(role, tmp_path):
    before = changed_files(FRESH)
    said = role(FRESH, fails=True, nvidia_container_toolkit_directory=str(tmp_path), nvidia_container_toolkit_engines=[])
    assert "on the control node has to hold version 1.20.0-1 of nvidia-container-toolkit" in said, said
    assert changed_files(FRESH) == before


def test_packages_from_a_directory_are_enough(role, tmp_path):
    packages = tmp_path / "packages"
    subprocess.run(["docker", "cp", f"{container(MIRROR)}:/srv/mirror/stable/deb/amd64", packages], check=True, capture_output=True)
    wish = {"nvidia_container_toolkit_directory": str(packages), "nvidia_container_toolkit_url": "http://unreachable.example.org"}
    wish |= {"nvidia_container_toolkit_engines": [], "nvidia_container_toolkit_driver_package": "", "nvidia_container_toolkit_mig": []}
    said = role(FRESH, **wish)
    assert "No GPU can be used on mol-nvidia-fresh, so containers run on the CPU" in said, said
    assert "1.20.0-1" in output(FRESH, "dpkg-query", "--show", "nvidia-container-toolkit")
    assert "changed=0" in role(FRESH, **wish)


def test_absent_leaves_nothing(role):
    role(GPU, nvidia_container_toolkit_state="absent", nvidia_container_toolkit_mig=[{"gpu": 0, "profiles": ["7g.80gb"]}])
    assert "nvidia" not in output(GPU, "docker", "info", "--format", "{{json .Runtimes}} {{.DefaultRuntime}}")
    assert "nvidia" not in output(GPU, "containerd", "config", "dump")
    assert output(GPU, "find", "/etc", "-name", "*nvidia*") == ""
    assert on(GPU, "dpkg-query", "--show", "nvidia-container-toolkit-base").returncode != 0
    assert instances() == []
    assert output(GPU, "nvidia-smi", "--query-gpu=mig.mode.current", "--format=csv,noheader") == "Disabled\n"
    assert "changed=0" in role(GPU, nvidia_container_toolkit_state="absent")
