"""What is sent to AWS, as data: policies, rules and the launch template."""

import base64
import hashlib
import json
from pathlib import Path
from urllib.parse import urlsplit

HTTPS = 443
# Of the agent of Systems Manager: that it is there, sessions, and commands. They have no resources to name. The managed policy
# AmazonSSMManagedInstanceCore would also let a machine read every parameter of the account.
AGENT = [
    "ssm:UpdateInstanceInformation",
    "ssmmessages:CreateControlChannel",
    "ssmmessages:CreateDataChannel",
    "ssmmessages:OpenControlChannel",
    "ssmmessages:OpenDataChannel",
    "ec2messages:AcknowledgeMessage",
    "ec2messages:DeleteMessage",
    "ec2messages:FailMessage",
    "ec2messages:GetEndpoint",
    "ec2messages:GetMessages",
    "ec2messages:SendReply",
]


def statement(effect, actions, resources, **more):
    return {"Effect": effect, "Action": actions, "Resource": resources, **more}


def policy(*statements):
    return {"Version": "2012-10-17", "Statement": list(statements)}


def trust():
    """Who may take the role."""
    return policy(
        {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}
    )


def rights(bucket, key_arn):
    """What a machine may do: get releases and its key, and be managed."""
    return policy(
        statement("Allow", "s3:GetObject", f"arn:aws:s3:::{bucket}/releases/*"),
        statement("Allow", "ssm:GetParameter", key_arn),
        statement("Allow", AGENT, "*"),
    )


def bucket_policy(bucket):
    """Nobody without TLS."""
    everything = [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"]
    return policy(
        statement(
            "Deny", "s3:*", everything, Principal="*", Condition={"Bool": {"aws:SecureTransport": "false"}}
        )
    )


def ranges(ports):
    """Neighbouring ports as one range, so that no other port is opened."""
    found = []
    for port in sorted(ports):
        if found and found[-1][1] == port - 1:
            found[-1][1] = port
        else:
            found.append([port, port])
    return [tuple(pair) for pair in found]


def ingress(settings):
    """(protocol, first port, last port, network): a range of destination ports, from any port of a player."""
    wanted = set()
    for network in settings.players:
        for protocol in settings.protocols:
            wanted.update((protocol, *pair, network) for pair in ranges(settings.ports))
        wanted.update(("udp", *pair, network) for pair in ranges(settings.query_ports))
    return wanted


def egress(settings):
    """Backend, bucket and Systems Manager. Replies to players need no rule."""
    port = urlsplit(settings.backend_url).port or HTTPS
    return {("tcp", port, port, "0.0.0.0/0") for port in {HTTPS, port}}


# Where a rule lets traffic from, or to: field of the API, its key, and how values of it are told apart.
PLACES = [
    ("IpRanges", "CidrIp", lambda value: "/" in value and ":" not in value),
    ("Ipv6Ranges", "CidrIpv6", lambda value: ":" in value),
    ("UserIdGroupPairs", "GroupId", lambda value: value.startswith("sg-")),
    ("PrefixListIds", "PrefixListId", lambda value: value.startswith("pl-")),
]


def permissions(rules, description=None):
    """Rules in the form of the API, each by itself."""
    result = []
    for protocol, first, last, value in sorted(rules, key=str):
        field, key = next((field, key) for field, key, fits in PLACES if fits(value))
        place = {key: value} if description is None else {key: value, "Description": description}
        ports = {} if first is None else {"FromPort": first, "ToPort": last}
        result.append({"IpProtocol": protocol, **ports, field: [place]})
    return result


def rules(found):
    """The inverse of `permissions`, for everything that the API returns."""
    return {
        (one["IpProtocol"], one.get("FromPort"), one.get("ToPort"), place[key])
        for one in found
        for field, key, _ in PLACES
        for place in one.get(field, [])
    }


def user_data(settings, bucket, release, key_parameter):
    """The script of the first start."""
    text = (Path(__file__).parent / "user-data.sh").read_text(encoding="utf-8")
    values = {
        "REGION": settings.region,
        "BUCKET": bucket,
        "OBJECT": release_object(release),
        "DIGEST": release,
        "KEY_PARAMETER": key_parameter,
        "BACKEND_URL": settings.backend_url,
        "PORTS": " ".join(str(port) for port in settings.ports),
    }
    for name, value in values.items():
        text = text.replace(f"@{name}@", value)
    return text


def release_object(release):
    return f"releases/{release}.tar.gz"


def launch_template(settings, image, profile, script, tags):
    """Data of the launch template. The network interface is given with each machine, because it names the subnet."""
    disk = {"VolumeSize": settings.disk_gib, "VolumeType": "gp3", "Encrypted": True, "DeleteOnTermination": True}
    data = {
        "ImageId": image["id"],
        "InstanceType": settings.instance_type,
        "IamInstanceProfile": {"Name": profile},
        "UserData": base64.b64encode(script.encode()).decode(),
        "BlockDeviceMappings": [{"DeviceName": image["device"], "Ebs": disk}],
        # A token, and only from the machine itself.
        "MetadataOptions": {"HttpEndpoint": "enabled", "HttpTokens": "required", "HttpPutResponseHopLimit": 1},
        "TagSpecifications": [{"ResourceType": kind, "Tags": tags} for kind in ("instance", "volume")],
    }
    if settings.spot:
        data["InstanceMarketOptions"] = {"MarketType": "spot", "SpotOptions": {"SpotInstanceType": "one-time"}}
    else:
        # `shutdown` on the machine keeps its disk, and with it the journals.
        data["InstanceInitiatedShutdownBehavior"] = "stop"
    return data


def digest(data):
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()
