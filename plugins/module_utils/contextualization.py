# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of contextualization parameters, and everything that follows from it.

A parameter is one entry of ``PARAMETERS``. Validation at boot, the user inputs of templates and services, the CONTEXT
section, the variables of the roles, the run configuration of the Flower App and the reference page are derived.

The reference page and the limits and defaults of the Flower App are written from it.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_network
from typing import Any
from urllib.parse import urlsplit

from .addresses import read_interface
from .context_values import KINDS, Kind, Limits, is_loopback, split_address
from .flower import strategies
from .flower.frameworks import FRAMEWORKS, NO_USE_CASE, USE_CASES
from .flower.releases import DEFAULT_VERSION, RELEASES
from .pem import check_address, check_authority, check_certificates, check_pair, check_server
from .scalars import boolean
from .wireguard.peers import node_address, read_peer
from .wireguard.values import LAST_KEEPALIVE, LAST_PORT

SUPERLINK = "superlink"
SUPERNODE = "supernode"
EDGE = "edge"
SERVICE = "service"
ROLES = (SUPERLINK, SUPERNODE, EDGE)
LEVELS = (SERVICE, SUPERLINK, SUPERNODE)
INITIAL_RUN = "initial"

_NODES = (SUPERNODE, EDGE)
_LONGEST_SHOWN = 100
# Of Linux, for TCP_KEEPIDLE and TCP_KEEPINTVL.
_LONGEST_KEEPALIVE = 32767
_PORTS = Limits(minimum=1, maximum=LAST_PORT)
# The ports of Flower, the files of runs, what apps ask for and the metrics behind the gateway.
_TAKEN_PORTS = (8405, 8406, 18000, 18001, 18002)
_OF_GENERATED = ("FL_CERT_EXTRA_SAN", "FL_CERT_DAYS", "FL_CA_DAYS", "FL_CERT_RENEWAL", "FL_CA_NUMBER", "FL_CA_ALSO_TRUSTED")
_OURS = re.compile(r"(ONEAPP_)?((FL|FLOWER|ML)_[A-Z0-9_]+)")


# How whoever gives a parameter calls it: ONEAPP_FL_NUM_ROUNDS in a context, flower_num_rounds in a playbook.
Name = Callable[[str], str]


@dataclass(frozen=True)
class Parameter:
    """One contextualization parameter.

    ``default`` is the text that stands for the default in a context. ``applies`` names the roles it is for. ``level``
    says where a OneFlow service declares it as a user input: once for the ``service`` or for one role, None for nowhere.
    ``run_config`` is its key in the run configuration of the Flower App. ``only_with`` names another parameter and the
    values of it with which this one has an effect. ``sensitive`` values never appear in messages. ``platform`` parameters
    belong to OpenNebula's guest agent and have a fixed value.
    """

    name: str
    kind: str
    default: str
    applies: tuple[str, ...]
    help: str
    level: str | None = None
    run_config: str | None = None
    limits: Limits = Limits()
    only_with: tuple[str, tuple[str, ...]] | None = None
    since: str = "0.1.0"
    sensitive: bool = False
    platform: bool = False

    @property
    def context_name(self) -> str:
        """The name in the context of a VM."""
        return self.name if self.platform else f"ONEAPP_{self.name}"

    @property
    def variable(self) -> str:
        """The role variable, empty for platform parameters."""
        if self.platform:
            return ""
        name = self.name.lower()
        return f"flower_{name.removeprefix('fl_').removeprefix('flower_')}"

    @property
    def value_kind(self) -> Kind:
        """The kind of its values."""
        return KINDS[self.kind]

    @property
    def typed_default(self) -> Any:
        """The default as a typed value."""
        return self.parse(self.default)

    @property
    def user_input(self) -> str:
        """The declaration in OpenNebula's user input grammar: mandatory|type|help|options|default."""
        kind = "password" if self.sensitive else self.value_kind.user_input
        options = ",".join(self.limits.choices) if self.kind == "list" else ""
        return "|".join(("O", kind, self.help, options, self.default))

    def parse(self, text: str) -> Any:
        """Return the typed value of a text, the default for an empty one; ValueError when it is not valid."""
        text = text.strip() or self.default
        return self.value_kind.parse(text, self.limits) if text else self.value_kind.empty()

    def accept(self, given: Any) -> Any:
        """Return the typed value of one that a playbook gives, the default for none; ValueError when it is not valid.

        Text is parsed, since command lines give nothing else; a number stands for its text where text is wanted.
        """
        if given is None:
            return self.typed_default
        if self.kind == "boolean":
            return self.parse(_truth(str(given)))
        if isinstance(given, str):
            return self.parse(given)
        if isinstance(given, (int, float)) and not isinstance(given, bool) and self.value_kind.option_type == "str":
            return self.parse(str(given))
        return self.value_kind.accept(given, self.limits)

    def shown(self, given: Any) -> str:
        """Return a given value for messages; secrets and whole certificates are not repeated."""
        if self.sensitive or self.value_kind.user_input == "text64":
            return "the given value"
        return _quoted(given if isinstance(given, str) else str(given))


def _training(name: str, kind: str, default: str, run_config: str, meaning: str, **more: Any) -> Parameter:
    return Parameter(name, kind, default, (SUPERLINK,), meaning, level=SUPERLINK, run_config=run_config, **more)


def _of_strategies(name: str, kind: str, run_config: str, meaning: str, since: str = "0.1.0", **limits: Any) -> Parameter:
    """Return a parameter of strategies or of privacy, whose table says who takes it, and its default unless that differs by strategy."""
    default, names = strategies.common_default(run_config), tuple(strategies.taken_by(run_config))
    other = "FL_STRATEGY" if names[0] in strategies.STRATEGIES else "FL_DP_MODE"
    return _training(name, kind, "" if default is None else str(default), run_config, meaning, limits=Limits(**limits), only_with=(other, names), since=since)


def _of_every_vm(name: str, kind: str, default: str, meaning: str, **more: Any) -> Parameter:
    return Parameter(name, kind, default, (SERVICE, *ROLES), meaning, level=SERVICE, **more)


def _platform(name: str, value: str, meaning: str) -> Parameter:
    return Parameter(name, "text", value, ROLES, meaning, platform=True)


def _truth(text: str) -> str:
    """Return YES or NO for a word that Ansible takes for a truth value, any other text as it is."""
    try:
        return "YES" if boolean(text) else "NO"
    except ValueError:
        return text


def _quoted(text: str) -> str:
    """Return a text in quotes, on one line however it is made, and no more of it than people read."""
    shown = text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."
    return f"'{shown}'" if shown.isprintable() else ascii(shown)


