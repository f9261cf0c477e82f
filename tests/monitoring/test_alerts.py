# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Each alert fires, does not fire when nothing is wrong, and clears, by Prometheus' own tool for tests of rules."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
RULES = REPOSITORY / "roles/flower_monitoring/files/rules.yml"
ALERTS = {rule["alert"]: rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]}

LINK = 'instance="10.0.0.1:9101",job="fl_training",zone="north",name="link",deployment="d"'
GATEWAY = 'instance="10.0.0.1:9101",job="fl_gateway",zone="north",name="link",proxy="superlink",state="UP"'
RUN = f'{LINK},run="initial",strategy="FedAvg"'
NODE = 'job="fl_supernode",zone="north",deployment="d"'
DISK = f'{LINK},mountpoint="/"'
GPU = 'instance="10.0.0.2:9101",job="fl_supernode",zone="north",name="node",gpu="0"'
HOUR = 60


class Case(NamedTuple):
    """Series by their values each minute, when the alert fires, and when it does not, in minutes."""

    alert: str
    series: dict[str, str]
    fires: tuple[int, ...] = ()
    quiet: tuple[int, ...] = ()


CASES = [
    # A status has no labels and a round has those of its run, and 25 minutes after the last round the alert fires until the next one.
    Case("FLTrainingStalled", {f"fl_training_status{{{LINK}}}": "1x90", f"fl_round_current{{{RUN}}}": "0+1x10 10x40 11+1x30"}, (40, 50), (5, 20, 30, 60)),
    Case("FLTrainingStalled", {f"fl_training_status{{{LINK}}}": "2x90", f"fl_round_current{{{RUN}}}": "3x90"}, quiet=(30, 80)),
    # Another run is another series.
    Case(
        "FLTrainingStalled",
        {
            f"fl_training_status{{{LINK}}}": "1x60",
            f"fl_round_current{{{RUN}}}": "3x20 _x40",
            f'fl_round_current{{{LINK},run="second",strategy="FedAvg"}}': "_x21 0+1x40",
        },
        quiet=(19, 25, 40, 55),
    ),
    Case("FLTrainingFailed", {f"fl_training_status{{{LINK}}}": "1x10 3x200"}, (12, 60), (5, 100)),
    Case("FLTrainingNotStarted", {f"fl_training_status{{{LINK}}}": "0x50 1x50", f"fl_runs_waiting{{{LINK}}}": "1x50 0x50"}, (35, 45), (20, 60)),
    Case("FLTrainingNotStarted", {f"fl_training_status{{{LINK}}}": "0x90", f"fl_runs_waiting{{{LINK}}}": "0x90"}, quiet=(35, 80)),
    Case(
        "FLExcessiveClientDropout",
        {f"fl_training_status{{{LINK}}}": "1x90", f"fl_clients_selected{{{LINK}}}": "10x90", f"fl_clients_connected{{{LINK}}}": "10x10 4x20 9x60"},
        (20, 28),
        (5, 12, 40),
    ),
    # Nobody trains, nobody is missed.
    Case(
        "FLExcessiveClientDropout",
        {f"fl_training_status{{{LINK}}}": "2x90", f"fl_clients_selected{{{LINK}}}": "10x90", f"fl_clients_connected{{{LINK}}}": "0x90"},
        quiet=(30, 80),
    ),
    Case("FLClientFailureRate", {f"fl_clients_failed_total{{{LINK}}}": "0x10 0+1x20 20x60"}, (25, 30), (8, 50)),
    Case("FLClientFailureRate", {f"fl_clients_failed_total{{{LINK}}}": "0 0 0 0 1x80"}, quiet=(10, 40)),
    Case(
        "FLCheckpointOverdue",
        {
            f"fl_training_status{{{LINK}}}": "1x60",
            f"fl_round_current{{{RUN}}}": "0+1x60",
            f"fl_checkpoint_round{{{RUN}}}": "0x14 15+1x46",
            f"fl_checkpoint_interval_rounds{{{RUN}}}": "5x60",
        },
        (13,),
        (5, 10, 20),
    ),
    Case("FLSuperLinkDown", {f"up{{{LINK}}}": "1x10 0x10 1x30"}, (13, 19), (5, 11, 25)),
    Case("FLSuperLinkDown", {f"up{{{LINK}}}": "1x60", f"haproxy_server_status{{{GATEWAY}}}": "1x10 0x10 1x30"}, (13, 19), (5, 11, 25)),
    Case(
        "FLNoNodeOfZone",
        {f'fl_supernode_connected{{{NODE},instance="a"}}': "1x10 0x20 1x30", f'fl_supernode_connected{{{NODE},instance="b"}}': "0x60"},
        (17, 29),
        (5, 12, 35),
    ),
    # What cannot be scraped tells nothing.
    Case("FLNoNodeOfZone", {f'fl_supernode_connected{{{NODE},instance="a"}}': "1x10 stale", f'up{{{NODE},instance="a"}}': "1x10 0x30 1x30"}, (20,), (5, 12)),
    Case("FLMetricsStale", {f'node_textfile_mtime_seconds{{{LINK},file="/run/flower-metrics/training.prom"}}': "0+60x10 600x20 1800+60x30"}, (20,), (5, 35)),
    # Never written: it says so by itself, and clears when the first is there.
    Case(
        "FLMetricsStale",
        {f"up{{{LINK}}}": "1x60", f'node_textfile_mtime_seconds{{{LINK},file="/run/flower-metrics/training.prom"}}': "_x20 1200+60x40"},
        (8, 19),
        (3, 22, 50),
    ),
    # A machine that is down is another alert's.
    Case("FLMetricsStale", {f"up{{{LINK}}}": "0x60"}, quiet=(8, 40)),
    Case(
        "FLMachineMetricsStale",
        {f'node_textfile_mtime_seconds{{{NODE},name="n",instance="a",file="/m/node.prom"}}': "0+60x10 600x20 1800+60x30"},
        (20,),
        (5, 35),
    ),
    Case(
        "FLMachineMetricsStale",
        {
            f'up{{{NODE},name="n",instance="a"}}': "1x60",
            f'node_textfile_mtime_seconds{{{NODE},name="n",instance="a",file="/m/node.prom"}}': "_x20 1200+60x40",
            f'up{{{NODE},name="n",instance="b"}}': "1x60",
            f'node_textfile_mtime_seconds{{{NODE},name="n",instance="b",file="/m/node.prom"}}': "0+60x60",
        },
        (8, 19),
        (3, 22, 50),
    ),
    # A look each hour is often enough.
    Case("FLMachineMetricsStale", {f'node_textfile_mtime_seconds{{{LINK},file="/m/certificates.prom"}}': "0x59 3600x300 21660x60"}, (250, 350), (55, 200, 370)),
    Case("FLCertificateExpires", {f"fl_certificate_not_after_timestamp_seconds{{{LINK}}}": "605000x60 31536000x60"}, (30,), (2, 10, 80)),
    Case("FLDiskFull", {f"node_filesystem_avail_bytes{{{DISK}}}": "10000000000-20000000x400 9000000000x1000"}, (100,), (20, 900)),
    Case("FLDiskFull", {f"node_filesystem_avail_bytes{{{DISK}}}": "10000000000-1000x600"}, quiet=(100, 500)),
    Case("FLTargetsStale", {'prometheus_sd_file_mtime_seconds{filename="/var/lib/flower-targets/north.json"}': "0+60x10 600x20 1800+60x30"}, (25,), (15, 35)),
    Case("GPUMemoryExhaustion", {f"DCGM_FI_DEV_FB_FREE{{{GPU}}}": "5000x5 500x10 5000x20", f"DCGM_FI_DEV_FB_USED{{{GPU}}}": "9500x40"}, (9, 14), (3, 6, 20)),
    Case("GPUUtilizationDrop", {f"DCGM_FI_DEV_GPU_UTIL{{{GPU}}}": "90x5 0x20 90x20", f"DCGM_FI_DEV_FB_USED{{{GPU}}}": "9500x60"}, (17,), (3, 10, 30)),
    Case("GPUUtilizationDrop", {f"DCGM_FI_DEV_GPU_UTIL{{{GPU}}}": "0x60", f"DCGM_FI_DEV_FB_USED{{{GPU}}}": "10x60"}, quiet=(30,)),
    Case("GPUTemperatureCritical", {f"DCGM_FI_DEV_GPU_TEMP{{{GPU}}}": "60x5 95x10 60x20"}, (9,), (3, 6, 20)),
    # The last error stays for ever, and the alert does not.
    Case("GPUXIDError", {f"DCGM_FI_DEV_XID_ERRORS{{{GPU}}}": "0x20 79x100"}, (22, 28), (15, 40)),
    Case("GPUXIDError", {f"DCGM_FI_DEV_XID_ERRORS{{{GPU}}}": "0x60"}, quiet=(30,)),
]


