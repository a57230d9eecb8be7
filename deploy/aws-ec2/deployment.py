"""Makes and removes what a deployment consists of. Everything is found by its name and its tag: there is no file of state."""

import hashlib
import json
import time

import documents
from botocore.exceptions import ClientError

TAG = "backend-client-deployment"
LAUNCH_TAG = "backend-client-launch"
LIVE = ["pending", "running", "stopping", "stopped"]
DESCRIPTION = "Players of game servers"
# What a new instance profile needs until EC2 knows it.
PROFILE_ATTEMPTS = 30
PROFILE_WAIT_SECONDS = 2
COMMAND_SECONDS = 150
COMMAND_FINAL = ("Success", "Failed", "TimedOut", "Cancelled", "DeliveryTimedOut", "Undeliverable", "Terminated")


class DeploymentError(Exception):
    """Something that the operator has to decide or to repair."""


def code(error):
    return error.response["Error"]["Code"]


def or_none(call, *missing):
    """The reply of a call, or None if it fails with one of the codes."""
    try:
        return call()
    except ClientError as error:
        if code(error) in missing:
            return None
        raise


class Deployment:
    """The resources of one name in one account and region."""

    def __init__(self, settings, session, say=print):
        client = {name: session.client(name, region_name=settings.region) for name in ("ec2", "s3", "iam", "ssm", "sts")}
        self.settings, self.say = settings, say
        self.ec2, self.s3, self.iam, self.ssm = client["ec2"], client["s3"], client["iam"], client["ssm"]
        identity = client["sts"].get_caller_identity()
        account = identity["Account"]
        partition = identity["Arn"].split(":")[1]
        self.bucket = f"{settings.name}-{account}-{settings.region}"
        # Roles are the account's, not the region's.
        self.role = f"{settings.name}-{settings.region}"
        self.key_parameter = f"/{settings.name}/server-key"
        self.key_arn = f"arn:{partition}:ssm:{settings.region}:{account}:parameter{self.key_parameter}"
        self.tags = [{"Key": TAG, "Value": settings.name}, {"Key": "Name", "Value": settings.name}]
        self.dry = False
        self.changes = []

    # Telling and doing

    def will(self, what):
        """Notes a change, and returns whether it is to be made."""
        self.changes.append(what)
        if not self.dry:
            self.say(what)
        return not self.dry

    def refuse_foreign(self, tags, what):
        if {"Key": TAG, "Value": self.settings.name} not in tags:
            raise DeploymentError(f"{what} exists and is not of this deployment: choose another name")

    # What is there

    def ours(self):
        return [{"Name": f"tag:{TAG}", "Values": [self.settings.name]}]

    def instances(self):
        found = []
        filters = [*self.ours(), {"Name": "instance-state-name", "Values": LIVE}]
        for page in self.ec2.get_paginator("describe_instances").paginate(Filters=filters):
            found += [instance for group in page["Reservations"] for instance in group["Instances"]]
        return sorted(found, key=lambda instance: (instance["LaunchTime"], instance["InstanceId"]))

    def security_group(self):
        return next(iter(self.ec2.describe_security_groups(Filters=self.ours())["SecurityGroups"]), None)

    def template(self):
        return next(iter(self.ec2.describe_launch_templates(Filters=self.ours())["LaunchTemplates"]), None)

    def has_bucket(self):
        missing = ("404", "NoSuchBucket")
        if or_none(lambda: self.s3.head_bucket(Bucket=self.bucket), *missing) is None:
            return False
        tags = or_none(lambda: self.s3.get_bucket_tagging(Bucket=self.bucket), "NoSuchTagSet")
        # A run that was cut off may have left it without tags.
        if tags or self.s3.list_objects_v2(Bucket=self.bucket, MaxKeys=1).get("Contents"):
            self.refuse_foreign((tags or {}).get("TagSet", []), f"bucket {self.bucket}")
        return True

    def has_role(self):
        role = or_none(lambda: self.iam.get_role(RoleName=self.role), "NoSuchEntity")
        if role is None:
            return False
        self.refuse_foreign(role["Role"].get("Tags", []), f"role {self.role}")
        return True

    # Making it

    def up(self, content, key, dry=False):
        """Makes what is missing and changes what differs. Returns the list of changes."""
        self.dry, self.changes = dry, []
        release = hashlib.sha256(content).hexdigest()
        network = self.network()
        self.make_bucket()
        self.make_release(release, content)
        self.make_key(key)
        self.make_role()
        group = self.make_security_group(network[0]["VpcId"])
        template, version, launch = self.make_template(release)
        self.make_instances(template, version, launch, group, network)
        return self.changes

    def network(self):
        chosen = list(self.settings.subnets)
        filters = [{"Name": "subnet-id", "Values": chosen}] if chosen else [{"Name": "default-for-az", "Values": ["true"]}]
        subnets = self.ec2.describe_subnets(Filters=filters)["Subnets"]
        if not subnets or len(subnets) < len(chosen):
            raise DeploymentError("subnets: not all are there, or this region has no default VPC; name some of one VPC")
        if len({subnet["VpcId"] for subnet in subnets}) != 1:
            raise DeploymentError("subnets: they must belong to one VPC")
        return sorted(subnets, key=lambda subnet: subnet["SubnetId"])

    def make_bucket(self):
        if not self.has_bucket() and self.will(f"bucket {self.bucket}"):
            place = {"LocationConstraint": self.settings.region}
            # The oldest region is no constraint.
            more = {} if self.settings.region == "us-east-1" else {"CreateBucketConfiguration": place}
            self.s3.create_bucket(Bucket=self.bucket, ObjectOwnership="BucketOwnerEnforced", **more)
        if self.dry:
            return
        # The same every time, so that a run that was cut off is completed.
        self.s3.put_bucket_tagging(Bucket=self.bucket, Tagging={"TagSet": self.tags})
        blocked = dict.fromkeys(
            ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"), True
        )
        self.s3.put_public_access_block(Bucket=self.bucket, PublicAccessBlockConfiguration=blocked)
        rules = json.dumps(documents.bucket_policy(self.bucket))
        self.s3.put_bucket_policy(Bucket=self.bucket, Policy=rules)

    def make_release(self, release, content):
        name = documents.release_object(release)
        missing = ("404", "NoSuchKey", "NoSuchBucket")
        if or_none(lambda: self.s3.head_object(Bucket=self.bucket, Key=name), *missing) is not None:
            return
        if self.will(f"object {name}, {len(content)} bytes"):
            self.s3.put_object(Bucket=self.bucket, Key=name, Body=content, ServerSideEncryption="AES256")

    def key(self):
        """The stored key of the game servers, or None."""
        name = self.key_parameter
        found = or_none(lambda: self.ssm.get_parameter(Name=name, WithDecryption=True), "ParameterNotFound")
        if found is None:
            return None
        tags = self.ssm.list_tags_for_resource(ResourceType="Parameter", ResourceId=name)["TagList"]
        self.refuse_foreign(tags, f"parameter {name}")
        return found["Parameter"]["Value"]

    def make_key(self, key):
        found = self.key()
        if found != key and self.will(f"parameter {self.key_parameter}, encrypted"):
            # Tags are taken with a new parameter only.
            more = {"Tags": self.tags} if found is None else {"Overwrite": True}
            self.ssm.put_parameter(Name=self.key_parameter, Value=key, Type="SecureString", **more)

    def make_role(self):
        rights = documents.rights(self.bucket, self.key_arn)
        if not self.has_role() and self.will(f"role {self.role}"):
            trust = json.dumps(documents.trust())
            self.iam.create_role(RoleName=self.role, AssumeRolePolicyDocument=trust, Tags=self.tags)
        named = {"RoleName": self.role, "PolicyName": "game-server"}
        found = or_none(lambda: self.iam.get_role_policy(**named), "NoSuchEntity")
        if (found is None or found["PolicyDocument"] != rights) and self.will(f"rights of role {self.role}"):
            self.iam.put_role_policy(**named, PolicyDocument=json.dumps(rights))
        profile = or_none(lambda: self.iam.get_instance_profile(InstanceProfileName=self.role), "NoSuchEntity")
        if profile is None and self.will(f"instance profile {self.role}"):
            profile = self.iam.create_instance_profile(InstanceProfileName=self.role, Tags=self.tags)
        if profile and not profile["InstanceProfile"]["Roles"] and not self.dry:
            self.iam.add_role_to_instance_profile(InstanceProfileName=self.role, RoleName=self.role)

    def make_security_group(self, vpc):
        group = self.security_group()
        if group is None and self.will(f"security group {self.settings.name}"):
            made = {"GroupName": self.settings.name, "Description": DESCRIPTION, "VpcId": vpc}
            tags = [{"ResourceType": "security-group", "Tags": self.tags}]
            self.ec2.create_security_group(**made, TagSpecifications=tags)
            group = self.security_group()
        if group and group["VpcId"] != vpc:
            raise DeploymentError(f"security group {group['GroupId']} is of another VPC: run `down` before you change subnets")
        sides = [
            ("ingress", "IpPermissions", documents.ingress(self.settings)),
            ("egress", "IpPermissionsEgress", documents.egress(self.settings)),
        ]
        for side, field, wanted in sides:
            found = documents.rules(group[field]) if group else set()
            for verb, rules in (("authorize", wanted - found), ("revoke", found - wanted)):
                if rules and self.will(f"{verb} {side} {', '.join(map(str, sorted(rules, key=str)))}"):
                    change = getattr(self.ec2, f"{verb}_security_group_{side}")
                    described = DESCRIPTION if verb == "authorize" else None
                    change(GroupId=group["GroupId"], IpPermissions=documents.permissions(rules, described))
        return group["GroupId"] if group else None

    def make_template(self, release):
        """The launch template: its id, its version, and a hash of everything that a machine starts with."""
        name = self.ssm.get_parameter(Name=self.settings.image_parameter)["Parameter"]["Value"]
        image = self.ec2.describe_images(ImageIds=[name])["Images"][0]
        image = {"id": name, "device": image.get("RootDeviceName") or "/dev/xvda"}
        script = documents.user_data(self.settings, self.bucket, release, self.key_parameter)
        launch = documents.digest(documents.launch_template(self.settings, image, self.role, script, self.tags))
        tags = [*self.tags, {"Key": LAUNCH_TAG, "Value": launch}]
        data = documents.launch_template(self.settings, image, self.role, script, tags)
        template = self.template()
        if template is None:
            if not self.will(f"launch template {self.settings.name}"):
                return None, None, launch
            made = self.ec2.create_launch_template(
                LaunchTemplateName=self.settings.name,
                VersionDescription=launch,
                LaunchTemplateData=data,
                TagSpecifications=[{"ResourceType": "launch-template", "Tags": self.tags}],
            )["LaunchTemplate"]
            return made["LaunchTemplateId"], 1, launch
        template = template["LaunchTemplateId"]
        versions = self.ec2.describe_launch_template_versions(LaunchTemplateId=template, Versions=["$Latest"])
        latest = versions["LaunchTemplateVersions"][0]
        if latest.get("VersionDescription") == launch:
            return template, latest["VersionNumber"], launch
        if not self.will(f"new version of launch template {self.settings.name}"):
            return template, None, launch
        made = self.ec2.create_launch_template_version(
            LaunchTemplateId=template, VersionDescription=launch, LaunchTemplateData=data
        )["LaunchTemplateVersion"]["VersionNumber"]
        self.ec2.modify_launch_template(LaunchTemplateId=template, DefaultVersion=str(made))
        return template, made, launch

    def make_instances(self, template, version, launch, group, subnets):
        there = self.instances()
        for number in range(len(there), self.settings.machines):
            if self.will(f"machine {number + 1} of {self.settings.machines}, {self.settings.instance_type}"):
                self.launch(template, version, group, subnets[number % len(subnets)]["SubnetId"])
        old = [one["InstanceId"] for one in there if {"Key": LAUNCH_TAG, "Value": launch} not in one["Tags"]]
        if old:
            self.say(f"with an older release or settings: {' '.join(old)}; `replace` replaces them one by one")
        if len(there) > self.settings.machines:
            self.say(f"{len(there)} machines, {self.settings.machines} wanted: `down --machine ID` removes one")
        if not self.dry:
            self.wait_until_running()

    def launch(self, template, version, group, subnet):
        """Starts one machine. The security group is in the interface: beside it, EC2 refuses one."""
        interface = {
            "DeviceIndex": 0,
            "SubnetId": subnet,
            "Groups": [group],
            "AssociatePublicIpAddress": True,
            "DeleteOnTermination": True,
        }
        for attempt in range(1, PROFILE_ATTEMPTS + 1):
            try:
                return self.ec2.run_instances(
                    LaunchTemplate={"LaunchTemplateId": template, "Version": str(version)},
                    NetworkInterfaces=[interface],
                    MinCount=1,
                    MaxCount=1,
                )["Instances"][0]["InstanceId"]
            except ClientError as error:
                # A new instance profile is not known everywhere at once.
                is_new = code(error) == "InvalidParameterValue" and "iamInstanceProfile" in str(error)
                if not is_new or attempt == PROFILE_ATTEMPTS:
                    raise
                time.sleep(PROFILE_WAIT_SECONDS)

    def wait_until_running(self):
        ids = [one["InstanceId"] for one in self.instances() if one["State"]["Name"] in ("pending", "running")]
        if ids:
            self.ec2.get_waiter("instance_running").wait(InstanceIds=ids)

    # Ending it

    def command(self, instance, line):
        """Runs a command on a machine through Systems Manager. Returns its exit code and its output."""
        sent = self.ssm.send_command(
            InstanceIds=[instance],
            DocumentName="AWS-RunShellScript",
            Parameters={"commands": [line], "executionTimeout": [str(COMMAND_SECONDS)]},
        )["Command"]["CommandId"]
        until = time.monotonic() + 2 * COMMAND_SECONDS
        while time.monotonic() < until:
            asked = {"CommandId": sent, "InstanceId": instance}
            reply = or_none(lambda: self.ssm.get_command_invocation(**asked), "InvocationDoesNotExist")
            if reply and reply["Status"] in COMMAND_FINAL:
                output = reply.get("StandardOutputContent", "") + reply.get("StandardErrorContent", "")
                worked = reply["Status"] == "Success"
                return (0 if worked else reply.get("ResponseCode") or 1), output.strip()
            time.sleep(1)
        return 1, "no answer from the agent of Systems Manager"

    def stop_servers(self, instance, discard):
        """Ends the game servers of a machine in order. Refuses to go on if one of them may have left saves."""
        try:
            status, output = self.command(instance, "/opt/game-host/game-host.py stop")
        except ClientError as error:
            status, output = 1, str(error)
        if status == 0:
            return
        if not discard:
            raise DeploymentError(
                f"{instance}: {output or status}\nThe machine is left as it is. Once the backend can be reached, `start` lets its "
                "servers send what they have; then try again. --discard-journals ends the machine and loses it."
            )
        self.say(f"{instance}: journals are discarded: {output or status}")

    def terminate(self, instance, discard):
        self.say(f"stopping the game servers of {instance}")
        self.stop_servers(instance, discard)
        self.say(f"terminating {instance}")
        self.ec2.terminate_instances(InstanceIds=[instance])
        self.ec2.get_waiter("instance_terminated").wait(InstanceIds=[instance])

    def start_servers(self):
        for instance in self.instances():
            status, output = self.command(instance["InstanceId"], "systemctl start --no-block game-servers.target")
            self.say(f"{instance['InstanceId']}: {'started' if status == 0 else output or status}")

    def replace(self, content, key, discard):
        """Replaces each machine that was launched with something older. One is away at any time."""
        self.up(content, key)
        _, _, launch = self.make_template(hashlib.sha256(content).hexdigest())
        for instance in self.instances():
            if {"Key": LAUNCH_TAG, "Value": launch} not in instance["Tags"]:
                self.terminate(instance["InstanceId"], discard)
                self.up(content, key)

    def down(self, discard=False, only=None):
        """Removes one machine, or everything."""
        ids = [instance["InstanceId"] for instance in self.instances()]
        if only is not None and only not in ids:
            raise DeploymentError(f"{only} is no machine of this deployment, which has {' '.join(ids) or 'none'}")
        for instance in ids if only is None else [only]:
            self.terminate(instance, discard)
        if only is None:
            self.remove_rest()

    def remove_rest(self):
        if template := self.template():
            self.say(f"removing launch template {template['LaunchTemplateName']}")
            self.ec2.delete_launch_template(LaunchTemplateId=template["LaunchTemplateId"])
        if group := self.security_group():
            self.say(f"removing security group {group['GroupId']}")
            self.ec2.delete_security_group(GroupId=group["GroupId"])
        profile = or_none(lambda: self.iam.get_instance_profile(InstanceProfileName=self.role), "NoSuchEntity")
        if profile:
            self.refuse_foreign(profile["InstanceProfile"].get("Tags", []), f"instance profile {self.role}")
            self.say(f"removing instance profile {self.role}")
            for role in profile["InstanceProfile"]["Roles"]:
                self.iam.remove_role_from_instance_profile(InstanceProfileName=self.role, RoleName=role["RoleName"])
            self.iam.delete_instance_profile(InstanceProfileName=self.role)
        if self.has_role():
            self.say(f"removing role {self.role}")
            for name in self.iam.list_role_policies(RoleName=self.role)["PolicyNames"]:
                self.iam.delete_role_policy(RoleName=self.role, PolicyName=name)
            self.iam.delete_role(RoleName=self.role)
        if self.key() is not None:
            self.say(f"removing parameter {self.key_parameter}")
            self.ssm.delete_parameter(Name=self.key_parameter)
        if self.has_bucket():
            self.say(f"removing bucket {self.bucket}")
            for page in self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket):
                if found := [{"Key": one["Key"]} for one in page.get("Contents", [])]:
                    self.s3.delete_objects(Bucket=self.bucket, Delete={"Objects": found})
            self.s3.delete_bucket(Bucket=self.bucket)