PARAMETERS: tuple[Parameter, ...] = (
    Parameter(
        "FLOWER_VERSION",
        "version",
        DEFAULT_VERSION,
        (SERVICE, *ROLES),
        "Flower release, the same on both sides",
        level=SERVICE,
        limits=Limits(choices=tuple(RELEASES)),
    ),
    Parameter(
        "FL_NUM_ROUNDS",
        "number",
        "3",
        (SUPERLINK,),
        "Number of training rounds",
        level=SUPERLINK,
        run_config="num-server-rounds",
        limits=Limits(minimum=1),
    ),
    Parameter(
        "FL_STRATEGY",
        "list",
        "FedAvg",
        (SUPERLINK,),
        "Aggregation strategy",
        level=SUPERLINK,
        run_config="strategy",
        limits=Limits(choices=tuple(strategies.STRATEGIES)),
    ),
    Parameter(
        "FL_MIN_FIT_CLIENTS",
        "number",
        "2",
        (SUPERLINK,),
        "Minimum number of nodes that train in a round",
        level=SUPERLINK,
        run_config="min-fit-clients",
        limits=Limits(minimum=1),
    ),
    Parameter(
        "FL_MIN_EVALUATE_CLIENTS",
        "number",
        "2",
        (SUPERLINK,),
        "Minimum number of nodes that evaluate in a round",
        level=SUPERLINK,
        run_config="min-evaluate-clients",
        limits=Limits(minimum=1),
    ),
    Parameter(
        "FL_MIN_AVAILABLE_CLIENTS",
        "number",
        "2",
        (SUPERLINK,),
        "Minimum number of connected nodes to start a round",
        level=SUPERLINK,
        run_config="min-available-clients",
        limits=Limits(minimum=1),
    ),
    Parameter(
        "FL_FLEET_API_ADDRESS",
        "address",
        "0.0.0.0:9092",
        (SUPERLINK,),
        "Address the nodes connect to",
        level=SUPERLINK,
    ),
    Parameter(
        "FL_CONTROL_API_ADDRESS",
        "address",
        "127.0.0.1:9093",
        (SUPERLINK,),
        "Address operators connect to, who can run code in the federation; beyond loopback with certificates of their own",
        level=SUPERLINK,
    ),
    Parameter(
        "FL_ISOLATION",
        "list",
        "subprocess",
        (SERVICE, *ROLES),
        "How Flower separates the app from itself",
        level=SERVICE,
        limits=Limits(choices=("subprocess", "process")),
    ),
    Parameter(
        "FL_DATABASE",
        "state_file",
        "state/state.db",
        (SUPERLINK,),
        "State database, relative to the working directory of the SuperLink",
        level=SUPERLINK,
    ),
    Parameter(
        "FL_LOG_LEVEL",
        "list",
        "INFO",
        (SERVICE, *ROLES),
        "Verbosity of Flower; a SuperNode logs at least INFO",
        level=SERVICE,
        limits=Limits(choices=("DEBUG", "INFO", "WARNING", "ERROR")),
    ),
    # Not an input of a service: inside one, the nodes find their SuperLink through OneGate.
    Parameter("FL_SUPERLINK_ADDRESS", "remote_address", "", _NODES, "Fleet address of the SuperLink, empty to discover it"),
    Parameter(
        "FL_NODE_CONFIG",
        "node_config",
        "",
        _NODES,
        "Settings of a node for the app, as space separated key=value pairs",
        level=SUPERNODE,
    ),
    Parameter(
        "FL_MAX_RETRIES",
        "number",
        "0",
        _NODES,
        "Attempts to reconnect before a node gives up, 0 for no limit",
        level=SUPERNODE,
        limits=Limits(minimum=0),
    ),
    Parameter(
        "FL_MAX_WAIT_TIME",
        "number",
        "0",
        _NODES,
        "Seconds to wait for a connection before a node gives up, 0 for no limit",
        level=SUPERNODE,
        limits=Limits(minimum=0),
    ),
    _platform("TOKEN", "YES", "OneGate token for the VM"),
    _platform("NETWORK", "YES", "Network configuration by the guest agent"),
    _platform("REPORT_READY", "YES", "The guest agent reports READY"),
    _platform("READY_SCRIPT_PATH", "/opt/flower/bin/health-check", "Check that has to pass before READY is reported"),
    _platform("SSH_PUBLIC_KEY", "$USER[SSH_PUBLIC_KEY]", "Key of the operator"),
    _platform("START_SCRIPT_BASE64", "", "Script of the operator, run by the guest agent; the appliances need none"),
    Parameter(
        "FL_TLS_ENABLED",
        "boolean",
        "YES",
        (SERVICE, *ROLES),
        "Encrypt the connections of the nodes",
        level=SERVICE,
    ),
    Parameter(
        "FL_SSL_CA_CERTFILE",
        "certificate",
        "",
        (SERVICE, *ROLES),
        "CA certificate; leave empty to have the SuperLink generate one",
        level=SERVICE,
    ),
    Parameter(
        "FL_SSL_CERTFILE",
        "certificate",
        "",
        (SUPERLINK,),
        "Own server certificate, with intermediates after it",
        level=SUPERLINK,
    ),
    Parameter(
        "FL_SSL_KEYFILE",
        "private_key",
        "",
        (SUPERLINK,),
        "Private key of the own server certificate",
        level=SUPERLINK,
        sensitive=True,
    ),
    Parameter(
        "ML_FRAMEWORK",
        "list",
        "sklearn",
        _NODES,
        "Machine learning framework of the nodes",
        level=SUPERNODE,
        limits=Limits(choices=tuple(FRAMEWORKS)),
    ),
    # Whoever submits the run ships the app, which is the SuperLink; the nodes only check that it runs on their framework.
    Parameter(
        "FL_USE_CASE",
        "list",
        NO_USE_CASE,
        (SERVICE, *ROLES),
        "Use case to train automatically once enough nodes have joined",
        level=SERVICE,
        run_config="use-case",
        limits=Limits(choices=tuple(USE_CASES)),
    ),
    _of_strategies(
        "FL_PROXIMAL_MU",
        "float",
        "proximal-mu",
        "Weight of the proximal term, which keeps local models close to the global one",
        minimum=0,
    ),
    _of_strategies(
        "FL_SERVER_LR",
        "float",
        "server-lr",
        "Learning rate of the server, empty for 1.0 with FedAvgM, 0.01 with FedYogi, else 0.1",
        above=0,
    ),
    _of_strategies(
        "FL_CLIENT_LR",
        "float",
        "client-lr",
        "Learning rate of the nodes, empty for the use case's own; with QFedAvg the rate that the aggregation assumes, empty for 0.1",
        above=0,
    ),
    _of_strategies(
        "FL_NUM_MALICIOUS",
        "number",
        "num-malicious",
        "Number of malicious nodes to tolerate",
        minimum=0,
    ),
    _of_strategies(
        "FL_TRIM_BETA",
        "float",
        "trim-beta",
        "Share of values trimmed at each end",
        minimum=0.001,
        below=0.5,
    ),
    Parameter(
        "FL_CHECKPOINT_ENABLED",
        "boolean",
        "NO",
        (SUPERLINK,),
        "Keep checkpoints, and go on from the newest one after a failure",
        level=SUPERLINK,
        run_config="checkpoint-enabled",
    ),
    Parameter(
        "FL_CHECKPOINT_INTERVAL",
        "number",
        "5",
        (SUPERLINK,),
        "Rounds between checkpoints, and so the most rounds that a failure costs",
        level=SUPERLINK,
        run_config="checkpoint-interval",
        limits=Limits(minimum=1),
    ),
    Parameter(
        "FL_CHECKPOINT_PATH",
        "own_directory",
        "/app/checkpoints",
        (SUPERLINK,),
        "Directory of the checkpoints as the app sees it; on the VM it is /opt/flower/checkpoints",
        level=SUPERLINK,
        run_config="checkpoint-path",
    ),
    Parameter(
        "FL_GPU_ENABLED",
        "boolean",
        "NO",
        (SUPERNODE,),
        "Train on the GPU of the VM, or on its CPU if it has none that works",
        level=SUPERNODE,
    ),
    Parameter(
        "FL_CUDA_VISIBLE_DEVICES",
        "gpus",
        "all",
        (SUPERNODE,),
        "GPUs that the app sees, by number or UUID with commas between",
        level=SUPERNODE,
    ),
    Parameter(
        "FL_GPU_MEMORY_FRACTION",
        "float",
        "0.8",
        (SUPERNODE,),
        "Share of the GPU memory for PyTorch",
        level=SUPERNODE,
        limits=Limits(above=0, maximum=1),
    ),
    # Of the gateway's TCP connections: Flower sets no keepalive and offers no way to. Only one is an input, because OpenNebula 6.10 would replace
    # the name of the first inside that of the second.
    Parameter(
        "FL_GRPC_KEEPALIVE_TIME",
        "number",
        "60",
        (SUPERLINK,),
        "Seconds after which the SuperLink probes a silent connection",
        level=SUPERLINK,
        limits=Limits(minimum=1, maximum=_LONGEST_KEEPALIVE),
    ),
    Parameter(
        "FL_GRPC_KEEPALIVE_TIMEOUT",
        "number",
        "20",
        (SUPERLINK,),
        "Seconds without an answer to probes after which the SuperLink closes a connection",
        limits=Limits(minimum=1, maximum=_LONGEST_KEEPALIVE),
    ),
    Parameter(
        "FL_CERT_EXTRA_SAN",
        "alternative_names",
        "",
        (SUPERLINK,),
        "Additional subject alternative names for the generated certificate, as IP:address or DNS:name with commas between",
        level=SUPERLINK,
    ),
    _of_every_vm("FL_LOG_FORMAT", "list", "text", "Log format of Flower and of the services around it", limits=Limits(choices=("text", "json"))),
    _of_every_vm("FL_METRICS_ENABLED", "boolean", "NO", "Offer metrics to Prometheus"),
    _of_every_vm("FL_METRICS_PORT", "number", "9101", "Port of the metrics", limits=Limits(minimum=1024, maximum=65535)),
    Parameter("FL_DCGM_ENABLED", "boolean", "NO", (SUPERNODE,), "Offer NVIDIA's metrics of the GPU among those of the node", level=SUPERNODE),
    # Inputs of the role supernode: OneFlow knows no other role for nodes, and only the appliance for the edge heeds them.
    Parameter(
        "FL_EDGE_BACKOFF",
        "list",
        "exponential",
        (EDGE,),
        "How the waits between attempts to find the SuperLink grow at the edge",
        level=SUPERNODE,
        limits=Limits(choices=("exponential", "fixed")),
    ),
    Parameter(
        "FL_EDGE_MAX_BACKOFF",
        "number",
        "300",
        (EDGE,),
        "Longest wait between these attempts, in seconds",
        level=SUPERNODE,
        limits=Limits(minimum=1, maximum=86400),
        only_with=("FL_EDGE_BACKOFF", ("exponential",)),
    ),
    Parameter(
        "FL_UPLINK_LIMIT",
        "rate",
        "",
        _NODES,
        "Upload limit towards the SuperLink, per second, such as 512kbit; empty for no limit",
        level=SUPERNODE,
        since="0.2.0",
    ),
    Parameter(
        "FL_ROUND_TIMEOUT",
        "number",
        "600",
        (SUPERLINK,),
        "Seconds to wait for the replies of a round",
        level=SUPERLINK,
        run_config="round-timeout",
        limits=Limits(minimum=1),
    ),
    Parameter(
        "FL_NODES_TIMEOUT",
        "number",
        "600",
        (SUPERLINK,),
        "Seconds to wait for enough nodes before a run fails",
        level=SUPERLINK,
        run_config="nodes-timeout",
        limits=Limits(minimum=1),
    ),
    Parameter(
        "FL_MAX_FAILED_ROUNDS",
        "number",
        "3",
        (SUPERLINK,),
        "Failed rounds in a row that end a run as failed; until then the round is tried again",
        level=SUPERLINK,
        run_config="max-failed-rounds",
        limits=Limits(minimum=1),
        since="0.2.0",
    ),
    Parameter(
        "FL_LOCAL_EPOCHS",
        "number",
        "0",
        (SUPERLINK,),
        "Passes over the data of a node in each round, 0 for the use case's own value",
        level=SUPERLINK,
        run_config="local-epochs",
        limits=Limits(minimum=0),
        since="0.2.0",
    ),
    Parameter(
        "FL_LOCAL_BATCH_SIZE",
        "number",
        "0",
        (SUPERLINK,),
        "Examples a node learns from at a time, 0 for the use case's own value",
        level=SUPERLINK,
        run_config="local-batch-size",
        limits=Limits(minimum=0),
        since="0.2.0",
    ),
    Parameter(
        "FL_LOCAL_LEARNING_RATE",
        "float",
        "0.0",
        (SUPERLINK,),
        "Learning rate on the nodes, 0 for the use case's own value",
        level=SUPERLINK,
        run_config="local-learning-rate",
        limits=Limits(minimum=0),
        since="0.2.0",
    ),
    _of_strategies(
        "FL_SERVER_MOMENTUM",
        "float",
        "server-momentum",
        "Share of the last step in the next one",
        minimum=0,
        below=1,
        since="0.2.0",
    ),
    _of_strategies(
        "FL_BETA_1",
        "float",
        "beta-1",
        "Decay of the mean of the updates",
        minimum=0,
        below=1,
        since="0.2.0",
    ),
    _of_strategies(
        "FL_BETA_2",
        "float",
        "beta-2",
        "Decay of the mean of the squared updates",
        minimum=0,
        below=1,
        since="0.2.0",
    ),
    _of_strategies(
        "FL_TAU",
        "float",
        "tau",
        "Floor of the adaptive step, the smaller the more adaptive",
        above=0,
        since="0.2.0",
    ),
    _of_strategies(
        "FL_NODES_TO_SELECT",
        "number",
        "nodes-to-select",
        "Number of nodes to average",
        minimum=1,
        since="0.2.0",
    ),
    _of_strategies(
        "FL_QFED_Q",
        "float",
        "qfed-q",
        "Weight of nodes with a high loss, 0 for equal weights",
        minimum=0,
        since="0.2.0",
    ),
    _training(
        "FL_FRACTION_FIT",
        "float",
        "1.0",
        "fraction-fit",
        "Share of the connected nodes that trains in a round",
        limits=Limits(above=0, maximum=1),
        since="0.2.0",
    ),
    _training(
        "FL_FRACTION_EVALUATE",
        "float",
        "1.0",
        "fraction-evaluate",
        "Share of the connected nodes that evaluates in a round",
        limits=Limits(above=0, maximum=1),
        since="0.2.0",
    ),
    _training(
        "FL_ROUND_COMPLETION",
        "float",
        "1.0",
        "round-completion",
        "Share of the nodes that take part whose replies complete a round; replies that come later are refused",
        limits=Limits(above=0, maximum=1),
        since="0.2.0",
    ),
    _training(
        "FL_REPLY_COMPRESSION",
        "list",
        "none",
        "reply-compression",
        "How what nodes trained travels to the SuperLink: as it is, or with 16 or 8 bits for each number",
        limits=Limits(choices=("none", "float16", "int8")),
        since="0.2.0",
    ),
    _training(
        "FL_DP_MODE",
        "list",
        strategies.NO_PRIVACY,
        "dp-mode",
        "Differential privacy around the strategy, with a clipping norm that is fixed or adapts",
        limits=Limits(choices=tuple(strategies.PRIVACY)),
        since="0.2.0",
    ),
    _of_strategies(
        "FL_DP_NOISE_MULTIPLIER",
        "float",
        "dp-noise-multiplier",
        "Noise multiplier, relative to the clipping norm",
        minimum=0,
        since="0.2.0",
    ),
    _of_strategies(
        "FL_DP_CLIPPING_NORM",
        "float",
        "dp-clipping-norm",
        "Clipping norm for a node's update, empty for 1.0 or, where it adapts, 0.1 at first",
        above=0,
        since="0.2.0",
    ),
    _of_strategies(
        "FL_DP_TARGET_QUANTILE",
        "float",
        "dp-target-quantile",
        "Share of the updates to leave unclipped",
        minimum=0,
        maximum=1,
        since="0.2.0",
    ),
    _of_strategies("FL_DP_CLIP_LR", "float", "dp-clip-lr", "How fast the clipping norm adapts", above=0, since="0.2.0"),
    _of_strategies(
        "FL_DP_COUNT_STDDEV",
        "float",
        "dp-count-stddev",
        "Noise on the number of clipped nodes, empty for a twentieth of the nodes, at least the noise multiplier",
        above=0,
        since="0.2.0",
    ),
    _training(
        "FL_PARTITION_ALPHA",
        "float",
        "0.0",
        "partition-alpha",
        "Evenness of the labels over the nodes in bundled data: the smaller, the more uneven; 0 for the same mix",
        limits=Limits(minimum=0),
        since="0.2.0",
    ),
    Parameter(
        "FL_APP_SOURCE",
        "app_source",
        "",
        (SUPERLINK,),
        "Flower App of your own that is trained instead of a use case",
        level=SUPERLINK,
        since="0.2.0",
    ),
    Parameter(
        "FL_APP_CONFIG",
        "node_config",
        "",
        (SUPERLINK,),
        "Run configuration of your own app, with keys that it declares",
        level=SUPERLINK,
        since="0.2.0",
    ),
    Parameter(
        "FL_APP_REQUESTS",
        "boolean",
        "NO",
        (SUPERLINK,),
        "Accept apps from whoever may update the VM or is in its service; an app is code that runs in the whole federation",
        level=SUPERLINK,
        since="0.2.0",
    ),
    Parameter(
        "FL_CHECKPOINT_KEEP",
        "number",
        "3",
        (SUPERLINK,),
        "Number of newest checkpoints to keep",
        level=SUPERLINK,
        run_config="checkpoint-keep",
        limits=Limits(minimum=1),
        since="0.2.0",
    ),
    Parameter(
        "FL_INITIAL_MODEL",
        "absolute_path",
        "",
        (SUPERLINK,),
        "Checkpoint or final model of another run to start with, a file as the app sees it",
        level=SUPERLINK,
        run_config="initial-model",
        since="0.2.0",
    ),
    Parameter(
        "FL_CHECKPOINT_DISK",
        "disk",
        "",
        (SUPERLINK,),
        "Second disk for the checkpoints, as /dev/NAME or LABEL=NAME; empty for the system disk",
        level=SUPERLINK,
        since="0.2.0",
    ),
    Parameter(
        "FL_CHECKPOINT_FORMAT_DISK",
        "boolean",
        "NO",
        (SUPERLINK,),
        "Make a file system on that disk if it is blank",
        level=SUPERLINK,
        since="0.2.0",
    ),
    Parameter(
        "FL_CHECKPOINT_NFS",
        "nfs_export",
        "",
        (SUPERLINK,),
        "NFS export for the checkpoints, as server:/path; empty for none",
        level=SUPERLINK,
        since="0.2.0",
    ),
    Parameter(
        "FL_S3_ENDPOINT",
        "url",
        "",
        (SUPERLINK,),
        "S3-compatible object storage that checkpoints are copied to; empty for none",
        level=SUPERLINK,
        since="0.2.0",
    ),
    Parameter(
        "FL_S3_BUCKET",
        "bucket",
        "",
        (SUPERLINK,),
        "Bucket of the object storage, which must exist",
        level=SUPERLINK,
        since="0.2.0",
    ),
    Parameter(
        "FL_S3_PREFIX",
        "object_prefix",
        "",
        (SUPERLINK,),
        "Prefix of the names of objects, its own for each SuperLink that shares the bucket",
        level=SUPERLINK,
        since="0.2.0",
    ),
    Parameter(
        "FL_S3_REGION",
        "region",
        "us-east-1",
        (SUPERLINK,),
        "Region of the object storage",
        level=SUPERLINK,
        since="0.2.0",
    ),
    Parameter(
        "FL_S3_ACCESS_KEY",
        "credential",
        "",
        (SUPERLINK,),
        "Access key of the object storage",
        level=SUPERLINK,
        since="0.2.0",
    ),
    Parameter(
        "FL_S3_SECRET_KEY",
        "credential",
        "",
        (SUPERLINK,),
        "Secret key of the object storage",
        level=SUPERLINK,
        sensitive=True,
        since="0.2.0",
    ),
    Parameter(
        "FL_S3_CA_CERTFILE",
        "certificate",
        "",
        (SUPERLINK,),
        "CA certificate of the object storage, empty for the public ones",
        level=SUPERLINK,
        since="0.2.0",
    ),
    Parameter(
        "FL_ARTIFACTS_DAYS",
        "number",
        "30",
        (SUPERLINK,),
        "Days after which the token for the files of a run is replaced by another one, 0 for never",
        level=SUPERLINK,
        since="0.2.0",
        limits=Limits(minimum=0, maximum=3650),
    ),
    Parameter(
        "FL_CERT_DAYS",
        "number",
        "365",
        (SUPERLINK,),
        "Days that a server certificate the SuperLink makes is valid; it is renewed when a third of them is left",
        level=SUPERLINK,
        limits=Limits(minimum=1, maximum=3650),
        since="0.2.0",
    ),
    Parameter(
        "FL_CA_DAYS",
        "number",
        "3650",
        (SUPERLINK,),
        "Days that a CA the SuperLink makes is valid",
        level=SUPERLINK,
        limits=Limits(minimum=2, maximum=36500),
        since="0.2.0",
    ),
    Parameter(
        "FL_CERT_RENEWAL",
        "number",
        "0",
        (SUPERLINK,),
        "Change this number to renew the generated server certificate now",
        level=SUPERLINK,
        limits=Limits(minimum=0, maximum=999999),
        since="0.2.0",
    ),
    Parameter(
        "FL_CA_NUMBER",
        "number",
        "1",
        (SUPERLINK,),
        "Number of the CA that signs; the SuperLink makes a CA that it does not have",
        level=SUPERLINK,
        limits=Limits(minimum=1, maximum=999999),
        since="0.2.0",
    ),
    Parameter(
        "FL_CA_ALSO_TRUSTED",
        "number",
        "0",
        (SUPERLINK,),
        "Number of a CA that the nodes trust beside the one that signs, 0 for none; while a CA is replaced",
        level=SUPERLINK,
        limits=Limits(minimum=0, maximum=999999),
        since="0.2.0",
    ),
    Parameter(
        "FL_CONTROL_CLIENT_CA",
        "certificate",
        "",
        (SUPERLINK,),
        "CA of the certificates that operators present to the Control API, needed where it listens beyond loopback",
        level=SUPERLINK,
        since="0.2.0",
    ),
    Parameter(
        "FL_CONTROL_WITHOUT_CLIENT_CERTIFICATES",
        "boolean",
        "NO",
        (SUPERLINK,),
        "Let everybody who reaches an address beyond loopback control the federation, without a certificate",
        level=SUPERLINK,
        since="0.2.0",
    ),
    Parameter(
        "FL_ADVERTISE_ADDRESS",
        "remote_address",
        "",
        (SUPERLINK,),
        "Fleet address that the nodes are told, such as a name in your own certificate; empty for the first address of the VM",
        level=SUPERLINK,
        since="0.2.0",
    ),
    Parameter(
        "FL_NODE_AUTH_ENABLED",
        "boolean",
        "YES",
        (SERVICE, *ROLES),
        "Let only SuperNodes join whose key is registered",
        level=SERVICE,
        since="0.2.0",
    ),
    Parameter(
        "FL_NODE_KEY_RENEWAL",
        "number",
        "0",
        _NODES,
        "Change this number to have a node replace its key",
        limits=Limits(minimum=0, maximum=999999),
        since="0.2.0",
    ),
    Parameter(
        "FL_NODE_KEYS",
        "node_keys",
        "",
        (SUPERLINK,),
        "Public keys of SuperNodes that may join besides those of the service",
        level=SUPERLINK,
        since="0.2.0",
    ),
    Parameter(
        "FL_LISTED_NODES_ONLY",
        "boolean",
        "NO",
        (SUPERLINK,),
        "Let no other SuperNodes join than those whose keys are given, whatever VMs of the service publish",
        level=SUPERLINK,
        since="0.2.0",
    ),
    _training("FL_IMAGE_SIZE", "number", "28", "image-size", "Width and height of the pictures in pixels", limits=Limits(minimum=4), since="0.2.0"),
    _training(
        "FL_IMAGE_CHANNELS",
        "number",
        "1",
        "image-channels",
        "Channels of the pictures, 1 for grey and 3 for colours",
        limits=Limits(choices=("1", "3")),
        since="0.2.0",
    ),
    _training(
        "FL_IMAGE_CLASSES",
        "text",
        "0,1,2,3,4,5,6,7,8,9",
        "image-classes",
        "Names of the classes of pictures, with commas between",
        since="0.2.0",
    ),
    _training(
        "FL_ANOMALY_QUANTILE",
        "float",
        "0.99",
        "anomaly-quantile",
        "Share of the readings trained on that counts as normal",
        limits=Limits(above=0, below=1),
        since="0.2.0",
    ),
    _training("FL_LLM_LORA_RANK", "number", "8", "llm-lora-rank", "Rank of the adapters", limits=Limits(minimum=1), since="0.2.0"),
    _training("FL_LLM_LORA_ALPHA", "number", "16", "llm-lora-alpha", "Scale of the adapters", limits=Limits(minimum=1), since="0.2.0"),
    _training(
        "FL_LLM_SEQUENCE_LENGTH",
        "number",
        "256",
        "llm-sequence-length",
        "Tokens in a piece of text",
        limits=Limits(minimum=8),
        since="0.2.0",
    ),
    _of_every_vm("FL_METRICS_FROM", "networks", "", "Networks that may read the metrics, with commas between; empty for this VM alone", since="0.2.0"),
    _of_every_vm("FL_METRICS_CERTFILE", "certificate", "", "Server certificate for the metrics, with intermediates after it; empty for no TLS", since="0.2.0"),
    _of_every_vm("FL_METRICS_KEYFILE", "private_key", "", "Private key of the certificate for the metrics", sensitive=True, since="0.2.0"),
    _of_every_vm(
        "FL_METRICS_AUTH",
        "basic_auth",
        "",
        "User and hash of the password that the metrics ask for, as htpasswd -nB writes them",
        sensitive=True,
        since="0.2.0",
    ),
    _of_every_vm("FL_HOST_FIREWALL_ENABLED", "boolean", "YES", "Close all ports except SSH and those that Flower uses", since="0.2.0"),
    _of_every_vm("FL_HOST_FIREWALL_SSH_FROM", "networks", "", "Networks that reach SSH, with commas between; empty for all", since="0.2.0"),
    _of_every_vm("FL_HOST_FIREWALL_OPEN", "ports", "", "More open ports, as 51820/udp, with commas between", since="0.2.0"),
    _of_every_vm(
        "FL_HOST_FIREWALL_OUTBOUND",
        "networks",
        "",
        "Networks that the VM and its containers may open connections to, those of OneGate, name servers and the SuperLink among them, with commas "
        "between; empty for all",
        since="0.2.0",
    ),
    # Flower cuts arrays into objects of 5 MiB.
    Parameter(
        "FL_GATEWAY_MAX_BODY",
        "number",
        "64",
        (SUPERLINK,),
        "Largest request of a node in MiB",
        level=SUPERLINK,
        limits=Limits(minimum=8, maximum=4096),
        since="0.2.0",
    ),
    Parameter(
        "FL_GATEWAY_MAX_CONNECTIONS",
        "number",
        "1000",
        (SUPERLINK,),
        "Most connections of nodes from one address",
        level=SUPERLINK,
        limits=Limits(minimum=10, maximum=100000),
        since="0.2.0",
    ),
    # No inputs of a service: site.yml works out the tunnels of all zones, and keeps them in the VM templates and in the contexts of the VMs.
    Parameter(
        "FL_TUNNEL_NETWORK",
        "network",
        "",
        ROLES,
        "Network of the tunnels that SuperNodes of other zones have to the SuperLink, the first address of which is the SuperLink's; empty for none",
        since="0.2.0",
    ),
    Parameter("FL_TUNNEL_PORT", "number", "51820", (SUPERLINK,), "UDP port that the SuperLink's end of the tunnels listens on", limits=_PORTS, since="0.2.0"),
    Parameter("FL_TUNNEL_PEERS", "tunnel_peers", "", (SUPERLINK,), "SuperNodes that have a tunnel to the SuperLink", since="0.2.0"),
    Parameter("FL_TUNNEL_SUPERLINK_PUBLIC_KEY", "tunnel_key", "", _NODES, "Public key of the SuperLink's end of the tunnel", since="0.2.0"),
    Parameter("FL_TUNNEL_ENDPOINT", "endpoint", "", _NODES, "Where the SuperLink's end of the tunnel is reached, by UDP", since="0.2.0"),
    Parameter(
        "FL_TUNNEL_KEEPALIVE",
        "number",
        "25",
        _NODES,
        "Seconds between two packets that keep the tunnel known to firewalls and NAT on its way, 0 for none",
        limits=Limits(minimum=0, maximum=LAST_KEEPALIVE),
        since="0.2.0",
    ),
    # While rotate.yml replaces the keys of tunnels, each end knows the next key of the other before it is used. The names of the numbers do not sound
    # like those of secrets, since rotate.yml has to read them.
    Parameter(
        "FL_TUNNEL_NUMBER",
        "number",
        "1",
        ROLES,
        "Number of the key of this end of the tunnels; an end makes a key that it does not have",
        limits=Limits(minimum=1, maximum=999999),
        since="0.2.0",
    ),
    Parameter(
        "FL_TUNNEL_NEXT_NUMBER",
        "number",
        "0",
        ROLES,
        "Number of the key that this end of the tunnels gets next, and tells before, 0 for none; while keys are replaced",
        limits=Limits(minimum=0, maximum=999999),
        since="0.2.0",
    ),
    Parameter("FL_TUNNEL_NEXT_PEERS", "tunnel_peers", "", (SUPERLINK,), "SuperNodes with the keys that they get next; while keys are replaced", since="0.2.0"),
    Parameter(
        "FL_TUNNEL_SUPERLINK_NEXT_PUBLIC_KEY",
        "tunnel_key",
        "",
        _NODES,
        "Public key that the SuperLink's end of the tunnel gets next; while keys are replaced",
        since="0.2.0",
    ),
)

