# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""VMs of OpenNebula zones as Ansible hosts."""

from __future__ import annotations

DOCUMENTATION = r"""
name: opennebula
short_description: VMs of OpenNebula zones as hosts
version_added: 0.1.0
author:
  - opennebula.flower contributors (@opennebula)
description:
  - Makes a host of every VM of one or several OpenNebula zones that is not C(DONE), with its address, variables
    and groups.
  - The source is a YAML file whose name ends in C(opennebula.yml) or C(opennebula.yaml).
  - A zone is listed with one call for each 2,000 VMs, whatever they contain.
extends_documentation_fragment:
  - ansible.builtin.constructed
  - ansible.builtin.inventory_cache
requirements:
  - urllib3 >= 1.26
options:
  plugin:
    description: The name of this plugin.
    type: str
    required: true
    choices: [opennebula.flower.opennebula]
  zones:
    description:
      - The zones to list. Without it, one zone that the options below describe.
      - An option that an entry does not have is the source's option of that name.
      - Values may be Jinja expressions, such as C({{ lookup('ansible.builtin.env', 'PASSWORD_OF_A') }}), and may be
        encrypted with Ansible Vault.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: What to call the zone, in its group and in messages. By default the host of its O(zones[].api_url).
        type: str
      api_url:
        description: See O(api_url).
        type: str
      api_username:
        description: See O(api_username).
        type: str
      api_password:
        description: See O(api_password).
        type: str
      auth_file:
        description: See O(auth_file). It goes before a user and password that the source has for all zones.
        type: path
      api_timeout:
        description: See O(api_timeout).
        type: float
      validate_certs:
        description: See O(validate_certs).
        type: bool
      ca_path:
        description: See O(ca_path).
        type: path
      oneflow_url:
        description: See O(oneflow_url).
        type: str
  api_url:
    description: The XML-RPC endpoint of the zone.
    type: str
    default: http://localhost:2633/RPC2
    env:
      - name: ONE_XMLRPC
  api_username:
    description: The OpenNebula user.
    type: str
    env:
      - name: ONE_USERNAME
  api_password:
    description: The password or a login token of the user, with any characters in it.
    type: str
    env:
      - name: ONE_PASSWORD
  auth_file:
    description:
      - File with the content C(USER:PASSWORD), read where neither O(api_username) nor O(api_password) is given.
      - By default C(~/.one/one_auth).
    type: path
    env:
      - name: ONE_AUTH
  api_timeout:
    description: Seconds after which a request to the endpoint ends with an error, whatever the server does meanwhile.
    type: float
    default: 30
  validate_certs:
    description: Whether the certificate of an HTTPS endpoint must be valid.
    type: bool
    default: true
  ca_path:
    description: File with the PEM certificates to trust instead of the system's.
    type: path
  oneflow_url:
    description:
      - The endpoint of OneFlow, which only O(lookup_names) asks.
      - By default port 2474 of the host of O(api_url).
    type: str
    env:
      - name: ONEFLOW_URL
  skip_unreachable:
    description:
      - Whether a zone that cannot be reached or does not answer in time is left out with a warning.
      - Otherwise it is an error, and the source has no hosts. A wrong password always is.
    type: bool
    default: false
  scope:
    description: Whose VMs to list, among those that the user may see.
    type: str
    default: all
    choices:
      all: Everybody's.
      own: The user's own.
      own_and_groups: The user's own and those of the user's groups.
  filters:
    description:
      - Which VMs become hosts. Each criterion that is given has to be met.
      - In patterns C(*) and C(?) stand for any characters; a pattern that begins with C(~) is a regular expression.
    type: dict
    default: {}
    suboptions:
      states:
        description:
          - VM or life-cycle states, one of which the VM is in, in any spelling, such as V(running), V(powered-off),
            V(pending) or V(boot_failure).
          - V(active) means every VM that has a host, running or on its way.
        type: list
        elements: str
      names:
        description: Patterns, one of which means the VM's name.
        type: list
        elements: str
      labels:
        description: Patterns, each of which means a label of the VM.
        type: list
        elements: str
      attributes:
        description: Patterns for the values of attributes that O(user_template) keeps, by attribute, all of which
          the VM has.
        type: dict
  address:
    description:
      - Rules for the address that becomes C(ansible_host). The first rule that finds an address wins. A VM without
        one has no C(ansible_host).
      - By default the first NIC with an address, IPv4 before IPv6.
    type: list
    elements: dict
    default: [{}]
    suboptions:
      network:
        description: Pattern for the name of the NIC's virtual network.
        type: str
      nic:
        description:
          - The NIC, as its place among the VM's NICs, from 0 on, or its name, such as V(NIC1) or V(NIC0_ALIAS2).
        type: str
      family:
        description: The kind of address; V(any) takes a NIC's IPv4 address before its IPv6 address.
        type: str
        default: any
        choices: [any, ipv4, ipv6]
      aliases:
        description: Whether alias NICs count, after all others. One that O(address[].nic) names always counts.
        type: bool
        default: true
  hostname:
    description:
      - Jinja expression for the host's name, over the host's variables. Without it, and where it has no value, the
        name is the VM's.
      - A name that one VM only has is its host's name. VMs that share a name all become C(NAME_ID), and where that is
        not unique either, C(NAME_ID_ZONE). So do VMs called like a group, C(all), C(ungrouped) or C(localhost).
    type: str
  lookup_names:
    description:
      - Whether O(group_by) and variables show the names of services and clusters instead of their ids, which VMs do
        not know. It takes two more calls per zone, one of them to OneFlow.
    type: bool
    default: false
  group_by:
    description:
      - What to make groups by, called C(state_running), C(label_gpu) and so on, with the characters that group names
        must not have replaced by underscores.
      - With several O(zones), groups of services, hosts and clusters have the zone in their names, like
        C(service_ZONE_12), as each zone has its own.
    type: list
    elements: str
    choices: [zone, service, role, host, cluster, state, label]
    default: [zone, service, role, host, cluster, state, label]
  user_template:
    description:
      - Patterns for the names of the attributes of the VM's user template to keep in RV(ignore:one_user_template).
      - Attributes that look like secrets by their name or content, or that are user inputs of type C(password),
        are never kept.
    type: list
    elements: str
    default: ["*"]
  vars_prefix:
    description: What the names of all variables begin with, instead of C(one_).
    type: str
    default: one_
notes:
  - "Variables of a host: C(one_id), C(one_name), C(one_zone), C(one_state), C(one_owner) and C(one_group) (names),
    C(one_service), C(one_service_id), C(one_role), C(one_host), C(one_cluster), C(one_cluster_id), C(one_labels)
    (list), C(one_template_id), C(one_cpu), C(one_vcpu), C(one_memory) (MB), C(one_nics) (list of C(name),
    C(network), C(ip), C(ip6), C(mac), C(alias_of)), C(one_address) and C(one_user_template) (dictionary)."
  - What a VM does not have is null or empty.
  - What the owners of VMs wrote is never evaluated as a template. But names, labels, services and roles are what they
    say, so where everybody's VMs are listed check C(one_owner) before trusting a group.
  - A host of the same name in another source is the same host to Ansible.
  - The cache holds neither passwords nor what looks like a secret. It knows every zone by itself and is not used
    after a change of the zone's endpoint, its user, O(scope), O(lookup_names) or O(user_template); all other options
    can be changed and take effect at once.
  - Ansible goes on with the other sources after an error in one, unless C(unparsed_is_failed) or
    C(any_unparsed_is_failed) is set in the section C(inventory) of its configuration.
  - Works with OpenNebula 6.8 to 7.4.
"""

