//! A private PostgreSQL: own data folder, own free port, gone afterwards.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::packages::{self, Installed, Wanted};
use crate::process::{self, Running};
use crate::relocate::relocate;
use crate::workspace;

/// How to get PostgreSQL where we cannot.
pub const HOW_TO_GET: &str =
    "install PostgreSQL (Debian: apt-get install postgresql); only `initdb` and `postgres` are used";

const START_TIMEOUT: Duration = Duration::from_mins(1);

/// The programs of one PostgreSQL version.
pub struct Programs {
    folder: PathBuf,
}

/// A running PostgreSQL with an empty database.
pub struct Postgres {
    // Ended before its folder is removed.
    _server: Running,
    _folder: TempDir,
    url: String,
}

impl Postgres {
    /// Starts it on a free loopback port. What is committed need not outlive the machine.
    pub fn start(programs: &Programs) -> Result<Self> {
        Self::start_with(programs, &["-c", "fsync=off", "-c", "full_page_writes=off"])
    }

    /// The same, with commits as durable as PostgreSQL makes them by itself: for what is measured.
    pub fn start_durable(programs: &Programs) -> Result<Self> {
        Self::start_with(programs, &[])
    }

    fn start_with(programs: &Programs, settings: &[&str]) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("postgres-").tempdir()?;
        let user = runner(programs, folder.path())?;
        let data = folder.path().join("data");
        let mut command = programs.command("initdb", user.as_ref())?;
        command.arg("-D").arg(&data);
        command.args(["-U", "postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"]);
        command.current_dir(folder.path());
        process::output(command)?;
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let mut command = programs.command("postgres", user.as_ref())?;
        command.arg("-D").arg(&data).arg("-k").arg(folder.path());
        command.args(["-h", "127.0.0.1", "-p", &port.to_string()]);
        // Many test programs connect at once.
        command.args(["-c", "max_connections=300"]).args(settings);
        command.current_dir(folder.path());
        let mut server = Running::start("postgres", command)?;
        server.wait_for_line(START_TIMEOUT, |line| line.contains("ready to accept connections"))?;
        let url = format!("postgres://postgres@127.0.0.1:{port}/postgres");
        Ok(Self { _server: server, _folder: folder, url })
    }

    /// How to connect to it.
    pub fn url(&self) -> &str {
        &self.url
    }
}

/// The programs on this machine.
pub fn present() -> Option<Programs> {
    if workspace::only_private() {
        return None;
    }
    if let (Some(initdb), Some(_)) = (workspace::on_path(&["initdb"]), workspace::on_path(&["postgres"])) {
        // Distributions put links on the PATH; the programs find their data beside their real place.
        let folder = initdb.canonicalize().ok()?.parent()?.to_owned();
        return Some(Programs { folder });
    }
    let folder = newest(Path::new("/usr/lib/postgresql"))?;
    Some(Programs { folder })
}

/// The programs, fetched if the machine has none.
pub fn provide() -> Result<Programs> {
    if let Some(programs) = present() {
        return Ok(programs);
    }
    let wanted =
        Wanted { name: "postgres", suite: None, packages: &["postgresql"], installed: Installed::Nothing };
    let root = packages::provide(&wanted, |fresh, root| {
        let folder = newest(&fresh.join("usr/lib/postgresql")).context("the packages hold no initdb")?;
        let programs = ["initdb", "postgres"].map(|name| folder.join(name));
        let below: Vec<&Path> = programs.iter().filter_map(|path| path.strip_prefix(fresh).ok()).collect();
        relocate(fresh, root, &below)
    })
    .with_context(|| format!("no PostgreSQL on this machine, and it could not be fetched; {HOW_TO_GET}"))?;
    let folder = newest(&root.join("usr/lib/postgresql")).context("the packages hold no initdb")?;
    Ok(Programs { folder })
}

impl Programs {
    /// Where they are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn command(&self, program: &str, user: Option<&User>) -> Result<Command> {
        let program = self.folder.join(program);
        let mut command = match user {
            None => Command::new(program),
            Some(user) => user.command(&program)?,
        };
        command.env("LC_ALL", "C");
        Ok(command)
    }
}

