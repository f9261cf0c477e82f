# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Somebody with OpenNebula's tools alone, who deploys a service from a marketplace by the calls that those make."""

from __future__ import annotations

import json
from base64 import b64decode
from typing import Any, NamedTuple

import pyone
import requests

SECONDS = 300.0
ALL, ANY = -2, -1
# What an export leaves to the datastore.
OF_THE_DATASTORE = ("FORMAT", "DRIVER")


class Exported(NamedTuple):
    """What `onemarketapp export` made of a service app: a service template, and by the app of a role a VM template and an image."""

    service_template: int
    vm_templates: list[int]
    images: list[int]


class MarketplaceUser:
    """The calls of `onemarketapp export`, of the form of a service in Sunstone, and of `oneflow`; session: NAME:PASSWORD."""

    def __init__(self, api_url: str, oneflow_url: str, session: str) -> None:
        self.one = pyone.OneServer(api_url, session=session)
        self._flow = oneflow_url.rstrip("/")
        self._auth = tuple(session.split(":", 1))

    def export(self, app: str, name: str, datastore: str) -> Exported:
        """Export a service app with the apps of its roles, each of them once."""
        apps = {each.NAME: each for each in self.one.marketapppool.info(ALL, ANY, ANY).MARKETPLACEAPP}
        numbers = {each.NAME: each.ID for each in self.one.datastorepool.info().DATASTORE}
        made: dict[str, tuple[int, int]] = {}
        of_role = {}
        for role in apps[app].TEMPLATE["ROLE"]:
            if role["APP"] not in made:
                made[role["APP"]] = self._export_image(apps[role["APP"]], f"{name}-{role['NAME']}-{len(made)}", numbers[datastore])
            of_role[role["NAME"]] = made[role["APP"]][0]
        body = json.loads(b64decode(apps[app].TEMPLATE["APPTEMPLATE64"])) | {"name": name}
        for role in body["roles"]:
            role["vm_template"] = of_role[role["name"]]
        template = self._flow_document("POST", "/service_template", body)
        return Exported(int(template["ID"]), [number for number, _image in made.values()], [image for _number, image in made.values()])

    def instantiate(self, template: int, network: int, **inputs: str) -> int:
        """Fill in the form of a service template, with the defaults of what is not given, and return the service's id."""
        body = self._flow_document("GET", f"/service_template/{template}")["TEMPLATE"]["BODY"]
        declared = "user_inputs" if "user_inputs" in body else "custom_attrs"

        def values(part: dict[str, Any]) -> dict[str, dict[str, str]]:
            return {f"{declared}_values": {key: inputs.get(key, text.split("|")[4]) for key, text in part.get(declared, {}).items()}}

        merge = {
            **values(body), "networks_values": [{name: {"id": str(network)}} for name in body["networks"]],
            "roles": [{"name": role["name"], **values(role)} for role in body["roles"]],
        }  # fmt: skip
        action = {"action": {"perform": "instantiate", "params": {"merge_template": merge}}}
        return int(self._flow_document("POST", f"/service_template/{template}/action", action)["ID"])

    def service(self, number: int) -> dict[str, Any]:
        """Return the body of a service, empty once there is none of that id."""
        answer = self._ask("GET", f"/service/{number}")
        return {} if answer.status_code == requests.codes.not_found else _document(answer)["TEMPLATE"]["BODY"]

    def delete_service(self, number: int) -> None:
        """Let OneFlow end a service."""
        answer = self._ask("DELETE", f"/service/{number}")
        assert answer.status_code == requests.codes.no_content, answer.text

    def delete_template(self, number: int) -> None:
        """Delete a service template with its VM templates and their images."""
        answer = self._ask("DELETE", f"/service_template/{number}", {"delete_type": "all"})
        assert answer.status_code == requests.codes.no_content, answer.text

    def _export_image(self, app: Any, name: str, datastore: int) -> tuple[int, int]:
        """Return the ids of the VM template and the image that are made of an app."""
        template = b64decode(app.TEMPLATE["APPTEMPLATE64"]).decode()
        image = self.one.image.allocate(f'{template}\nNAME="{name}"\nFROM_APP="{app.ID}"\n', datastore)
        kept = {key: value for key, value in self.one.image.info(image).TEMPLATE.items() if key not in OF_THE_DATASTORE}
        self.one.image.update(image, {"TEMPLATE": kept}, 0)
        attributes = b64decode(app.TEMPLATE["VMTEMPLATE64"]).decode()
        return self.one.template.allocate(f'{attributes}\nNAME="{name}"\nDISK=[IMAGE_ID="{image}"]\n'), image

    def _flow_document(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        return _document(self._ask(method, path, body))

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> requests.Response:
        return requests.request(method, self._flow + path, json=body, auth=self._auth, timeout=SECONDS)


def _document(answer: requests.Response) -> dict[str, Any]:
    assert answer.ok, f"{answer.request.method} {answer.request.url} was answered {answer.status_code}: {answer.text}"
    return answer.json()["DOCUMENT"]
