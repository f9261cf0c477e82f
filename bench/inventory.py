# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""How long the inventory of a large zone takes, against what it cannot do without, all measured in one run.

A server replays prepared pages of one.vmpool.infoextended, each VM as large as a recorded one. Compared are

- the parts: listing the pages with the standard library's XML-RPC client, parsing their XML, and
  ansible-inventory --list of the same hosts, variables and groups as a static JSON file;
- the whole: ansible-inventory --list with opennebula.flower.opennebula.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import re
import subprocess
import sys
import tempfile
import time
import xmlrpc.client
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from xml.etree import ElementTree
from xml.sax.saxutils import escape

REPOSITORY = Path(__file__).resolve().parents[1]
RECORDING = REPOSITORY / "tests/contract/recordings/7.4/xmlrpc/one.vmpool.infoextended.one_running.resp.xml"
PAGE_SIZE = 2000
MOST_TIME, MOST_MEMORY_MB = 1.3, 600
METHOD = "one.vmpool.infoextended"
SESSION = ("oneadmin", "bench:mark")
ROLES = ("superlink", "supernode", "gateway", "worker")


def recorded_vm() -> str:
    """The document of a VM as OpenNebula 7.4 sent it."""
    pool = xmlrpc.client.loads(RECORDING.read_bytes())[0][0][1]
    return re.search(r"<VM>.*</VM>", pool, re.DOTALL).group()


