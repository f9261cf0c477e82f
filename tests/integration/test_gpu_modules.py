# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""The modules for GPUs as Ansible runs them, with the stand-ins for NVIDIA's programs that the scenario of the role has."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from ansible_collections.opennebula.flower.tests.support.one_zone import run_module
from ansible_collections.opennebula.flower.tests.support.openpgp_test_key import FINGERPRINT, KEY

STANDINS = Path(__file__).parents[2] / "extensions" / "molecule" / "nvidia_container_toolkit" / "standins"
OTHER = "C95B321B61E88C1809C4F759DDCAE044F796ECB0"


class Modules:
    """Runs modules on this machine with the stand-ins in the path, or without them."""

    def __init__(self, directory: Path) -> None:
        self.state = directory / "gpu.json"
        self.path = f"{STANDINS}:/usr/bin:/bin"

    def run(self, module: str, check: bool = False, **options: Any) -> dict[str, Any]:
        with patch.dict(os.environ, {"PATH": self.path, "NVIDIA_STANDIN_STATE": str(self.state)}):
            return run_module(module, options, check)

    def changed(self, module: str, **options: Any) -> dict[str, Any]:
        """Run a module that changes something, after a dry run that says so, and before one that changes nothing more."""
        assert self.run(module, check=True, **options)["changed"] is True
        result = self.run(module, **options)
        assert result.get("changed") is True, result
        assert self.run(module, **options)["changed"] is False
        return result

    def refused(self, module: str, **options: Any) -> str:
        result = self.run(module, **options)
        assert result.get("failed") is True, result
        return result["msg"]


@pytest.fixture
def modules(tmp_path: Path) -> Modules:
    return Modules(tmp_path)


class TestKey:
    @pytest.fixture
    def key(self, tmp_path: Path) -> dict[str, str]:
        (tmp_path / "gpgkey").write_text(KEY)
        return {"path": str(tmp_path / "keyrings" / "key.asc"), "url": f"file://{tmp_path}/gpgkey", "fingerprint": FINGERPRINT}

    def test_the_right_one_is_kept_for_everybody_to_read(self, modules: Modules, key: dict[str, str]) -> None:
        assert modules.changed("openpgp_key", **key)["fingerprint"] == FINGERPRINT
        assert Path(key["path"]).read_text() == KEY
        assert Path(key["path"]).stat().st_mode & 0o777 == 0o644

    def test_a_dry_run_writes_nothing(self, modules: Modules, key: dict[str, str]) -> None:
        assert modules.run("openpgp_key", check=True, **key)["diff"]["after"] == {"fingerprint": FINGERPRINT}
        assert not Path(key["path"]).parent.exists()

    def test_another_one_is_refused_with_both_fingerprints_and_nothing_is_written(self, modules: Modules, key: dict[str, str]) -> None:
        said = modules.refused("openpgp_key", **{**key, "fingerprint": OTHER})
        assert f"has the fingerprint {FINGERPRINT}, expected is {OTHER}" in said
        assert not Path(key["path"]).parent.exists()

    def test_a_second_key_in_the_file_is_refused_whoever_comes_first(self, modules: Modules, key: dict[str, str], tmp_path: Path) -> None:
        # Another modulus makes another key.
        lines = KEY.splitlines(keepends=True)
        second = "".join([*lines[:3], lines[3].swapcase(), *lines[4:]])
        for text in (KEY + second, second + KEY):
            (tmp_path / "gpgkey").write_text(text)
            assert "It is not trusted" in modules.refused("openpgp_key", **key)

    def test_a_page_instead_of_a_key_is_named(self, modules: Modules, key: dict[str, str], tmp_path: Path) -> None:
        (tmp_path / "gpgkey").write_text("<html>Please log in</html>")
        assert "gpgkey holds no ASCII-armoured OpenPGP public key. Nothing was changed." in modules.refused("openpgp_key", **key)

    def test_one_that_is_not_there_is_named(self, modules: Modules, key: dict[str, str]) -> None:
        said = modules.refused("openpgp_key", **{**key, "url": "file:///nowhere/gpgkey"})
        assert said.startswith("The key at file:///nowhere/gpgkey cannot be read: ")

    def test_an_expected_fingerprint_that_is_none_is_named(self, modules: Modules, key: dict[str, str]) -> None:
        said = modules.refused("openpgp_key", **{**key, "fingerprint": "F796ECB0"})
        assert said == "The expected fingerprint 'F796ECB0' is not a valid fingerprint, expected 40 hexadecimal digits."

    def test_it_goes_again(self, modules: Modules, key: dict[str, str]) -> None:
        modules.run("openpgp_key", **key)
        modules.changed("openpgp_key", path=key["path"], state="absent")
        assert not Path(key["path"]).exists()


