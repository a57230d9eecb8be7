"""The Terraform of deploy/azure, as HashiCorp's parser reads it: no provider, no plan, no Azure. Needs PyYAML and Node.js.

    check_azure.py FOLDER    the folder whose node_modules has @cdktf/hcl2json
"""

import base64
import json
import os
import re
import subprocess
import sys
import unittest
from pathlib import Path

import counted
import yaml

HERE = Path(__file__).resolve().parent
RECIPE = HERE.parents[1] / "deploy/azure"
WORLD = {"*", "0.0.0.0/0", "Internet", "::/0"}
PASSWORDS = {"admin_password", "client_secret", "sas_token", "connection_string"}


def parsed(folder):
    """The documents of a folder as one: blocks by kind, type and name."""
    environment = {**os.environ, "NODE_PATH": str(Path(PARSER) / "node_modules")}
    command = ["node", str(HERE / "hcl_to_json.cjs"), str(folder)]
    found = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
    everything = {}
    for document in json.loads(found).values():
        for kind, blocks in document.items():
            if isinstance(blocks, dict):
                for name, block in blocks.items():
                    place = everything.setdefault(kind, {}).setdefault(name, {} if isinstance(block, dict) else [])
                    place.update(block) if isinstance(block, dict) else place.extend(block)
            else:
                everything.setdefault(kind, []).extend(blocks)
    return everything


def resources(everything, kind):
    return {name: block[0] for name, block in everything.get("resource", {}).get(kind, {}).items()}