/// Whom PostgreSQL runs as where we are root, which it refuses.
struct User {
    id: u32,
    group: u32,
    /// Keeps root's right to enter every folder: the workspace may lie in one that only root may enter.
    enters_all: bool,
}

impl User {
    /// A command that runs `program` as this user.
    fn command(&self, program: impl AsRef<Path>) -> Result<Command> {
        let setpriv =
            workspace::on_path(&["setpriv"]).context("no setpriv: PostgreSQL refuses to run as root")?;
        let mut command = Command::new(setpriv);
        // The wish to die with us is lost when the user changes: it is said again here.
        command.args(["--clear-groups", "--pdeathsig", "KILL"]);
        if self.enters_all {
            // The securebit keeps the right through access(2), by which PostgreSQL looks for its programs.
            command.args(["--securebits", "+no_setuid_fixup"]);
            command.args(["--inh-caps", "+dac_override", "--ambient-caps", "+dac_override"]);
        }
        command.args([format!("--reuid={}", self.id), format!("--regid={}", self.group)]);
        command.arg(program.as_ref());
        Ok(command)
    }

    fn of_passwd(passwd: &str) -> Option<Self> {
        ["postgres", "nobody"].iter().find_map(|name| {
            let fields: Vec<&str> = passwd
                .lines()
                .map(|line| line.split(':').collect())
                .find(|fields: &Vec<&str>| fields[0] == *name)?;
            Some(Self {
                id: fields.get(2)?.parse().ok()?,
                group: fields.get(3)?.parse().ok()?,
                enters_all: false,
            })
        })
    }
}

/// Whom they can run as; `folder` is handed to that user.
#[cfg(unix)]
fn runner(programs: &Programs, folder: &Path) -> Result<Option<User>> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let passwd = fs::read_to_string("/etc/passwd")?;
    let user = User::of_passwd(&passwd)
        .context("root, and neither a user `postgres` nor `nobody` to run PostgreSQL as")?;
    std::os::unix::fs::chown(folder, Some(user.id), Some(user.group))?;
    if starts(programs, &user)? {
        return Ok(Some(user));
    }
    let user = User { enters_all: true, ..user };
    ensure!(
        starts(programs, &user)?,
        "PostgreSQL refuses to run as root, and another user cannot enter {}: run as another user, or from a folder \
         that everyone may enter",
        programs.folder.display()
    );
    Ok(Some(user))
}

/// Whether `user` may run the programs once it has lost the rights of root: `setpriv` itself still has them.
#[cfg(unix)]
fn starts(programs: &Programs, user: &User) -> Result<bool> {
    let mut command = user.command("/bin/sh")?;
    command.args(["-c", "test -x \"$0\""]).arg(programs.folder.join("initdb"));
    Ok(process::output(command).is_ok())
}

#[cfg(not(unix))]
fn runner(_programs: &Programs, _folder: &Path) -> Result<Option<User>> {
    anyhow::bail!("the tests start PostgreSQL on Unix systems only")
}

/// `bin` of the newest version below `folder` that has an `initdb`.
fn newest(folder: &Path) -> Option<PathBuf> {
    let versions = fs::read_dir(folder).ok()?.filter_map(|entry| entry.ok().map(|entry| entry.path()));
    let usable =
        versions.filter(|path| path.join("bin/initdb").is_file() && path.join("bin/postgres").is_file());
    let number = |path: &PathBuf| path.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok());
    usable.max_by_key(number).map(|path| path.join("bin"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefers_the_database_user() {
        let passwd = "root:x:0:0:r:/root:/bin/sh\nnobody:x:65534:65533:n:/:/bin/false\n";
        let user = User::of_passwd(passwd).map(|user| (user.id, user.group));
        assert_eq!(user, Some((65534, 65533)));
        let passwd = format!("{passwd}postgres:x:105:106:p:/var/lib/postgresql:/bin/bash\n");
        let user = User::of_passwd(&passwd).map(|user| (user.id, user.group));
        assert_eq!(user, Some((105, 106)));
        assert!(User::of_passwd("root:x:0:0::/root:/bin/sh").is_none());
    }
}
