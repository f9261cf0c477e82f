#!/usr/bin/python
# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""A module that makes one raw call, to measure the others against.

It is written as such modules are: requests, which OpenNebula's own client pyone sends with too, and Python's XML-RPC and XML parsers.
"""

from __future__ import annotations

import xmlrpc.client
from xml.etree import ElementTree

import requests
from ansible.module_utils.basic import AnsibleModule

OPTIONS = {
    "api_url": {"type": "str"},
    "oneflow_url": {"type": "str"},
    "api_username": {"type": "str"},
    "api_password": {"type": "str", "no_log": True},
    "method": {"type": "str"},
    "arguments": {"type": "list", "elements": "int"},
}


def main() -> None:
    """Make the call, parse its document and tell how many elements it has."""
    module = AnsibleModule(argument_spec=OPTIONS, supports_check_mode=True)
    options = module.params
    session = f"{options['api_username']}:{options['api_password']}"
    body = xmlrpc.client.dumps((session, *options["arguments"]), options["method"]).encode()
    answer = requests.post(options["api_url"], data=body, headers={"Content-Type": "text/xml"}, timeout=30)
    document = ElementTree.fromstring(xmlrpc.client.loads(answer.content)[0][0][1])
    module.exit_json(changed=False, elements=len(document))


if __name__ == "__main__":
    main()