def walk(value, path=""):
    """Every value with its path."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from walk(inner, f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        for inner in value:
            yield from walk(inner, path)
    else:
        yield path, value


def mistakes(everything):
    found = []
    for name, rule in resources(everything, "azurerm_network_security_rule").items():
        if rule.get("source_port_range") != "*":
            found.append(f"{name}: only players with certain ports of their own come through")
        sources = {rule.get("source_address_prefix"), *as_list(rule.get("source_address_prefixes"))}
        ports = {rule.get("destination_port_range"), *as_list(rule.get("destination_port_ranges"))}
        if sources & WORLD and ports & {"22", "3389", "*", 22}:
            found.append(f"{name}: the world may log in")
    for path, value in walk(everything):
        last = path.rsplit(".", 1)[-1]
        if last in PASSWORDS and value is not None:
            found.append(f"{last}: a password in the file")
        if last == "disable_password_authentication" and value is not True:
            found.append("machines accept passwords")
        for kind, name in re.findall(r"\bdata\.(\w+)\.(\w+)", str(value)):
            if name not in everything.get("data", {}).get(kind, {}):
                found.append(f"data.{kind}.{name} is not there")
    if any(".provisioner." in path for path, _ in walk(everything)):
        found.append("the first start is done over SSH")
    return found


def as_list(value):
    return value if isinstance(value, list) else [value]


class Azure(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.found = parsed(RECIPE)

    def machines(self):
        return resources(self.found, "azurerm_orchestrated_virtual_machine_scale_set")["game_servers"]

    def test_the_mistakes_of_the_usual_recipe_are_found(self):
        self.assertEqual(
            sorted(mistakes(parsed(HERE / "mistakes"))),
            [
                "admin_password: a password in the file",
                "data.azurerm_storage_account_sas.game is not there",
                "game: only players with certain ports of their own come through",
                "machines accept passwords",
                "ssh: the world may log in",
                "the first start is done over SSH",
            ],
        )

    def test_ours_has_none_of_them(self):
        self.assertEqual(mistakes(self.found), [])

    def test_players_reach_games_and_queries(self):
        rules = resources(self.found, "azurerm_network_security_rule")
        self.assertEqual(list(rules), ["players"])
        self.assertEqual((rules["players"]["direction"], rules["players"]["access"]), ("Inbound", "Allow"))
        self.assertEqual(rules["players"]["destination_port_ranges"], "${each.value.ports}")
        text = " ".join(str(self.locals()["player_rules"]).split())
        for expected in (
            r"games = \{ priority = \d+, protocol = \"Udp\", ports = \[for port in var.ports",
            r"queries = \{ priority = \d+, protocol = \"Udp\", ports = \[for port in local.query_ports",
            r"var.tcp \? \{ games-tcp = \{ priority = \d+, protocol = \"Tcp\", ports = \[for port in var.ports",
        ):
            self.assertRegex(text, expected)
        # As in the unit of systemd.
        self.assertIn("20000 + port", self.locals()["query_ports"])

    def locals(self):
        return {name: value for block in self.found["locals"] for name, value in block.items()}

    def test_everything_that_is_named_is_there(self):
        for path, value in walk(self.found):
            for reference in re.findall(r"\b(azurerm_\w+)\.(\w+)\.", str(value)):
                kind, name = reference
                there = name in self.found["resource"].get(kind, {}) or f"data.{kind}.{name}" in str(value)
                self.assertTrue(there, f"{path}: {kind}.{name}")
            for name in re.findall(r"\bvar\.(\w+)", str(value)):
                self.assertIn(name, self.found["variable"], path)
            for name in re.findall(r"\blocal\.(\w+)", str(value)):
                self.assertIn(name, self.locals(), path)

    def test_the_account_has_no_keys_and_nothing_is_public(self):
        account = resources(self.found, "azurerm_storage_account")["this"]
        self.assertIs(account["shared_access_key_enabled"], False)
        self.assertIs(account["allow_nested_items_to_be_public"], False)
        self.assertEqual(resources(self.found, "azurerm_storage_container")["releases"]["container_access_type"], "private")
        self.assertIs(self.found["provider"]["azurerm"][0]["storage_use_azuread"], True)
        roles = resources(self.found, "azurerm_role_assignment")
        ours = {one["role_definition_name"] for one in roles.values() if "user_assigned" in one["principal_id"]}
        self.assertEqual(ours, {"Storage Blob Data Reader", "Key Vault Secrets User"})
        self.assertEqual(resources(self.found, "azurerm_key_vault_secret"), {})

    def test_machines_are_told_of_their_end(self):
        notice = self.machines()["dynamic"]["termination_notification"][0]
        self.assertIn('"PT10M"', notice["for_each"])
        self.assertIs(notice["content"][0]["enabled"], True)
        self.assertEqual(self.machines()["identity"][0]["type"], "UserAssigned")

    def test_the_first_start(self):
        text = (RECIPE / "cloud-init.yaml").read_text()
        self.assertTrue(text.startswith("#cloud-config\n"))
        program = (RECIPE.parent / "cloud/game-host.py").read_bytes()
        values = {
            "game_host": base64.b64encode(program).decode(), "backend_url": "https://backend.example.org",
            "release_url": "https://frogpond.blob.core.windows.net/releases/0.tar.gz", "digest": "0" * 64,
            "key_url": "https://frogpond.vault.azure.net/secrets/server-key", "ports": "7777 7778",
        }
        called = re.search(r"templatefile\([^{]*\{(.*)\}\)", str(self.locals()["cloud_init"]), re.DOTALL)
        self.assertEqual(set(re.findall(r"(?m)^\s*(\w+)\s*=", called.group(1))), set(values))
        self.assertEqual(set(re.findall(r"\$\{(\w+)\}", text)), set(values))
        for name, value in values.items():
            text = text.replace(f"${{{name}}}", value)
        # Base64 of it has to fit into what Azure takes.
        self.assertLess(len(base64.b64encode(text.encode())), 64 * 1024)
        document = yaml.safe_load(text)
        files = {one["path"]: one for one in document["write_files"]}
        self.assertEqual(base64.b64decode(files["/opt/game-host/game-host.py"]["content"]), program)
        self.assertEqual(files["/opt/game-host/game-host.py"]["permissions"], "0755")
        self.assertEqual(files["/etc/game/game-server.env"]["content"], "BACKEND_URL=https://backend.example.org\n")
        script = files["/opt/game-host/first-start"]["content"]
        subprocess.run(["bash", "-n"], input=script, text=True, check=True)
        self.assertNotRegex(script, r"&\s*\n")
        self.assertEqual(document["runcmd"], [["/opt/game-host/first-start"]])
        for command in re.findall(r"game-host\.py (\w+)", script):
            self.assertIn(f'command == "{command}"', program.decode())


if __name__ == "__main__":
    PARSER = sys.argv.pop(1)
    counted.run()