class TestDocker:
    @pytest.fixture
    def options(self, tmp_path: Path) -> dict[str, Any]:
        path = tmp_path / "docker" / "daemon.json"
        path.parent.mkdir()
        path.write_text('{"live-restore": true, "runtimes": {"kata": {"path": "kata"}}}')
        return {"engine": "docker", "config": str(path)}

    @staticmethod
    def settings(options: dict[str, Any]) -> dict[str, Any]:
        return json.loads(Path(options["config"]).read_text())

    def test_it_gets_the_runtime_and_keeps_its_other_settings(self, modules: Modules, options: dict[str, Any]) -> None:
        diff = modules.changed("nvidia_runtime", **options)["diff"][0]
        assert '"path": "nvidia-container-runtime"' in diff["after"]
        assert self.settings(options)["live-restore"] is True
        assert set(self.settings(options)["runtimes"]) == {"kata", "nvidia"}

    def test_a_dry_run_writes_nothing(self, modules: Modules, options: dict[str, Any]) -> None:
        modules.run("nvidia_runtime", check=True, **options)
        assert "nvidia" not in self.settings(options)["runtimes"]

    def test_the_runtime_becomes_the_default_one_and_is_it_no_more(self, modules: Modules, options: dict[str, Any]) -> None:
        modules.changed("nvidia_runtime", default=True, **options)
        assert self.settings(options)["default-runtime"] == "nvidia"
        modules.changed("nvidia_runtime", **options)
        assert "default-runtime" not in self.settings(options)

    def test_absent_gives_back_what_was_there(self, modules: Modules, options: dict[str, Any]) -> None:
        before = self.settings(options)
        modules.run("nvidia_runtime", default=True, **options)
        modules.changed("nvidia_runtime", state="absent", **options)
        assert self.settings(options) == before

    def test_settings_that_hold_nothing_else_go_with_it(self, modules: Modules, options: dict[str, Any]) -> None:
        Path(options["config"]).unlink()
        modules.changed("nvidia_runtime", **options)
        modules.changed("nvidia_runtime", state="absent", **options)
        assert not Path(options["config"]).exists()

    def test_settings_that_cannot_be_read_are_named_and_left_alone(self, modules: Modules, options: dict[str, Any]) -> None:
        Path(options["config"]).write_text("{live")
        assert f"{options['config']} is not valid JSON" in modules.refused("nvidia_runtime", **options)
        assert Path(options["config"]).read_text() == "{live"


    @pytest.mark.parametrize(
        "text",
        [
            "", " \n\t\n", "null", "{}", "\ufeff", "\ufeffnull", '\ufeff{"live-restore": true}', '{"runtimes": null}', '{"runtimes": {}}',
            '{"runtimes": {"nvidia": null}}', '{"runtimes": {"nvidia": {}}}', '{"default-runtime": null}', '{"runtimes": {"nvidia": {"path": null}}}',
        ],
    )
    def test_what_says_nothing_is_in_nobodys_way(self, modules: Modules, options: dict[str, Any], text: str) -> None:
        Path(options["config"]).write_text(text, encoding="utf-8")
        modules.changed("nvidia_runtime", **options)
        assert self.settings(options)["runtimes"]["nvidia"]["path"] == "nvidia-container-runtime"
        modules.changed("nvidia_runtime", state="absent", **options)

    @pytest.mark.parametrize("text", ["", "null", "{}", '{"runtimes": {}}', '{"runtimes": null}'])
    def test_what_does_not_name_the_runtime_is_left_as_it_is(self, modules: Modules, options: dict[str, Any], text: str) -> None:
        Path(options["config"]).write_text(text)
        assert modules.run("nvidia_runtime", state="absent", **options) == modules.run("nvidia_runtime", state="absent", **options)
        assert Path(options["config"]).read_text() == text

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            (b"[]", "has [], expected an object in braces."), (b'"x"', 'has "x", expected an object in braces.'),
            (b'{"runtimes": []}', "has [] in runtimes, expected"), (b'{"runtimes": {"nvidia": "x"}}', 'has "x" in runtimes.nvidia, expected'),
            (b'{"runtimes": {"nvidia": []}}', "has [] in runtimes.nvidia, expected"), (b'{"a": NaN}', "is not valid JSON"),
            (b"\xff\xfe{\0}\0", "is not text in UTF-8."), (b"[" * 100_000, "it is nested too deeply."),
        ],
    )
    @pytest.mark.parametrize("state", ["present", "absent"])
    def test_settings_of_another_kind_are_named_and_left_alone(
        self, modules: Modules, options: dict[str, Any], text: bytes, said: str, state: str
    ) -> None:
        Path(options["config"]).write_bytes(text)
        assert f"{options['config']} {said}" in modules.refused("nvidia_runtime", state=state, **options).replace("is not readable JSON: ", "")
        assert Path(options["config"]).read_bytes() == text

    @pytest.mark.parametrize("text", ['{"live-restore": true}', "{}", None])
    def test_a_link_stays_and_what_it_leads_to_is_written(self, modules: Modules, options: dict[str, Any], tmp_path: Path, text: str | None) -> None:
        link, target = Path(options["config"]), tmp_path / "managed" / "daemon.json"
        link.unlink()
        link.symlink_to(target)
        if text:
            target.parent.mkdir()
            target.write_text(text)
        modules.changed("nvidia_runtime", **options)
        assert json.loads(target.read_text())["runtimes"]["nvidia"]
        modules.changed("nvidia_runtime", state="absent", **options)
        assert json.loads(target.read_text()) == json.loads(text or "{}")
        assert link.is_symlink()

    def test_a_link_to_itself_and_a_directory_are_named(self, modules: Modules, options: dict[str, Any]) -> None:
        link = Path(options["config"])
        link.unlink()
        link.symlink_to(link)
        assert modules.refused("nvidia_runtime", **options) == f"{link} is a symbolic link that leads to itself."
        link.unlink()
        link.mkdir()
        assert modules.refused("nvidia_runtime", **options) == f"{link} is not a file that could hold settings."


