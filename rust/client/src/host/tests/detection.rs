//! Which hosts are found, and by what.

use super::*;

fn detected(choice: HostChoice, variables: &[(&str, &str)]) -> (Vec<&'static str>, Detected) {
    let variable = |name: &str| {
        let found = variables.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| (*value).to_owned())
    };
    let detected = detect(choice, &Surroundings { variable: &variable, machine: &|_| None, pid: 42 });
    (detected.hosts.iter().map(|host| host.name()).collect(), detected)
}

#[test]
fn a_laptop_has_no_host() {
    let (names, detected) = detected(HostChoice::Auto, &[]);
    assert!(names.is_empty() && detected.warnings.is_empty(), "{names:?} {:?}", detected.warnings);
    assert_eq!(
        detected.summary,
        "no host: no variable of one is set, and this is no machine of a known cloud"
    );
}

#[test]
fn agones_is_found_by_its_variable() {
    let (names, detected) = detected(HostChoice::Auto, &[("AGONES_SDK_HTTP_PORT", "9400")]);
    assert_eq!(names, ["agones"]);
    assert_eq!(detected.summary, "host: Agones (sidecar at port 9400, by AGONES_SDK_HTTP_PORT)");
    for wrong in ["", "0", "port", "70000"] {
        let (names, detected) = self::detected(HostChoice::Auto, &[("AGONES_SDK_HTTP_PORT", wrong)]);
        assert_eq!(names, ["agones"]);
        assert!(detected.summary.contains("9358"), "{}", detected.summary);
        assert_eq!(detected.warnings.len(), 1, "{wrong:?}");
    }
}

#[test]
fn what_is_not_supported_is_named() {
    let (names, detected) = detected(HostChoice::Auto, &[("GSDK_CONFIG_FILE", "/config.json")]);
    assert!(names.is_empty());
    assert!(detected.summary.contains("PlayFab") && detected.summary.contains("GSDK_CONFIG_FILE"));
}

#[test]
fn a_choice_wins_over_what_is_found() {
    let variables = [("AGONES_SDK_HTTP_PORT", "9400"), ("NOTIFY_SOCKET", "/run/notify")];
    assert!(detected(HostChoice::None, &variables).0.is_empty());
    assert_eq!(detected(HostChoice::Agones, &variables).0, ["agones"]);
    assert_eq!(detected(HostChoice::Agones, &[]).0, ["agones"]);
    let (names, missing) = detected(HostChoice::Systemd, &[]);
    assert!(names.is_empty() && missing.warnings.len() == 1);
    assert_eq!(" Agones".parse(), Ok(HostChoice::Agones));
    assert!("kubernetes".parse::<HostChoice>().is_err());
}

#[cfg(target_os = "linux")]
#[test]
fn a_service_manager_may_be_there_beside_another_host() {
    let variables = [("AGONES_SDK_HTTP_PORT", "9400"), ("NOTIFY_SOCKET", "/run/notify")];
    assert_eq!(detected(HostChoice::Auto, &variables).0, ["agones", "systemd"]);
    assert_eq!(detected(HostChoice::Systemd, &variables).0, ["systemd"]);
}

const EC2: [(&str, &str); 1] = [("sys_vendor", "Amazon EC2")];
const OLDER_EC2: [(&str, &str); 2] = [("sys_vendor", "Xen"), ("bios_version", "4.11.amazon")];
const AZURE: [(&str, &str); 2] =
    [("sys_vendor", "Microsoft Corporation"), ("chassis_asset_tag", "7783-7084-3265-9085-8269-3286-77")];
const GCP: [(&str, &str); 2] = [("sys_vendor", "Google"), ("product_name", "Google Compute Engine")];

fn on_machine(
    choice: HostChoice,
    variables: &[(&str, &str)],
    fields: &[(&str, &str)],
) -> (Vec<&'static str>, Detected) {
    let value = |all: &[(&str, &str)], name: &str| {
        let found = all.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| (*value).to_owned())
    };
    let variable = |name: &str| value(variables, name);
    let machine = |name: &str| value(fields, name);
    let detected = detect(choice, &Surroundings { variable: &variable, machine: &machine, pid: 42 });
    (detected.hosts.iter().map(|host| host.name()).collect(), detected)
}

