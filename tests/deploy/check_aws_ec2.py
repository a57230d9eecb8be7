"""The script of deploy/aws-ec2 against moto, which plays AWS in this process: plan, up, up again, replace, down.

moto checks neither rights nor signatures and starts no machine. What the machines do is checked by check_game_host.py.
"""

import base64
import contextlib
import hashlib
import io
import json
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import unittest
from pathlib import Path
from unittest import mock

for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
    os.environ[name] = "none"
os.environ["AWS_EC2_METADATA_DISABLED"] = "true"
for name in ("AWS_PROFILE", "AWS_DEFAULT_REGION", "AWS_REGION", "AWS_ENDPOINT_URL"):
    os.environ.pop(name, None)

# One image in place of a thousand, which moto would make anew for each test.
IMAGE = {
    "ami_id": "ami-0123456789abcdef0", "name": "linux", "description": "", "owner_id": "801119661308", "public": True,
    "virtualization_type": "hvm", "architecture": "x86_64", "state": "available", "platform": None,
    "image_type": "machine", "hypervisor": "xen", "root_device_name": "/dev/xvda", "root_device_type": "ebs",
    "sriov": "simple", "creation_date": "2026-01-01T00:00:00.000Z",
}
IMAGES = tempfile.NamedTemporaryFile("w", suffix=".json")
json.dump([IMAGE], IMAGES)
IMAGES.flush()
os.environ["MOTO_AMIS_PATH"] = IMAGES.name

import boto3  # noqa: E402
import counted  # noqa: E402
from botocore.awsrequest import AWSResponse  # noqa: E402
from moto import mock_aws  # noqa: E402
from moto.iam.access_control import PermissionResult  # noqa: E402
from moto.s3 import models as moto_s3  # noqa: E402
from moto.ssm import models as moto_ssm  # noqa: E402

RECIPE = Path(__file__).resolve().parents[2] / "deploy/aws-ec2"
sys.path.insert(0, str(RECIPE))
import deployment as recipe  # noqa: E402
import game_servers  # noqa: E402

KEY = "a-key-that-must-be-nowhere-else"
READS = re.compile(r"(Describe|Get|Head|List)")
EVERYWHERE = "0.0.0.0/0"


def reply(**parsed):
    """What a call returns without being sent."""
    return AWSResponse("", 200, {}, None), parsed


def agents(**_):
    """Machines of Systems Manager, which moto does not list: none has been seen."""
    return reply(InstanceInformationList=[])


def prices(**_):
    """AWS's price list, which moto does not have: one product, at 0.1 dollars."""
    dimension = {"pricePerUnit": {"USD": "0.1000000000"}, "unit": "Hrs"}
    return reply(PriceList=[json.dumps({"terms": {"OnDemand": {"a": {"priceDimensions": {"b": dimension}}}}})])


def no_prices(**_):
    return reply(PriceList=[])


def mistakes_of_rules(permissions, wanted):
    """What is wrong with the rules of a security group. `wanted`: ports that players need, by protocol."""
    found = []
    for protocol, ports in wanted.items():
        for port in ports:
            fits = [one for one in permissions if one["IpProtocol"] == protocol]
            if not any(one["FromPort"] <= port <= one["ToPort"] for one in fits):
                found.append(f"no {protocol} rule for {port}")
    for one in permissions:
        for port in range(one.get("FromPort", 0), one.get("ToPort", 65535) + 1):
            if port not in wanted.get(one["IpProtocol"], ()):
                world = any(place["CidrIp"] == EVERYWHERE for place in one["IpRanges"])
                found.append(f"{one['IpProtocol']} {port} is open{' to the world' if world else ''}")
                break
    return found


def mistakes_of_start(user_data, objects):
    """What is wrong with a start-up script. `objects`: (bucket, name) of what has been uploaded."""
    found = []
    if re.search(r"[^&]&\s*$", user_data, re.MULTILINE):
        found.append("a step does not wait for the one before")
    for place in re.findall(r"s3://([^/\s']+)/([^\s']+)", user_data):
        if place not in objects:
            found.append(f"{'/'.join(place)} was never uploaded")
    if re.search(r"(password|secret)\s*=|" + KEY, user_data, re.IGNORECASE):
        found.append("a secret is in it")
    if subprocess.run(["bash", "-n"], input=user_data, text=True, check=False, capture_output=True).returncode:
        found.append("it is no script of bash")
    return found