class TestContainerd:
    @pytest.fixture
    def options(self, tmp_path: Path) -> dict[str, Any]:
        (tmp_path / "conf.d").mkdir()
        return {"engine": "containerd", "config": str(tmp_path / "config.toml"), "drop_in": str(tmp_path / "conf.d" / "99-nvidia.toml")}

    def test_it_gets_a_drop_in_and_reads_it(self, modules: Modules, options: dict[str, Any]) -> None:
        Path(options["config"]).write_text("version = 2\n[grpc]\n  uid = 0\n")
        modules.changed("nvidia_runtime", **options)
        assert "conf.d/*.toml" in Path(options["config"]).read_text()
        assert "[grpc]" in Path(options["config"]).read_text()
        modules.changed("nvidia_runtime", state="absent", **options)
        assert Path(options["config"]).read_text() == "version = 2\n[grpc]\n  uid = 0\n"
        assert not Path(options["drop_in"]).exists()

    def test_a_dry_run_writes_nothing(self, modules: Modules, options: dict[str, Any]) -> None:
        assert "runtimes.nvidia" in modules.run("nvidia_runtime", check=True, **options)["diff"]["after"]
        assert not Path(options["config"]).exists() and not Path(options["drop_in"]).exists()

    def test_the_runtime_becomes_the_default_one_and_is_it_no_more(self, modules: Modules, options: dict[str, Any]) -> None:
        modules.changed("nvidia_runtime", default=True, **options)
        modules.changed("nvidia_runtime", **options)
        assert "default_runtime_name" not in Path(options["drop_in"]).read_text()

    def test_links_stay_and_what_they_lead_to_is_written(self, modules: Modules, options: dict[str, Any], tmp_path: Path) -> None:
        for name in ("config", "drop_in"):
            (tmp_path / f"{name}-target").write_text("")
            Path(options[name]).symlink_to(tmp_path / f"{name}-target")
        modules.changed("nvidia_runtime", **options)
        assert "runtimes.nvidia" in (tmp_path / "drop_in-target").read_text()
        assert "imports" in (tmp_path / "config-target").read_text()
        modules.changed("nvidia_runtime", state="absent", **options)
        assert (tmp_path / "drop_in-target").read_text() == ""
        assert Path(options["config"]).is_symlink() and Path(options["drop_in"]).is_symlink()

    @pytest.mark.parametrize("text", ["", "\n", "\ufeff", "\ufeffversion = 2\n", "imports = []\n"])
    def test_what_says_nothing_is_in_nobodys_way(self, modules: Modules, options: dict[str, Any], text: str) -> None:
        Path(options["config"]).write_text(text, encoding="utf-8")
        modules.changed("nvidia_runtime", **options)
        modules.changed("nvidia_runtime", state="absent", **options)

    def test_settings_that_are_no_text_are_named_and_left_alone(self, modules: Modules, options: dict[str, Any]) -> None:
        Path(options["config"]).write_bytes(b"\xff\xfe")
        assert modules.refused("nvidia_runtime", **options) == f"{options['config']} is not text in UTF-8."
        assert Path(options["config"]).read_bytes() == b"\xff\xfe"

    def test_somebody_elses_drop_in_is_still_read_afterwards(self, modules: Modules, options: dict[str, Any]) -> None:
        modules.run("nvidia_runtime", **options)
        Path(options["drop_in"]).with_name("50-own.toml").write_text("")
        modules.changed("nvidia_runtime", state="absent", **options)
        assert "conf.d/*.toml" in Path(options["config"]).read_text()


