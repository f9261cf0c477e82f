# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Appliances as marketplaces describe them: one for each image, and the service that is made of a SuperLink and SuperNodes.

Everything about their inputs is derived from the table of contextualization parameters. Names and types of the keys are those of OpenNebula's
community marketplace (OpenNebula/marketplace-community on GitHub); SCHEMA says which.
"""

from __future__ import annotations

import calendar
import re
import time
import uuid
from collections.abc import Iterable, Mapping
from typing import Any

from .contextualization import EDGE, SERVICE, SUPERLINK, SUPERNODE, context_section, user_inputs
from .flower.frameworks import framework

# What the ids of appliances are derived from, so that a new version of an appliance keeps its id.
_NAMESPACE = uuid.UUID("8f0f6f0e-4a6f-5b7c-9d55-7c6f0f4b6a11")
# OpenNebula releases that an appliance is offered to.
_RELEASES = "6.8, 6.10, 7.0, 7.2, 7.4"
_HELP = "https://github.com/opennebula/flower-collection"
SERVICE_NAME = "Flower federated learning"
NETWORK = "Private"
# What a VM gets unless the user says something else: CPUs and MB.
_SIZES = {SUPERLINK: (2, 4096), SUPERNODE: (2, 4096), EDGE: (1, 1024)}

# How long a test waits for a VM.
_BOOT_SECONDS = 600

_TEXT = {"type": "string", "minLength": 1}
_LINE = {"type": "string", "pattern": r"^\S[^\n]*$"}
_INPUTS = {
    "type": "object",
    "propertyNames": {"pattern": "^[A-Za-z][A-Za-z0-9_]*$"},
    "additionalProperties": {
        "type": "string", "pattern": r"^[MO]\|(text|text64|password|number|number-float|range|range-float|boolean|list|list-multiple|fixed)\|",
    },
}
# Keys of metadata.yaml are Ruby's symbols, which are texts with a colon in YAML.
_PARAMS = {"type": "object", "propertyNames": {"pattern": "^:[A-Z][A-Z0-9_]*$"}, "additionalProperties": {"type": "string"}}
_NETWORKS = {"type": "object", "minProperties": 1, "additionalProperties": {"type": "string", "pattern": r"^M\|network\|"}}
_IMAGE = {
    "type": "object",
    "required": ["name", "url", "type", "dev_prefix", "driver", "size", "checksum"],
    "additionalProperties": False,
    "properties": {
        "name": _LINE,
        "url": {"type": "string", "pattern": r"^https?://\S+$"},
        "type": {"enum": ["OS", "CDROM", "DATABLOCK", "KERNEL", "RAMDISK", "CONTEXT"]},
        "dev_prefix": {"enum": ["vd", "sd", "hd"]},
        "driver": {"enum": ["qcow2", "raw", "vmdk"]},
        # Bytes of the disk, not of the file.
        "size": {"type": "integer", "minimum": 1},
        "checksum": {
            "type": "object",
            "required": ["md5", "sha256"],
            "additionalProperties": False,
            "properties": {"md5": {"type": "string", "pattern": "^[0-9a-f]{32}$"}, "sha256": {"type": "string", "pattern": "^[0-9a-f]{64}$"}},
        },
    },
}
_ROLE = {
    "type": "object",
    "required": ["name", "cardinality"],
    "properties": {
        "name": {"type": "string", "pattern": r"^\w+$"},
        "cardinality": {"type": "integer", "minimum": 0},
        "min_vms": {"type": "integer", "minimum": 0},
        "max_vms": {"type": "integer", "minimum": 1},
        "cooldown": {"type": "integer", "minimum": 0},
        "parents": {"type": "array", "items": {"type": "string"}},
        "vm_template_contents": {"type": "string"},
        "custom_attrs": _INPUTS,
        "elasticity_policies": {"type": "array"},
        "scheduled_policies": {"type": "array"},
    },
    "additionalProperties": False,
}
_VM_TEMPLATE = {
    "type": "object",
    "required": ["context", "cpu", "memory"],
    "propertyNames": {"pattern": "^[a-z][a-z0-9_]*$"},
    "properties": {
        "context": {"type": "object", "additionalProperties": {"type": "string"}},
        "cpu": {"type": "string", "pattern": r"^\d+(\.\d+)?$"},
        "vcpu": {"type": "string", "pattern": r"^\d+$"},
        "memory": {"type": "string", "pattern": r"^\d+$"},
        "user_inputs": _INPUTS,
        "inputs_order": {"type": "string"},
    },
}
_SERVICE_TEMPLATE = {
    "type": "object",
    "required": ["name", "deployment", "roles"],
    "additionalProperties": False,
    "properties": {
        "name": _LINE,
        "description": {"type": "string"},
        "deployment": {"enum": ["straight", "none"]},
        "ready_status_gate": {"type": "boolean"},
        "shutdown_action": {"enum": ["terminate", "terminate-hard"]},
        "roles": {"type": "array", "minItems": 1, "items": _ROLE},
        "networks": _NETWORKS,
        "custom_attrs": _INPUTS,
    },
}
# JSON Schema of a description, as the published ones are written.
SCHEMA: Mapping[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "required": [
        "name", "version", "publisher", "description", "short_description", "tags", "creation_time", "os-id", "os-release", "os-arch", "hypervisor",
        "opennebula_version", "opennebula_template", "logo", "images",
    ],
    "additionalProperties": False,
    "properties": {
        "name": _LINE,
        "version": _LINE,
        "one-apps_version": _LINE,
        "publisher": _LINE,
        "publisher_email": {"type": "string", "pattern": r"^\S+@\S+$"},
        "description": _TEXT,
        "short_description": _LINE,
        "tags": {"type": "array", "minItems": 1, "items": _LINE},
        "format": {"enum": ["qcow2", "raw", "vmdk"]},
        "creation_time": {"type": "integer", "minimum": 0},
        "os-id": _LINE,
        "os-release": _LINE,
        "os-arch": {"enum": ["x86_64", "aarch64"]},
        "hypervisor": {"enum": ["KVM", "LXC", "ALL"]},
        "opennebula_version": {"type": "string", "pattern": r"^\d+\.\d+(, \d+\.\d+)*$"},
        "type": {"enum": ["SERVICE_TEMPLATE", "VMTEMPLATE"]},
        "roles": {"type": "object", "minProperties": 1, "additionalProperties": _LINE},
        "opennebula_template": {"type": "object"},
        "logo": {"type": "string", "pattern": r"^[\w./-]+\.png$"},
        "images": {"type": "array", "items": _IMAGE},
        "disks": {"type": "array", "items": _LINE},
    },
    "if": {"required": ["type"], "properties": {"type": {"const": "SERVICE_TEMPLATE"}}},
    "then": {"required": ["roles"], "properties": {"opennebula_template": _SERVICE_TEMPLATE, "images": {"maxItems": 0}}},
    "else": {"required": ["format"], "properties": {"opennebula_template": _VM_TEMPLATE, "images": {"minItems": 1}}},
}  # fmt: skip

# JSON Schema of metadata.yaml, by which the community repository builds and tests the appliance of an image.
METADATA_SCHEMA: Mapping[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "required": [":app", ":one", ":infra"],
    "additionalProperties": False,
    "properties": {
        ":app": {
            "type": "object",
            "required": [":name", ":type", ":os", ":hypervisor", ":context"],
            "additionalProperties": False,
            "properties": {
                ":name": {"type": "string", "pattern": "^[a-z][a-z0-9-]*$"},
                ":type": {"enum": ["service", "distro"]},
                ":os": {
                    "type": "object",
                    "required": [":type", ":base"],
                    "additionalProperties": False,
                    "properties": {":type": {"enum": ["linux", "freebsd", "windows"]}, ":base": {"type": "string", "pattern": "^[a-z0-9.]+$"}},
                },
                ":hypervisor": {"enum": ["KVM", "lxc"]},
                ":context": {
                    "type": "object",
                    "required": [":prefixed", ":params"],
                    "additionalProperties": False,
                    "properties": {":prefixed": {"type": "boolean"}, ":params": _PARAMS},
                },
            },
        },
        ":one": {
            "type": "object",
            "required": [":template", ":datastore_name", ":timeout"],
            "additionalProperties": False,
            "properties": {
                ":template": {
                    "type": "object",
                    "required": ["NAME", "TEMPLATE"],
                    "additionalProperties": False,
                    "properties": {
                        "NAME": _LINE,
                        "TEMPLATE": {
                            "type": "object",
                            "required": ["ARCH", "CONTEXT", "CPU", "MEMORY"],
                            "propertyNames": {"pattern": "^[A-Z][A-Z_]*$"},
                            # It comes without a disk: that of the image is added.
                            "properties": {
                                "ARCH": {"enum": ["x86_64", "aarch64"]},
                                "CONTEXT": {"type": "object", "additionalProperties": {"type": "string"}},
                                "DISK": False,
                            },
                        },
                    },
                },
                ":datastore_name": _LINE,
                ":timeout": {"type": "string", "pattern": "^[0-9]+$"},
            },
        },
        ":infra": {
            "type": "object",
            "required": [":disk_format", ":apps_path"],
            "additionalProperties": False,
            "properties": {":disk_format": {"enum": ["qcow2", "raw"]}, ":apps_path": {"type": "string", "pattern": "^/"}},
        },
    },
}  # fmt: skip


def vm_appliance(manifest: Mapping[str, Any], facts: Mapping[str, str]) -> dict[str, Any]:
    """Return the description of an image's appliance, with ``id`` and ``directory``, beside what SCHEMA says.

    manifest: what build_appliance.yml wrote beside the image. facts: ``publisher``, ``publisher_email`` or an empty text, ``version``, ``logo`` (file
    name) and ``image_url``, the URL of the directory where the images are published.
    :raises ValueError: the manifest lacks something.
    """
    lacking = [name for name in ("name", "file", "sha256", "md5", "virtual_size", "created", "baked") if name not in manifest]
    if lacking:
        raise ValueError(f"the manifest of {manifest.get('name', 'an image')} has no {', '.join(lacking)}; build the image again with this release")
    baked = manifest["baked"]
    role, runtime, version = baked["role"], baked["flower_runtime"], baked["flower_version"]
    edge = baked.get("edge", False)
    name = appliance_name(role, baked["ml_framework"], edge)
    flavour = "in a container" if runtime == "container" else "in a virtual environment"
    kind = "SuperLink" if role == SUPERLINK else f"SuperNode {'for the edge ' if edge else ''}with {framework(baked['ml_framework'])['title']}"
    does = "coordinates a federation" if role == SUPERLINK else "trains on data that stays with it"
    return {
        "id": str(uuid.uuid5(_NAMESPACE, manifest["name"])),
        "directory": manifest["name"],
        "name": name,
        "version": facts["version"],
        **_published(facts),
        "description": _paragraphs(
            f"[Flower](https://flower.ai) {version} for federated learning: a {kind}, which {does}. Flower runs {flavour} on Debian.",
            "The VM configures itself at boot from its context. It needs OneGate (`TOKEN=YES`), and reports READY once it works."
            + ("" if role == SUPERLINK else " Inside a service it finds its SuperLink by itself, elsewhere `ONEAPP_FL_SUPERLINK_ADDRESS` says where it is."),
            f"The appliance *{SERVICE_NAME}* deploys a whole federation of such VMs. Documentation: <{_HELP}>.",
        ),
        "short_description": f"Flower {version}, {kind}, for KVM hosts",
        "tags": ["flower", "federated learning", "machine learning", "debian", "service"],
        "format": "qcow2",
        "creation_time": _seconds(manifest["created"]),
        **_system(),
        "opennebula_template": _vm_template(EDGE if edge else role),
        "logo": facts["logo"],
        "images": [{
            "name": manifest["name"],
            "url": f"{facts['image_url'].rstrip('/')}/{manifest['file']}",
            "type": "OS",
            "dev_prefix": "vd",
            "driver": "qcow2",
            "size": int(manifest["virtual_size"]),
            "checksum": {"md5": manifest["md5"], "sha256": manifest["sha256"]},
        }],
    }  # fmt: skip


def service_appliances(manifests: Iterable[Mapping[str, Any]], facts: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return the descriptions of the services of a SuperLink and SuperNodes, one for each framework, with ``id`` and ``directory``, beside what
    SCHEMA says; see vm_appliance.

    manifests: those of nodes at the edge, which are no part of a service in one network, are left out.
    :raises ValueError: there are nodes, and several images of the SuperLink or of a framework.
    """
    by_role: dict[str, list[Mapping[str, Any]]] = {SUPERLINK: [], SUPERNODE: []}
    for manifest in manifests:
        if not manifest["baked"].get("edge"):
            by_role[manifest["baked"]["role"]].append(manifest)
    by_framework: dict[str, list[Mapping[str, Any]]] = {}
    for manifest in by_role[SUPERNODE]:
        by_framework.setdefault(manifest["baked"]["ml_framework"], []).append(manifest)
    if not by_role[SUPERLINK] or not by_framework:
        return []
    for what, found in (("SuperLink", by_role[SUPERLINK]), *((f"SuperNode with {framework(name)['title']}", by_framework[name]) for name in by_framework)):
        if len(found) != 1:
            raise ValueError(f"a service needs one image of a {what}, but there are several: {', '.join(sorted(each['name'] for each in found))}")
    return [_service_appliance(by_role[SUPERLINK][0], nodes[0], facts) for nodes in by_framework.values()]


