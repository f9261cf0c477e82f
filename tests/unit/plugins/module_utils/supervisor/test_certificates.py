# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Certificates that a SuperLink makes for its gateway, as openssl judges them."""

from __future__ import annotations

import datetime
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ansible_collections.opennebula.flower.plugins.module_utils.supervisor.certificates import CertificateError, Config, Keeper, metrics
from ansible_collections.opennebula.flower.tests.support.unit_log_schema import problem

NOW = datetime.datetime.now(datetime.UTC)
DAY = datetime.timedelta(days=1)
NAMES = ["IP:10.0.0.5", "IP:::1", "DNS:localhost", "DNS:superlink.example.org"]


class Machine:
    """The files of a SuperLink, kept at points in time."""

    def __init__(self, root: Path) -> None:
        self.certs, self.authorities = root / "certs", root / "ca"
        for directory in (self.certs, self.authorities):
            directory.mkdir()
        self.server = self.certs / "server.pem"

    def settings(self, **changed: object) -> dict[str, object]:
        settings = {"directory": str(self.certs), "authorities": str(self.authorities), "host_name": "superlink", "names": NAMES, "days": 90, "ca_days": 900}
        return settings | changed

    def keep(self, after: float = 0, check: bool = False, **changed: object) -> list[str]:
        """Keep the certificates some days from now; return what was made."""
        keeper = Keeper(Config(**self.settings(**changed)), check, NOW + after * DAY)
        keeper.ensure()
        return keeper.made

    def accepted(self, days: float = 0, ca: Path | None = None, name: str = "10.0.0.5") -> str:
        """Return what the strictest clients have against the server's certificate some days from now, nothing when they take it."""
        which = "-verify_ip" if name[0].isdigit() or ":" in name else "-verify_hostname"
        moment = str(int((NOW + days * DAY).timestamp()))
        command = ["openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-attime", moment, which, name, "-CAfile", ca or self.certs / "ca.crt"]
        checked = subprocess.run([*command, self.server], capture_output=True, text=True, check=False)
        return "" if checked.returncode == 0 else checked.stderr

    def files(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in (*self.certs.iterdir(), *self.authorities.iterdir())}


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_clients_take_what_is_made_under_each_of_its_names_and_no_other(machine: Machine) -> None:
    assert machine.keep() == ["CA 1", "bundle", "server certificate"]
    for name in ("10.0.0.5", "::1", "localhost", "superlink.example.org"):
        assert machine.accepted(name=name) == ""
    assert "mismatch" in machine.accepted(name="other.example.org")
    modes = {path.name: oct(path.stat().st_mode & 0o777) for path in (machine.server, machine.authorities / "1.key", machine.certs / "ca.crt")}
    assert modes == {"server.pem": "0o600", "1.key": "0o600", "ca.crt": "0o644"}


def test_a_second_time_changes_nothing(machine: Machine) -> None:
    machine.keep()
    before = machine.files()
    assert machine.keep(after=1) == []
    assert machine.files() == before


def test_a_dry_run_says_what_would_be_made_and_writes_nothing(machine: Machine) -> None:
    assert machine.keep(check=True) == ["CA 1", "bundle", "server certificate"]
    assert machine.files() == {}
    machine.keep()
    before = machine.files()
    assert machine.keep(check=True) == []
    assert machine.keep(check=True, renewal=1) == ["server certificate"]
    assert machine.files() == before


def test_a_certificate_is_renewed_in_its_last_third_and_not_before(machine: Machine) -> None:
    machine.keep()
    assert machine.keep(after=59) == []
    assert machine.keep(after=61) == ["server certificate"]
    assert machine.accepted(days=61 + 89) == ""


def test_a_certificate_of_one_day_lives_through_it_and_is_renewed_within_it(machine: Machine) -> None:
    machine.keep(days=1)
    assert machine.keep(after=0.6, days=1) == []
    assert machine.keep(after=0.7, days=1) == ["server certificate"]
    assert machine.accepted(days=1.6) == ""


@pytest.mark.parametrize("days", [89.5, 90.5, 300])
def test_one_in_its_last_hours_or_that_expired_while_the_machine_was_off_is_renewed(machine: Machine, days: float) -> None:
    machine.keep()
    assert (machine.accepted(days=days) == "") == (days < 90)
    assert machine.keep(after=days) == ["server certificate"]
    assert machine.accepted(days=days) == ""


@pytest.mark.parametrize("wrong", [-1, 1])
def test_a_clock_that_was_wrong_by_a_day_at_boot_spoils_nothing(machine: Machine, wrong: int) -> None:
    machine.keep(after=wrong)
    assert machine.accepted(days=0) == ""
    assert machine.keep(after=0) == []