class Ec2(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        # One for all, because reading the descriptions of the services takes longer than everything else.
        cls.session = boto3.Session()
        with mock_aws():
            region = {"region_name": "eu-central-1"}
            plain = boto3.Session()
            cls.ec2, cls.s3 = plain.client("ec2", **region), plain.client("s3", **region)
            cls.iam, cls.ssm = plain.client("iam", **region), plain.client("ssm", **region)

    def setUp(self):
        # moto ignores the conditions of a policy: it would refuse everything, not only what comes without TLS.
        neutral = mock.patch.object(moto_s3.FakeBucket, "get_permission", lambda *_: PermissionResult.NEUTRAL)
        neutral.start()
        self.addCleanup(neutral.stop)
        self.cloud = mock_aws()
        self.cloud.start()
        self.addCleanup(self.cloud.stop)
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        (self.folder / "export").mkdir()
        (self.folder / "export/server.x86_64").write_bytes(b"game")
        (self.folder / "export/libbackend_extension.so").write_bytes(b"addon")
        (self.folder / "server.key").write_text(KEY + "\n")
        self.settings(protocols=["udp"])
        self.calls = []
        self.printed = io.StringIO()
        self.ssm.put_parameter(Name="/image", Value=IMAGE["ami_id"], Type="String")
        self.hook("before-call", self.record)
        self.hook("before-call.ssm.DescribeInstanceInformation", agents)
        self.hook("before-call.pricing.GetProducts", prices)

    def hook(self, event, hook):
        self.session.events.register_first(event, hook)
        self.addCleanup(self.session.events.unregister, event, hook)

    def record(self, model, **_):
        if not READS.match(model.name):
            self.calls.append((model.name, self.printed.getvalue()))

    def settings(self, **more):
        text = (RECIPE / "settings.toml.example").read_text()
        for name, value in {"export": "export", "image_parameter": "/image", **more}.items():
            text = re.sub(rf"(?m)^{name} = .*$", f"{name} = {json.dumps(value)}", text)
        (self.folder / "settings.toml").write_text(text)

    def run_recipe(self, *arguments):
        """Exit code, output, and the calls that change something."""
        self.calls.clear()
        self.printed = io.StringIO()
        with contextlib.redirect_stdout(self.printed), contextlib.redirect_stderr(self.printed):
            code = game_servers.main([*arguments, "--settings", str(self.folder / "settings.toml")], self.session)
        return code, self.printed.getvalue(), [name for name, _ in self.calls]

    def up(self):
        code, printed, calls = self.run_recipe("up", "--yes")
        self.assertEqual(code, 0, printed)
        return printed, calls

    def ours(self):
        filters = [{"Name": f"tag:{recipe.TAG}", "Values": ["frog-pond"]}]
        return {
            "group": self.ec2.describe_security_groups(Filters=filters)["SecurityGroups"],
            "template": self.ec2.describe_launch_templates(Filters=filters)["LaunchTemplates"],
            "machine": [
                machine
                for group in self.ec2.describe_instances(Filters=filters)["Reservations"]
                for machine in group["Instances"]
                if machine["State"]["Name"] != "terminated"
            ],
            "bucket": [one["Name"] for one in self.s3.list_buckets()["Buckets"] if "frog-pond" in one["Name"]],
            "role": [one for one in self.iam.list_roles()["Roles"] if "frog-pond" in one["RoleName"]],
            "profile": self.iam.list_instance_profiles()["InstanceProfiles"],
            "parameter": self.ssm.describe_parameters(Filters=[{"Key": "Name", "Values": ["/frog-pond/server-key"]}])["Parameters"],
        }

    def objects(self):
        return {
            (bucket, one["Key"])
            for bucket in self.ours()["bucket"]
            for one in self.s3.list_objects_v2(Bucket=bucket).get("Contents", [])
        }

    def template(self):
        name = self.ours()["template"][0]["LaunchTemplateId"]
        versions = self.ec2.describe_launch_template_versions(LaunchTemplateId=name, Versions=["$Latest"])
        return versions["LaunchTemplateVersions"][0]["LaunchTemplateData"]

    def test_plan_tells_what_it_costs_and_makes_nothing(self):
        code, printed, calls = self.run_recipe("plan")
        self.assertEqual((code, calls), (0, []), printed)
        self.assertIn("security group frog-pond", printed)
        self.assertRegex(printed, r"c7i.large \(on demand\) +0.2000 an hour +146.00 a month")
        self.assertIn("together", printed)

    def test_nothing_is_made_without_a_yes(self):
        with mock.patch("builtins.input", return_value="no"):
            code, _, calls = self.run_recipe("up")
        self.assertEqual((code, calls), (0, []))

    def test_the_price_is_printed_before_anything_is_made(self):
        self.up()
        self.assertTrue(self.calls)
        for name, printed in self.calls:
            self.assertIn("together", printed, name)

    def test_an_unknown_price_is_not_zero(self):
        self.session.events.unregister("before-call.pricing.GetProducts", prices)
        self.hook("before-call.pricing.GetProducts", no_prices)
        _, printed, _ = self.run_recipe("plan")
        self.assertIn("price unknown", printed)
        self.assertIn("without what is unknown", printed)

    def test_up_twice_makes_nothing_the_second_time(self):
        self.up()
        before = self.ours()
        self.assertEqual({kind: len(found) for kind, found in before.items()}, {
            "group": 1, "template": 1, "machine": 2, "bucket": 1, "role": 1, "profile": 1, "parameter": 1,
        })
        printed, calls = self.up()
        self.assertIn("nothing to do", printed)
        self.assertEqual(calls, [])
        self.assertEqual(len(self.ours()["machine"]), 2)

    def test_an_interrupted_up_is_completed(self):
        def stop(*_, **__):
            raise KeyboardInterrupt

        for step in ("make_key", "make_role", "make_security_group", "make_template", "make_instances"):
            with mock.patch.object(recipe.Deployment, step, stop), contextlib.suppress(KeyboardInterrupt):
                self.run_recipe("up", "--yes")
        self.up()
        self.assertEqual(self.up()[1], [])
        self.assertEqual(len(self.ours()["machine"]), 2)

    def test_players_reach_their_ports_and_nothing_else(self):
        self.up()
        games, queries = {7777, 7778}, {27777, 27778}
        rules = self.ours()["group"][0]["IpPermissions"]
        self.assertEqual(mistakes_of_rules(rules, {"udp": games | queries}), [])
        # With WebSockets.
        self.settings(protocols=["udp", "tcp"])
        _, calls = self.up()
        self.assertEqual(calls, ["PutBucketTagging", "PutPublicAccessBlock", "PutBucketPolicy", "AuthorizeSecurityGroupIngress"])
        rules = self.ours()["group"][0]["IpPermissions"]
        self.assertEqual(mistakes_of_rules(rules, {"udp": games | queries, "tcp": games}), [])
        # And back: what is not wanted any more is closed, and nothing else.
        self.settings(protocols=["udp"], players=["198.51.100.0/24", EVERYWHERE])
        self.up()
        self.settings(protocols=["udp"], players=["198.51.100.0/24"])
        self.up()
        rules = self.ours()["group"][0]["IpPermissions"]
        self.assertEqual(mistakes_of_rules(rules, {"udp": games | queries}), [])
        self.assertNotIn(EVERYWHERE, json.dumps(rules))
        away = self.ours()["group"][0]["IpPermissionsEgress"]
        self.assertEqual([(one["IpProtocol"], one["FromPort"], one["ToPort"]) for one in away], [("tcp", 443, 443)])

    def test_a_rule_that_somebody_added_is_removed(self):
        self.up()
        world = {"IpRanges": [{"CidrIp": EVERYWHERE}], "Ipv6Ranges": [{"CidrIpv6": "::/0"}]}
        ssh = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, **world}
        group = self.ours()["group"][0]["GroupId"]
        self.ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[ssh])
        printed, _ = self.up()
        self.assertIn("revoke ingress ('tcp', 22, 22", printed)
        self.assertNotIn(22, [one["FromPort"] for one in self.ours()["group"][0]["IpPermissions"]])

    def test_the_mistakes_of_the_usual_script_are_found(self):
        """That the checks above would notice them: both rules UDP, SSH for everybody, steps in the background, another object."""
        world = [{"CidrIp": EVERYWHERE}]
        rules = [
            {"IpProtocol": "udp", "FromPort": 7777, "ToPort": 7778, "IpRanges": world},
            {"IpProtocol": "udp", "FromPort": 7777, "ToPort": 7778, "IpRanges": world},
            {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": world},
        ]
        found = mistakes_of_rules(rules, {"udp": {7777, 7778}, "tcp": {7777, 7778}})
        self.assertEqual(found, ["no tcp rule for 7777", "no tcp rule for 7778", "tcp 22 is open to the world"])
        script = "apt install -y x &\naws s3 cp s3://bucket/GodotServer . &\nexport PASSWORD=x\n./GodotServer --server\n"
        found = mistakes_of_start(script, {("bucket", "Game.x86_64")})
        self.assertEqual(
            found,
            ["a step does not wait for the one before", "bucket/GodotServer was never uploaded", "a secret is in it"],
        )

    def test_machines_start_what_was_uploaded(self):
        self.up()
        data = self.template()
        script = base64.b64decode(data["UserData"]).decode()
        self.assertNotRegex(script, "@[A-Z_]+@")
        self.assertLess(len(script), 16 * 1024)
        self.assertEqual(mistakes_of_start(script, self.objects()), [])
        ((bucket, name),) = self.objects()
        content = self.s3.get_object(Bucket=bucket, Key=name)["Body"].read()
        self.assertIn(f"{hashlib.sha256(content).hexdigest()}  ", script)
        # The same files make the same bytes, and no file brings an owner along.
        self.assertEqual(content, game_servers.release.pack(self.folder / "export"))
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            modes = {entry.name: oct(entry.mode) for entry in archive}
            self.assertEqual({(entry.uid, entry.gid) for entry in archive}, {(0, 0)})
        self.assertEqual(modes["opt/game/server.x86_64"], "0o755")
        self.assertEqual(modes["opt/game/libbackend_extension.so"], "0o644")

    def test_the_first_start_puts_everything_in_its_place(self):
        """The script itself, as any user, in a folder in place of /, with programs that play the AWS CLI and systemctl."""
        self.up()
        script = base64.b64decode(self.template()["UserData"]).decode()
        ((bucket, name),) = self.objects()
        content = self.s3.get_object(Bucket=bucket, Key=name)["Body"].read()
        (self.folder / "release").write_bytes(content)
        root, programs = self.folder / "root", self.folder / "bin"
        root.mkdir()
        programs.mkdir()
        for path in ("/etc/game", "/opt/game-host"):
            script = script.replace(f"{path}/", f"{root}{path}/").replace(f"{path}\n", f"{root}{path}\n")
        script = script.replace("--directory / ", f"--directory {root} ")
        aws = f'case "$1 $2" in "s3 cp") cp {self.folder}/release "${{@: -1}}";; *) echo {KEY};; esac\n'
        (programs / "aws").write_text("#!/bin/bash\n" + aws)
        (programs / "systemctl").write_text(f'#!/bin/bash\necho "$@" >>{self.folder}/systemctl\n')
        for program in programs.iterdir():
            program.chmod(0o755)
        environment = {"PATH": f"{programs}:{os.environ['PATH']}"}
        ran = subprocess.run(["bash"], input=script, text=True, env=environment, check=False, capture_output=True)
        self.assertEqual(ran.returncode, 0, ran.stderr)
        modes = {
            path.relative_to(root).as_posix(): oct(path.stat().st_mode & 0o777) for path in sorted(root.rglob("*"))
        }
        self.assertEqual(modes["etc/game"], "0o700")
        self.assertEqual(modes["etc/game/server.key"], "0o600")
        self.assertEqual((root / "etc/game/server.key").read_text().strip(), KEY)
        # The game servers have users of their own, who have to read and start the game.
        self.assertEqual((modes["opt"], modes["opt/game"], modes["opt/game/server.x86_64"]), ("0o755",) * 3)
        self.assertEqual(modes["etc/systemd/system/game-server@.service.d/cloud.conf"], "0o644")
        self.assertEqual((root / "etc/game/game-server.env").read_text(), "BACKEND_URL=https://backend.example.org\n")
        started = (self.folder / "systemctl").read_text().splitlines()[-1]
        self.assertTrue(started.startswith("start --no-block game-host-address.service"), started)
        self.assertTrue(started.endswith("game-server@7777.service game-server@7778.service"), started)

    def test_machines_have_no_ssh_no_password_and_few_rights(self):
        self.up()
        data = self.template()
        self.assertNotIn("KeyName", data)
        self.assertNotIn("SecurityGroupIds", data)
        self.assertEqual(data["MetadataOptions"]["HttpTokens"], "required")
        self.assertTrue(data["BlockDeviceMappings"][0]["Ebs"]["Encrypted"])
        for machine in self.ours()["machine"]:
            self.assertNotIn("KeyName", machine)
            self.assertIn("PublicIpAddress", machine)
            (interface,) = machine["NetworkInterfaces"]
            self.assertEqual([one["GroupName"] for one in interface["Groups"]], ["frog-pond"])
        role = self.ours()["role"][0]["RoleName"]
        self.assertEqual(self.iam.list_attached_role_policies(RoleName=role)["AttachedPolicies"], [])
        rights = self.iam.get_role_policy(RoleName=role, PolicyName="game-server")["PolicyDocument"]
        ((bucket, name),) = self.objects()
        for statement in rights["Statement"]:
            self.assertNotIn("*", str(statement["Action"]))
            if statement["Resource"] == "*":
                agent = tuple(action.split(":")[0] for action in statement["Action"])
                self.assertLessEqual(set(agent), {"ssm", "ssmmessages", "ec2messages"})
                self.assertNotIn("ssm:GetParameter", statement["Action"])
        self.assertTrue(f"arn:aws:s3:::{bucket}/{name}".startswith(rights["Statement"][0]["Resource"].rstrip("*")))
        profile = self.iam.get_instance_profile(InstanceProfileName=role)["InstanceProfile"]
        self.assertEqual([one["RoleName"] for one in profile["Roles"]], [role])

    def test_the_key_is_encrypted_and_nowhere_else(self):
        printed, _ = self.up()
        found = self.ssm.get_parameter(Name="/frog-pond/server-key", WithDecryption=True)["Parameter"]
        self.assertEqual((found["Type"], found["Value"]), ("SecureString", KEY))
        self.assertNotIn(KEY, printed + json.dumps(self.template(), default=str))
        (bucket,) = self.ours()["bucket"]
        blocked = self.s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"]
        self.assertEqual(set(blocked.values()), {True})

    def test_a_new_release_replaces_machines_only_when_asked(self):
        self.up()
        before = {one["InstanceId"] for one in self.ours()["machine"]}
        (self.folder / "export/server.x86_64").write_bytes(b"a newer game")
        printed, _ = self.up()
        self.assertIn("new version of launch template", printed)
        self.assertIn("older release", printed)
        self.assertEqual({one["InstanceId"] for one in self.ours()["machine"]}, before)
        code, printed, _ = self.run_recipe("replace", "--yes")
        self.assertEqual(code, 0, printed)
        after = {one["InstanceId"] for one in self.ours()["machine"]}
        self.assertEqual((len(after), after & before), (2, set()))
        self.assertEqual(self.up()[1], [])

    def test_down_leaves_nothing_of_ours_and_everything_else(self):
        other = self.ec2.run_instances(ImageId=IMAGE["ami_id"], MinCount=1, MaxCount=1)["Instances"][0]["InstanceId"]
        self.s3.create_bucket(
            Bucket="somebody-else", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"}
        )
        self.up()
        code, printed, calls = self.run_recipe("down", "--yes")
        self.assertEqual(code, 0, printed)
        self.assertEqual({kind: found for kind, found in self.ours().items() if found}, {})
        # In order: no machine ends before its game servers have.
        self.assertLess(calls.index("SendCommand"), calls.index("TerminateInstances"))
        state = self.ec2.describe_instances(InstanceIds=[other])["Reservations"][0]["Instances"][0]["State"]
        self.assertEqual(state["Name"], "running")
        self.assertIn("somebody-else", [one["Name"] for one in self.s3.list_buckets()["Buckets"]])
        self.assertEqual(self.run_recipe("down", "--yes")[0], 0)

    def test_a_machine_with_unsent_saves_is_kept(self):
        self.up()

        def refuse(_, instance, plugin):
            return {
                "CommandId": "x", "InstanceId": instance, "PluginName": plugin, "Status": "Failed", "ResponseCode": 75,
                "StandardOutputContent": "", "StandardErrorContent": "game-server@7777.service has failed",
            }

        with mock.patch.object(moto_ssm.Command, "get_invocation", lambda self, instance, plugin: refuse(self, instance, plugin)):
            code, printed, calls = self.run_recipe("down", "--yes")
            self.assertEqual(code, 1, printed)
            self.assertIn("game-server@7777.service has failed", printed)
            self.assertNotIn("TerminateInstances", calls)
            self.assertEqual(len(self.ours()["machine"]), 2)
            code, printed, _ = self.run_recipe("down", "--yes", "--discard-journals")
        self.assertEqual(code, 0, printed)
        self.assertEqual(self.ours()["machine"], [])

    def test_one_machine_is_removed_and_the_others_are_started(self):
        self.up()
        first, second = (one["InstanceId"] for one in self.ours()["machine"])
        code, printed, calls = self.run_recipe("down", "--yes", "--machine", first)
        self.assertEqual((code, calls), (0, ["SendCommand", "TerminateInstances"]), printed)
        self.assertEqual([one["InstanceId"] for one in self.ours()["machine"]], [second])
        code, printed, calls = self.run_recipe("start")
        self.assertEqual((code, calls), (0, ["SendCommand"]), printed)
        self.assertIn(f"{second}: started", printed)
        code, printed, calls = self.run_recipe("status")
        self.assertEqual((code, calls), (0, []), printed)
        self.assertRegex(printed, rf"^{second} running \S+ agent: never seen$")
        code, printed, calls = self.run_recipe("down", "--yes", "--machine", "i-0123456789abcdef0")
        self.assertEqual((code, calls), (1, []), printed)
        self.assertIn("is no machine of this deployment", printed)

    def test_what_belongs_to_others_is_refused(self):
        self.iam.create_role(RoleName="frog-pond-eu-central-1", AssumeRolePolicyDocument="{}")
        self.refused("role frog-pond-eu-central-1")
        self.iam.delete_role(RoleName="frog-pond-eu-central-1")
        self.ssm.put_parameter(Name="/frog-pond/server-key", Value="theirs", Type="String")
        self.refused("parameter /frog-pond/server-key")
        self.ssm.delete_parameter(Name="/frog-pond/server-key")
        name = "frog-pond-123456789012-eu-central-1"
        self.s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
        self.s3.put_object(Bucket=name, Key="theirs", Body=b"")
        self.refused(f"bucket {name}")

    def refused(self, what):
        for command in ("up", "down"):
            code, printed, calls = self.run_recipe(command, "--yes")
            self.assertEqual((code, calls), (1, []), printed)
            self.assertIn(f"{what} exists and is not of this deployment", printed)

    def test_settings_that_cannot_work_are_refused_before_anything_is_asked(self):
        for name, value, expected in [
            ("backend_url", "http://backend.example.org", "https"),
            ("ports", [27777], "1024 to 9999"),
            ("ports", [7777, 7777], "different"),
            ("players", ["everybody"], "players"),
            ("players", ["::/0"], "IPv4"),
            ("protocols", ["icmp"], "protocols"),
            ("name", "Frog Pond", "small letters"),
            ("machines", 0, "1 to 50"),
        ]:
            self.settings(**{name: value})
            code, printed, calls = self.run_recipe("up", "--yes")
            self.assertEqual((code, calls), (1, []), name)
            self.assertIn(expected, printed, name)


if __name__ == "__main__":
    counted.run()