BY_NAME: Mapping[str, Parameter] = {parameter.name: parameter for parameter in PARAMETERS}
_OWN = tuple(parameter for parameter in PARAMETERS if not parameter.platform)
_BY_CONTEXT_NAME = {parameter.context_name: parameter for parameter in _OWN}
_BY_RUN_CONFIG = {parameter.run_config: parameter for parameter in _OWN if parameter.run_config}
_BY_VARIABLE = {parameter.variable: parameter for parameter in _OWN}


class ContextError(Exception):
    """Parameters are not valid; ``errors`` holds one sentence for each of them."""

    def __init__(self, errors: Iterable[str]) -> None:
        self.errors = list(errors)
        super().__init__("; ".join(self.errors))


@dataclass
class Checked:
    """A valid context: typed values by role variable, what was ignored and why, and what looks unwise."""

    values: dict[str, Any] = field(default_factory=dict)
    ignored: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def check(raw: Mapping[str, str], role: str) -> Checked:
    """Validate the context of a VM for a role (superlink, supernode, edge).

    ``raw`` maps names as in the context to texts; names that are not ours are left alone.
    Raises ContextError with every problem found, by the names of the context; ValueError for an unknown role.
    """
    _check_role(role)
    # Nodes are told the VM's first address.
    address = next((raw[name] for name in ("ETH0_IP", "ETH1_IP", "ETH2_IP", "ETH3_IP") if raw.get(name)), "")
    result = _check(_OWN, lambda p: raw.get(p.context_name, ""), Parameter.parse, role, _context_name, _unknown_names(raw), address)
    result.warnings += _open_onegate(raw.get("ONEGATE_ENDPOINT", "").strip())
    return result


