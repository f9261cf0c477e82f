# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options every module that talks to OpenNebula's API has."""

from __future__ import annotations


class ModuleDocFragment:
    """Fragment opennebula.flower.api."""

    DOCUMENTATION = r"""
options:
  api_url:
    description:
      - The XML-RPC endpoint of the zone.
      - If not given, the environment variable E(ONE_XMLRPC) is used.
    type: str
    default: http://localhost:2633/RPC2
  api_username:
    description:
      - The OpenNebula user.
      - If not given, the environment variable E(ONE_USERNAME) is used. Without either, user and password come
        from the file that the environment variable E(ONE_AUTH) names, by default C(~/.one/one_auth), with the
        content C(USER:PASSWORD).
    type: str
  api_password:
    description:
      - The password or a login token of the user.
      - If not given, the environment variable E(ONE_PASSWORD) is used, then E(ONE_AUTH), see O(api_username).
    type: str
  api_timeout:
    description: Seconds after which a request to the endpoint ends with an error, whatever the server does meanwhile, at most a day.
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
      - The endpoint of OneFlow.
      - If not given, the environment variable E(ONEFLOW_URL) is used, and without it port 2474 of the host
        of O(api_url).
    type: str
requirements:
  - urllib3 >= 1.26
notes:
  - For OpenNebula 6.8 to 7.4; tested against answers recorded from 6.10 and 7.4.
  - Attributes in OpenNebula's terms may also be text in OpenNebula's syntax, as the command line takes it, or JSON.
  - A name is unique per owner only, so that another user's object can have the same one. Where a name means several
    objects, the one of the task's O(ignore:owner) is taken, else the one of O(api_username), and a warning lists them all.
    C(OWNER/NAME) says whose is meant. Otherwise the error lists their ids and owners. A task that names an O(ignore:owner)
    leaves alone what belongs to neither; without one, an object that only another user than C(oneadmin) has is taken with
    a warning.
  - In lists, an attribute of an unexpected form counts as empty, and a warning names the object.
  - Values of attributes whose names say that they are secret, such as C(PASSWORD), C(API_TOKEN) or C(SSL_KEYFILE), are shown
    as C(********) in everything that a module returns; a difference says that they change.
  - Every error is one sentence, and RV(ignore:error.kind) says its kind for programs, one of C(authentication),
    C(authorization), C(missing), C(conflict), C(quota), C(wrong_state), C(invalid), C(network), C(timeout) and
    C(protocol).
"""
