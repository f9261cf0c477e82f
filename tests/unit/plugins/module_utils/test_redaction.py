# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Secrets are hidden by their names, in documents and in texts, and nothing else is."""

from __future__ import annotations

import base64
import json
import time

import pytest

from ansible_collections.opennebula.flower.plugins.module_utils.contextualization import PARAMETERS
from ansible_collections.opennebula.flower.plugins.module_utils.redaction import hidden, hidden_diff, is_secret
from ansible_collections.opennebula.flower.plugins.module_utils.redaction_text import hidden_text

SECRET = "s3cr$t,va]lue"
PEM = f"-----BEGIN RSA PRIVATE KEY-----\n{SECRET}\n-----END RSA PRIVATE KEY-----"


@pytest.mark.parametrize("name", ["PASSWORD", "password", "CRYPTED_PASSWORD_BASE64", "GRAPHICS_PASSWD", "API_TOKEN", "ONEGATE_TOKEN", "SECRET",
                                  "FL_S3_SECRET_KEY", "ONEAPP_FL_SSL_KEYFILE", "PRIVATE_KEY", "NETAPP_PASS", "DB_CREDENTIALS", "APIKEY", "KEY",
                                  "DB_PWD", "ADMIN_PW", "ROOTPW", "WG_PSK", "PRIVKEY", "JWT"])
def test_these_are_secrets(name):
    assert SECRET not in str(hidden({"A": [{name: SECRET}, {name: [SECRET, {"B": SECRET}]}], name: {"B": SECRET}}))


@pytest.mark.parametrize("name", ["SSH_PUBLIC_KEY", "FL_NODE_KEY", "ONEAPP_FL_NODE_KEYS", "KEYMAP", "PASSIVE", "HOSTKEYS_", "NAME", "MONKEY", "COMPASS"])
def test_these_are_none(name):
    assert hidden({name: "value"}) == {name: "value"}


def test_every_parameter_that_the_table_calls_sensitive_is_one():
    sensitive = [parameter.context_name for parameter in PARAMETERS if parameter.sensitive]
    assert sensitive and all(map(is_secret, sensitive))


@pytest.mark.parametrize("value", ["YES", "no", "", None, True, "$PASSWORD", "${FL_S3_SECRET_KEY}", "M|password|The password||"])
def test_flags_references_and_declarations_are_shown(value):
    assert hidden({"PASSWORD": value}) == {"PASSWORD": value}


def test_the_default_of_a_password_is_hidden_whatever_it_is_called():
    declared = f"O|password|The words||{SECRET}"
    assert hidden({"USER_INPUTS": {"WORDS": declared, "ROUNDS": "O|number|How many||3"}}) == {
        "USER_INPUTS": {"WORDS": "O|password|The words||********", "ROUNDS": "O|number|How many||3"}
    }


@pytest.mark.parametrize("declarations", ["USER_INPUTS", "user_inputs", "custom_attrs"])
def test_what_a_template_declares_as_a_password_is_hidden_wherever_the_template_has_its_value(declarations):
    template = {
        declarations: {"DB": "M|password|The words||", "ROUNDS": "O|number|How many||3"}, "DB": SECRET, "ROUNDS": "4", "CONTEXT": {"DB": SECRET},
        f"{declarations}_values": {"db": SECRET, "ROUNDS": "4"}, "roles": [{"user_inputs_values": {"DB": SECRET}}],
    }  # fmt: skip
    shown = hidden({"attributes": template})["attributes"]
    assert SECRET not in str(shown)
    assert (shown["ROUNDS"], shown[declarations]["DB"]) == ("4", "M|password|The words||")
    before, after = hidden_diff({"template": template}, {"template": {**template, "DB": "another one", "ROUNDS": "5"}})
    assert SECRET not in str(before) and "another one" not in str(after)
    assert before["template"]["DB"] != after["template"]["DB"] and (before["template"]["ROUNDS"], after["template"]["ROUNDS"]) == ("4", "5")
    assert hidden({"DB": "value"}) == {"DB": "value"}


@pytest.mark.parametrize(
    "part", ["://", "://a", "<A><![CDATA[", "<A>", 'a="', "a=", "-----BEGIN PRIVATE KEY", "https://a:", "?a=", "Bearer ", "A" * 60 + "\n", "[=]"]
)
def test_the_work_grows_with_the_length_of_the_text_alone(part):
    def least_time(text: str) -> float:
        times = []
        for _repetition in range(5):
            start = time.process_time()
            hidden({"text": text, "more": f"{text}="})
            times.append(time.process_time() - start)
        return min(times)

    # Work that grows with the square of the length would take 256 times as long.
    assert least_time(part * 8000) < 80 * max(least_time(part * 500), 1e-4)