def _open_onegate(endpoint: str) -> list[str]:
    """Return what looks unwise about the OneGate that the guest agent was told."""
    try:
        parts = urlsplit(endpoint)
        if parts.scheme != "http" or is_loopback(parts.hostname or ""):
            return []
    except ValueError:
        # Whoever asks it says so.
        return []
    return [f"ONEGATE_ENDPOINT is {_quoted(endpoint)}: the token of this VM and the CA that nodes trust travel unencrypted"]


def check_variables(given: Mapping[str, Any], role: str, address: str = "") -> Checked:
    """Validate the variables of a playbook for a role: typed values, or texts where only those can be given.

    Variables that are not ours, or are for the other roles alone, are left out. ``address`` is the one of a SuperLink that its nodes are
    told, as far as it is known. Raises ContextError with every problem found, by the names of the variables; ValueError for an unknown role.
    """
    _check_role(role)
    # The roles of a service share the variables of a playbook.
    parameters = [p for p in _OWN if role in p.applies or not {SUPERLINK, SUPERNODE} & set(p.applies)]
    return _check(parameters, lambda p: given.get(p.variable), Parameter.accept, role, _variable_name, [], address)


def _check(
    parameters: Iterable[Parameter],
    given: Callable[[Parameter], Any],
    read: Callable[[Parameter, Any], Any],
    role: str,
    name: Name,
    errors: list[str],
    address: str,
) -> Checked:
    """Validate what is given; ``read`` makes the typed value of it or raises ValueError."""
    result = Checked()
    for parameter in parameters:
        try:
            value = _value(parameter, given(parameter), read, name(parameter.name))
        except ValueError as problem:
            errors.append(str(problem))
            continue
        if role in parameter.applies:
            result.values[parameter.variable] = value
        elif value != parameter.typed_default and SERVICE not in parameter.applies:
            result.ignored.append(f"{name(parameter.name)} is ignored: it does not apply to a {role}")
    if not errors:
        result.ignored += _without_effect(result.values, name)
        errors = _check_together(result, role, name, address)
    if errors:
        raise ContextError(errors)
    return result


