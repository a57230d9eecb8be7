"""What a deployment costs, by AWS's own price list. An unknown price is shown as unknown and never as zero."""

import json

from botocore.exceptions import BotoCoreError, ClientError

# The price list is served from a few regions only.
PRICE_LIST_REGION = "us-east-1"
HOURS_PER_MONTH = 730


def on_demand(client, service, filters):
    """The only price in US dollars that fits the filters, or None."""
    wanted = [{"Type": "TERM_MATCH", "Field": field, "Value": value} for field, value in filters.items()]
    found = client.get_products(ServiceCode=service, Filters=wanted, MaxResults=10)["PriceList"]
    prices = set()
    for product in found:
        for term in json.loads(product)["terms"].get("OnDemand", {}).values():
            prices.update(float(level["pricePerUnit"]["USD"]) for level in term["priceDimensions"].values())
    prices.discard(0.0)
    return prices.pop() if len(prices) == 1 else None


def spot(client, instance_type):
    """The highest of the current prices of a region's zones."""
    history = client.describe_spot_price_history(
        InstanceTypes=[instance_type], ProductDescriptions=["Linux/UNIX"], MaxResults=20
    )["SpotPriceHistory"]
    return max((float(entry["SpotPrice"]) for entry in history), default=None)


def lines(settings, pricing, ec2):
    """Lines of text: what each part costs in an hour and a month, and what is not in the sum."""
    machine = {
        "instanceType": settings.instance_type,
        "regionCode": settings.region,
        "operatingSystem": "Linux",
        "tenancy": "Shared",
        "preInstalledSw": "NA",
        "capacitystatus": "Used",
    }
    disk = {"volumeApiName": "gp3", "regionCode": settings.region, "productFamily": "Storage"}
    address = {"regionCode": settings.region, "groupDescription": "Hourly charge for In-use Public IPv4 Addresses"}

    def of(question):
        try:
            return question()
        except (BotoCoreError, ClientError, KeyError, ValueError):
            return None

    if settings.spot:
        hourly = of(lambda: spot(ec2, settings.instance_type))
    else:
        hourly = of(lambda: on_demand(pricing, "AmazonEC2", machine))
    gib = of(lambda: on_demand(pricing, "AmazonEC2", disk))
    kind = "Spot, now" if settings.spot else "on demand"
    parts = [
        (f"{settings.instance_type} ({kind})", hourly),
        (f"disk, {settings.disk_gib} GiB", None if gib is None else gib * settings.disk_gib / HOURS_PER_MONTH),
        ("public IPv4 address", of(lambda: on_demand(pricing, "AmazonVPC", address))),
    ]
    text = [f"cost of {settings.machines} machines in {settings.region}, US dollars without taxes:"]
    total = 0.0
    for what, price in parts:
        if price is None:
            text.append(f"  {what:32} price unknown: see https://calculator.aws")
            continue
        price *= settings.machines
        total += price
        text.append(f"  {what:32} {price:9.4f} an hour {price * HOURS_PER_MONTH:9.2f} a month")
    known = "" if all(price is not None for _, price in parts) else ", without what is unknown"
    text.append(f"  {'together':32} {total:9.4f} an hour {total * HOURS_PER_MONTH:9.2f} a month{known}")
    text.append("  not included: traffic to players (about 0.09 per GB in most regions), a few cents of storage")
    return text