EXAMPLES = r"""
# vms.opennebula.yml: everything that ONE_XMLRPC and ONE_AUTH lead to
plugin: opennebula.flower.opennebula

---
# running VMs of two zones, reached through their management network
plugin: opennebula.flower.opennebula
zones:
  - name: site-a
    api_url: https://one-a.example.org/RPC2
    api_username: inventory
    api_password: "{{ lookup('ansible.builtin.env', 'SITE_A_PASSWORD') }}"
    ca_path: /etc/ssl/site-a.pem
  - name: site-b
    api_url: http://one-b.example.org:2633/RPC2
    auth_file: ~/.one/site-b_auth
skip_unreachable: true
filters:
  states: [running]
  labels: ["production*"]
address:
  - network: management
  - family: ipv6
cache: true
cache_plugin: ansible.builtin.jsonfile
cache_connection: ~/.cache/opennebula

---
# names from an attribute of the VM template, groups and variables of one's own
plugin: opennebula.flower.opennebula
hostname: one_user_template.HOSTNAME
group_by: [role, state]
keyed_groups:
  - key: one_user_template.ENVIRONMENT
    prefix: env
groups:
  big: one_memory >= 65536
compose:
  ansible_user: "'root'"
"""

import functools
import re
from collections.abc import Iterable, Mapping

from ansible.errors import AnsibleParserError
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.plugins.inventory import BaseInventoryPlugin, Cacheable, Constructable