def _service_appliance(superlink: Mapping[str, Any], supernode: Mapping[str, Any], facts: Mapping[str, str]) -> dict[str, Any]:
    manifests = (superlink, supernode)
    nodes = framework(supernode["baked"]["ml_framework"])
    version = superlink["baked"]["flower_version"]
    title = f"{SERVICE_NAME} - {nodes['title']}"
    apps = {manifest["baked"]["role"]: appliance_name(manifest["baked"]["role"], manifest["baked"]["ml_framework"]) for manifest in manifests}
    return {
        "id": str(uuid.uuid5(_NAMESPACE, title)),
        "directory": f"flower-service-{nodes['name']}",
        "name": title,
        "version": facts["version"],
        **_published(facts),
        "description": _paragraphs(
            f"A federation that trains with [Flower](https://flower.ai) {version} and {nodes['title']}: one SuperLink, and as many SuperNodes as you "
            "want, in one virtual network, with TLS between them.",
            "Choose a use case in `ONEAPP_FL_USE_CASE`, and the training begins as soon as the nodes are there; or bring a Flower App of your own.",
            "It is orchestrated by OneFlow and needs OneGate. Made of the appliances " + " and ".join(f"*{app}*" for app in apps.values())
            + f". Documentation: <{_HELP}>.",
        ),
        "short_description": f"Federated learning with Flower {version} and {nodes['title']}, orchestrated by OneFlow",
        "tags": ["flower", "federated learning", "machine learning", "debian", "service"],
        "creation_time": max(_seconds(manifest["created"]) for manifest in manifests),
        **_system(),
        "type": "SERVICE_TEMPLATE",
        "roles": apps,
        "opennebula_template": service_template(title, nodes["name"]),
        "logo": facts["logo"],
        "images": [],
    }


