"""The templates of deploy/aws-ecs: what has to agree in them, and the game servers' stack made and removed by moto.

moto does not know all of what backend.yaml needs (Cloud Map, API Gateway), so that template is only read.
"""

import json
import os
import re
import unittest
from pathlib import Path

for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
    os.environ[name] = "none"
os.environ["MOTO_EC2_LOAD_DEFAULT_AMIS"] = "false"

import boto3  # noqa: E402
import counted  # noqa: E402
import yaml  # noqa: E402
from moto import mock_aws  # noqa: E402

RECIPE = Path(__file__).resolve().parents[2] / "deploy/aws-ecs"
REGION = {"region_name": "eu-central-1"}


class Template(yaml.SafeLoader):
    """YAML with the short forms of CloudFormation, which are kept as they are written."""


def short_form(loader, tag, node):
    if isinstance(node, yaml.ScalarNode):
        return {tag: loader.construct_scalar(node)}
    if isinstance(node, yaml.SequenceNode):
        return {tag: loader.construct_sequence(node, deep=True)}
    return {tag: loader.construct_mapping(node, deep=True)}


Template.add_multi_constructor("!", short_form)


def load(name):
    return yaml.load((RECIPE / name).read_text(), Template)  # noqa: S506


def of_type(template, kind):
    return {name: one["Properties"] for name, one in template["Resources"].items() if one["Type"] == kind}


def container(template, task, name):
    found = template["Resources"][task]["Properties"]["ContainerDefinitions"]
    return next(one for one in found if one["Name"] == name)


def environment(found):
    return {one["Name"]: one["Value"] for one in found["Environment"]}


