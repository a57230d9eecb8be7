#!/usr/bin/env python3
"""Game servers on machines of Amazon EC2. See docs/src/deploy-aws-ec2.md.

    plan       prints what `up` would make or change, and what it costs
    up         prints the same, asks, and does it; done twice, it does nothing the second time
    status     lists the machines
    replace    replaces machines of an older release or of older settings, one by one
    start      starts the game servers of all machines, so that they send what is in their journals
    down       ends the game servers in order and removes everything, or one machine with --machine
"""

import argparse
import sys
from pathlib import Path

import boto3
import prices
import settings as settings_file
from botocore.exceptions import BotoCoreError, ClientError
from deployment import Deployment, DeploymentError

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "cloud"))
import release  # noqa: E402

COMMANDS = ("plan", "up", "status", "replace", "start", "down")


def arguments(given):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=COMMANDS)
    parser.add_argument("--settings", default="settings.toml", help="file of settings (default: %(default)s)")
    parser.add_argument("--yes", action="store_true", help="does not ask")
    parser.add_argument("--machine", metavar="ID", help="of `down`: removes this machine only")
    parser.add_argument(
        "--discard-journals", action="store_true", help="of `down` and `replace`: also if saves would be lost"
    )
    return parser.parse_args(given)


def plan(deployment, settings, content, key, session):
    """Prints changes and costs; nothing is made. Returns whether there is anything to do."""
    changes = deployment.up(content, key, dry=True)
    if not changes:
        print("nothing to do")
        return False
    print("would be made or changed:")
    for change in changes:
        print(f"  {change}")
    pricing = session.client("pricing", region_name=prices.PRICE_LIST_REGION)
    print("\n".join(prices.lines(settings, pricing, deployment.ec2)))
    return True


def agreed(options, question):
    if options.yes:
        return True
    try:
        return input(f"{question} [yes/no] ") == "yes"
    except EOFError:
        return False


def inputs(settings):
    content = release.pack(settings.export)
    key = settings.server_key_file.read_text(encoding="utf-8").strip()
    return content, key


def status(deployment):
    agents = {
        one["InstanceId"]: one["PingStatus"]
        for page in deployment.ssm.get_paginator("describe_instance_information").paginate()
        for one in page["InstanceInformationList"]
    }
    for machine in deployment.instances():
        name, state = machine["InstanceId"], machine["State"]["Name"]
        print(f"{name} {state} {machine.get('PublicIpAddress', '-')} agent: {agents.get(name, 'never seen')}")


def execute(options, session):
    settings = settings_file.load(options.settings)
    deployment = Deployment(settings, session)
    if options.command == "status":
        status(deployment)
    elif options.command == "start":
        deployment.start_servers()
    elif options.command == "down":
        what = options.machine or f"everything of {settings.name} in {settings.region}"
        if agreed(options, f"remove {what}?"):
            deployment.down(options.discard_journals, options.machine)
    else:
        content, key = inputs(settings)
        changes = plan(deployment, settings, content, key, session)
        if options.command == "up" and changes and agreed(options, "make it?"):
            deployment.up(content, key)
            status(deployment)
        if options.command == "replace" and agreed(options, "replace older machines?"):
            deployment.replace(content, key, options.discard_journals)
    return 0


def main(given=None, session=None):
    options = arguments(given)
    try:
        return execute(options, session or boto3.Session())
    except (settings_file.SettingsError, DeploymentError, OSError) as error:
        print(error, file=sys.stderr)
    except (BotoCoreError, ClientError) as error:
        print(f"AWS: {error}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