def _check_role(role: str) -> None:
    if role not in ROLES:
        raise ValueError(f"there is no role '{role}', expected one of: {', '.join(ROLES)}")


def validate(raw: Mapping[str, str], role: str) -> dict[str, Any]:
    """Return the typed values by role variable of a context; raises as ``check`` does."""
    return check(raw, role).values


def check_topology(values: Mapping[str, Any], supernodes: int) -> None:
    """Raise ContextError when a training would wait for more nodes than there are; values are those of a playbook."""
    needed = values.get("flower_min_available_clients", BY_NAME["FL_MIN_AVAILABLE_CLIENTS"].typed_default)
    if needed > supernodes:
        raise ContextError([f"minimum clients above the number of nodes: flower_min_available_clients is {needed}, but there are only {supernodes} SuperNodes"])


def user_inputs(level: str) -> dict[str, str]:
    """Return the user inputs a OneFlow service declares at a level: service, superlink or supernode."""
    if level not in LEVELS:
        raise ValueError(f"there is no level '{level}', expected one of: {', '.join(LEVELS)}")
    return {p.context_name: p.user_input for p in _OWN if p.level == level}


def context_section(role: str) -> dict[str, str]:
    """Return the CONTEXT section of a role: fixed platform parameters and references to the user inputs."""
    platform = {p.context_name: p.default for p in PARAMETERS if p.platform and p.default}
    return platform | {p.context_name: f"${p.context_name}" for p in _for_role(role)}