def service_template(name: str, ml_framework: str) -> dict[str, Any]:
    """Return OneFlow's template of the service, in the form that 6.x has and 7.x converts, without its VM templates."""
    shared = user_inputs(SERVICE)
    # The framework is that of the image.
    inputs = {
        SUPERLINK: user_inputs(SUPERLINK),
        SUPERNODE: {key: value for key, value in user_inputs(SUPERNODE).items() if key != "ONEAPP_ML_FRAMEWORK"},
    }
    fixed = {SUPERLINK: {}, SUPERNODE: {"ONEAPP_ML_FRAMEWORK": ml_framework}}
    sizes = {SUPERLINK: {"cardinality": 1, "min_vms": 1, "max_vms": 1}, SUPERNODE: {"cardinality": 2, "min_vms": 2, "max_vms": 100, "parents": [SUPERLINK]}}
    return {
        "name": name,
        "description": "Flower federated learning",
        "deployment": "straight",
        "ready_status_gate": True,
        "shutdown_action": "terminate",
        "networks": {NETWORK: "M|network|Network of the federation||id:"},
        "custom_attrs": shared,
        "roles": [
            {
                "name": role,
                **sizes[role],
                "cooldown": 60,
                "custom_attrs": inputs[role],
                "vm_template_contents": _contents([*shared, *inputs[role]], fixed[role]),
            }
            for role in (SUPERLINK, SUPERNODE)
        ],
    }