def minutes(values: str) -> str:
    """Return values in Prometheus' notation, where 1x90 stands for one value 90 times, and nothing else repeats them."""
    return " ".join(f"{part.split('x')[0]}+0x{int(part.split('x')[1]) - 1}" if re.fullmatch(r"\d+x\d+", part) else part for part in values.split())


def firing(case: Case, at: int, directory: Path) -> list[str]:
    """Return the alerts that fire then; promtool says only what it did not expect."""
    wanted = {"eval_time": f"{at}m", "alertname": case.alert, "exp_alerts": []}
    series = [{"series": name, "values": minutes(values)} for name, values in case.series.items()]
    file = directory / "test.yml"
    tests = [{"interval": "1m", "input_series": series, "alert_rule_test": [wanted]}]
    file.write_text(yaml.safe_dump({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": tests}))
    done = subprocess.run(["promtool", "test", "rules", str(file)], capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    if done.returncode == 0:
        return []
    assert "exp:[" in said.replace(" ", "").replace("\n", ""), said
    return [said]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.alert)
def test_an_alert_fires_and_clears(case: Case, tmp_path: Path) -> None:
    assert [at for at in case.fires if not firing(case, at, tmp_path)] == []
    assert [(at, said) for at in case.quiet if (said := firing(case, at, tmp_path))] == []


def test_every_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not() -> None:
    assert {case.alert for case in CASES if case.fires} == set(ALERTS)
    assert {case.alert for case in CASES if case.quiet} == set(ALERTS)


def test_what_an_alert_says_names_the_machine_and_has_no_gaps(tmp_path: Path) -> None:
    for case in CASES:
        for at in case.fires[:1]:
            (said,) = firing(case, at, tmp_path)
            assert "no value" not in said
            assert "error expanding" not in said