def context_values(variables: Mapping[str, Any], level: str | None = None) -> dict[str, str]:
    """Return role variables as the texts a context holds, by context name; other variables are left out.

    ``level`` keeps only the parameters a service declares at that level.
    """
    parameters = [p for p in _OWN if p.variable in variables and level in (None, p.level)]
    return {p.context_name: _render(p, variables[p.variable]) for p in parameters}


def run_config(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the run configuration of the Flower App for the values of a SuperLink.

    Defaults that have no effect are left out, and so is what is left to the app; a given value stays for runs that ask for
    another strategy.
    """
    config = {
        key: values[p.variable]
        for key, p in _BY_RUN_CONFIG.items()
        if values.get(p.variable) is not None and (_heeded(p, values) or values[p.variable] != p.typed_default)
    }
    if config.get("use-case") == NO_USE_CASE:
        del config["use-case"]
    return config


def training(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a SuperLink trains, from its checked values, defaults included: its ``initial_run``, None for none, and the ``run_config`` of requests."""
    return {"initial_run": initial_run(values), "run_config": run_config(values)}


def initial_run(values: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the run a SuperLink starts by itself, None when neither a use case nor an own app is selected.

    It has a name, a configuration, and the source of the own app or an empty text.
    """
    if values.get("flower_app_source"):
        return {"name": INITIAL_RUN, "config": {}, "app": values["flower_app_source"]}
    config = run_config(values)
    return {"name": INITIAL_RUN, "config": config, "app": ""} if "use-case" in config else None


def run_overrides(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what an operator asks for a run as run configuration.

    Keys are keys of the run configuration or role variables; empty values are left out. Raises ContextError with every problem found.
    """
    errors: list[str] = []
    result: dict[str, Any] = {}
    for key, given in config.items():
        parameter = _BY_RUN_CONFIG.get(key) or _BY_VARIABLE.get(key)
        if parameter is None or not parameter.run_config:
            errors.append(f"'{key}' is not part of the run configuration, expected one of: {', '.join(_BY_RUN_CONFIG)}")
        elif parameter.run_config in result:
            errors.append(f"'{key}' is given twice, also as '{parameter.run_config}'")
        elif given is not None and str(given).strip():
            try:
                result[parameter.run_config] = _value(parameter, given, Parameter.accept, key)
            except ValueError as problem:
                errors.append(str(problem))
    if result.get("use-case") == NO_USE_CASE:
        errors.append(f"use-case: '{NO_USE_CASE}' is not valid, expected a use case to train")
    if not errors:
        errors = list(strategies.errors(result))
    if errors:
        raise ContextError(errors)
    return result


def role_defaults(role: str) -> dict[str, Any]:
    """Return the typed defaults of a role by variable."""
    return {p.variable: p.typed_default for p in _for_role(role)}


def role_argument_options(role: str) -> dict[str, dict[str, Any]]:
    """Return the options of a role's argument specification by variable."""
    options: dict[str, dict[str, Any]] = {}
    for parameter in _for_role(role):
        option = {"type": parameter.value_kind.option_type, "default": parameter.typed_default}
        if parameter.kind == "list":
            option["choices"] = list(parameter.limits.choices)
        if parameter.sensitive:
            option["no_log"] = True
        options[parameter.variable] = option | {"description": parameter.help}
    return options


def reference_table() -> str:
    """Return all parameters as a table in Markdown."""
    head = "| Name in the context | Role variable | Values | Default | Applies to | Input of | Since | Meaning |"
    lines = [head, "|" + " --- |" * 8]
    for p in PARAMETERS:
        values = p.value_kind.expected(p.limits) if not p.platform else "fixed"
        cells = (
            f"`{p.context_name}`",
            f"`{p.variable}`" if p.variable else "",
            values,
            f"`{p.default}`" if p.default else "",
            ", ".join(role for role in p.applies if role != SERVICE),
            p.level or "",
            p.since,
            p.help + (f" (with {_context_name(p.only_with[0])} {', '.join(p.only_with[1])})" if p.only_with else ""),
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def reference_page() -> str:
    """Return the reference page, docs/parameters.md."""
    return (
        "<!-- Copyright (c) 2026, opennebula.flower contributors -->\n"
        "<!-- SPDX-License-Identifier: Apache-2.0 -->\n"
        "<!-- Generated from plugins/module_utils/contextualization.py; do not edit. -->\n\n"
        "# Contextualization parameters\n\n"
        "Set them in the context of a VM or as inputs of a service; an empty value means the default. A VM with a value that\n"
        "is not valid does not start Flower and says why in `/var/log/one-appliance/flower-boot.log`. In a playbook, and for\n"
        "the roles over SSH, the role variables mean the same; their values may be typed.\n\n" + reference_table()
    )


def _for_role(role: str) -> list[Parameter]:
    _check_role(role)
    return [p for p in _OWN if role in p.applies]


def _value(parameter: Parameter, given: Any, read: Callable[[Parameter, Any], Any], name: str) -> Any:
    """Return the typed value; ValueError with a sentence that names the parameter, the value and what is expected."""
    given = given.strip() if isinstance(given, str) else given
    try:
        return read(parameter, given)
    except ValueError:
        expected = parameter.value_kind.expected(parameter.limits)
        raise ValueError(f"{name}: {parameter.shown(given)} is not valid, expected {expected}") from None


def _render(parameter: Parameter, value: Any) -> str:
    return "" if value is None else parameter.value_kind.render(value).strip()


def _unknown_names(raw: Mapping[str, str]) -> list[str]:
    errors = []
    for name in sorted(raw):
        match = _OURS.fullmatch(name)
        if not match or name in _BY_CONTEXT_NAME or not raw[name].strip():
            continue
        close = difflib.get_close_matches(f"ONEAPP_{match.group(2)}", _BY_CONTEXT_NAME, n=1)
        hint = f", expected perhaps {close[0]}" if close else ", see the list of parameters"
        shown = name if len(name) <= _LONGEST_SHOWN else f"{name[:_LONGEST_SHOWN]}..."
        errors.append(f"{shown}: there is no such parameter{hint}")
    return errors


def _heeded(parameter: Parameter, values: Mapping[str, Any]) -> bool:
    """Say whether a parameter has an effect beside the others."""
    if not parameter.only_with:
        return True
    other, effective = parameter.only_with
    return values.get(BY_NAME[other].variable, effective[0]) in effective


def _without_effect(values: Mapping[str, Any], name: Name) -> list[str]:
    return [
        f"{name(p.name)} is ignored: {name(p.only_with[0])} is {values[BY_NAME[p.only_with[0]].variable]}"
        for p in _OWN
        if p.variable in values and not _heeded(p, values) and values[p.variable] != p.typed_default
    ]


def _context_name(name: str) -> str:
    return BY_NAME[name].context_name


def _variable_name(name: str) -> str:
    return BY_NAME[name].variable


def _check_together(result: Checked, role: str, name: Name, address: str) -> list[str]:
    values = result.values
    if role != SUPERLINK:
        certificate = values["flower_ssl_ca_certfile"]
        result.ignored += _ignored_dcgm(values, name)
        errors = _check_authority("FL_SSL_CA_CERTFILE", certificate, name) if certificate else []
        errors += _check_tunnel(values, name)
        return [*errors, *_check_framework(values, name), *_check_metrics(result, name), *_check_firewall(result, name)]
    config = {key: values[parameter.variable] for key, parameter in _BY_RUN_CONFIG.items() if parameter.variable in values}
    result.warnings += strategies.warnings(config, lambda key: name(_BY_RUN_CONFIG[key].name))
    return [
        *strategies.errors(config, lambda key: name(_BY_RUN_CONFIG[key].name)),
        *_check_ports(values, name),
        *_check_keepalive(values, name),
        *_check_tls(result, name, address),
        *_check_node_keys(result, name),
        *_check_control(result, name),
        *_check_app(result, name),
        *_check_storage(result, name),
        *_check_metrics(result, name),
        *_check_firewall(result, name),
        *_check_tunnels(result, name),
    ]


def _check_app(result: Checked, name: Name) -> list[str]:
    values = result.values
    if not values["flower_app_source"]:
        if values["flower_app_config"]:
            result.ignored.append(f"{name('FL_APP_CONFIG')} is ignored: no app of your own is given in {name('FL_APP_SOURCE')}")
        return []
    if values["flower_use_case"] != NO_USE_CASE:
        return [
            f"{name('FL_USE_CASE')}: '{values['flower_use_case']}' is not valid, expected '{NO_USE_CASE}' because an app of "
            f"your own is given in {name('FL_APP_SOURCE')}"
        ]
    return []


def _check_framework(values: Mapping[str, Any], name: Name) -> list[str]:
    use_case, framework = values.get("flower_use_case", NO_USE_CASE), values.get("flower_ml_framework", "")
    if not framework or framework in USE_CASES[use_case]:
        return []
    return [
        f"{name('ML_FRAMEWORK')}: '{framework}' is not valid, expected one of: {', '.join(USE_CASES[use_case])}, because {name('FL_USE_CASE')} is '{use_case}'"
    ]


def _check_ports(values: Mapping[str, Any], name: Name) -> list[str]:
    fleet, control = values["flower_fleet_api_address"], values["flower_control_api_address"]
    metrics = values["flower_metrics_port"]
    used = {*_TAKEN_PORTS, split_address(fleet)[1], split_address(control)[1]}
    if values["flower_metrics_enabled"] and metrics in used:
        ports = ", ".join(map(str, sorted(used)))
        return [f"{name('FL_METRICS_PORT')}: '{metrics}' is not valid, expected another port than {ports}, which the SuperLink's VM uses itself"]
    taken = [
        f"{name(key)}: '{address}' is not valid, expected another port than {', '.join(map(str, _TAKEN_PORTS))}, which the SuperLink's VM uses itself"
        for key, address in (("FL_FLEET_API_ADDRESS", fleet), ("FL_CONTROL_API_ADDRESS", control))
        if split_address(address)[1] in _TAKEN_PORTS
    ]
    if taken:
        return taken
    if split_address(fleet)[1] != split_address(control)[1]:
        return []
    return [f"{name('FL_CONTROL_API_ADDRESS')}: '{control}' is not valid, expected another port than {name('FL_FLEET_API_ADDRESS')}, which is '{fleet}'"]


def _check_keepalive(values: Mapping[str, Any], name: Name) -> list[str]:
    time, timeout = values["flower_grpc_keepalive_time"], values["flower_grpc_keepalive_timeout"]
    if timeout < time:
        return []
    return [f"{name('FL_GRPC_KEEPALIVE_TIMEOUT')}: '{timeout}' is not valid, expected less than {name('FL_GRPC_KEEPALIVE_TIME')}, which is '{time}'"]


def _check_tls(result: Checked, name: Name, address: str) -> list[str]:
    values = result.values
    triple = [BY_NAME[name] for name in ("FL_SSL_CA_CERTFILE", "FL_SSL_CERTFILE", "FL_SSL_KEYFILE")]
    given = [parameter for parameter in triple if values[parameter.variable]]
    off = f"{name('FL_TLS_ENABLED')} is NO"
    if given or not values["flower_tls_enabled"]:
        why = "own certificates are given" if given else off
        generated = [BY_NAME[key] for key in _OF_GENERATED]
        result.ignored += [f"{name(p.name)} is ignored: {why}" for p in generated if values[p.variable] != p.typed_default]
    if not values["flower_tls_enabled"]:
        result.warnings.append(f"{off}: the connections of the nodes are not encrypted")
        result.ignored += [f"{name(p.name)} is ignored: {off}" for p in given]
        return []
    if not given:
        if values["flower_ca_also_trusted"] != values["flower_ca_number"]:
            return []
        also = values["flower_ca_also_trusted"]
        return [f"{name('FL_CA_ALSO_TRUSTED')}: '{also}' is not valid, expected another number than {name('FL_CA_NUMBER')}, or 0 for none"]
    if len(given) < len(triple):
        present = ", ".join(name(p.name) for p in given)
        return [f"{name(parameter.name)}: nothing was given, expected a value because {present} was given" for parameter in triple if parameter not in given]
    problems = check_server(*(values[p.variable] for p in triple))
    errors = [f"{name(problem.parameter)}: the given value {problem.text}" for problem in problems]
    advertised = values["flower_advertise_address"]
    address = split_address(advertised)[0] if advertised else address
    if address and not any(problem.parameter == "FL_SSL_CERTFILE" for problem in problems):
        wrong = check_address(values["flower_ssl_certfile"], address)
        errors += [f"{name('FL_SSL_CERTFILE')}: the given value {wrong}, or another address in {name('FL_ADVERTISE_ADDRESS')}"] if wrong else []
    return errors


def _check_node_keys(result: Checked, name: Name) -> list[str]:
    """Check who may join."""
    values = result.values
    off = f"{name('FL_NODE_AUTH_ENABLED')} is NO"
    if not values["flower_node_auth_enabled"]:
        result.warnings.append(f"{off}: whoever reaches the Fleet API can join")
        given = [parameter for parameter in ("FL_NODE_KEYS", "FL_LISTED_NODES_ONLY") if values[BY_NAME[parameter].variable]]
        result.ignored += [f"{name(parameter)} is ignored: {off}" for parameter in given]
    elif values["flower_listed_nodes_only"] and not values["flower_node_keys"]:
        return [f"{name('FL_NODE_KEYS')}: nothing was given, expected the key of a SuperNode because {name('FL_LISTED_NODES_ONLY')} is YES"]
    return []


def _check_control(result: Checked, name: Name) -> list[str]:
    """Check who may control the federation."""
    values = result.values
    address, authority = values["flower_control_api_address"], values["flower_control_client_ca"]
    anybody, tls = name("FL_CONTROL_WITHOUT_CLIENT_CERTIFICATES"), values["flower_tls_enabled"]
    errors = [f"{name('FL_CONTROL_CLIENT_CA')}: the given value {problem}" for problem in (check_authority(authority) if authority else [])]
    if authority and not tls:
        errors.append(f"{name('FL_CONTROL_CLIENT_CA')}: a CA was given, expected none because {name('FL_TLS_ENABLED')} is NO")
    if values["flower_control_without_client_certificates"]:
        if authority:
            errors.append(f"{anybody}: YES is not valid, expected NO because a CA is given in {name('FL_CONTROL_CLIENT_CA')}")
        elif not is_loopback(split_address(address)[0]):
            result.warnings.append(f"{anybody} is YES: whoever reaches {address} can run code in the federation")
    elif not authority and not is_loopback(split_address(address)[0]):
        errors.append(
            f"{name('FL_CONTROL_API_ADDRESS')}: '{address}' is not valid, expected a loopback address, the CA of the operators' certificates in "
            f"{name('FL_CONTROL_CLIENT_CA')}, or YES in {anybody}"
        )
    return errors


def _check_storage(result: Checked, name: Name) -> list[str]:
    """Check where checkpoints go."""
    values = result.values
    disk, export = values["flower_checkpoint_disk"], values["flower_checkpoint_nfs"]
    errors = []
    if disk and export:
        errors.append(f"{name('FL_CHECKPOINT_NFS')}: '{export}' is not valid, expected nothing because {name('FL_CHECKPOINT_DISK')} is '{disk}'")
    if values["flower_checkpoint_format_disk"] and not disk:
        result.ignored.append(f"{name('FL_CHECKPOINT_FORMAT_DISK')} is ignored: {name('FL_CHECKPOINT_DISK')} is empty")
    needed = [BY_NAME[name] for name in ("FL_S3_ENDPOINT", "FL_S3_BUCKET", "FL_S3_ACCESS_KEY", "FL_S3_SECRET_KEY")]
    given = [name(parameter.name) for parameter in needed if values[parameter.variable]]
    if given:
        errors += [
            f"{name(parameter.name)}: nothing was given, expected a value because {', '.join(given)} was given"
            for parameter in needed
            if not values[parameter.variable]
        ]
    if values["flower_s3_endpoint"].startswith("http://"):
        result.warnings.append(f"{name('FL_S3_ENDPOINT')} begins with http: the copies of the checkpoints are not encrypted on their way")
    authority = values["flower_s3_ca_certfile"]
    unusable = check_certificates(authority) if authority else []
    return errors + [f"{name('FL_S3_CA_CERTFILE')}: the given value {problem}" for problem in unusable]


def _check_metrics(result: Checked, name: Name) -> list[str]:
    """Check who may read the metrics, and how."""
    values = result.values
    certificate, key = values["flower_metrics_certfile"], values["flower_metrics_keyfile"]
    if not values["flower_metrics_enabled"]:
        given = [p for p in ("FL_METRICS_FROM", "FL_METRICS_CERTFILE", "FL_METRICS_KEYFILE", "FL_METRICS_AUTH") if values[BY_NAME[p].variable]]
        result.ignored += [f"{name(parameter)} is ignored: {name('FL_METRICS_ENABLED')} is NO" for parameter in given]
        return []
    if bool(certificate) != bool(key):
        given, missing = ("FL_METRICS_CERTFILE", "FL_METRICS_KEYFILE") if certificate else ("FL_METRICS_KEYFILE", "FL_METRICS_CERTFILE")
        return [f"{name(missing)}: nothing was given, expected a value because {name(given)} was given"]
    if certificate:
        problems = zip(("FL_METRICS_CERTFILE", "FL_METRICS_KEYFILE"), check_pair(certificate, key), strict=True)
        return [f"{name(parameter)}: the given value {problem}" for parameter, found in problems for problem in found]
    if values["flower_metrics_from"]:
        result.warnings.append(f"{name('FL_METRICS_CERTFILE')} is empty: the metrics are not encrypted on their way")
    return []


def _ignored_dcgm(values: Mapping[str, Any], name: Name) -> list[str]:
    """Return why there are no metrics of a GPU although they are wanted."""
    if not values.get("flower_dcgm_enabled"):
        return []
    return [
        f"{name('FL_DCGM_ENABLED')} is ignored: {name(needed)} is NO"
        for needed in ("FL_GPU_ENABLED", "FL_METRICS_ENABLED")
        if not values[BY_NAME[needed].variable]
    ]


def _check_firewall(result: Checked, name: Name) -> list[str]:
    """Check that the host firewall lets a SuperNode out to its SuperLink, as far as its address is known."""
    values = result.values
    if not values["flower_host_firewall_enabled"]:
        given = [p for p in ("FL_HOST_FIREWALL_SSH_FROM", "FL_HOST_FIREWALL_OPEN", "FL_HOST_FIREWALL_OUTBOUND") if values[BY_NAME[p].variable]]
        result.ignored += [f"{name(parameter)} is ignored: {name('FL_HOST_FIREWALL_ENABLED')} is NO" for parameter in given]
        return []
    networks, superlink = values["flower_host_firewall_outbound"], values.get("flower_superlink_address")
    if not (networks and superlink):
        return []
    try:
        host = read_interface(split_address(superlink)[0].partition("%")[0]).ip
    except ValueError:
        return []
    if any(host in ip_network(network) for network in networks):
        return []
    return [f"{name('FL_HOST_FIREWALL_OUTBOUND')}: {_quoted(','.join(networks))} is not valid, expected a network with the SuperLink {host} in it"]


def _check_tunnel(values: Mapping[str, Any], name: Name) -> list[str]:
    """Check that a SuperNode knows where the other end of its tunnel is, once it knows whose."""
    if not values["flower_tunnel_superlink_public_key"] or values["flower_tunnel_endpoint"]:
        return []
    key = name("FL_TUNNEL_SUPERLINK_PUBLIC_KEY")
    return [f"{name('FL_TUNNEL_ENDPOINT')}: nothing was given, expected host:port of the SuperLink's end because {key} was given"]


def _check_tunnels(result: Checked, name: Name) -> list[str]:
    """Check that the SuperNodes with a tunnel have addresses in the network of the tunnels."""
    values = result.values
    network = values["flower_tunnel_network"]
    errors = []
    for parameter in ("FL_TUNNEL_PEERS", "FL_TUNNEL_NEXT_PEERS"):
        peers = values[BY_NAME[parameter].variable]
        if not network:
            result.ignored += [f"{name(parameter)} is ignored: {name('FL_TUNNEL_NETWORK')} is empty"] if peers else []
            continue
        for line in peers:
            try:
                node_address(read_peer(line).address, ip_network(network))
            except ValueError as problem:
                errors.append(f"{name(parameter)}: {problem}")
    return errors


def _check_authority(parameter: str, pem: str, name: Name) -> list[str]:
    return [f"{name(parameter)}: the given value {problem}" for problem in check_authority(pem)]
