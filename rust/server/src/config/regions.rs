//! Regions as the operator writes them.

use backend_protocol::limits;
use backend_protocol::rooms::{NEAREST_REGION, Region};

use super::InvalidSetting;

/// `NAME=HOST:PORT` of a region.
pub fn region(text: &str) -> Result<Region, String> {
    let rule = || {
        "must be NAME=HOST:PORT such as eu-west=eu-west.example.org:27015, with the UDP port that answers queries"
            .to_owned()
    };
    let (name, place) = text.split_once('=').ok_or_else(rule)?;
    let (address, port) = place.rsplit_once(':').ok_or_else(rule)?;
    // IPv6 addresses are in brackets, as in a URL.
    let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let address = match bare {
        Some(bare) => bare,
        None if address.contains(':') => return Err(rule()),
        None => address,
    };
    let query_port = port.parse().ok().filter(|port| *port > 0).ok_or_else(rule)?;
    if name == NEAREST_REGION {
        return Err(format!(
            "{NEAREST_REGION} stands for the nearest region in queries; choose another name"
        ));
    }
    limits::text("NAME", name, 1, 64)
        .and_then(|()| limits::public_address("HOST", address))
        .map_err(|error| error.to_string())?;
    Ok(Region { region: name.to_owned(), address: address.to_owned(), query_port })
}

/// Refuses a region that is there twice.
pub fn check(regions: &[Region]) -> Result<(), InvalidSetting> {
    for (index, one) in regions.iter().enumerate() {
        if regions[..index].iter().any(|other| other.region == one.region) {
            return Err(InvalidSetting(format!(
                "--region {}: is given twice; a region has one place that answers pings",
                one.region
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_has_a_name_a_host_and_a_port() {
        let parsed = |text: &str| region(text).map(|one| (one.region, one.address, one.query_port));
        let place = |name: &str, address: &str, port: u16| Ok((name.to_owned(), address.to_owned(), port));
        assert_eq!(parsed("eu-west=eu.example.org:27015"), place("eu-west", "eu.example.org", 27015));
        assert_eq!(parsed("us=192.0.2.1:1"), place("us", "192.0.2.1", 1));
        assert_eq!(parsed("us=[2001:db8::1]:65535"), place("us", "2001:db8::1", 65535));
        for wrong in [
            "",
            "us",
            "us=host",
            "=host:1",
            "us=:1",
            "us=host:0",
            "us=host:70000",
            "us=2001:db8::1:1",
            "us=a b:1",
            "nearest=host:1",
        ] {
            parsed(wrong).expect_err(wrong);
        }
    }

    #[test]
    fn a_region_is_given_once() {
        let regions = ["eu=a:1", "us=a:1", "eu=b:1"].map(|text| region(text).expect("good"));
        check(&regions[..2]).expect("two regions at one place");
        check(&regions).expect_err("twice");
    }
}