from ansible_collections.opennebula.flower.plugins.module_utils.one.transport.errors import INVALID, NETWORK, TIMEOUT, OneException, one_line
from ansible_collections.opennebula.flower.plugins.module_utils.one.transport.http import URLLIB3_IMPORT_ERROR
from ansible_collections.opennebula.flower.plugins.module_utils.redaction_text import hidden_text
from ansible_collections.opennebula.flower.plugins.plugin_utils import vm_hosts
from ansible_collections.opennebula.flower.plugins.plugin_utils.zones import Zone, list_vms, zone

# A cache that holds something else than what this version reads must not be found.
_CACHE_FORMAT = 1
_PER_ZONE = frozenset({"service", "host", "cluster"})
_TEXT = {"type": "str"}
_TEXTS = {"type": "list", "elements": "str"}
_ZONE = {
    "name": _TEXT, "api_url": _TEXT, "api_username": _TEXT, "api_password": {"type": "str", "no_log": True},
    "auth_file": {"type": "path"}, "api_timeout": {"type": "float"}, "validate_certs": {"type": "bool"},
    "ca_path": {"type": "path"}, "oneflow_url": _TEXT,
}
_FILTERS = {"states": _TEXTS, "names": _TEXTS, "labels": _TEXTS, "attributes": {"type": "dict"}}
_ADDRESS = {
    "network": _TEXT, "nic": _TEXT, "family": {"type": "str", "default": "any", "choices": ["any", "ipv4", "ipv6"]},
    "aliases": {"type": "bool", "default": True},
}