def appliance_name(role: str, ml_framework: str, edge: bool = False) -> str:
    """Return what the appliance of an image is called."""
    return "Flower SuperLink" if role == SUPERLINK else f"Flower SuperNode - {'Edge, ' if edge else ''}{framework(ml_framework)['title']}"


def appliances(manifests: Iterable[Mapping[str, Any]], facts: Mapping[str, str], changelogs: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
    """Return the appliances of images and, where there is a SuperLink, of the service of it and the SuperNodes of each framework.

    changelogs: those of former versions, by the directory of an appliance.
    Each has ``id``, ``directory``, ``name``, ``role`` (empty for the service), ``description`` as SCHEMA says, ``readme``, ``changelog``, ``metadata`` as
    METADATA_SCHEMA says (none for the service), ``template`` (what a marketplace of OpenNebula keeps of it besides) and ``vm_attributes``, or
    ``service`` and ``service_roles``.
    :raises ValueError: an image lacks something, or a description is not as SCHEMA says; ImportError without jsonschema.
    """
    manifests = list(manifests)
    made = [(manifest["baked"]["role"], vm_appliance(manifest, facts)) for manifest in manifests]
    made += [("", service) for service in service_appliances(manifests, facts)]
    result = []
    for role, described in made:
        directory = described["directory"]
        description = {name: value for name, value in described.items() if name not in ("id", "directory")}
        template = description["opennebula_template"]
        metadata = _metadata(directory, template) if role else {}
        problems = errors(description, SCHEMA) + (errors(metadata, METADATA_SCHEMA) if role else [])
        if problems:
            raise ValueError(f"the description of {description['name']} is not what marketplaces take: {'; '.join(problems)}")
        content = {"vm_attributes": _upper(template)} if role else {"service": template, "service_roles": description["roles"]}
        parts = {
            "id": described["id"], "directory": directory, "name": description["name"], "role": role, "description": description,
            "readme": _readme(description), "changelog": _changelog(description, (changelogs or {}).get(directory, "")), "metadata": metadata,
            "template": _kept(description), **content,
        }  # fmt: skip
        result.append(parts)
    return result


def errors(description: Mapping[str, Any], schema: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with a description or with metadata, one sentence for each problem; ImportError without jsonschema."""
    from jsonschema import Draft202012Validator

    found = sorted(Draft202012Validator(schema).iter_errors(description), key=lambda error: list(map(str, error.absolute_path)))
    return [f"{'.'.join(map(str, error.absolute_path)) or 'the description'}: {_short(error.message)}" for error in found]


def _kept(description: Mapping[str, Any]) -> dict[str, str]:
    return {
        "VERSION": description["version"], "PUBLISHER": description["publisher"], "DESCRIPTION": description["description"],
        "SHORT_DESCRIPTION": description["short_description"], "TAGS": ", ".join(description["tags"]), "LOGO": description["logo"],
        "OS_ID": description["os-id"], "OS_RELEASE": description["os-release"], "OS_ARCH": description["os-arch"],
        "HYPERVISOR": description["hypervisor"],
    }  # fmt: skip


def _readme(description: Mapping[str, Any]) -> str:
    """Return the page of an appliance: what it is, its release notes, and the table of its inputs."""
    is_service = description.get("type") == "SERVICE_TEMPLATE"
    name, template = description["name"], description["opennebula_template"]
    rows = {"Appliance": description["version"], description["os-id"]: description["os-release"]}
    declared = [template["custom_attrs"], *(role["custom_attrs"] for role in template["roles"])] if is_service else [template["user_inputs"]]
    inputs = [(key.upper(), *value.split("|")[2:5:2]) for part in declared for key, value in part.items()]
    lines = [
        f"# {name}", "", description["description"], "", "## Requirements", "",
        f"OpenNebula {description['opennebula_version']} with {'OneFlow and OneGate' if is_service else 'OneGate'}.", "",
        "## Release notes", "", "| component | version |", "| --- | --- |", *(f"| {what} | {version} |" for what, version in rows.items()), "",
        "## Quick start", "", "```", f"onemarketapp export '{name}' '{name}' --datastore default",
        f"{'oneflow-template' if is_service else 'onetemplate'} instantiate '{name}'", "```", "",
        "## Contextualization", "", "| parameter | default | description |", "| --- | --- | --- |",
        *(f"| `{key}` | {f'`{default}`' if default else ''} | {meaning} |" for key, meaning, default in inputs), "",
        "Former versions: [CHANGELOG.md](CHANGELOG.md).",
    ]  # fmt: skip
    return "\n".join([*lines, ""])


def _changelog(description: Mapping[str, Any], former: str) -> str:
    """Return the changelog of an appliance: what this version is of, before what is there of other versions."""
    version, day = description["version"], time.strftime("%Y-%m-%d", time.gmtime(description["creation_time"]))
    entry = f"## [{version}] - {day}\n\n- {description['short_description']}.\n- {description['os-id']} {description['os-release']}.\n"
    others = [other for other in re.split(r"^(?=## )", former, flags=re.MULTILINE)[1:] if not other.startswith(f"## [{version}] ")]
    return "\n".join([f"# Changelog of {description['name']}\n", entry, *(f"{other.strip()}\n" for other in others)])


def _metadata(directory: str, template: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the community repository needs to know to build the appliance of an image and to test it with every input at its default."""
    context = {name.upper(): value for name, value in template["context"].items() if not value.startswith("$ONEAPP_")}
    defaults = {f":{name.upper()}": value.split("|")[4] for name, value in template["user_inputs"].items()}
    vm = {name.upper(): template[name] for name in ("cpu", "vcpu", "memory")}
    return {
        ":app": {
            ":name": directory,
            ":type": "service",
            ":os": {":type": "linux", ":base": f"{_system()['os-id'].lower()}{_system()['os-release']}"},
            ":hypervisor": "KVM",
            # The names have the prefix of appliances already.
            ":context": {":prefixed": False, ":params": defaults},
        },
        ":one": {
            ":template": {
                "NAME": directory,
                "TEMPLATE": {"ARCH": template["os"]["arch"], "CONTEXT": context, **vm, "NIC": {"NETWORK": "service"}, "NIC_DEFAULT": {"MODEL": "virtio"}},
            },
            ":datastore_name": "default",
            ":timeout": str(_BOOT_SECONDS),
        },
        ":infra": {":disk_format": "qcow2", ":apps_path": "/var/tmp"},
    }


def _vm_template(role: str) -> dict[str, Any]:
    cpu, memory = _SIZES[role]
    heeded = context_section(role)
    # OneFlow knows no role for the edge: what is heeded there are inputs of the nodes.
    inputs = {name: value for name, value in (user_inputs(SERVICE) | user_inputs(SUPERNODE if role == EDGE else role)).items() if name in heeded}
    return {
        "context": {name.lower(): value for name, value in heeded.items()},
        "cpu": str(cpu),
        "vcpu": str(cpu),
        "memory": str(memory),
        "os": {"arch": "x86_64"},
        "user_inputs": {name.lower(): value for name, value in inputs.items()},
        "inputs_order": ",".join(inputs),
    }


def _contents(inputs: Iterable[str], fixed: Mapping[str, str]) -> str:
    """Return what the VMs of a role get besides their VM template.

    OneFlow 6 hands on the inputs that are named here only. It replaces names in the order of the text, and $A also hits the beginning of $AB: the
    longest come first.
    """
    lines = [f'{name} = "${name}"' for name in sorted(inputs, key=lambda name: (-len(name), name))]
    lines += [f'{name} = "{value}"' for name, value in fixed.items()]
    return "\n".join([*lines, f'NIC = [ NAME = "NIC0", NETWORK_ID = "${NETWORK}" ]', ""])


def _published(facts: Mapping[str, str]) -> dict[str, str]:
    email = facts.get("publisher_email", "")
    return {"publisher": facts["publisher"], **({"publisher_email": email} if email else {})}


def _system() -> dict[str, str]:
    return {"os-id": "Debian", "os-release": "13", "os-arch": "x86_64", "hypervisor": "KVM", "opennebula_version": _RELEASES}


def _paragraphs(*texts: str) -> str:
    return "\n\n".join(texts)


def _seconds(when: str) -> int:
    return calendar.timegm(time.strptime(when, "%Y-%m-%dT%H:%M:%SZ"))


def _upper(value: Any) -> Any:
    return {name.upper(): _upper(item) for name, item in value.items()} if isinstance(value, Mapping) else value


def _short(message: str) -> str:
    text = re.sub(r"\s+", " ", message)
    return text if len(text) <= 300 else f"{text[:300]}..."