class Ecs(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.backend, cls.games = load("backend.yaml"), load("game-servers.yaml")

    def test_players_reach_the_ports_that_the_server_listens_on_and_nothing_else(self):
        game = container(self.games, "GameServerTask", "game-server")
        port = int(re.search(r"--port=(\d+)", game["Command"][0]).group(1))
        query = int(environment(game)["BACKEND_QUERY_PORT"])
        rules = of_type(self.games, "AWS::EC2::SecurityGroup")["GameServerGroup"]["SecurityGroupIngress"]
        opened = {(one["IpProtocol"], one["FromPort"], one["ToPort"]) for one in rules}
        self.assertEqual(opened, {("udp", port, port), ("udp", query, query)})
        mapped = {(one["Protocol"], one["ContainerPort"]) for one in game["PortMappings"]}
        self.assertEqual(mapped, {("udp", port), ("udp", query)})

    def test_nobody_but_its_neighbour_reaches_the_backend_and_the_database(self):
        groups = of_type(self.backend, "AWS::EC2::SecurityGroup")
        for group, neighbour in (("BackendGroup", "LinkGroup"), ("DatabaseGroup", "BackendGroup")):
            for rule in groups[group]["SecurityGroupIngress"]:
                self.assertEqual(rule["SourceSecurityGroupId"], {"Ref": neighbour})
        self.assertNotIn("SecurityGroupIngress", groups["LinkGroup"])
        database = of_type(self.backend, "AWS::RDS::DBInstance")["Database"]
        self.assertIs(database["PubliclyAccessible"], False)

    def test_no_password_is_in_a_template(self):
        for template in (self.backend, self.games):
            for path, value in walk(template["Resources"]):
                if re.search(r"password$|secretstring$", path.rsplit(".", 1)[-1], re.IGNORECASE) and isinstance(value, str):
                    self.assertRegex(value, r"resolve:secretsmanager", path)
        # The password is in no address, because messages show those.
        url = environment(container(self.backend, "BackendTask", "backend"))["BACKEND_DATABASE"]["Sub"]
        self.assertRegex(url, r"^postgres://backend@\$\{Database.Endpoint.Address\}")
        self.assertIn("sslmode=verify-full", url)

    def test_game_servers_may_protect_tasks_of_their_cluster_only_and_do_not_see_the_password(self):
        resources = self.games["Resources"]
        self.assertIn("GameServerRole", str(resources["GameServerTask"]["Properties"]["TaskRoleArn"]))
        role = resources["GameServerRole"]["Properties"]
        self.assertNotIn("ManagedPolicyArns", role)
        (policy,) = role["Policies"]
        (statement,) = policy["PolicyDocument"]["Statement"]
        self.assertEqual(statement["Action"], ["ecs:GetTaskProtection", "ecs:UpdateTaskProtection"])
        self.assertEqual(list(statement["Condition"]), ["ArnEquals"])
        self.assertEqual(list(statement["Condition"]["ArnEquals"]), ["ecs:cluster"])
        self.assertNotIn("Database", json.dumps(self.games))

    def test_the_proxy_replaces_what_clients_write(self):
        header = "X-Client-Address"
        integration = of_type(self.backend, "AWS::ApiGatewayV2::Integration")["Integration"]
        self.assertEqual(integration["RequestParameters"], {f"overwrite:header.{header}": "$context.identity.sourceIp"})
        proxy = container(self.backend, "BackendTask", "proxy")
        self.assertIn(f"header_up X-Forwarded-For {{header.{header}}}", proxy["Command"][0])
        self.assertIn("exec caddy", proxy["Command"][0])
        backend = environment(container(self.backend, "BackendTask", "backend"))
        self.assertEqual(backend["BACKEND_TRUSTED_PROXIES"], "127.0.0.1")
        self.assertTrue(backend["BACKEND_LISTEN"].startswith("127.0.0.1:"))
        self.assertIn(f"reverse_proxy {backend['BACKEND_LISTEN']} ", proxy["Command"][0])

    def test_containers_cannot_change_themselves_and_signals_arrive(self):
        for template in (self.backend, self.games):
            for task in of_type(template, "AWS::ECS::TaskDefinition").values():
                for one in task["ContainerDefinitions"]:
                    self.assertIs(one["ReadonlyRootFilesystem"], True, one["Name"])
                    if one["Essential"] and "Command" in one:
                        self.assertIn("exec ", one["Command"][0], one["Name"])

    def test_moto_makes_and_removes_the_stack_of_the_game_servers(self):
        with mock_aws():
            cloud, ecs = boto3.client("cloudformation", **REGION), boto3.client("ecs", **REGION)
            key = boto3.client("secretsmanager", **REGION).create_secret(Name="key", SecretString="none")["ARN"]
            cloud.create_stack(StackName="pond", TemplateBody=json.dumps(network()))
            values = {"BackendStack": "pond", "GameServerImage": "image", "ServerKeySecret": key, "GameServers": "3"}
            cloud.create_stack(
                StackName="games",
                TemplateBody=(RECIPE / "game-servers.yaml").read_text(),
                Capabilities=["CAPABILITY_IAM"],
                Parameters=[{"ParameterKey": name, "ParameterValue": value} for name, value in values.items()],
            )
            (cluster,) = ecs.list_clusters()["clusterArns"]
            (service,) = ecs.list_services(cluster=cluster)["serviceArns"]
            service = ecs.describe_services(cluster=cluster, services=[service])["services"][0]
            self.assertEqual(service["desiredCount"], 3)
            task = ecs.describe_task_definition(taskDefinition=service["taskDefinition"])["taskDefinition"]
            (game,) = [one for one in task["containerDefinitions"] if one["name"] == "game-server"]
            told = {one["name"]: one["value"] for one in game["environment"]}
            self.assertEqual(told["BACKEND_URL"], "https://pond.example.org")
            self.assertEqual(game["secrets"], [{"name": "BACKEND_SERVER_KEY", "valueFrom": key}])
            rules = boto3.client("events", **REGION).list_rules()["Rules"]
            patterns = [json.loads(rule["EventPattern"])["detail"] for rule in rules]
            for pattern in patterns:
                self.assertEqual(pattern["clusterArn"], [cluster])
                self.assertEqual(pattern["group"], [f"service:{service['serviceName']}"])
            cloud.delete_stack(StackName="games")
            # moto removes everything but the service.
            self.assertEqual(boto3.client("events", **REGION).list_rules()["Rules"], [])
            self.assertEqual(boto3.client("iam", **REGION).list_roles()["Roles"], [])


def walk(value, path=""):
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from walk(inner, f"{path}.{name}")
    elif isinstance(value, list):
        for inner in value:
            yield from walk(inner, path)
    else:
        yield path, value


def network():
    """What backend.yaml exports, from as little as moto needs."""
    values = {
        "Vpc": {"Ref": "Vpc"}, "SubnetA": {"Ref": "A"}, "SubnetB": {"Ref": "B"},
        "Cluster": {"Fn::GetAtt": ["Cluster", "Arn"]}, "Url": "https://pond.example.org",
    }
    outputs = load("backend.yaml")["Outputs"].values()
    exported = {one["Export"]["Name"]["Sub"].removeprefix("${AWS::StackName}-") for one in outputs if "Export" in one}
    assert exported == set(values), exported

    def subnet(block):
        return {"Type": "AWS::EC2::Subnet", "Properties": {"VpcId": {"Ref": "Vpc"}, "CidrBlock": block}}

    return {
        "Resources": {
            "Vpc": {"Type": "AWS::EC2::VPC", "Properties": {"CidrBlock": "10.84.0.0/16"}},
            "A": subnet("10.84.0.0/20"),
            "B": subnet("10.84.16.0/20"),
            "Cluster": {"Type": "AWS::ECS::Cluster"},
        },
        "Outputs": {name: {"Value": value, "Export": {"Name": f"pond-{name}"}} for name, value in values.items()},
    }


if __name__ == "__main__":
    counted.run()