def test_a_clock_that_was_far_ahead_is_named(machine: Machine) -> None:
    machine.keep(after=30)
    with pytest.raises(CertificateError, match=r"CA 1 is not valid before .*, and the clock of this machine says .*; set the clock"):
        machine.keep()


def test_an_expired_ca_is_named_with_what_to_do(machine: Machine) -> None:
    machine.keep()
    with pytest.raises(CertificateError, match=r"CA 1 expired on .*flower_ca_number.*flower_ssl_ca_certfile"):
        machine.keep(after=901)


def test_a_certificate_does_not_outlive_its_ca_and_is_not_renewed_for_nothing(machine: Machine) -> None:
    machine.keep(after=0)
    assert machine.keep(after=899) == ["server certificate"]
    assert machine.keep(after=899.5) == []


@pytest.mark.parametrize(
    "changed", [{"names": NAMES[:-1]}, {"names": [*NAMES, "DNS:b.example.org"]}, {"renewal": 1}], ids=["a-name-less", "a-name-more", "asked-for"]
)
def test_another_name_or_a_wish_renews_once(machine: Machine, changed: dict[str, object]) -> None:
    machine.keep()
    key = machine.server.read_text().split("-----BEGIN PRIVATE KEY-----")[1]
    assert machine.keep(**changed) == ["server certificate"]
    assert machine.keep(**changed) == []
    assert machine.server.read_text().split("-----BEGIN PRIVATE KEY-----")[1] != key


@pytest.mark.parametrize("text", ["", "rubbish", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "\xff"])
def test_a_damaged_file_is_made_anew(machine: Machine, text: str) -> None:
    machine.keep()
    machine.server.write_bytes(text.encode("latin-1"))
    assert machine.keep() == ["server certificate"]
    assert machine.accepted() == ""


def test_a_certificate_whose_key_is_anothers_is_made_anew(machine: Machine, tmp_path: Path) -> None:
    machine.keep()
    (tmp_path / "other").mkdir()
    other = Machine(tmp_path / "other")
    other.keep()
    certificate, key = (text.server.read_text().partition("-----BEGIN PRIVATE KEY-----")[part] for text, part in ((machine, 0), (other, 2)))
    machine.server.write_text(f"{certificate}-----BEGIN PRIVATE KEY-----{key}")
    assert machine.keep() == ["server certificate"]


@pytest.mark.parametrize(("key", "said"), [
    (None, "the key of CA 1 is lost; restore"), ("rubbish", "1.key holds no usable key"), ("other", "1.key is not the key of"),
])
def test_a_ca_without_its_key_is_never_replaced_silently(machine: Machine, key: str | None, said: str) -> None:
    machine.keep()
    file = machine.authorities / "1.key"
    if key == "other":
        key = machine.server.read_text()[machine.server.read_text().index("-----BEGIN PRIVATE") :]
    file.unlink() if key is None else file.write_text(key)
    before = machine.files()
    with pytest.raises(CertificateError, match=said):
        machine.keep()
    assert machine.files() == before


def test_a_ca_that_signs_no_more_can_do_without_its_key(machine: Machine) -> None:
    machine.keep(trusted=[1, 2])
    (machine.authorities / "1.key").unlink()
    assert machine.keep(signs=2, trusted=[1, 2]) == ["server certificate"]
    assert machine.accepted() == ""


@pytest.mark.parametrize("spoil", ["expired", "lost"])
def test_another_ca_helps_out_where_one_can_sign_no_more(machine: Machine, spoil: str) -> None:
    machine.keep(after=-901 if spoil == "expired" else 0)
    if spoil == "lost":
        (machine.authorities / "1.key").unlink()
    assert machine.keep(signs=2, trusted=[2]) == ["CA 2", "bundle", "server certificate"]
    assert machine.accepted() == ""


def test_a_ca_that_lost_its_certificate_gets_another_that_nodes_take_as_the_same(machine: Machine, tmp_path: Path) -> None:
    """An interrupted first run leaves the same."""
    machine.keep()
    (tmp_path / "trusted").write_bytes((machine.certs / "ca.crt").read_bytes())
    (machine.authorities / "1.crt").unlink()
    assert machine.keep(renewal=1) == ["CA 1", "bundle", "server certificate"]
    assert machine.accepted() == machine.accepted(ca=tmp_path / "trusted") == ""