class InventoryModule(BaseInventoryPlugin, Constructable, Cacheable):
    """The plugin."""

    NAME = "opennebula.flower.opennebula"

    def verify_file(self, path: str) -> bool:
        """Tell by its name whether a file is a source for this plugin."""
        return super().verify_file(path) and path.endswith(("opennebula.yml", "opennebula.yaml"))

    def parse(self, inventory, loader, path: str, cache: bool = True) -> None:
        """Add the hosts of a source to the inventory. Raises AnsibleParserError with one sentence."""
        super().parse(inventory, loader, path, cache)
        config = self._read_config_data(path)
        if URLLIB3_IMPORT_ERROR:
            raise AnsibleParserError("The inventory of OpenNebula needs the Python library urllib3.")
        try:
            # Ansible lets pass what no option is called, and a misspelt filter would choose all VMs.
            _check_names("the source", config, self.get_options())
            zones = self._zones()
            selected = vm_hosts.selector(**_checked("filters", _FILTERS, self.get_option("filters")))
            vms = [
                {**vm, "zone": one.name}
                for one in zones
                for vm in self._vms(one, self.get_cache_key(path), cache)
                if selected(vm)
            ]
            self._add_hosts(vms, several_zones=len(zones) > 1)
        except OneException as error:
            raise AnsibleParserError(hidden_text(error.message)) from None

    def _zones(self) -> list[Zone]:
        own = {name: self.get_option(name) for name in _ZONE if name != "name"}
        defaults = self._evaluated("the source", own)
        zones = [
            zone(self._evaluated(f"zones, entry {number}", entry), defaults)
            for number, entry in enumerate(self.get_option("zones") or [{}], 1)
        ]
        names = [one.name for one in zones]
        for name in names:
            if names.count(name) > 1:
                raise OneException(INVALID, f"Two zones have the name {name!r}: give each a name of its own.")
        return zones

    def _evaluated(self, label: str, options: dict) -> dict:
        """Options of a zone with their Jinja expressions replaced by values. Raises OneException."""
        try:
            values = self.templar.template(options)
        except Exception as error:
            # Templates raise many things; their text is the user's own and names no secret.
            reason = " ".join(str(error).split()).rstrip(".")
            raise OneException(INVALID, f"An expression in {label} has no value: {reason}.") from None
        return _checked(label, _ZONE, values)

    def _vms(self, one: Zone, source: str, cache_allowed: bool) -> list[dict]:
        """The facts of a zone's VMs, from the cache or the zone. Raises OneException."""
        scope, names, kept = (self.get_option(name) for name in ("scope", "lookup_names", "user_template"))
        key = f"{source}_{one.digest(_CACHE_FORMAT, scope, names, list(kept))}"
        caching = self.get_option("cache")
        if caching and cache_allowed and (known := self._cache.get(key)) is not None:
            return known["vms"]
        try:
            vms = list_vms(one, scope, names, functools.cache(vm_hosts.any_pattern(kept)), self._warn)
        except OneException as error:
            if not self.get_option("skip_unreachable") or error.kind not in (NETWORK, TIMEOUT):
                raise
            self._warn(f"{error.message} Its VMs are left out.")
            return []
        if caching:
            self._cache[key] = {"vms": vms}
        return vms

    def _warn(self, text: str) -> None:
        self.display.warning(hidden_text(one_line(text)))

    def _add_hosts(self, vms: list[dict], several_zones: bool) -> None:
        prefix = self.get_option("vars_prefix")
        if not re.fullmatch(r"[A-Za-z_]\w*", prefix, re.ASCII):
            raise OneException(INVALID, f"vars_prefix is {prefix!r}, no name of a variable can begin with it.")
        rules = [_checked("address", _ADDRESS, rule) for rule in self.get_option("address")]
        if not hasattr(BaseInventoryPlugin, "trusted_by_default"):
            # Before ansible-core 2.19 every variable was a template unless told otherwise; 2.23 will not have this.
            from ansible.utils.unsafe_proxy import wrap_var  # noqa: PLC0415

            vms = wrap_var(vms)
        variables = [
            {f"{prefix}{name}": value for name, value in vm.items()}
            | {f"{prefix}address": vm_hosts.address(vm["nics"], rules)}
            for vm in vms
        ]
        safe = functools.cache(self._sanitize_group_name)
        groups = [[safe(name) for name in self._groups(vm, several_zones)] for vm in vms]
        for name in dict.fromkeys(name for names in groups for name in names):
            self.inventory.add_group(name)
        wanted = [self._wanted_name(vm, known) for vm, known in zip(vms, variables, strict=True)]
        names = vm_hosts.unique_names(vms, wanted, frozenset(self.inventory.groups))
        for name, known, in_groups in zip(names, variables, groups, strict=True):
            self._add_host(name, known, known[f"{prefix}address"], in_groups)

    def _groups(self, vm: dict, several_zones: bool) -> Iterable[str]:
        return vm_hosts.groups(vm, self.get_option("group_by"), _PER_ZONE if several_zones else frozenset())

    def _wanted_name(self, vm: dict, variables: dict) -> str:
        expression = self.get_option("hostname")
        if not expression:
            return vm["name"]
        try:
            return str(self._compose(expression, variables) or vm["name"])
        except Exception as error:
            # Jinja raises many things for a value that is not there.
            if self.get_option("strict"):
                raise OneException(INVALID, f"hostname has no value for VM {vm['name']!r}: {error}") from None
            return vm["name"]

    def _add_host(self, name: str, variables: dict, address: str | None, groups: list[str]) -> None:
        self.inventory.add_host(name)
        for group in groups:
            self.inventory.add_child(group, name)
        for variable, value in variables.items():
            self.inventory.set_variable(name, variable, value)
        if address:
            self.inventory.set_variable(name, "ansible_host", address)
        self._construct(name, variables)

    def _construct(self, name: str, variables: dict) -> None:
        strict = self.get_option("strict")
        self._set_composite_vars(self.get_option("compose"), variables, name, strict)
        groups, keyed_groups = self.get_option("groups"), self.get_option("keyed_groups")
        if groups or keyed_groups:
            # With the variables of compose; fetching them per group would take a multiple of the time.
            known = self.inventory.get_host(name).get_vars()
            self._add_host_to_composed_groups(groups, known, name, strict, fetch_hostvars=False)
            self._add_host_to_keyed_groups(keyed_groups, known, name, strict, fetch_hostvars=False)


def _checked(label: str, spec: dict, values: object) -> dict:
    """Options of a dictionary as their spec wants them. Raises OneException."""
    if not isinstance(values, Mapping):
        raise OneException(INVALID, f"In {label} a dictionary of options is expected.")
    _check_names(label, values, spec)
    result = ArgumentSpecValidator(spec).validate(dict(values))
    if result.error_messages:
        raise OneException(INVALID, f"In {label}: {'; '.join(result.error_messages).rstrip('.')}.")
    return {name: _plain(value) for name, value in result.validated_parameters.items()}


def _check_names(label: str, given: Iterable[str], known: Iterable[str]) -> None:
    if unknown := sorted(set(given) - set(known)):
        raise OneException(INVALID, f"In {label} there is no option {unknown[0]!r}, only {', '.join(sorted(known))}.")


def _plain(value: object) -> object:
    """A text without what Ansible tags texts with, which XML-RPC cannot send."""
    return "".join(value) if isinstance(value, str) else value