def test_a_machine_without_the_toolkit_is_named(modules: Modules, tmp_path: Path) -> None:
    modules.path = "/usr/bin:/bin"
    assert "nvidia-ctk" in modules.refused("nvidia_runtime", engine="docker", config=str(tmp_path / "daemon.json"))


class TestMig:
    LAYOUT = {"layout": [{"gpu": 0, "profiles": ["1g.10gb", "3g.40gb"]}]}
    WHOLE = {"layout": [{"gpu": 0, "profiles": []}]}

    def test_a_gpu_is_divided_and_made_whole(self, modules: Modules) -> None:
        result = modules.changed("nvidia_mig", **self.LAYOUT)
        assert result["diff"]["after"] == {"GPU 0 (NVIDIA A100-SXM4-80GB)": "MIG with 1g.10gb, 3g.40gb"}
        assert json.loads(modules.state.read_text())["instances"] == ["3g.40gb", "1g.10gb"]
        modules.changed("nvidia_mig", **self.WHOLE)
        assert json.loads(modules.state.read_text())["mode"] == "Disabled"

    def test_a_dry_run_divides_nothing(self, modules: Modules) -> None:
        assert modules.run("nvidia_mig", check=True, **self.LAYOUT)["commands"][-1][-2:] == ["3g.40gb,1g.10gb", "-C"]
        assert not modules.state.exists()

    def test_an_unknown_profile_is_refused_with_those_that_there_are(self, modules: Modules) -> None:
        modules.run("nvidia_mig", **self.LAYOUT)
        before = modules.state.read_text()
        said = modules.refused("nvidia_mig", layout=[{"gpu": 0, "profiles": ["1g.5gb"]}])
        assert said.endswith("it offers 1g.10gb, 1g.10gb+me, 1g.20gb, 2g.20gb, 3g.40gb, 4g.40gb, 7g.80gb.")
        assert modules.state.read_text() == before

    def test_a_gpu_that_is_not_there_is_named_before_another_is_changed(self, modules: Modules) -> None:
        said = modules.refused("nvidia_mig", layout=[*self.LAYOUT["layout"], {"gpu": 1, "profiles": []}])
        assert said == "there is no GPU 1, nvidia-smi shows 0."
        assert not modules.state.exists()

    def test_a_machine_without_the_driver_is_named(self, modules: Modules) -> None:
        modules.path = "/usr/bin:/bin"
        assert "there is no nvidia-smi on this machine" in modules.refused("nvidia_mig", **self.LAYOUT)
        assert "does not answer yet" in str(modules.run("nvidia_mig", check=True, **self.LAYOUT)["warnings"])


class TestCheck:
    def test_nothing_is_changed_and_every_check_has_a_state(self, modules: Modules) -> None:
        for check in (False, True):
            result = modules.run("gpu_check", check=check, where="guest")
            assert result["changed"] is False
            assert result["gpu"] is True
            assert {entry["state"] for entry in result["checks"]} <= {"ok", "warning", "error", "skipped"}
        assert not modules.state.exists()

    def test_cuda_is_tried_in_a_process_of_its_own(self, modules: Modules) -> None:
        (check,) = modules.run("gpu_check", where="guest", checks=["cuda_product"])["checks"]
        assert (check["state"], "libcuda.so.1: cannot open shared object file" in check["finding"]) == ("error", True)

    def test_a_machine_without_a_gpu_does_not_fail_even_if_errors_do(self, modules: Modules) -> None:
        modules.path = "/usr/bin:/bin"
        result = modules.run("gpu_check", where="guest", fail_on="error")
        assert result.get("failed", False) is False
        assert result["gpu"] is False

    def test_it_fails_only_if_it_is_asked_to_and_says_everything_all_the_same(self, modules: Modules) -> None:
        result = modules.run("gpu_check", where="guest", checks=["driver"], fail_on="error")
        assert result["failed"] is True
        assert result["msg"] == "1 of 1 checks of this guest failed: driver: kernel module nvidia is not loaded."
        assert result["checks"][0]["fix"]

    def test_a_name_that_no_check_has_is_named(self, modules: Modules) -> None:
        assert modules.refused("gpu_check", where="host", checks=["driver"]).startswith("'driver' is not a check of a host; there are kernel_parameters")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"image": "--privileged"}, "image is '--privileged', which is not a valid name of an image."),
        ({"image": "a\nb"}, "image is 'a\\nb', which is not a valid name of an image."),
        ({"memory_fraction": 1.5}, "memory_fraction is 1.5, expected a share above 0 and up to 1."),
        ({"timeout": 0}, "timeout is 0, it must be 1 or more."),
    ],
)
def test_options_that_cannot_be_are_refused_before_anything_runs(modules: Modules, options: dict[str, Any], said: str) -> None:
    assert modules.refused("gpu_check", where="guest", **options) == said