#[test]
fn machines_of_clouds_are_found_by_their_description() {
    let machines: [(&str, &[(&str, &str)]); 4] =
        [("ec2", &EC2), ("ec2", &OLDER_EC2), ("azure", &AZURE), ("gcp", &GCP)];
    for (name, fields) in machines {
        let (names, detected) = on_machine(HostChoice::Auto, &[], fields);
        assert_eq!(names, [name]);
        assert!(detected.summary.contains("by the machine's description"), "{}", detected.summary);
    }
    // A laptop of Microsoft or Google is no machine of their clouds, and Hyper-V and QEMU are nobody's.
    let others: [&[(&str, &str)]; 3] = [
        &[
            ("sys_vendor", "Microsoft Corporation"),
            ("product_name", "Surface Laptop 7"),
            ("chassis_asset_tag", "0"),
        ],
        &[("sys_vendor", "Google"), ("product_name", "Eve")],
        &[("sys_vendor", "QEMU"), ("bios_version", "1.16.2")],
    ];
    for fields in others {
        assert!(on_machine(HostChoice::Auto, &[], fields).0.is_empty(), "{fields:?}");
    }
}

#[test]
fn several_hosts_can_hold_at_once() {
    let agones = [("AGONES_SDK_HTTP_PORT", "9400")];
    assert_eq!(on_machine(HostChoice::Auto, &agones, &GCP).0, ["agones", "gcp"]);
    #[cfg(target_os = "linux")]
    {
        let service = [("NOTIFY_SOCKET", "/run/notify")];
        assert_eq!(on_machine(HostChoice::Auto, &service, &EC2).0, ["ec2", "systemd"]);
    }
    // A task hears of its machine's end from its agent, and the machine's address is not the task's.
    let task = [("ECS_CONTAINER_METADATA_URI_V4", "http://169.254.170.2/v4/0123")];
    assert_eq!(on_machine(HostChoice::Auto, &task, &EC2).0, ["ecs"]);
    // Such fleets run on ECS and EC2, and end their servers themselves.
    let fleet = [task[0], ("GAMELIFT_COMPUTE_TYPE", "CONTAINER")];
    assert!(on_machine(HostChoice::Auto, &fleet, &EC2).0.is_empty());
}

#[test]
fn a_choice_needs_no_description() {
    for (choice, name) in [(HostChoice::Ec2, "ec2"), (HostChoice::Azure, "azure"), (HostChoice::Gcp, "gcp")] {
        assert_eq!(name.parse(), Ok(choice));
        let (names, detected) = on_machine(choice, &[], &[]);
        assert_eq!(names, [name]);
        assert!(detected.summary.contains("as it is to be used"), "{}", detected.summary);
    }
    let (names, detected) = on_machine(HostChoice::Ecs, &[], &EC2);
    assert!(names.is_empty() && detected.warnings.len() == 1, "{:?}", detected.warnings);
    assert!(on_machine(HostChoice::None, &[], &EC2).0.is_empty());
}

#[test]
fn variables_of_the_vendors_count() {
    let off = [("AWS_EC2_METADATA_DISABLED", "True")];
    assert!(on_machine(HostChoice::Auto, &off, &EC2).0.is_empty());
    for (variable, value, name) in [
        ("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:1338/", "ec2"),
        ("GCE_METADATA_HOST", "127.0.0.1:1338", "gcp"),
        ("BACKEND_AZURE_METADATA_ENDPOINT", "http://127.0.0.1:1338", "azure"),
    ] {
        assert_eq!(on_machine(HostChoice::Auto, &[(variable, value)], &[]).0, [name]);
        let (names, wrong) = on_machine(HostChoice::Auto, &[(variable, "ftp://x")], &[]);
        assert!(names.is_empty() && wrong.warnings.len() == 1, "{variable}: {:?}", wrong.warnings);
    }
    let unclear = [("BACKEND_AZURE_APPROVE_EVENTS", "perhaps")];
    assert_eq!(on_machine(HostChoice::Auto, &unclear, &AZURE).1.warnings.len(), 1);
}