@pytest.mark.parametrize("text", [
    f'CONTEXT = [ NETWORK = "YES", PASSWORD = "{SECRET}", TOKEN="YES" ]', f'PASSWORD="{SECRET}"', f'A="1"\nPASSWORD="x\\"{SECRET}"\nB="2"',
    f'PASSWORD="x"{SECRET}", B="2"', f'PASSWORD="{SECRET}', f"PASSWORD='{SECRET}'", f'{{"password": "{SECRET}", "b": "2"}}',
    f'{{\\"password\\": \\"{SECRET}\\"}}', f'{{"password"=>"{SECRET}"}}', f"<PASSWORD>{SECRET}</PASSWORD>",
    f"<PASSWORD><![CDATA[{SECRET}]]></PASSWORD>", PEM, PEM[:50], f"http://user:{SECRET.replace(']', '')}@host/",
])
def test_a_text_says_nothing_of_a_secret(text):
    for part in ("s3cr", "lue"):
        assert part not in hidden_text(f"Error parsing: {text}. It is wrong.")
        assert part not in str(hidden({"template": text}))
    assert hidden_text(text.replace("PASSWORD", "HOSTNAME").replace("password", "hostname").replace("PRIVATE", "PUBLIC").replace("://", ":/")) == (
        text.replace("PASSWORD", "HOSTNAME").replace("password", "hostname").replace("PRIVATE", "PUBLIC").replace("://", ":/")
    )


@pytest.mark.parametrize("text", [
    "http://one.example:2633/RPC2 does not accept the password of user alice.", "There is no VM with the name 'key' at http://one:2633/RPC2.",
    "PASSWORD is twice in the template.", "token_file cannot be read: No such file or directory.", 'NAME="PASSWORD"', "A=1 B=2",
])
def test_sentences_stay_as_they_are(text):
    assert hidden_text(text) == text


@pytest.mark.parametrize("text", [
    '{"first":{"token":"s3cr3t","files":[["model.npz",5,"ab"]]}}', "#!/bin/sh\nexport DB_PASSWORD='s3cr3t'\nrun\n",
    'CONTEXT=[PASSWORD="s3cr3t"]', "-----BEGIN PRIVATE KEY-----\ns3cr3t\n-----END PRIVATE KEY-----\n", "url: https://u:s3cr3t@host/x",
])
@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode, base64.encodebytes])
def test_a_secret_in_base_64_is_hidden_and_the_rest_can_be_decoded(text, encode):
    for word in (encode(text.encode()).decode().strip(), encode(text.encode()).decode().rstrip("=\n")):
        for document in ({"FL_ARTIFACTS": word}, {"INPUT": f"M|text64|Script||{word}"}, {"msg": f"FL_ARTIFACTS={word}, NAME=x"}, [f"x {word}. y"]):
            assert word.split()[0] not in json.dumps(hidden(document))
        shown = hidden(word)
        decoded = base64.b64decode(shown + "=" * (-len(shown) % 4), altchars=b"-_" if "-" in shown or "_" in shown else None).decode()
        assert "s3cr3t" not in decoded and decoded[:4] in (text[:4], "****")
    assert json.loads(base64.b64decode(hidden(base64.b64encode(b'{"a":1,"token":"x"}').decode()))) == {"a": 1, "token": "********"}


@pytest.mark.parametrize("word", [
    "25663deb-5329-40b2-8d95-0a3f090a0b7f", "/var/lib/one/datastores/0/1", base64.b64encode(b"echo hello, world; NAME=x").decode(), "0" * 64,
])
def test_words_that_hide_nothing_stay_as_they_are(word):
    assert hidden({"A": word}) == {"A": word}


@pytest.mark.parametrize("text", ['NOTE="PASSWORD=s3cr3t"', "A=1;PASSWORD=s3cr3t", 'START_SCRIPT="export A=1 TOKEN=s3cr3t"'])
def test_a_secret_within_another_value_is_hidden(text):
    assert "s3cr3t" not in hidden_text(text)


@pytest.mark.parametrize("text", [
    "https://user:p@s3cr3t@host/path", "https://user:p/s3cr3t@host/path", "https://s3cr3t@host/path.git", "https://host/x?a=1&token=s3cr3t&b=2",
    "https://store/x?sv=1&sig=s3cr3t", "https://store/x?X-Amz-Signature=s3cr3t", "Authorization: Basic s3cr3ts3cr3t", "authorization: bearer s3cr3t",
    "X-OneGate-Token: s3cr3t", "X-Auth-Key:s3cr3t",
])
def test_what_opens_a_url_is_hidden(text):
    assert "s3cr3t" not in hidden_text(f"{text} cannot be read.") and "s3cr3t" not in str(hidden({"A": text}))


@pytest.mark.parametrize("text", ["https://host:8080/path?mail=a@b.example", "ssh://git@host/path", "mail a@b.example, see https://host/"])
def test_urls_without_a_secret_stay_as_they_are(text):
    assert hidden_text(text) == text and hidden({"A": text}) == {"A": text}


def test_a_difference_says_that_a_secret_changes_and_not_how():
    before = {"CONTEXT": {"PASSWORD": SECRET, "TOKEN": "YES", "A": "1"}, "DISK": [{"KEY": "a"}, {"KEY": SECRET}]}
    after = {"CONTEXT": {"PASSWORD": "other", "TOKEN": "NO", "A": "2"}, "DISK": [{"KEY": "a"}, {"KEY": "c"}]}
    assert hidden_diff(before, after) == (
        {"CONTEXT": {"PASSWORD": "the former one", "TOKEN": "YES", "A": "1"}, "DISK": [{"KEY": "********"}, {"KEY": "the former one"}]},
        {"CONTEXT": {"PASSWORD": "a new one", "TOKEN": "NO", "A": "2"}, "DISK": [{"KEY": "********"}, {"KEY": "a new one"}]},
    )


def test_hiding_takes_time_in_proportion_to_the_text():
    text = 'A="' + 'x"y' * 100_000 + "=" * 1000 + "PASSWORD" * 10_000
    assert hidden_text(text) == text