def page(vm: str, first: int, last: int) -> bytes:
    """An answer of one.vmpool.infoextended with VMs like this one, in services, on several hosts, with labels."""
    documents = []
    for number in range(last, first - 1, -1):
        attributes = (
            f"<USER_TEMPLATE><LABELS><![CDATA[site/{number % 8}]]></LABELS><ROLE_NAME><![CDATA[{ROLES[number % 4]}]]>"
            f"</ROLE_NAME><SERVICE_ID><![CDATA[{number // 20}]]></SERVICE_ID>"
        )
        document = vm.replace("<ID>1</ID>", f"<ID>{number}</ID>", 1).replace("vm-a", f"vm-{number}")
        document = document.replace("dummy02", f"host{number % 50}").replace("<USER_TEMPLATE>", attributes)
        documents.append(document.replace("192.168.150.11", f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"))
    # As oned writes it; xmlrpc.client.dumps would do the same many times slower.
    text = escape(f"<VM_POOL>{''.join(documents)}</VM_POOL>")
    return (
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\r\n<methodResponse>\r\n<params>\r\n<param><value><array><data>\r\n"
        f"<value><boolean>1</boolean></value>\r\n<value><string>{text}</string></value>\r\n"
        "<value><i4>0</i4></value>\r\n</data></array></value></param>\r\n</params>\r\n</methodResponse>\r\n"
    ).encode()


class Replay(BaseHTTPRequestHandler):
    """Answers every page from what was prepared."""

    protocol_version = "HTTP/1.1"
    pages: list[bytes] = []
    nothing = b""

    def do_POST(self) -> None:
        (_session, _who, offset, *_rest), _method = xmlrpc.client.loads(
            self.rfile.read(int(self.headers["Content-Length"]))
        )
        number = offset // PAGE_SIZE
        answer = self.pages[number] if number < len(self.pages) else self.nothing
        self.send_response(200)
        self.send_header("Content-Type", "text/xml")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_arguments: object) -> None:
        """Only the figures are of interest."""


def serve(vms: int, ports: multiprocessing.Queue) -> None:
    """Prepare the pages and answer with them, in a process of its own."""
    vm = recorded_vm()
    Replay.pages = [page(vm, max(0, last - PAGE_SIZE + 1), last) for last in range(vms - 1, -1, -PAGE_SIZE)]
    Replay.nothing = page(vm, 1, 0)
    server = HTTPServer(("127.0.0.1", 0), Replay)
    ports.put(server.server_port)
    server.serve_forever()


def raw_listing(url: str) -> list[str]:
    """The pages, as the standard library's client returns them."""
    pages: list[str] = []
    with xmlrpc.client.ServerProxy(url) as server:
        while True:
            call = server.one.vmpool.infoextended
            pages.append(call(":".join(SESSION), -2, len(pages) * PAGE_SIZE, -PAGE_SIZE, -1)[1])
            if pages[-1].count("<VM>") < PAGE_SIZE:
                return pages


def seconds(work, *arguments: object) -> tuple[float, object]:
    """What work takes and what it returns."""
    start = time.perf_counter()
    result = work(*arguments)
    return time.perf_counter() - start, result


def ansible_inventory(source: Path, output: Path) -> tuple[float, float]:
    """Seconds and highest memory in MB of ansible-inventory --list of a source."""
    environment = {
        **os.environ, "ANSIBLE_COLLECTIONS_PATH": f"{REPOSITORY}:{REPOSITORY / 'build' / 'collections'}",
        "ANSIBLE_INVENTORY_UNPARSED_FAILED": "1",
    }
    program = Path(sys.executable).with_name("ansible-inventory")
    start = time.perf_counter()
    process = subprocess.Popen([program, "--list", "--output", output, "-i", source], env=environment, cwd=output.parent)
    _pid, status, usage = os.wait4(process.pid, 0)
    took = time.perf_counter() - start
    if status:
        sys.exit(f"ansible-inventory of {source.name} failed.")
    return took, usage.ru_maxrss / 1024


def plain(value: dict) -> object:
    """A text without the mark that it is not to be evaluated."""
    return value.get("__ansible_unsafe", value)


def static_inventory(listing: dict) -> dict:
    """The same hosts, variables and groups as a document of the YAML inventory plugin."""
    hosts = listing["_meta"]["hostvars"]
    groups = {name: group for name, group in listing.items() if name not in ("_meta", "all", "ungrouped")}
    children = {name: {"hosts": dict.fromkeys(group["hosts"])} for name, group in groups.items()}
    return {"all": {"hosts": hosts, "children": children}}


def same(one: dict, other: dict) -> bool:
    """Tell whether two listings have the same hosts, variables and groups."""
    def members(listing: dict) -> dict:
        return {name: sorted(group.get("hosts", [])) for name, group in listing.items() if name != "_meta"}

    return one["_meta"]["hostvars"] == other["_meta"]["hostvars"] and members(one) == members(other)


def measure(vms: int, url: str, directory: Path) -> bool:
    """Print the figures and tell whether they are within the limits."""
    source, static = directory / "bench.opennebula.yml", directory / "static.json"
    source.write_text(json.dumps({
        "plugin": "opennebula.flower.opennebula", "api_url": url, "api_username": SESSION[0], "api_password": SESSION[1],
    }))
    whole, memory = ansible_inventory(source, directory / "plugin.out")
    listing = json.loads((directory / "plugin.out").read_text(), object_hook=plain)
    static.write_text(json.dumps(static_inventory(listing)))
    from_file, static_memory = ansible_inventory(static, directory / "static.out")
    if not same(listing, json.loads((directory / "static.out").read_text(), object_hook=plain)):
        sys.exit("The two inventories differ, so there is nothing to compare.")
    raw, pages = seconds(raw_listing, url)
    parsing, _documents = seconds(lambda: [ElementTree.fromstring(page) for page in pages])

    parts = raw + parsing + from_file
    print(f"inventory of {len(listing['_meta']['hostvars'])} VMs, {len(pages)} calls")
    print(f"  raw listing            {raw:6.2f} s")
    print(f"  parsing its XML        {parsing:6.2f} s")
    print(f"  static file            {from_file:6.2f} s, {static_memory:4.0f} MB")
    print(f"  sum of these           {parts:6.2f} s")
    print(f"  inventory plugin       {whole:6.2f} s, {memory:4.0f} MB (at most {MOST_MEMORY_MB} MB)")
    print(f"  ratio                  {whole / parts:6.2f}    (at most {MOST_TIME})")
    return whole <= MOST_TIME * parts and memory <= MOST_MEMORY_MB


def main() -> None:
    """Run the benchmark; exit status 1 when a limit is passed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--vms", type=int, default=10_000, help="how many VMs the zone has")
    vms = parser.parse_args().vms
    ports: multiprocessing.Queue = multiprocessing.Queue()
    server = multiprocessing.Process(target=serve, args=(vms, ports), daemon=True)
    server.start()
    with tempfile.TemporaryDirectory() as directory:
        within = measure(vms, f"http://127.0.0.1:{ports.get()}/RPC2", Path(directory))
    server.terminate()
    sys.exit(not within)


if __name__ == "__main__":
    main()