def test_a_ca_is_replaced_in_three_steps_and_at_each_all_nodes_are_served(machine: Machine, tmp_path: Path) -> None:
    """Nodes trust what the bundle was at the step before, or what it is."""
    machine.keep()
    trusted = tmp_path / "trusted"
    steps = [{"signs": 1, "trusted": [1, 2]}, {"signs": 2, "trusted": [1, 2]}, {"signs": 2, "trusted": [2]}]
    made = [["CA 2", "bundle"], ["server certificate"], ["bundle"]]
    for step, wanted in zip(steps, made, strict=True):
        trusted.write_bytes((machine.certs / "ca.crt").read_bytes())
        assert machine.keep(**step) == wanted
        assert machine.keep(**step) == []
        assert machine.accepted() == machine.accepted(ca=trusted) == ""
    assert machine.accepted(ca=machine.authorities / "1.crt") != ""


class Program:
    """The program with the settings of a machine, whose systemd is a command that keeps what it is asked, and fails while ``down`` is there."""

    def __init__(self, machine: Machine, directory: Path) -> None:
        self._settings = json.dumps(machine.settings(days="90", metrics_file=str(directory / "metrics.prom")))
        self._directory, self.down, self._asked = directory, directory / "down", directory / "asked"
        (directory / "systemctl").write_text(f'#!/bin/sh\n[ ! -e {self.down} ] && echo "$*" >> {self._asked}\n')
        (directory / "systemctl").chmod(0o755)

    def run(self, *options: str) -> subprocess.CompletedProcess:
        module = "ansible_collections.opennebula.flower.plugins.module_utils.supervisor.certificates"
        command, environment = [sys.executable, "-m", module, "--config", "-", *options], os.environ | {"PATH": f"{self._directory}:{os.environ['PATH']}"}
        return subprocess.run(command, input=self._settings, env=environment, capture_output=True, text=True, check=False)

    def asked(self) -> list[str]:
        return self._asked.read_text().splitlines() if self._asked.exists() else []


@pytest.fixture
def program(machine: Machine, tmp_path: Path) -> Program:
    return Program(machine, tmp_path)


def test_the_program_answers_with_what_it_made_and_tells_prometheus(machine: Machine, program: Program, tmp_path: Path) -> None:
    done = program.run()
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["made"] == ["CA 1", "bundle", "server certificate"]
    assert datetime.datetime.fromisoformat(answer["not_after"]) > NOW + 89 * DAY
    assert program.run("--reload").returncode == 0
    lines = (tmp_path / "metrics.prom").read_text().splitlines()
    assert [line.split()[0] for line in lines if line[0] != "#"] == [
        f'fl_certificate_not_after_timestamp_seconds{{certificate="{which}"}}' for which in ("server", "ca")
    ]
    (machine.authorities / "1.key").unlink()
    failed = program.run()
    assert failed.returncode == 1
    assert failed.stderr.startswith("The certificates of the gateway cannot be kept: the key of CA 1 is lost")
    assert "Traceback" not in failed.stderr


def test_the_timers_log_is_for_people_or_programs(machine: Machine, program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    made = program.run("--reload").stdout
    assert made.startswith("INFO Made: CA 1, bundle, server certificate; the server's certificate is valid until 20")
    monkeypatch.setenv("FL_LOG_FORMAT", "json")
    machine.server.unlink()
    (line,) = map(json.loads, program.run("--reload").stdout.splitlines())
    assert problem(line) == ""
    assert (line["event"], line["data"]["made"]) == ("certificates_renewed", ["server certificate"])
    (line,) = map(json.loads, program.run("--reload").stdout.splitlines())
    assert problem(line) == ""
    assert (line["unit"], line["event"], line["data"]["made"]) == ("flower-certificates", "certificates_kept", [])
    (machine.authorities / "1.key").unlink()
    failed = program.run("--reload")
    (line,) = map(json.loads, failed.stdout.splitlines())
    assert (failed.returncode, line["level"]) == (1, "ERROR")
    assert line["message"].startswith("The certificates of the gateway cannot be kept: the key of CA 1 is lost")


def test_the_gateway_is_reloaded_once_also_when_that_failed_or_was_not_asked_for_at_first(program: Program) -> None:
    assert program.run().returncode == 0
    assert program.asked() == []
    program.down.touch()
    failed = program.run("--reload")
    assert failed.returncode == 1 and "Traceback" not in failed.stderr
    program.down.unlink()
    for _time in range(2):
        assert program.run("--reload").returncode == 0
    assert program.asked() == ["try-reload-or-restart haproxy.service"]


def test_of_several_cas_the_first_to_end_is_told(machine: Machine) -> None:
    machine.keep()
    machine.keep(after=10, signs=1, trusted=[1, 2])
    ends = Keeper(Config(**machine.settings())).ends()
    assert f'certificate="ca"}} {int((NOW + 900 * DAY).timestamp())}\n' in metrics(ends)
